//! Routes.

use super::abi::{
    AF_UNSPEC, RT_TABLE_LOCAL, RTA_DST, RTA_OIF, RTA_TABLE, RTM_GETROUTE, RTM_NEWROUTE,
};
use super::ip_address;
use crate::netlink::abi::NLM_F_DUMP;
use crate::netlink::{Message, NetlinkError, Socket, find, integer_ne};
use crate::subnet::Subnet;

/// `struct rtmsg`.
fn header(family: u8) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[0] = family;
    bytes
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
