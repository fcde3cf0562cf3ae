//! Giving a sandbox one more link, also while a container runs in it.

use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::AsFd;
use std::sync::Mutex;

use rustix::io::Errno;

use super::maker::Pair;
use super::{HostInterface, Interface, Known, Sandbox, SandboxError, inside, lock};
use crate::bridge::Bridge;
use crate::mac::MacAddress;
use crate::macvlan::{IpvlanMode, MacvlanMode};
use crate::netlink::{Batch, NetlinkError, Socket};
use crate::route::{self, Change, NewLink};

/// What a link leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attachment<'a> {
    /// A bridge of this host, by a veth pair.
    Bridge {
        /// The bridge.
        bridge: &'a Bridge,
        /// The port exchanges frames with the host, but with no other isolated port.
        isolated: bool,
    },
    /// The wire of a link of this host, under an Ethernet address of its own.
    Macvlan {
        /// The host's link.
        parent: &'a str,
        /// Who is reached.
        mode: MacvlanMode,
    },
    /// The wire of a link of this host, under that link's Ethernet address.
    Ipvlan {
        /// The host's link.
        parent: &'a str,
        /// Who is reached.
        mode: IpvlanMode,
    },
}

impl Sandbox {
    /// Adds a link and returns the host's end of it, which only a bridge's has. When it fails,
    /// nothing is left of the link.
    pub fn attach(
        &mut self,
        attachment: Attachment<'_>,
        interface: &Interface,
    ) -> Result<Option<HostInterface>, SandboxError> {
        inside::check(interface)?;
        if self.index_of(&interface.name)?.is_some() {
            let name = interface.name.clone();
            return Err(SandboxError::NameTaken { name });
        }
        let host = self.host()?;
        match attachment {
            Attachment::Bridge { bridge, isolated } => {
                let pair = Pair {
                    bridge,
                    isolated,
                    name: &interface.name,
                    mac: interface.mac(),
                    mtu: match interface.mtu {
                        0 => bridge.config().mtu,
                        mtu => mtu,
                    },
                };
                let link = pair.make(&host, self)?;
                let link_local = pair.mac.map(MacAddress::link_local);
                self.finish(link, interface, link_local, |link, inside| {
                    pair.join(&host, link)?;
                    pair.await_carrier(&host, inside, link);
                    Ok(())
                })
            }
            Attachment::Macvlan { parent, mode } => {
                let mac = interface.mac();
                let new = self.shared_link(&host, interface, parent, "macvlan")?;
                let mut batch = Batch::default();
                let namespace = Some(self.namespace.as_fd());
                let new = NewLink {
                    mac,
                    namespace,
                    ..new
                };
                route::create_macvlan(&mut batch, &new, mode.number());
                create(&host, &mut batch, parent, "macvlan", "CONFIG_MACVLAN")?;
                self.finish_shared(interface, mac.map(MacAddress::link_local))
            }
            Attachment::Ipvlan { parent, mode } => {
                if let Some(mac) = interface.mac {
                    let name = interface.name.clone();
                    return Err(SandboxError::MacOfIpvlan { name, mac });
                }
                let new = self.shared_link(&host, interface, parent, "ipvlan")?;
                let mut batch = Batch::default();
                let namespace = Some(self.namespace.as_fd());
                let new = NewLink { namespace, ..new };
                route::create_ipvlan(&mut batch, &new, mode.number());
                create(&host, &mut batch, parent, "ipvlan", "CONFIG_IPVLAN")?;
                self.finish_shared(interface, own_link_local(interface))
            }
        }
    }

    /// Switches a link on that is there, and gives it what it lacks of its addresses and settings.
    pub fn refresh(&mut self, interface: &Interface) -> Result<(), SandboxError> {
        inside::check(interface)?;
        let link = route::link_by_name(&mut self.inside, &interface.name)
            .map_err(SandboxError::Inside)?
            .ok_or_else(|| SandboxError::NoInterface {
                name: interface.name.clone(),
            })?;
        let shares_its_mac = link.kind == "ipvlan";
        let mac = interface.mac().filter(|_| !shares_its_mac);
        let link_local = mac.map_or_else(
            || own_link_local(interface),
            |mac| Some(MacAddress::link_local(mac)),
        );
        if mac.is_some() && mac != link.mac {
            let mut batch = Batch::default();
            let change = Change {
                mac,
                ..Change::default()
            };
            route::set_link(&mut batch, link.index, &link.name, &change);
            self.inside
                .transact(&mut batch)
                .map_err(|source| SandboxError::configure(interface, source))?;
        }
        let known = Known {
            index: link.index,
            name: link.name,
            mtu: link.mtu,
            ipv6: interface.has_ipv6(),
            host: None,
        };
        self.configure(&known, interface, link_local)
    }

