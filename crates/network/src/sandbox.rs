//! A network namespace made ready for a container.

mod attach;
mod error;
mod found;
mod inside;
mod maker;

use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use sys::netns::{self, Family};

pub use attach::Attachment;
pub use error::SandboxError;
pub use found::Found;
pub(crate) use maker::{Maker, Target};

use crate::mac::{MacAddress, mac_for};
use crate::netlink::{Batch, Socket, tolerate};
use crate::route::{self, Change, RouteFamily};

/// The name that Docker gives a container's link.
const INSIDE_NAME: &str = "eth0";
const LINK_LOCAL_PREFIX: u8 = 64;

/// What a container's link is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// The link's name in the container.
    pub name: String,
    /// The Ethernet address; without one it is [`mac_for`] the first IP address.
    pub mac: Option<MacAddress>,
    /// The IP addresses, each with the length of its network's prefix.
    pub addresses: Vec<(IpAddr, u8)>,
    /// The largest packet; 0 for that of the network.
    pub mtu: u32,
    /// Kernel settings inside, such as `net.ipv4.conf.IFNAME.log_martians`, in which `IFNAME` stands
    /// for the link's name.
    pub sysctls: Vec<(String, String)>,
}

/// A way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// The next router; unspecified (`0.0.0.0`, `::`) where the link itself leads everywhere, as
    /// with ipvlan's layer 3.
    pub address: IpAddr,
    /// The link's name in the container.
    pub interface: String,
}

/// The ways out; a family without one reaches its own networks only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gateways {
    /// For IPv4.
    pub v4: Option<Gateway>,
    /// For IPv6.
    pub v6: Option<Gateway>,
}

/// The host's end of a sandbox's veth pair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostInterface {
    /// The link's index on the host.
    pub index: u32,
    /// The link's name on the host.
    pub name: String,
}

/// A network namespace with its links.
///
/// Dropping it closes the namespace; the kernel then removes the links in the background, unless a
/// process lives there.
#[derive(Debug)]
pub struct Sandbox {
    namespace: OwnedFd,
    inside: Socket,
    /// A socket on the host, opened when first needed.
    host: Option<Arc<Mutex<Socket>>>,
    links: Vec<Known>,
    /// Whether there may be a default route of IPv4 or IPv6.
    may_have_routes: bool,
}

/// A link inside that this sandbox made.
#[derive(Debug, Clone)]
struct Known {
    index: u32,
    name: String,
    mtu: u32,
    /// The link carries IPv6.
    ipv6: bool,
    host: Option<HostInterface>,
}

impl Interface {
    fn has_ipv6(&self) -> bool {
        self.addresses.iter().any(|(address, _)| address.is_ipv6())
    }

    fn mac(&self) -> Option<MacAddress> {
        let first = self.addresses.first();
        self.mac
            .or_else(|| first.map(|(address, _)| mac_for(*address)))
    }

    /// Adds the addresses, with the one that each link has in IPv6 and that neighbours use.
    fn add_addresses(&self, batch: &mut Batch, index: u32, link_local: Option<Ipv6Addr>) {
        if self.has_ipv6()
            && let Some(address) = link_local
        {
            route::add_address(batch, index, address.into(), LINK_LOCAL_PREFIX);
        }
        for (address, prefix) in &self.addresses {
            route::add_address(batch, index, *address, *prefix);
        }
    }
}

impl Gateways {
    fn all(&self) -> impl Iterator<Item = &Gateway> {
        self.v4.iter().chain(&self.v6)
    }
}

impl Sandbox {
    /// Makes a sandbox with the loopback link only; links of the calling thread's namespace can be
    /// attached.
    pub fn isolated() -> Result<Self, SandboxError> {
        maker::isolated(None)
    }

    /// Takes a namespace over that a container uses already. The calling thread's namespace is
    /// the one that its links come from.
    pub fn adopt(namespace: OwnedFd) -> Result<Self, SandboxError> {
        let inside = netns::within(namespace.as_fd(), || Socket::open(Family::Route))
            .map_err(SandboxError::Namespace)?
            .map_err(SandboxError::Inside)?;
        Ok(Self {
            namespace,
            inside,
            host: None,
            links: Vec::new(),
            may_have_routes: true,
        })
    }

    /// Gives the link that a pool made its addresses.
    pub fn connect(&mut self, interface: &Interface) -> Result<(), SandboxError> {
        self.connect_and_route(interface, &Gateways::default())
    }

    /// Gives the link that a pool made its addresses and the container its ways out over this link,
    /// all in one request.
    pub fn connect_and_route(
        &mut self,
        interface: &Interface,
        gateways: &Gateways,
    ) -> Result<(), SandboxError> {
        inside::check(interface)?;
        let missing = || SandboxError::NoInterface {
            name: INSIDE_NAME.to_owned(),
        };
        let mut link = self.links.first().ok_or_else(missing)?.clone();
        self.rename(&mut link, &interface.name)?;
        let ipv6 = interface.has_ipv6();
        if ipv6 != link.ipv6 || !interface.sysctls.is_empty() {
            inside::settle(self.namespace.as_fd(), interface)?;
            link.ipv6 = ipv6;
        }
        let mtu = Some(interface.mtu).filter(|mtu| *mtu != 0 && *mtu != link.mtu);
        let mac = interface.mac();
        let mut batch = Batch::default();
        let change = Change {
            up: true,
            mac,
            mtu,
            ..Change::default()
        };
        route::set_link(&mut batch, link.index, &link.name, &change);
        interface.add_addresses(&mut batch, link.index, mac.map(MacAddress::link_local));
        for gateway in gateways.all() {
            if gateway.interface != link.name {
                let name = gateway.interface.clone();
                return Err(SandboxError::NoInterface { name });
            }
            route::set_default_route(&mut batch, link.index, gateway.address);
        }
        self.inside
            .transact(&mut batch)
            .map_err(|source| SandboxError::configure(interface, source))?;
        self.may_have_routes |= gateways.all().next().is_some();
        link.mtu = mtu.unwrap_or(link.mtu);
        self.announce(&link, mac, mtu);
        if let Some(first) = self.links.first_mut() {
            *first = link;
        }
        Ok(())
    }

