//! Routes.

use std::net::IpAddr;

use super::abi::{
    AF_UNSPEC, RT_SCOPE_UNIVERSE, RT_TABLE_LOCAL, RT_TABLE_MAIN, RTA_DST, RTA_GATEWAY, RTA_OIF,
    RTA_TABLE, RTM_GETROUTE, RTM_NEWROUTE, RTN_UNICAST, RTPROT_BOOT,
};
use super::{family, ip_address, octets};
use crate::netlink::abi::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE};
use crate::netlink::{Batch, Message, NetlinkError, Socket, find, integer_ne};
use crate::subnet::Subnet;

/// `struct rtmsg`.
fn header(family: u8) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[0] = family;
    bytes[4] = RT_TABLE_MAIN;
    bytes[5] = RTPROT_BOOT;
    bytes[6] = RT_SCOPE_UNIVERSE;
    bytes[7] = RTN_UNICAST;
    bytes
}

pub(crate) fn add_default_route(batch: &mut Batch, link: u32, gateway: IpAddr) {
    let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
    let step = format!("make {gateway} the default gateway");
    batch.message(
        RTM_NEWROUTE,
        flags,
        &header(family(gateway)),
        step,
        |route| {
            route.bytes(RTA_GATEWAY, &octets(gateway));
            route.u32(RTA_OIF, link);
        },
    );
}

/// Where a route leads, and by which link; one with several next hops names none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Destination {
    pub(crate) subnet: Subnet,
    pub(crate) link: Option<u32>,
}

/// Lists the networks that some route leads to, default routes left out.
pub(crate) fn destinations(socket: &mut Socket) -> Result<Vec<Destination>, NetlinkError> {
    socket.dump(
        |batch| {
            let header = header(AF_UNSPEC);
            batch.message(RTM_GETROUTE, NLM_F_DUMP, &header, "list the routes", |_| ());
        },
        parse,
    )
}

fn parse(message: &Message<'_>) -> Option<Destination> {
    if message.kind != RTM_NEWROUTE {
        return None;
    }
    let attributes = message.attributes(12);
    let table = find(attributes, RTA_TABLE).and_then(integer_ne);
    if table == Some(u64::from(RT_TABLE_LOCAL)) {
        return None; // the host's own addresses, which the address list has
    }
    let prefix = *message.payload.get(1)?;
    let address = ip_address(find(attributes, RTA_DST)?)?;
    let link = find(attributes, RTA_OIF).and_then(integer_ne);
    Some(Destination {
        subnet: Subnet::containing(address, prefix).filter(|_| prefix > 0)?,
        link: link.and_then(|index| u32::try_from(index).ok()),
    })
}
