//! Links: making, changing, finding and deleting them.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use super::abi::{
    AF_BRIDGE, AF_INET6, AF_UNSPEC, IFF_UP, IFLA_ADDRESS, IFLA_AF_SPEC, IFLA_BRPORT_MODE,
    IFLA_IFNAME, IFLA_INET6_ADDR_GEN_MODE, IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_LINK,
    IFLA_LINKINFO, IFLA_MASTER, IFLA_MTU, IFLA_NET_NS_FD, IFLA_PROTINFO, IFLA_STATS64,
    IN6_ADDR_GEN_MODE_NONE, RTM_DELLINK, RTM_GETLINK, RTM_NEWLINK, RTM_SETLINK, VETH_INFO_PEER,
};
use crate::counters::Counters;
use crate::mac::MacAddress;
use crate::netlink::abi::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL};
use crate::netlink::{Batch, Message, NetlinkError, Socket, find, integer_ne, text};

/// A link as the kernel describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    /// "bridge", "veth", ...; empty for hardware.
    pub(crate) kind: String,
    /// The bridge that the link is a port of.
    pub(crate) master: Option<u32>,
    /// The index of the other end of a veth pair, in the other end's namespace.
    pub(crate) peer: Option<u32>,
    pub(crate) mac: Option<MacAddress>,
    pub(crate) mtu: u32,
    pub(crate) up: bool,
    pub(crate) counters: Counters,
}

/// What to change of a link; the default changes nothing.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Change {
    pub(crate) up: bool,
    pub(crate) mac: Option<MacAddress>,
    pub(crate) mtu: Option<u32>,
    pub(crate) master: Option<u32>,
    /// Keeps the kernel from giving the link an IPv6 address of its own.
    pub(crate) without_link_local: bool,
}

/// A veth pair to make: one end here, the other in another namespace.
#[derive(Debug)]
pub(crate) struct Veth<'a> {
    pub(crate) name: &'a str,
    pub(crate) mtu: u32,
    pub(crate) peer_name: &'a str,
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

pub(crate) fn create_bridge(batch: &mut Batch, name: &str, mac: MacAddress, mtu: u32) {
    let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
    let step = format!("make the bridge {name}");
    batch.message(
        RTM_NEWLINK,
        flags,
        &header(AF_UNSPEC, 0, IFF_UP, IFF_UP),
        step,
        |link| {
            link.text(IFLA_IFNAME, name);
            link.bytes(IFLA_ADDRESS, &mac.octets());
            link.u32(IFLA_MTU, mtu);
            link.nest(IFLA_LINKINFO, |info| info.text(IFLA_INFO_KIND, "bridge"));
        },
    );
}

pub(crate) fn create_veth(batch: &mut Batch, veth: &Veth<'_>) {
    let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
    let step = format!("make the veth pair {}", veth.name);
    batch.message(
        RTM_NEWLINK,
        flags,
        &header(AF_UNSPEC, 0, 0, 0),
        step,
        |link| {
            link.text(IFLA_IFNAME, veth.name);
            link.u32(IFLA_MTU, veth.mtu);
            link.nest(IFLA_LINKINFO, |info| {
                info.text(IFLA_INFO_KIND, "veth");
                info.nest(IFLA_INFO_DATA, |data| {
                    data.nest(VETH_INFO_PEER, |peer| {
                        peer.raw(&header(AF_UNSPEC, 0, 0, 0));
                        peer.text(IFLA_IFNAME, veth.peer_name);
                        peer.u32(IFLA_MTU, veth.mtu);
                        peer.bytes(
                            IFLA_NET_NS_FD,
                            &veth.peer_namespace.as_raw_fd().to_ne_bytes(),
                        );
                    });
                });
            });
        },
    );
}

/// Changes a link; `what` names it in an error.
pub(crate) fn set_link(batch: &mut Batch, index: u32, what: &str, change: &Change) {
    let flags = if change.up { IFF_UP } else { 0 };
    let step = format!("set up the link {what}");
    batch.message(
        RTM_SETLINK,
        NLM_F_ACK,
        &header(AF_UNSPEC, index, flags, flags),
        step,
        |link| {
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

/// Lets a bridge send frames back to the port that they came from.
pub(crate) fn set_hairpin(batch: &mut Batch, index: u32, what: &str) {
    let step = format!("set up the bridge port {what}");
    batch.message(
        RTM_SETLINK,
        NLM_F_ACK,
        &header(AF_BRIDGE, index, 0, 0),
        step,
        |link| {
            link.nest(IFLA_PROTINFO, |port| port.u8(IFLA_BRPORT_MODE, 1));
        },
    );
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
        kind: find(info, IFLA_INFO_KIND).map(text).unwrap_or_default(),
        master: number(find(attributes, IFLA_MASTER)),
        peer: number(find(attributes, IFLA_LINK)),
        mac: find(attributes, IFLA_ADDRESS).and_then(MacAddress::from_bytes),
        mtu: number(find(attributes, IFLA_MTU)).unwrap_or_default(),
        up: number(message.payload.get(8..12))? & IFF_UP != 0,
        counters: find(attributes, IFLA_STATS64)
            .map(Counters::parse)
            .unwrap_or_default(),
    })
}
