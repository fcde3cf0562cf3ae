//! Links: making, changing, finding and deleting them.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use super::abi::{
    AF_BRIDGE, AF_INET6, AF_UNSPEC, IF_OPER_UP, IFF_UP, IFLA_ADDRESS, IFLA_AF_SPEC,
    IFLA_BRPORT_ISOLATED, IFLA_BRPORT_MODE, IFLA_IFALIAS, IFLA_IFNAME, IFLA_INET6_ADDR_GEN_MODE,
    IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_IPVLAN_MODE, IFLA_LINK, IFLA_LINK_NETNSID, IFLA_LINKINFO,
    IFLA_MACVLAN_MODE, IFLA_MASTER, IFLA_MTU, IFLA_NET_NS_FD, IFLA_OPERSTATE, IFLA_PROTINFO,
    IFLA_STATS64, IFLA_VLAN_ID, IN6_ADDR_GEN_MODE_NONE, RTM_DELLINK, RTM_GETLINK, RTM_NEWLINK,
    RTM_SETLINK, VETH_INFO_PEER,
};
use crate::counters::Counters;
use crate::mac::MacAddress;
use crate::netlink::abi::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL};
use crate::netlink::{Attributes, Batch, Message, NetlinkError, Socket, find, integer_ne, text};

/// A link as the kernel describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    /// What somebody wrote on it; empty if nobody did.
    pub(crate) alias: String,
    /// "bridge", "veth", ...; empty for hardware.
    pub(crate) kind: String,
    /// The bridge that the link is a port of.
    pub(crate) master: Option<u32>,
    /// The index of the other end of a veth pair, in the other end's namespace.
    pub(crate) peer: Option<u32>,
    /// The number of that namespace, as the link's own namespace counts them.
    pub(crate) peer_namespace: Option<i32>,
    pub(crate) mac: Option<MacAddress>,
    pub(crate) mtu: u32,
    pub(crate) up: bool,
    /// It is up, has a carrier, and the kernel has taken notice of both: packets pass.
    pub(crate) operational: bool,
    pub(crate) counters: Counters,
}

/// What to change of a link; the default changes nothing.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Change<'a> {
    pub(crate) up: bool,
    pub(crate) down: bool,
    pub(crate) name: Option<&'a str>,
    pub(crate) mac: Option<MacAddress>,
    pub(crate) mtu: Option<u32>,
    pub(crate) master: Option<u32>,
    /// Keeps the kernel from giving the link an IPv6 address of its own.
    pub(crate) without_link_local: bool,
}

/// A link to make.
#[derive(Debug)]
pub(crate) struct NewLink<'a> {
    pub(crate) name: &'a str,
    pub(crate) kind: &'static str,
    pub(crate) mac: Option<MacAddress>,
    pub(crate) mtu: Option<u32>,
    /// The link that carries it.
    pub(crate) parent: Option<u32>,
    /// Where to make it, if not here.
    pub(crate) namespace: Option<BorrowedFd<'a>>,
    /// What is written on it.
    pub(crate) alias: Option<&'a str>,
}

impl<'a> NewLink<'a> {
    pub(crate) const fn named(name: &'a str, kind: &'static str) -> Self {
        Self {
            name,
            kind,
            mac: None,
            mtu: None,
            parent: None,
            namespace: None,
            alias: None,
        }
    }
}

/// A veth pair to make: one end here, the other in another namespace.
#[derive(Debug)]
pub(crate) struct Veth<'a> {
    pub(crate) name: &'a str,
    pub(crate) alias: Option<&'a str>,
    pub(crate) mtu: u32,
    pub(crate) peer_name: &'a str,
    pub(crate) peer_mac: Option<MacAddress>,
    pub(crate) peer_namespace: BorrowedFd<'a>,
}

/// `struct ifinfomsg`.
fn header(family: u8, index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[0] = family;
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..].copy_from_slice(&change.to_ne_bytes());
    bytes
}