    /// Describes a link that shares its parent's wire.
    fn shared_link<'a>(
        &self,
        host: &Mutex<Socket>,
        interface: &'a Interface,
        parent: &str,
        kind: &'static str,
    ) -> Result<NewLink<'a>, SandboxError> {
        let found = route::link_by_name(&mut lock(host), parent).map_err(SandboxError::Inside)?;
        let link = found.ok_or_else(|| SandboxError::NoParent {
            parent: parent.to_owned(),
        })?;
        Ok(NewLink {
            mtu: Some(interface.mtu).filter(|mtu| *mtu != 0),
            parent: Some(link.index),
            ..NewLink::named(&interface.name, kind)
        })
    }

    fn finish_shared(
        &mut self,
        interface: &Interface,
        link_local: Option<Ipv6Addr>,
    ) -> Result<Option<HostInterface>, SandboxError> {
        let made = route::link_by_name(&mut self.inside, &interface.name)
            .map_err(SandboxError::Inside)?
            .ok_or_else(|| SandboxError::NoInterface {
                name: interface.name.clone(),
            })?;
        let link = Known {
            index: made.index,
            name: made.name,
            mtu: made.mtu,
            ipv6: false,
            host: None,
        };
        self.finish(link, interface, link_local, |_, _| Ok(()))
    }

    /// Configures a link that was made, or removes it.
    fn finish(
        &mut self,
        mut link: Known,
        interface: &Interface,
        link_local: Option<Ipv6Addr>,
        join: impl FnOnce(&Known, &mut Socket) -> Result<(), SandboxError>,
    ) -> Result<Option<HostInterface>, SandboxError> {
        let configured = self
            .configure(&link, interface, link_local)
            .and_then(|()| join(&link, &mut self.inside));
        if let Err(error) = configured {
            let mut batch = Batch::default();
            route::delete(&mut batch, link.index, &link.name);
            if let Err(error) = self.inside.transact(&mut batch) {
                tracing::warn!(link = link.name, ?error, "a link that is not used stays");
            }
            return Err(error);
        }
        link.ipv6 = interface.has_ipv6();
        let host = link.host.clone();
        self.links.push(link);
        Ok(host)
    }

    fn configure(
        &mut self,
        link: &Known,
        interface: &Interface,
        link_local: Option<Ipv6Addr>,
    ) -> Result<(), SandboxError> {
        inside::settle(self.namespace.as_fd(), interface)?;
        let mut batch = Batch::default();
        let up = Change {
            up: true,
            ..Change::default()
        };
        route::set_link(&mut batch, link.index, &link.name, &up);
        interface.add_addresses(&mut batch, link.index, link_local);
        self.inside
            .transact(&mut batch)
            .map_err(|source| SandboxError::configure(interface, source))
    }
}

/// Makes a link and names what the kernel lacks for it.
fn create(
    host: &Mutex<Socket>,
    batch: &mut Batch,
    parent: &str,
    kind: &'static str,
    option: &'static str,
) -> Result<(), SandboxError> {
    let refused = |source: NetlinkError| {
        if source.is(Errno::OPNOTSUPP) {
            return SandboxError::KindMissing { kind, option };
        }
        let to = format!("the link {parent}");
        SandboxError::Attach { to, source }
    };
    lock(host).transact(batch).map_err(refused)
}

/// Derives a link-local address from the first IPv6 address, since all ipvlan links of a parent have
/// the same Ethernet address.
fn own_link_local(interface: &Interface) -> Option<Ipv6Addr> {
    let first = |(address, _): &(IpAddr, u8)| match address {
        IpAddr::V6(address) => Some(*address),
        IpAddr::V4(_) => None,
    };
    let [.., e, f, g, h] = interface.addresses.iter().find_map(first)?.segments();
    Some(Ipv6Addr::new(0xfe80, 0, 0, 0, e, f, g, h))
}
