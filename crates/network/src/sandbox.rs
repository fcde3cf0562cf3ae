//! A network namespace made ready for a container.

use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use sys::netns::{self, Family};

use crate::bridge::Bridge;
use crate::mac::MacAddress;
use crate::netlink::{self, Batch, Socket};
use crate::route::{self, Change, Link, Veth};
use crate::sysctl::{self, SysctlError};

/// The name that Docker gives a container's link.
const INSIDE_NAME: &str = "eth0";
/// The loopback link is the first of every namespace.
const LOOPBACK_INDEX: u32 = 1;
/// A random name of 28 bits is taken this often before the kernel is not believed any more.
const NAME_ATTEMPTS: u32 = 8;

/// Where a container's link is to be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    /// The container's address.
    pub ip: IpAddr,
    /// The length of its network's prefix.
    pub prefix: u8,
    /// The way out; a network without one is internal.
    pub gateway: Option<IpAddr>,
    /// The Ethernet address, as a rule [`mac_for`](crate::mac_for) the IP address.
    pub mac: MacAddress,
}

/// The host's end of a sandbox's veth pair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostInterface {
    /// The link's index on the host.
    pub index: u32,
    /// The link's name on the host.
    pub name: String,
}

/// A network namespace with its links, not yet anybody's.
///
/// Dropping it closes the namespace; the kernel then removes the veth pair in the background.
#[derive(Debug)]
pub struct Sandbox {
    namespace: OwnedFd,
    inside: Socket,
    interface: Option<Interface>,
}

#[derive(Debug)]
struct Interface {
    index: u32,
    host: HostInterface,
    host_socket: Arc<Mutex<Socket>>,
}