    /// Replaces the default routes of both families; `None` leaves a family without.
    pub fn route(&mut self, gateways: &Gateways) -> Result<(), SandboxError> {
        let mut batch = Batch::default();
        for gateway in gateways.all() {
            let index = self.index_of(&gateway.interface)?;
            let index = index.ok_or_else(|| SandboxError::NoInterface {
                name: gateway.interface.clone(),
            })?;
            route::set_default_route(&mut batch, index, gateway.address);
        }
        if self.may_have_routes {
            // the kernel replaces one route; there may be others, of another metric or added inside
            for (gateway, family) in [
                (&gateways.v4, RouteFamily::V4),
                (&gateways.v6, RouteFamily::V6),
            ] {
                if gateway.is_none() {
                    route::remove_default_routes(&mut self.inside, family)
                        .map_err(SandboxError::Route)?;
                }
            }
        }
        self.may_have_routes = gateways.all().next().is_some();
        if batch.messages().is_empty() {
            return Ok(());
        }
        self.inside
            .transact(&mut batch)
            .map_err(SandboxError::Route)
    }

    /// Removes a link; that it is gone already is no error.
    pub fn detach(&mut self, name: &str) -> Result<(), SandboxError> {
        let Some(index) = self.index_of(name)? else {
            return Ok(());
        };
        let mut batch = Batch::default();
        route::delete(&mut batch, index, name);
        tolerate(self.inside.transact(&mut batch), Errno::NODEV).map_err(|source| {
            SandboxError::Detach {
                name: name.to_owned(),
                source,
            }
        })?;
        self.links.retain(|link| link.index != index);
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

    /// Returns the host's end of the first link that was made here; see
    /// [`interfaces`](Self::interfaces) for those of an adopted namespace.
    pub fn host_interface(&self) -> Option<&HostInterface> {
        self.links.first().and_then(|link| link.host.as_ref())
    }

    /// Renames a link, for which it must be down (before Linux 6.2).
    fn rename(&mut self, link: &mut Known, name: &str) -> Result<(), SandboxError> {
        if link.name == name {
            return Ok(());
        }
        let mut batch = Batch::default();
        let down = Change {
            down: true,
            ..Change::default()
        };
        route::set_link(&mut batch, link.index, &link.name, &down);
        let renamed = Change {
            name: Some(name),
            ..Change::default()
        };
        route::set_link(&mut batch, link.index, &link.name, &renamed);
        self.inside
            .transact(&mut batch)
            .map_err(SandboxError::Inside)?;
        name.clone_into(&mut link.name);
        Ok(())
    }

    fn index_of(&mut self, name: &str) -> Result<Option<u32>, SandboxError> {
        if let Some(known) = self.links.iter().find(|link| link.name == name) {
            return Ok(Some(known.index));
        }
        let link = route::link_by_name(&mut self.inside, name).map_err(SandboxError::Inside)?;
        Ok(link.map(|link| link.index))
    }

    fn host(&mut self) -> Result<Arc<Mutex<Socket>>, SandboxError> {
        if let Some(host) = &self.host {
            return Ok(Arc::clone(host));
        }
        let socket = Socket::open(Family::Route).map_err(SandboxError::Inside)?;
        Ok(Arc::clone(self.host.insert(Arc::new(Mutex::new(socket)))))
    }

    /// Points the bridge to the port, which may still know the address of an earlier container
    /// whose namespace is about to go. Only the first packets depend on it, hence no error.
    fn announce(&mut self, link: &Known, mac: Option<MacAddress>, mtu: Option<u32>) {
        let (Some(port), Some(mac), Ok(socket)) = (&link.host, mac, self.host()) else {
            return;
        };
        let mut batch = Batch::default();
        route::forward_to_port(&mut batch, port.index, mac);
        if mtu.is_some() {
            let change = Change {
                mtu,
                ..Change::default()
            };
            route::set_link(&mut batch, port.index, &port.name, &change);
        }
        if let Err(error) = lock(&socket).transact(&mut batch) {
            tracing::debug!(port = port.name, %mac, ?error, "cannot announce a container");
        }
    }
}

fn lock(socket: &Mutex<Socket>) -> MutexGuard<'_, Socket> {
    socket.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells whether a link's name has the form of a sandbox's host end.
pub(crate) fn is_port_name(name: &str) -> bool {
    crate::bounds::has_suffix(name, PORT_PREFIX)
}

/// What the names of the sandboxes' host ends begin with.
pub(crate) const PORT_PREFIX: &str = "veth";

fn random_name() -> String {
    format!("{PORT_PREFIX}{:07x}", crate::random::number() & 0x0fff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_names_are_recognised() {
        assert!(is_port_name(&random_name()));
        assert!(!is_port_name("veth"));
    }
}
