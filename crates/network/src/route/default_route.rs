//! The default routes.

use std::net::IpAddr;

use rustix::io::Errno;

use super::abi::{
    AF_INET, AF_INET6, RT_SCOPE_LINK, RT_SCOPE_NOWHERE, RT_SCOPE_UNIVERSE, RT_TABLE_MAIN,
    RTA_GATEWAY, RTA_OIF, RTM_DELROUTE, RTM_NEWROUTE, RTN_UNICAST, RTN_UNSPEC, RTPROT_BOOT,
};
use super::{family, octets};
use crate::netlink::abi::{NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE};
use crate::netlink::{Batch, NetlinkError, Socket};

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