/// Makes a link; `data` writes what is special to its kind.
pub(crate) fn create(batch: &mut Batch, new: &NewLink<'_>, data: impl FnOnce(&mut Attributes<'_>)) {
    let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
    let step = format!("make the {} link {}", new.kind, new.name);
    let header = header(AF_UNSPEC, 0, 0, 0);
    batch.message(RTM_NEWLINK, flags, &header, step, |link| {
        link.text(IFLA_IFNAME, new.name);
        if let Some(mac) = new.mac {
            link.bytes(IFLA_ADDRESS, &mac.octets());
        }
        if let Some(mtu) = new.mtu {
            link.u32(IFLA_MTU, mtu);
        }
        if let Some(parent) = new.parent {
            link.u32(IFLA_LINK, parent);
        }
        if let Some(namespace) = new.namespace {
            link.bytes(IFLA_NET_NS_FD, &namespace.as_raw_fd().to_ne_bytes());
        }
        link.nest(IFLA_LINKINFO, |info| {
            info.text(IFLA_INFO_KIND, new.kind);
            info.nest(IFLA_INFO_DATA, data);
        });
    });
    if let Some(alias) = new.alias {
        // the kernel takes it only of a link that is there, but both in one call: whoever makes a
        // link and dies leaves none without it
        let step = format!("mark the link {}", new.name);
        batch.message(RTM_SETLINK, NLM_F_ACK, &header, step, |link| {
            link.text(IFLA_IFNAME, new.name);
            link.text(IFLA_IFALIAS, alias);
        });
    }
}

pub(crate) fn create_veth(batch: &mut Batch, veth: &Veth<'_>) {
    let new = NewLink {
        mtu: Some(veth.mtu),
        alias: veth.alias,
        ..NewLink::named(veth.name, "veth")
    };
    create(batch, &new, |data| {
        data.nest(VETH_INFO_PEER, |peer| {
            peer.raw(&header(AF_UNSPEC, 0, 0, 0));
            peer.text(IFLA_IFNAME, veth.peer_name);
            peer.u32(IFLA_MTU, veth.mtu);
            if let Some(mac) = veth.peer_mac {
                peer.bytes(IFLA_ADDRESS, &mac.octets());
            }
            let namespace = veth.peer_namespace.as_raw_fd();
            peer.bytes(IFLA_NET_NS_FD, &namespace.to_ne_bytes());
        });
    });
}

/// Makes a link that shares its parent's wire under an Ethernet address of its own.
pub(crate) fn create_macvlan(batch: &mut Batch, new: &NewLink<'_>, mode: u32) {
    create(batch, new, |data| data.u32(IFLA_MACVLAN_MODE, mode));
}

/// Makes a link that shares its parent's wire and Ethernet address.
pub(crate) fn create_ipvlan(batch: &mut Batch, new: &NewLink<'_>, mode: u16) {
    create(batch, new, |data| data.u16(IFLA_IPVLAN_MODE, mode));
}

/// Makes a link that carries its parent's frames of one VLAN.
pub(crate) fn create_vlan(batch: &mut Batch, new: &NewLink<'_>, id: u16) {
    create(batch, new, |data| data.u16(IFLA_VLAN_ID, id));
}