/// The step of a sandbox's making or use that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SandboxError {
    /// No namespace could be made or entered.
    #[error("cannot prepare a network namespace")]
    Namespace(#[source] netns::NetnsError),
    /// The loopback link or the settings inside could not be made.
    #[error("cannot set up a new network namespace")]
    Inside(#[source] netlink::NetlinkError),
    /// A setting inside could not be made.
    #[error("cannot set up a new network namespace")]
    Sysctl(#[source] SysctlError),
    /// The veth pair could not be made.
    #[error("cannot attach a network namespace to the bridge {bridge}")]
    Attach {
        /// The bridge.
        bridge: String,
        /// What was refused.
        #[source]
        source: netlink::NetlinkError,
    },
    /// The link inside disappeared.
    #[error("the network namespace has no link {INSIDE_NAME}")]
    NoInterface,
    /// The address or the route could not be set.
    #[error("cannot connect a container at {ip}")]
    Connect {
        /// The container's address.
        ip: IpAddr,
        /// What was refused.
        #[source]
        source: netlink::NetlinkError,
    },
}

impl Sandbox {
    /// Gives the container's link its addresses and its default route, all in one request.
    pub fn connect(&mut self, endpoint: &Endpoint) -> Result<(), SandboxError> {
        let interface = self.interface.as_ref().ok_or(SandboxError::NoInterface)?;
        let mut batch = Batch::default();
        let change = Change {
            up: true,
            mac: Some(endpoint.mac),
            ..Change::default()
        };
        route::set_link(&mut batch, interface.index, INSIDE_NAME, &change);
        route::add_address(&mut batch, interface.index, endpoint.ip, endpoint.prefix);
        if let Some(gateway) = endpoint.gateway {
            route::add_default_route(&mut batch, interface.index, gateway);
        }
        self.inside
            .transact(&mut batch)
            .map_err(|source| SandboxError::Connect {
                ip: endpoint.ip,
                source,
            })?;
        interface.announce(endpoint.mac);
        Ok(())
    }

    /// Returns the namespace.
    pub fn netns(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }

    /// Gives the namespace away.
    pub fn into_fd(self) -> OwnedFd {
        self.namespace
    }

    /// Returns the host's end of the veth pair; an isolated sandbox has none.
    pub fn host_interface(&self) -> Option<&HostInterface> {
        self.interface.as_ref().map(|interface| &interface.host)
    }
}

impl Interface {
    /// Points the bridge to the port, which may still know the address of an earlier container
    /// whose namespace is about to go. Only the first packets depend on it, hence no error.
    fn announce(&self, mac: MacAddress) {
        let mut batch = Batch::default();
        route::forward_to_port(&mut batch, self.host.index, mac);
        let mut socket = self
            .host_socket
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = socket.transact(&mut batch) {
            tracing::debug!(port = self.host.name, %mac, ?error, "cannot announce a container");
        }
    }
}

/// Finds the host's end of the veth pair of a namespace in use, as after a restart of the engine.
pub fn find_host_interface(
    namespace: BorrowedFd<'_>,
) -> Result<Option<HostInterface>, SandboxError> {
    let mut host = Socket::open(Family::Route).map_err(SandboxError::Inside)?;
    let (_, link) = look_inside(namespace)?;
    host_end(&mut host, link.as_ref())
}

/// Finds the other end of a link among the host's: one that says the same of this end.
fn host_end(
    host: &mut Socket,
    inside: Option<&Link>,
) -> Result<Option<HostInterface>, SandboxError> {
    let Some((inside, index)) = inside.and_then(|link| link.peer.map(|peer| (link, peer))) else {
        return Ok(None);
    };
    let link = route::link_by_index(host, index).map_err(SandboxError::Inside)?;
    let ours = |link: &Link| {
        link.kind == "veth" && link.peer == Some(inside.index) && is_port_name(&link.name)
    };
    let end = |link: Link| HostInterface {
        index: link.index,
        name: link.name,
    };
    Ok(link.filter(ours).map(end))
}

fn look_inside(namespace: BorrowedFd<'_>) -> Result<(Socket, Option<Link>), SandboxError> {
    let mut inside = netns::within(namespace, || Socket::open(Family::Route))
        .map_err(SandboxError::Namespace)?
        .map_err(SandboxError::Inside)?;
    let link = route::link_by_name(&mut inside, INSIDE_NAME).map_err(SandboxError::Inside)?;
    Ok((inside, link))
}

/// Tells whether a link's name has the form of a sandbox's host end.
pub(crate) fn is_port_name(name: &str) -> bool {
    name.strip_prefix("veth").is_some_and(|rest| {
        rest.len() == 7 && rest.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// Makes sandboxes for one bridge.
#[derive(Debug)]
pub(crate) struct Maker {
    bridge: Bridge,
    host: Arc<Mutex<Socket>>,
    ipv6: bool,
}

impl Maker {
    /// Opens the maker's socket; must be called in the bridge's namespace.
    pub(crate) fn new(bridge: Bridge) -> Result<Self, SandboxError> {
        let socket = Socket::open(Family::Route).map_err(SandboxError::Inside)?;
        Ok(Self {
            bridge,
            host: Arc::new(Mutex::new(socket)),
            ipv6: sysctl::has_ipv6(),
        })
    }

    /// Makes a sandbox that has only its loopback link.
    pub(crate) fn isolated(&self) -> Result<Sandbox, SandboxError> {
        let (namespace, inside) = netns::create_with(furnish).map_err(SandboxError::Namespace)?;
        Ok(Sandbox {
            namespace,
            inside: inside?,
            interface: None,
        })
    }

    /// Makes a sandbox that has a link on the bridge, up but without an address.
    pub(crate) fn attached(&self) -> Result<Sandbox, SandboxError> {
        let mut sandbox = self.isolated()?;
        let name = self.create_pair(sandbox.namespace.as_fd())?;
        let link = route::link_by_name(&mut sandbox.inside, INSIDE_NAME)
            .map_err(SandboxError::Inside)?
            .ok_or(SandboxError::NoInterface)?;
        let index = link.peer.ok_or(SandboxError::NoInterface)?;
        // First the inner end, so that the port has a carrier when it joins: the bridge forwards at
        // once, and the container's first ARP request is not lost to a port that is still down.
        let mut batch = Batch::default();
        let up = Change {
            up: true,
            ..Change::default()
        };
        route::set_link(&mut batch, link.index, INSIDE_NAME, &up);
        sandbox
            .inside
            .transact(&mut batch)
            .map_err(SandboxError::Inside)?;
        self.join_bridge(index, &name)
            .map_err(|source| self.attach_error(source))?;
        sandbox.interface = Some(Interface {
            index: link.index,
            host: HostInterface { index, name },
            host_socket: Arc::clone(&self.host),
        });
        Ok(sandbox)
    }

    /// Takes a namespace in use over.
    pub(crate) fn adopt(&self, namespace: OwnedFd) -> Result<Sandbox, SandboxError> {
        let (inside, link) = look_inside(namespace.as_fd())?;
        let mut host = self.host.lock().unwrap_or_else(PoisonError::into_inner);
        let end = host_end(&mut host, link.as_ref())?;
        drop(host);
        let interface = link.zip(end).map(|(link, host)| Interface {
            index: link.index,
            host,
            host_socket: Arc::clone(&self.host),
        });
        Ok(Sandbox {
            namespace,
            inside,
            interface,
        })
    }

    fn create_pair(&self, namespace: BorrowedFd<'_>) -> Result<String, SandboxError> {
        let mut attempt = 1;
        loop {
            let name = random_name();
            let mut batch = Batch::default();
            let mtu = self.bridge.config().mtu;
            let veth = Veth {
                name: &name,
                mtu,
                peer_name: INSIDE_NAME,
                peer_namespace: namespace,
            };
            route::create_veth(&mut batch, &veth);
            match self.on_host(&mut batch) {
                Ok(()) => return Ok(name),
                Err(error) if error.is(Errno::EXIST) && attempt < NAME_ATTEMPTS => attempt += 1,
                Err(source) => return Err(self.attach_error(source)),
            }
        }
    }

    fn join_bridge(&self, index: u32, name: &str) -> Result<(), netlink::NetlinkError> {
        let mut batch = Batch::default();
        if self.ipv6 {
            // an own message, since the kernel brings a link up before it reads this
            let quiet = Change {
                without_link_local: true,
                ..Change::default()
            };
            route::set_link(&mut batch, index, name, &quiet);
        }
        let up = Change {
            up: true,
            ..Change::default()
        };
        route::set_link(&mut batch, index, name, &up);
        let port = Change {
            master: Some(self.bridge.index()),
            ..Change::default()
        };
        route::set_link(&mut batch, index, name, &port);
        // Where br_netfilter is loaded, a container's packet to its own published port is turned
        // round on the bridge before it reaches the host (br_nf_pre_routing_finish).
        route::set_hairpin(&mut batch, index, name);
        self.on_host(&mut batch)
    }

    fn on_host(&self, batch: &mut Batch) -> Result<(), netlink::NetlinkError> {
        self.host
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .transact(batch)
    }

    fn attach_error(&self, source: netlink::NetlinkError) -> SandboxError {
        SandboxError::Attach {
            bridge: self.bridge.config().name.clone(),
            source,
        }
    }
}

/// Sets a new namespace up, from inside.
fn furnish() -> Result<Socket, SandboxError> {
    for (name, value) in [
        // links made from now on carry no IPv6 (GHSA-x84c-p2g9-rqv9); loopback keeps ::1
        ("ipv6/conf/default/disable_ipv6", "1"),
        // Docker's defaults: a namespace has no ports worth guarding from its own users
        ("ipv4/ip_unprivileged_port_start", "0"),
        ("ipv4/ping_group_range", "0 2147483647"),
    ] {
        sysctl::write_if_present(name, value).map_err(SandboxError::Sysctl)?;
    }
    let mut socket = Socket::open(Family::Route).map_err(SandboxError::Inside)?;
    let mut batch = Batch::default();
    let up = Change {
        up: true,
        ..Change::default()
    };
    route::set_link(&mut batch, LOOPBACK_INDEX, "lo", &up);
    socket.transact(&mut batch).map_err(SandboxError::Inside)?;
    Ok(socket)
}

fn random_name() -> String {
    format!("veth{:07x}", crate::random::number() & 0x0fff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_names_are_recognised() {
        assert!(is_port_name(&random_name()));
        for bad in [
            "veth",
            "veth12345678",
            "veth12345",
            "vethABCDEF0",
            "eth0123456",
        ] {
            assert!(!is_port_name(bad), "{bad}");
        }
    }
}
