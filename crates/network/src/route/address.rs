//! Addresses of links.

use std::net::IpAddr;

use super::abi::{
    AF_UNSPEC, IFA_ADDRESS, IFA_BROADCAST, IFA_F_NODAD, IFA_LOCAL, RTM_DELADDR, RTM_GETADDR,
    RTM_NEWADDR,
};
use super::{family, ip_address, octets};
use crate::netlink::abi::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE};
use crate::netlink::{Batch, Message, NetlinkError, Socket, find, integer_ne};
use crate::subnet::Subnet;

/// An address that a link has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Assigned {
    pub(crate) link: u32,
    pub(crate) address: IpAddr,
    pub(crate) prefix: u8,
}

/// `struct ifaddrmsg`.
fn header(family: u8, prefix: u8, link: u32) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[0] = family;
    bytes[1] = prefix;
    bytes[4..].copy_from_slice(&link.to_ne_bytes());
    bytes
}

/// Gives a link an address, at once usable.
pub(crate) fn add_address(batch: &mut Batch, link: u32, address: IpAddr, prefix: u8) {
    let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
    let step = format!("give a link the address {address}/{prefix}");
    let mut header = header(family(address), prefix, link);
    if address.is_ipv6() {
        header[2] = IFA_F_NODAD;
    }
    batch.message(RTM_NEWADDR, flags, &header, step, |message| {
        message.bytes(IFA_LOCAL, &octets(address));
        message.bytes(IFA_ADDRESS, &octets(address));
        if let Some(broadcast) = Subnet::containing(address, prefix).and_then(|s| s.broadcast()) {
            message.bytes(IFA_BROADCAST, &octets(broadcast));
        }
    });
}

pub(crate) fn remove_address(batch: &mut Batch, assigned: &Assigned) {
    let Assigned {
        link,
        address,
        prefix,
    } = *assigned;
    let step = format!("take the address {address}/{prefix} from a link");
    batch.message(
        RTM_DELADDR,
        NLM_F_ACK,
        &header(family(address), prefix, link),
        step,
        |message| {
            message.bytes(IFA_LOCAL, &octets(address));
        },
    );
}

/// Lists the addresses of all links.
pub(crate) fn addresses(socket: &mut Socket) -> Result<Vec<Assigned>, NetlinkError> {
    socket.dump(
        |batch| {
            let header = header(AF_UNSPEC, 0, 0);
            batch.message(
                RTM_GETADDR,
                NLM_F_DUMP,
                &header,
                "list the addresses",
                |_| (),
            );
        },
        parse,
    )
}

fn parse(message: &Message<'_>) -> Option<Assigned> {
    if message.kind != RTM_NEWADDR {
        return None;
    }
    let attributes = message.attributes(8);
    // IFA_ADDRESS is the other side's address on a point-to-point link; IPv6 has no IFA_LOCAL
    let bytes = find(attributes, IFA_LOCAL).or_else(|| find(attributes, IFA_ADDRESS))?;
    Some(Assigned {
        link: u32::try_from(integer_ne(message.payload.get(4..8)?)?).ok()?,
        address: ip_address(bytes)?,
        prefix: *message.payload.get(1)?,
    })
}