/// Changes a link; `what` names it in an error.
pub(crate) fn set_link(batch: &mut Batch, index: u32, what: &str, change: &Change<'_>) {
    let flags = if change.up { IFF_UP } else { 0 };
    let mask = if change.up || change.down { IFF_UP } else { 0 };
    let step = format!("set up the link {what}");
    batch.message(
        RTM_SETLINK,
        NLM_F_ACK,
        &header(AF_UNSPEC, index, flags, mask),
        step,
        |link| {
            if let Some(name) = change.name {
                link.text(IFLA_IFNAME, name);
            }
            if let Some(mac) = change.mac {
                link.bytes(IFLA_ADDRESS, &mac.octets());
            }
            if let Some(mtu) = change.mtu {
                link.u32(IFLA_MTU, mtu);
            }
            if let Some(master) = change.master {
                link.u32(IFLA_MASTER, master);
            }
            if change.without_link_local {
                link.nest(IFLA_AF_SPEC, |families| {
                    families.nest(u16::from(AF_INET6), |inet6| {
                        inet6.u8(IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
                    });
                });
            }
        },
    );
}

/// Sets up a bridge port: frames may go back to where they came from, and those of an isolated port
/// go to no other isolated one.
pub(crate) fn set_port(batch: &mut Batch, index: u32, what: &str, isolated: bool) {
    let step = format!("set up the bridge port {what}");
    let header = header(AF_BRIDGE, index, 0, 0);
    batch.message(RTM_SETLINK, NLM_F_ACK, &header, step, |link| {
        link.nest(IFLA_PROTINFO, |port| {
            // Where br_netfilter is loaded, a container's packet to its own published port is
            // turned round on the bridge before it reaches the host (br_nf_pre_routing_finish).
            port.u8(IFLA_BRPORT_MODE, 1);
            port.u8(IFLA_BRPORT_ISOLATED, u8::from(isolated));
        });
    });
}

pub(crate) fn delete(batch: &mut Batch, index: u32, what: &str) {
    let step = format!("delete the link {what}");
    batch.message(
        RTM_DELLINK,
        NLM_F_ACK,
        &header(AF_UNSPEC, index, 0, 0),
        step,
        |_| (),
    );
}

pub(crate) fn link_by_name(socket: &mut Socket, name: &str) -> Result<Option<Link>, NetlinkError> {
    let mut batch = Batch::default();
    let step = format!("look up the link {name}");
    batch.message(
        RTM_GETLINK,
        NLM_F_ACK,
        &header(AF_UNSPEC, 0, 0, 0),
        step,
        |link| {
            link.text(IFLA_IFNAME, name);
        },
    );
    one(socket, &mut batch)
}

pub(crate) fn link_by_index(socket: &mut Socket, index: u32) -> Result<Option<Link>, NetlinkError> {
    let mut batch = Batch::default();
    let step = format!("look up the link number {index}");
    batch.message(
        RTM_GETLINK,
        NLM_F_ACK,
        &header(AF_UNSPEC, index, 0, 0),
        step,
        |_| (),
    );
    one(socket, &mut batch)
}

fn one(socket: &mut Socket, batch: &mut Batch) -> Result<Option<Link>, NetlinkError> {
    let mut found = None;
    match socket.query(batch, &mut |message| {
        found = found.take().or_else(|| parse(message));
    }) {
        Ok(()) => Ok(found),
        Err(error) if error.is(Errno::NODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

pub(crate) fn links(socket: &mut Socket) -> Result<Vec<Link>, NetlinkError> {
    socket.dump(
        |batch| {
            let header = header(AF_UNSPEC, 0, 0, 0);
            batch.message(RTM_GETLINK, NLM_F_DUMP, &header, "list the links", |_| ());
        },
        parse,
    )
}

fn parse(message: &Message<'_>) -> Option<Link> {
    if message.kind != RTM_NEWLINK {
        return None;
    }
    let number = |bytes: Option<&[u8]>| u32::try_from(integer_ne(bytes?)?).ok();
    let attributes = message.attributes(16);
    let info = find(attributes, IFLA_LINKINFO).unwrap_or_default();
    Some(Link {
        index: number(message.payload.get(4..8))?,
        name: text(find(attributes, IFLA_IFNAME)?),
        alias: find(attributes, IFLA_IFALIAS).map(text).unwrap_or_default(),
        kind: find(info, IFLA_INFO_KIND).map(text).unwrap_or_default(),
        master: number(find(attributes, IFLA_MASTER)),
        peer: number(find(attributes, IFLA_LINK)),
        peer_namespace: find(attributes, IFLA_LINK_NETNSID)
            .and_then(|bytes| bytes.try_into().ok())
            .map(i32::from_ne_bytes),
        mac: find(attributes, IFLA_ADDRESS).and_then(MacAddress::from_bytes),
        mtu: number(find(attributes, IFLA_MTU)).unwrap_or_default(),
        up: number(message.payload.get(8..12))? & IFF_UP != 0,
        operational: find(attributes, IFLA_OPERSTATE) == Some(&[IF_OPER_UP]),
        counters: find(attributes, IFLA_STATS64)
            .map(Counters::parse)
            .unwrap_or_default(),
    })
}
