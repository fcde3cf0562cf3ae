//! Connection tracking: making the kernel forget flows that go where they no longer should.
//!
//! A UDP "connection" lives as long as its packets keep coming. One that began before a port was
//! published is never redirected, and one that was redirected goes on to a container that is gone.

mod forgetter;

pub(crate) use forgetter::Forgetter;

use std::net::IpAddr;

use rustix::io::Errno;

use crate::netlink::abi::{NLM_F_ACK, NLM_F_DUMP};
use crate::netlink::{self, Batch, Message, Socket, find, integer_be, tolerate};
use crate::ports::{PortMapping, Protocol};
use crate::route::ip_address;

// linux/netfilter/nfnetlink_conntrack.h
const IPCTNL_MSG_CT_NEW: u16 = 1 << 8;
const IPCTNL_MSG_CT_GET: u16 = 1 << 8 | 1;
const IPCTNL_MSG_CT_DELETE: u16 = 1 << 8 | 2;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_FILTER: u16 = 25;
const CTA_FILTER_ORIG_FLAGS: u16 = 1;
const CTA_FILTER_REPLY_FLAGS: u16 = 2;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
/// `CTA_FILTER_F_CTA_PROTO_NUM` of the kernel's `net/netfilter/nf_internals.h`.
const FILTER_PROTOCOL: u32 = 1 << 3;

/// Why flows are to be forgotten.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Reason {
    /// Flows to the host itself must be redirected from now on.
    Published,
    /// Flows to the container must end.
    Unpublished,
}

/// One direction of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tuple {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    source_port: u16,
    destination_port: u16,
}

#[derive(Debug)]
struct Flow {
    original: Tuple,
    reply: Tuple,
    /// The bytes by which the kernel finds the flow again.
    tuple: Vec<u8>,
    id: Vec<u8>,
}

/// A port that was published or taken back.
#[derive(Debug)]
struct Change {
    port: PortMapping,
    reason: Reason,
}

/// Deletes the UDP flows that these changes made wrong.
///
/// A kernel without this interface still forwards new flows rightly, hence no error.
fn forget(socket: &mut Socket, changes: &[Change]) {
    for family in [AF_INET, AF_INET6] {
        let of_family = |change: &&Change| family_of(change.port.host_ip) == family;
        let changes: Vec<_> = changes.iter().filter(of_family).collect();
        if changes.is_empty() {
            continue;
        }
        let result = flows(socket, family).and_then(|flows| {
            flows
                .iter()
                .filter(|flow| changes.iter().any(|change| flow.is_wrong(change)))
                .try_for_each(|flow| delete(socket, family, flow))
        });
        if let Err(error) = result {
            tracing::warn!(?error, "cannot end the UDP flows of a changed port");
        }
    }
}

const fn family_of(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => AF_INET,
        IpAddr::V6(_) => AF_INET6,
    }
}

impl Flow {
    fn is_wrong(&self, Change { port, reason }: &Change) -> bool {
        let Tuple {
            destination,
            destination_port,
            protocol,
            ..
        } = self.original;
        let to_port = protocol == Protocol::Udp.number()
            && destination_port == port.host_port
            && (port.host_ip.is_unspecified() || port.host_ip == destination);
        let redirected =
            self.reply.source != destination || self.reply.source_port != destination_port;
        let to_container = self.reply.source == port.container.ip()
            && self.reply.source_port == port.container.port();
        // a flow whose source was rewritten is on its way through, and not for this host
        let masqueraded = self.reply.destination != self.original.source;
        to_port
            && match reason {
                Reason::Published => !to_container && (redirected || !masqueraded),
                Reason::Unpublished => to_container,
            }
    }
}

/// Lists the UDP flows.
fn flows(socket: &mut Socket, family: u8) -> Result<Vec<Flow>, netlink::NetlinkError> {
    match list(socket, family, true) {
        // before Linux 5.8 there is no such filter
        Err(error) if error.is(Errno::INVAL) || error.is(Errno::OPNOTSUPP) => {
            list(socket, family, false)
        }
        other => other,
    }
}

fn list(
    socket: &mut Socket,
    family: u8,
    filtered: bool,
) -> Result<Vec<Flow>, netlink::NetlinkError> {
    socket.dump(
        |batch| {
            let header = [family, 0, 0, 0];
            batch.message(
                IPCTNL_MSG_CT_GET,
                NLM_F_DUMP,
                &header,
                "list the flows",
                |message| {
                    if filtered {
                        message.nest(CTA_TUPLE_ORIG, |tuple| {
                            tuple.nest(CTA_TUPLE_PROTO, |protocol| {
                                protocol.u8(CTA_PROTO_NUM, Protocol::Udp.number());
                            });
                        });
                        message.nest(CTA_FILTER, |filter| {
                            filter.u32(CTA_FILTER_ORIG_FLAGS, FILTER_PROTOCOL);
                            filter.u32(CTA_FILTER_REPLY_FLAGS, 0);
                        });
                    }
                },
            );
        },
        parse,
    )
}

fn delete(socket: &mut Socket, family: u8, flow: &Flow) -> Result<(), netlink::NetlinkError> {
    let mut batch = Batch::default();
    let header = [family, 0, 0, 0];
    batch.message(
        IPCTNL_MSG_CT_DELETE,
        NLM_F_ACK,
        &header,
        "end a flow",
        |message| {
            message.nest(CTA_TUPLE_ORIG, |tuple| tuple.raw(&flow.tuple));
            message.bytes(CTA_ID, &flow.id);
        },
    );
    tolerate(socket.transact(&mut batch), Errno::NOENT)
}

fn parse(message: &Message<'_>) -> Option<Flow> {
    if message.kind != IPCTNL_MSG_CT_NEW {
        return None;
    }
    let attributes = message.attributes(4);
    let original = find(attributes, CTA_TUPLE_ORIG)?;
    Some(Flow {
        original: tuple(original)?,
        reply: tuple(find(attributes, CTA_TUPLE_REPLY)?)?,
        tuple: original.to_vec(),
        id: find(attributes, CTA_ID)?.to_vec(),
    })
}

fn tuple(bytes: &[u8]) -> Option<Tuple> {
    let addresses = find(bytes, CTA_TUPLE_IP)?;
    let protocol = find(bytes, CTA_TUPLE_PROTO)?;
    let port = |kind| u16::try_from(integer_be(find(protocol, kind)?)?).ok();
    let address = |v4, v6| ip_address(find(addresses, v4).or(find(addresses, v6))?);
    Some(Tuple {
        source: address(CTA_IP_V4_SRC, CTA_IP_V6_SRC)?,
        destination: address(CTA_IP_V4_DST, CTA_IP_V6_DST)?,
        protocol: *find(protocol, CTA_PROTO_NUM)?.first()?,
        source_port: port(CTA_PROTO_SRC_PORT)?,
        destination_port: port(CTA_PROTO_DST_PORT)?,
    })
}
