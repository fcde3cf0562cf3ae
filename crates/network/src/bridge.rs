//! The bridge that containers are attached to.

mod settings;

use std::net::{IpAddr, Ipv6Addr};

use rustix::io::Errno;
use sys::netns::Family;

use crate::bounds::{MAXIMUM_MTU, is_link_name, minimum_mtu};
use crate::mac::{MacAddress, mac_for};
use crate::netlink::{self, Batch, NetlinkError, Socket, tolerate};
use crate::route::{self, Assigned, Change, Link, NewLink};
use crate::subnet::Subnet;
use crate::sysctl::SysctlError;

/// The gateway's second IPv6 address, the same in every network, as Docker's bridges have it.
const LINK_LOCAL_GATEWAY: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1));
const LINK_LOCAL_PREFIX: u8 = 64;

/// The host's part in a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostSide {
    /// The network of the containers.
    pub subnet: Subnet,
    /// The bridge's own address in the network; without one the host is no part of it.
    pub gateway: Option<IpAddr>,
}

/// What a bridge is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeConfig {
    /// The name of the link.
    pub name: String,
    /// The networks behind it: one of IPv4, one of IPv6, or both.
    pub sides: Vec<HostSide>,
    /// The largest packet in bytes, without Ethernet's header.
    pub mtu: u32,
    /// Whose the bridge and the links on it are, which is written on them when they are made
    /// (`ip link` shows it as their alias).
    pub owner: Option<String>,
}

/// A bridge that exists and is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bridge {
    config: BridgeConfig,
    index: u32,
}

/// What is wrong with a bridge; [`Bridge::ensure`] mends it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BridgeFault {
    /// It is not there.
    Gone,
    /// Another link has its name, perhaps another bridge.
    Another,
    /// It is switched off.
    Down,
    /// Its packets have another size.
    Mtu {
        /// The size as it is.
        found: u32,
        /// The size as it is to be.
        wanted: u32,
    },
    /// It has lost an address.
    Address {
        /// The address.
        address: IpAddr,
        /// The length of its network's prefix.
        prefix: u8,
    },
    /// A kernel setting keeps the host from routing for it.
    Setting {
        /// The setting, below `net`.
        name: String,
        /// What it is to be.
        wanted: &'static str,
    },
}

impl std::fmt::Display for BridgeFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Gone => f.write_str("is gone"),
            Self::Another => f.write_str("was replaced by another link"),
            Self::Down => f.write_str("is down"),
            Self::Mtu { found, wanted } => write!(f, "has the MTU {found} instead of {wanted}"),
            Self::Address { address, prefix } => {
                write!(f, "has lost its address {address}/{prefix}")
            }
            Self::Setting { name, wanted } => {
                write!(f, "needs the kernel setting net.{name} to be {wanted}")
            }
        }
    }
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
    /// No link can have packets of this size.
    #[error("invalid MTU {mtu} of the bridge {name}: must be {} to {MAXIMUM_MTU}", .minimum)]
    Mtu {
        /// The bridge.
        name: String,
        /// The size as given.
        mtu: u32,
        /// The least that the network's protocols need.
        minimum: u32,
    },
    /// The network has IPv6 and the kernel has not.
    #[error("the network of the bridge {name} has IPv6, which is switched off in this kernel")]
    NoIpv6 {
        /// The bridge.
        name: String,
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
    /// The bridge could not be deleted.
    #[error("cannot delete the bridge {name}")]
    Remove {
        /// The bridge.
        name: String,
        /// What was refused.
        #[source]
        source: netlink::NetlinkError,
    },
}

impl BridgeConfig {
    /// Tells whether the network has IPv6 addresses.
    pub fn has_ipv6(&self) -> bool {
        self.sides
            .iter()
            .any(|side| side.subnet.address().is_ipv6())
    }

    fn gateways(&self) -> impl Iterator<Item = (IpAddr, u8)> {
        self.sides
            .iter()
            .filter_map(|side| Some((side.gateway?, side.subnet.prefix())))
    }

    /// Lists every address that the bridge is to have.
    fn addresses(&self) -> Vec<(IpAddr, u8)> {
        let mut addresses: Vec<_> = self.gateways().collect();
        if addresses.iter().any(|(address, _)| address.is_ipv6()) {
            addresses.push((LINK_LOCAL_GATEWAY, LINK_LOCAL_PREFIX));
        }
        addresses
    }

    /// An Ethernet address of its own keeps the bridge from taking its lowest port's, which would
    /// change whenever containers come and go and break every neighbour entry for the gateway.
    fn mac(&self) -> MacAddress {
        let by_name = || {
            // FNV-1a; 06 in front keeps it apart from what is made of IP addresses
            let hash = self.name.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
                (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
            });
            let [a, b, c, d] = hash.to_be_bytes();
            MacAddress::new([0x06, 0x42, a, b, c, d])
        };
        self.gateways()
            .next()
            .map_or_else(by_name, |(address, _)| mac_for(address))
    }
}

