//! Routes.

use super::abi::{AF_UNSPEC, RT_TABLE_LOCAL, RTA_DST, RTA_TABLE, RTM_GETROUTE, RTM_NEWROUTE};
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

/// Lists the networks that some route leads to, default routes left out.
pub(crate) fn destinations(socket: &mut Socket) -> Result<Vec<Subnet>, NetlinkError> {
    socket.dump(
        |batch| {
            let header = header(AF_UNSPEC);
            batch.message(RTM_GETROUTE, NLM_F_DUMP, &header, "list the routes", |_| ());
        },
        parse,
    )
}

fn parse(message: &Message<'_>) -> Option<Subnet> {
    if message.kind != RTM_NEWROUTE {
        return None;
    }
    let attributes = message.attributes(12);
    let table = find(attributes, RTA_TABLE).and_then(integer_ne);
    if table == Some(u64::from(RT_TABLE_LOCAL)) {
        return None; // the host's own addresses, which the address list has
    }
    let prefix = *message.payload.get(1)?;
    Subnet::containing(ip_address(find(attributes, RTA_DST)?)?, prefix).filter(|_| prefix > 0)
}
