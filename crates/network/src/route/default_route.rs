//! The default routes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rustix::io::Errno;

use super::abi::{
    AF_INET, AF_INET6, AF_UNSPEC, RT_SCOPE_LINK, RT_SCOPE_NOWHERE, RT_SCOPE_UNIVERSE,
    RT_TABLE_MAIN, RTA_GATEWAY, RTA_OIF, RTM_DELROUTE, RTM_GETROUTE, RTM_NEWROUTE, RTN_UNICAST,
    RTN_UNSPEC, RTPROT_BOOT,
};
use super::{family, ip_address, octets};
use crate::netlink::abi::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE};
use crate::netlink::{Batch, Message, NetlinkError, Socket, find, integer_ne};

/// So many default routes of one family are deleted before the kernel is not believed any more.
const MOST_ROUTES: usize = 64;

/// An address family that has routes of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RouteFamily {
    V4,
    V6,
}

/// Makes the gateway the default one, in place of the family's present one. An unspecified gateway
/// means that everything is reached on the link itself, as with layer-3 links.
pub(crate) fn set_default_route(batch: &mut Batch, link: u32, gateway: IpAddr) {
    let mut header = [0; 12]; // struct rtmsg
    header[0] = family(gateway);
    header[4] = RT_TABLE_MAIN;
    header[5] = RTPROT_BOOT;
    header[6] = if gateway.is_unspecified() {
        RT_SCOPE_LINK
    } else {
        RT_SCOPE_UNIVERSE
    };
    header[7] = RTN_UNICAST;
    let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
    let step = format!("make {gateway} the default gateway");
    batch.message(RTM_NEWROUTE, flags, &header, step, |route| {
        if !gateway.is_unspecified() {
            route.bytes(RTA_GATEWAY, &octets(gateway));
        }
        route.u32(RTA_OIF, link);
    });
}

/// Lists the default routes of both families: the link, and the gateway, which is unspecified where
/// everything is reached on the link itself. One with several next hops is left out.
pub(crate) fn default_routes(socket: &mut Socket) -> Result<Vec<(u32, IpAddr)>, NetlinkError> {
    socket.dump(
        |batch| {
            let mut header = [0; 12]; // struct rtmsg
            header[0] = AF_UNSPEC;
            let step = "list the default routes";
            batch.message(RTM_GETROUTE, NLM_F_DUMP, &header, step, |_| ());
        },
        parse,
    )
}

fn parse(message: &Message<'_>) -> Option<(u32, IpAddr)> {
    let [family, prefix, _, _, table, _, _, kind, ..] = *message.payload else {
        return None;
    };
    let is_default = message.kind == RTM_NEWROUTE
        && prefix == 0
        && table == RT_TABLE_MAIN
        && kind == RTN_UNICAST;
    let on_link = match family {
        AF_INET => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AF_INET6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    let attributes = message.attributes(12);
    let link = find(attributes, RTA_OIF).and_then(integer_ne)?;
    let gateway = find(attributes, RTA_GATEWAY).map_or(Some(on_link), ip_address)?;
    is_default.then_some((u32::try_from(link).ok()?, gateway))
}

/// Deletes every default route of the family.
pub(crate) fn remove_default_routes(
    socket: &mut Socket,
    family: RouteFamily,
) -> Result<(), NetlinkError> {
    let mut header = [0; 12]; // struct rtmsg: whatever its protocol and type
    header[0] = match family {
        RouteFamily::V4 => AF_INET,
        RouteFamily::V6 => AF_INET6,
    };
    header[4] = RT_TABLE_MAIN;
    header[6] = RT_SCOPE_NOWHERE;
    header[7] = RTN_UNSPEC;
    for _ in 0..MOST_ROUTES {
        let mut batch = Batch::default();
        let step = "delete the default route";
        batch.message(RTM_DELROUTE, NLM_F_ACK, &header, step, |_| ());
        match socket.transact(&mut batch) {
            Ok(()) => {}
            Err(error) => {
                return match error.errno() {
                    // no such route (of IPv6, the table's end, fib6_null_entry), or family
                    Some(Errno::SRCH | Errno::NOENT | Errno::OPNOTSUPP) => Ok(()),
                    _ => Err(error),
                };
            }
        }
    }
    Ok(())
}