impl Bridge {
    /// Makes the bridge, or repairs what is there under its name, and lets the host route for it.
    pub fn ensure(config: BridgeConfig) -> Result<Self, BridgeError> {
        check(&config)?;
        let kernel = |source| kernel_error(&config.name, source);
        let mut socket = Socket::open(Family::Route).map_err(kernel)?;
        let link = ensure_link(&mut socket, &config)?;
        settings::ensure(&config).map_err(|source| BridgeError::Sysctl {
            name: config.name.clone(),
            source,
        })?;
        ensure_up(&mut socket, &config, &link).map_err(kernel)?;
        // one that an earlier engine of this machine made bears its mark
        let kind = |mark: &str| mark.split(' ').next().map(str::to_owned);
        let ours = config
            .owner
            .as_ref()
            .is_none_or(|owner| kind(owner) == kind(&link.alias));
        ensure_addresses(&mut socket, &config, link.index, ours).map_err(kernel)?;
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

    /// Tells what is wrong with the bridge, if anything is; what is too much is not wrong.
    pub fn fault(&self) -> Result<Option<BridgeFault>, BridgeError> {
        let kernel = |source| kernel_error(&self.config.name, source);
        let mut socket = Socket::open(Family::Route).map_err(kernel)?;
        let found = route::link_by_name(&mut socket, &self.config.name).map_err(kernel)?;
        let Some(link) = found else {
            return Ok(Some(BridgeFault::Gone));
        };
        if link.kind != "bridge" || link.index != self.index {
            return Ok(Some(BridgeFault::Another));
        }
        if !link.up {
            return Ok(Some(BridgeFault::Down));
        }
        if link.mtu != self.config.mtu {
            let (found, wanted) = (link.mtu, self.config.mtu);
            return Ok(Some(BridgeFault::Mtu { found, wanted }));
        }
        let assigned = route::addresses(&mut socket).map_err(kernel)?;
        let has = |(address, prefix): &(IpAddr, u8)| {
            let wanted = Assigned {
                link: self.index,
                address: *address,
                prefix: *prefix,
            };
            assigned.contains(&wanted)
        };
        let lost = self.config.addresses().into_iter().find(|own| !has(own));
        Ok(lost
            .map(|(address, prefix)| BridgeFault::Address { address, prefix })
            .or_else(|| settings::fault(&self.config)))
    }

    /// Puts the host's ends of living containers, each with whether it is isolated, on the bridge
    /// after it was made again; those that are gone are left out.
    pub fn rejoin(&self, ports: &[(String, bool)]) -> Result<(), BridgeError> {
        let kernel = |source| kernel_error(&self.config.name, source);
        let mut socket = Socket::open(Family::Route).map_err(kernel)?;
        let links = route::links(&mut socket).map_err(kernel)?;
        for (name, isolated) in ports {
            let Some(link) = links.iter().find(|link| link.name == *name) else {
                continue;
            };
            let mut batch = Batch::default();
            let join = Change {
                up: true,
                master: Some(self.index),
                ..Change::default()
            };
            route::set_link(&mut batch, link.index, name, &join);
            route::set_port(&mut batch, link.index, name, *isolated);
            // it may go by itself at any moment
            tolerate(socket.transact(&mut batch), Errno::NODEV).map_err(kernel)?;
        }
        Ok(())
    }

    /// Deletes the bridge of this name; that it is gone already is no error.
    pub fn remove(name: &str) -> Result<(), BridgeError> {
        let refused = |source| BridgeError::Remove {
            name: name.to_owned(),
            source,
        };
        let mut socket = Socket::open(Family::Route).map_err(refused)?;
        let Some(link) = route::link_by_name(&mut socket, name).map_err(refused)? else {
            return Ok(());
        };
        if link.kind != "bridge" {
            let name = name.to_owned();
            return Err(BridgeError::NotABridge { name });
        }
        let mut batch = Batch::default();
        route::delete(&mut batch, link.index, name);
        tolerate(socket.transact(&mut batch), Errno::NODEV).map_err(refused)
    }
}

fn kernel_error(name: &str, source: NetlinkError) -> BridgeError {
    BridgeError::Kernel {
        name: name.to_owned(),
        source,
    }
}

fn check(config: &BridgeConfig) -> Result<(), BridgeError> {
    let name = &config.name;
    if !is_link_name(name) {
        return Err(BridgeError::Name { name: name.clone() });
    }
    for side in &config.sides {
        let outside = |gateway: &IpAddr| !side.subnet.contains(*gateway);
        if let Some(gateway) = side.gateway.filter(outside) {
            let subnet = side.subnet;
            return Err(BridgeError::Gateway { gateway, subnet });
        }
    }
    let minimum = minimum_mtu(config.has_ipv6());
    if !(minimum..=MAXIMUM_MTU).contains(&config.mtu) {
        return Err(BridgeError::Mtu {
            name: name.clone(),
            mtu: config.mtu,
            minimum,
        });
    }
    if config.has_ipv6() && !crate::sysctl::has_ipv6() {
        return Err(BridgeError::NoIpv6 { name: name.clone() });
    }
    Ok(())
}

fn ensure_link(socket: &mut Socket, config: &BridgeConfig) -> Result<Link, BridgeError> {
    let kernel = |source| kernel_error(&config.name, source);
    let mut found = route::link_by_name(socket, &config.name).map_err(kernel)?;
    if found.is_none() {
        // not up yet: first it is said whether it is to have IPv6
        let new = NewLink {
            mac: Some(config.mac()),
            mtu: Some(config.mtu),
            alias: config.owner.as_deref(),
            ..NewLink::named(&config.name, "bridge")
        };
        let mut batch = Batch::default();
        route::create(&mut batch, &new, |_| ());
        tolerate(socket.transact(&mut batch), Errno::EXIST).map_err(kernel)?;
        found = route::link_by_name(socket, &config.name).map_err(kernel)?;
    }
    let link =
        found
            .filter(|link| link.kind == "bridge")
            .ok_or_else(|| BridgeError::NotABridge {
                name: config.name.clone(),
            })?;
    if link.mtu != config.mtu {
        // before the settings: with packets too small, a link has none of IPv6
        let mut batch = Batch::default();
        let change = Change {
            mtu: Some(config.mtu),
            ..Change::default()
        };
        route::set_link(&mut batch, link.index, &config.name, &change);
        socket.transact(&mut batch).map_err(kernel)?;
    }
    Ok(link)
}

fn ensure_up(socket: &mut Socket, config: &BridgeConfig, link: &Link) -> Result<(), NetlinkError> {
    if link.up {
        return Ok(());
    }
    let mut batch = Batch::default();
    let up = Change {
        up: true,
        ..Change::default()
    };
    route::set_link(&mut batch, link.index, &config.name, &up);
    socket.transact(&mut batch)
}

/// Gives the bridge its addresses and takes every other.
/// Gives the bridge its addresses; those of a bridge that was there before us stay.
fn ensure_addresses(
    socket: &mut Socket,
    config: &BridgeConfig,
    index: u32,
    ours: bool,
) -> Result<(), NetlinkError> {
    let wanted = config.addresses();
    let mut assigned = route::addresses(socket)?;
    assigned.retain(|a| a.link == index);
    let is_wanted = |a: &Assigned| wanted.contains(&(a.address, a.prefix));
    for stale in assigned.iter().filter(|a| ours && !is_wanted(a)) {
        let mut batch = Batch::default();
        route::remove_address(&mut batch, stale);
        // an address goes by itself with the first of its network
        tolerate(socket.transact(&mut batch), Errno::ADDRNOTAVAIL)?;
    }
    let is_there = |address, prefix| {
        let same = |a: &Assigned| a.address == address && a.prefix == prefix;
        assigned.iter().any(same)
    };
    let mut batch = Batch::default();
    for (address, prefix) in wanted {
        if !is_there(address, prefix) {
            route::add_address(&mut batch, index, address, prefix);
        }
    }
    if batch.messages().is_empty() {
        Ok(())
    } else {
        socket.transact(&mut batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(name: &str, gateway: &str) -> BridgeConfig {
        BridgeConfig {
            name: name.to_owned(),
            sides: vec![HostSide {
                subnet: "172.17.0.0/16".parse().unwrap(),
                gateway: Some(gateway.parse().unwrap()),
            }],
            mtu: 1500,
            owner: None,
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

    #[test]
    fn the_packet_size_has_bounds() {
        let result = |mtu| {
            check(&BridgeConfig {
                mtu,
                ..config("br0", "172.17.0.1")
            })
        };
        for bad in [0, 67, 65_536, u32::MAX] {
            assert!(matches!(result(bad), Err(BridgeError::Mtu { .. })), "{bad}");
        }
        for good in [68, 1500, 65_535] {
            assert!(result(good).is_ok(), "{good}");
        }
        let mut six = config("br0", "172.17.0.1");
        six.mtu = 1279;
        six.sides.push(HostSide {
            subnet: "fd00::/64".parse().unwrap(),
            gateway: None,
        });
        assert!(matches!(
            check(&six),
            Err(BridgeError::Mtu { minimum: 1280, .. })
        ));
    }

    #[test]
    fn a_bridge_without_address_has_a_mac_of_its_own() {
        let mut lone = config("br0", "172.17.0.1");
        assert_eq!(lone.mac(), mac_for([172, 17, 0, 1].into()));
        lone.sides[0].gateway = None;
        assert!(lone.mac().is_unicast());
        assert_ne!(lone.mac(), mac_for([172, 17, 0, 1].into()));
        assert_eq!(lone.addresses(), []);
    }
}
