//! The bridge that containers are attached to.

use std::net::IpAddr;

use rustix::io::Errno;
use sys::netns::Family;

use crate::mac::mac_for;
use crate::netlink::{self, Batch, Socket, tolerate};
use crate::route::{self, Assigned, Change, Link};
use crate::subnet::Subnet;
use crate::sysctl::{self, SysctlError};

/// What a bridge is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeConfig {
    /// The name of the link.
    pub name: String,
    /// The network of the containers.
    pub subnet: Subnet,
    /// The bridge's own address, in the network.
    pub gateway: IpAddr,
    /// The largest packet in bytes, without Ethernet's header.
    pub mtu: u32,
}

/// A bridge that exists and is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bridge {
    config: BridgeConfig,
    index: u32,
}

/// The step of a bridge's set-up or removal that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BridgeError {
    /// The name cannot be a link's.
    #[error("invalid bridge name {name:?}")]
    Name {
        /// The name as given.
        name: String,
    },
    /// The gateway lies outside the network.
    #[error("the gateway {gateway} is not in the network {subnet}")]
    Gateway {
        /// The gateway as given.
        gateway: IpAddr,
        /// The network as given.
        subnet: Subnet,
    },
    /// Another link has the name.
    #[error("the link {name} exists and is no bridge")]
    NotABridge {
        /// The name.
        name: String,
    },
    /// The kernel refused.
    #[error("cannot set up the bridge {name}")]
    Kernel {
        /// The bridge.
        name: String,
        /// What was refused.
        #[source]
        source: netlink::NetlinkError,
    },
    /// A kernel setting could not be made.
    #[error("cannot make the bridge {name} route")]
    Sysctl {
        /// The bridge.
        name: String,
        /// Which one.
        #[source]
        source: SysctlError,
    },
}

impl Bridge {
    /// Makes the bridge, or repairs what is there under its name, and lets the host route for it.
    pub fn ensure(config: BridgeConfig) -> Result<Self, BridgeError> {
        check(&config)?;
        let kernel = |source| BridgeError::Kernel {
            name: config.name.clone(),
            source,
        };
        let mut socket = Socket::open(Family::Route).map_err(kernel)?;
        let link = ensure_link(&mut socket, &config)?;
        ensure_address(&mut socket, &config, link.index).map_err(kernel)?;
        ensure_sysctls(&config).map_err(|source| BridgeError::Sysctl {
            name: config.name.clone(),
            source,
        })?;
        Ok(Self {
            index: link.index,
            config,
        })
    }

    /// Returns what the bridge was asked to be.
    pub const fn config(&self) -> &BridgeConfig {
        &self.config
    }

    /// Returns the link's index.
    pub const fn index(&self) -> u32 {
        self.index
    }

    /// Deletes veth ports of the bridge that are not in `alive`; returns their names.
    ///
    /// A port disappears with the namespace of its other end, so only a namespace that something
    /// else still holds leaves one. Must run before a pool is made: its sandboxes are not in `alive`.
    pub fn reap(&self, alive: &[String]) -> Result<Vec<String>, BridgeError> {
        let kernel = |source| BridgeError::Kernel {
            name: self.config.name.clone(),
            source,
        };
        let mut socket = Socket::open(Family::Route).map_err(kernel)?;
        let mut reaped = Vec::new();
        for link in route::links(&mut socket).map_err(kernel)? {
            let ours = link.master == Some(self.index)
                && link.kind == "veth"
                && crate::sandbox::is_port_name(&link.name);
            if !ours || alive.contains(&link.name) {
                continue;
            }
            let mut batch = Batch::default();
            route::delete(&mut batch, link.index, &link.name);
            // it may go by itself at any moment
            tolerate(socket.transact(&mut batch), Errno::NODEV).map_err(kernel)?;
            reaped.push(link.name);
        }
        Ok(reaped)
    }

    /// Deletes the bridge; that it is gone already is no error.
    pub fn destroy(self) -> Result<(), BridgeError> {
        let kernel = |source| BridgeError::Kernel {
            name: self.config.name.clone(),
            source,
        };
        let mut socket = Socket::open(Family::Route).map_err(kernel)?;
        let mut batch = Batch::default();
        route::delete(&mut batch, self.index, &self.config.name);
        tolerate(socket.transact(&mut batch), Errno::NODEV).map_err(kernel)
    }
}

fn check(config: &BridgeConfig) -> Result<(), BridgeError> {
    // dev_valid_name() of the kernel; the name also becomes part of a path below /proc/sys
    let name = &config.name;
    let fits = (1..=15).contains(&name.len()) && name != "." && name != "..";
    let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'/' && byte != b':';
    if !fits || !name.bytes().all(plain) {
        return Err(BridgeError::Name { name: name.clone() });
    }
    if !config.subnet.contains(config.gateway) {
        let (gateway, subnet) = (config.gateway, config.subnet);
        return Err(BridgeError::Gateway { gateway, subnet });
    }
    Ok(())
}

fn ensure_link(socket: &mut Socket, config: &BridgeConfig) -> Result<Link, BridgeError> {
    let kernel = |source| BridgeError::Kernel {
        name: config.name.clone(),
        source,
    };
    let found = route::link_by_name(socket, &config.name).map_err(kernel)?;
    let Some(link) = found else {
        // An address of its own keeps the bridge from taking its lowest port's, which would change
        // whenever containers come and go and break every neighbour entry for the gateway.
        let mut batch = Batch::default();
        route::create_bridge(
            &mut batch,
            &config.name,
            mac_for(config.gateway),
            config.mtu,
        );
        tolerate(socket.transact(&mut batch), Errno::EXIST).map_err(kernel)?;
        let made = route::link_by_name(socket, &config.name).map_err(kernel)?;
        return made
            .filter(|link| link.kind == "bridge")
            .ok_or_else(|| BridgeError::NotABridge {
                name: config.name.clone(),
            });
    };
    if link.kind != "bridge" {
        return Err(BridgeError::NotABridge {
            name: config.name.clone(),
        });
    }
    if !link.up || link.mtu != config.mtu {
        let mut batch = Batch::default();
        let change = Change {
            up: true,
            mtu: Some(config.mtu),
            ..Change::default()
        };
        route::set_link(&mut batch, link.index, &config.name, &change);
        socket.transact(&mut batch).map_err(kernel)?;
    }
    Ok(link)
}

/// Gives the bridge its address and takes every other one of the same family.
fn ensure_address(
    socket: &mut Socket,
    config: &BridgeConfig,
    index: u32,
) -> Result<(), netlink::NetlinkError> {
    let wanted = Assigned {
        link: index,
        address: config.gateway,
        prefix: config.subnet.prefix(),
    };
    let assigned = route::addresses(socket)?;
    let mine = || assigned.iter().filter(|a| a.link == index);
    let mut batch = Batch::default();
    mine()
        .filter(|a| **a != wanted && a.address.is_ipv4() == wanted.address.is_ipv4())
        .for_each(|stale| route::remove_address(&mut batch, stale));
    if !mine().any(|a| *a == wanted) {
        route::add_address(&mut batch, index, wanted.address, wanted.prefix);
    }
    if batch.messages().is_empty() {
        Ok(())
    } else {
        socket.transact(&mut batch)
    }
}

fn ensure_sysctls(config: &BridgeConfig) -> Result<(), SysctlError> {
    let name = &config.name;
    sysctl::ensure("ipv4/ip_forward", "1")?;
    // A connection to a port published on 127.0.0.1 leaves by the bridge with a loopback source.
    // What this opens for others, the guard chain of the firewall closes.
    sysctl::ensure(&format!("ipv4/conf/{name}/route_localnet"), "1")?;
    if config.gateway.is_ipv4() && sysctl::has_ipv6() {
        // a network without IPv6 must not carry it (GHSA-x84c-p2g9-rqv9)
        sysctl::ensure(&format!("ipv6/conf/{name}/disable_ipv6"), "1")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(name: &str, gateway: &str) -> BridgeConfig {
        BridgeConfig {
            name: name.to_owned(),
            subnet: "172.17.0.0/16".parse().unwrap(),
            gateway: gateway.parse().unwrap(),
            mtu: 1500,
        }
    }

    #[test]
    fn names_that_would_leave_their_directory_are_refused() {
        for bad in ["", ".", "..", "a/b", "a b", "sixteen-letters!", "a:b"] {
            let result = check(&config(bad, "172.17.0.1"));
            assert!(matches!(result, Err(BridgeError::Name { .. })), "{bad}");
        }
        assert!(check(&config("br.1", "172.17.0.1")).is_ok());
    }

    #[test]
    fn the_gateway_must_be_inside() {
        let result = check(&config("br0", "172.18.0.1"));
        assert!(matches!(result, Err(BridgeError::Gateway { .. })));
    }
}
