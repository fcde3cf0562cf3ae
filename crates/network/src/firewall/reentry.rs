//! The way back in of new connections that the host's own rules let through: a veth pair of which
//! both ends are the host's.
//!
//! Both ends have one Ethernet address and no ARP, so whatever neighbour a packet is sent to by the
//! outer end, the inner end takes it as its own.

use std::net::Ipv4Addr;

use rustix::io::Errno;
use sys::netns;

use super::FirewallError;
use crate::mac::MacAddress;
use crate::netlink::abi::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use crate::netlink::{Attributes, Batch, NetlinkError, Socket, tolerate};
use crate::nft::Family;
use crate::route::{self, Link};
use crate::sysctl;

/// Marks packets on their way from the end of the input hook to the inner end's prerouting hook,
/// and names the table of IPv6 routes that makes such a packet's way look like the right one.
const MARK: u32 = u32::from_be_bytes(*b"gora");
/// Before the main table (32766). Without a number the kernel takes a new one for each.
const PRIORITY: u32 = 32_000;
/// The inner end has an address since one without is refused whenever addresses are checked at all
/// (`__fib_validate_source`), and the neighbour that copies are sent to is the next one.
const INNER_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 103, 111);
const NEIGHBOUR: [u8; 4] = [169, 254, 103, 112];
const NEIGHBOUR6: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
/// Datagrams that came in fragments were put together: they pass in one piece.
const MTU: u32 = 65_535;
/// A link's name, of which the table's may fill so much.
const STEM: usize = 11;

// linux/rtnetlink.h, if_link.h, fib_rules.h, veth.h
const RTM_NEWLINK: u16 = 16;
const RTM_NEWROUTE: u16 = 24;
const RTM_NEWRULE: u16 = 32;
const RTM_DELRULE: u16 = 33;
const IFF_UP: u32 = 1;
const IFF_NOARP: u32 = 1 << 7;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_TABLE: u16 = 15;
const RTPROT_BOOT: u8 = 3;
const RTN_UNICAST: u8 = 1;
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
const FRA_TABLE: u16 = 15;
const FR_ACT_TO_TBL: u8 = 1;
const AF_INET6: u8 = 10;

/// The pair, made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reentry {
    inner: String,
    outer: u32,
    v6: bool,
}

impl Reentry {
    /// Makes the pair in the calling thread's namespace, or repairs what is there.
    pub(super) fn ensure(table: &str) -> Result<Self, FirewallError> {
        let failed = |source| FirewallError::Reentry {
            table: table.to_owned(),
            source,
        };
        let mut socket = Socket::open(netns::Family::Route).map_err(failed)?;
        let [outer, inner] = names(table);
        let (outer_link, inner_link) = match pair(&mut socket, &outer, &inner).map_err(failed)? {
            Some(pair) => pair,
            None => make(&mut socket, &outer, &inner).map_err(failed)?,
        };
        let v6 = sysctl::has_ipv6();
        settings(&inner, v6).map_err(|source| FirewallError::ReentrySettings {
            table: table.to_owned(),
            source,
        })?;
        configure(&mut socket, &inner_link, v6).map_err(failed)?;
        Ok(Self {
            inner,
            outer: outer_link.index,
            v6,
        })
    }

    /// Deletes what an engine made, now or earlier; that there is nothing is no error.
    pub(super) fn remove(table: &str) -> Result<(), NetlinkError> {
        let mut socket = Socket::open(netns::Family::Route)?;
        for name in names(table) {
            // the first takes the other along
            if let Some(link) = route::link_by_name(&mut socket, &name)? {
                let mut batch = Batch::default();
                route::delete(&mut batch, link.index, &name);
                tolerate(socket.transact(&mut batch), Errno::NODEV)?;
                let mut batch = Batch::default();
                policy(&mut batch, RTM_DELRULE, 0);
                tolerate(socket.transact(&mut batch), Errno::NOENT)?;
            }
        }
        Ok(())
    }

    /// Returns the name of the end where packets come in again.
    pub(super) fn inner(&self) -> &str {
        &self.inner
    }

    /// Returns the index of the end where copies go out.
    pub(super) const fn outer(&self) -> u32 {
        self.outer
    }

    #[expect(clippy::unused_self, reason = "the mark is the pair's affair")]
    pub(super) const fn mark(&self) -> u32 {
        MARK
    }

    /// Tells whether IPv6 comes by here as well.
    pub(super) const fn v6(&self) -> bool {
        self.v6
    }

    /// Returns whom copies are sent to.
    #[expect(clippy::unused_self, reason = "the neighbour is the pair's affair")]
    pub(super) const fn neighbour(&self, family: Family) -> &[u8] {
        match family {
            Family::Ipv6 => &NEIGHBOUR6,
            Family::Inet | Family::Ipv4 | Family::Bridge => &NEIGHBOUR,
        }
    }
}

/// Names the two ends after the table: the outer and the inner one.
pub(crate) fn names(table: &str) -> [String; 2] {
    let end = table
        .char_indices()
        .map(|(start, letter)| start + letter.len_utf8())
        .take_while(|end| *end <= STEM)
        .last()
        .unwrap_or(0);
    let stem = &table[..end];
    [format!("{stem}-out"), format!("{stem}-in")]
}

/// Looks the pair up; a half pair, or one that is down, is deleted.
fn pair(
    socket: &mut Socket,
    outer: &str,
    inner: &str,
) -> Result<Option<(Link, Link)>, NetlinkError> {
    let ends = (
        route::link_by_name(socket, outer)?,
        route::link_by_name(socket, inner)?,
    );
    match ends {
        (Some(outer), Some(inner)) if outer.peer == Some(inner.index) && outer.up && inner.up => {
            return Ok(Some((outer, inner)));
        }
        (outer, inner) => {
            for link in [outer, inner].into_iter().flatten() {
                let mut batch = Batch::default();
                route::delete(&mut batch, link.index, &link.name);
                tolerate(socket.transact(&mut batch), Errno::NODEV)?;
            }
        }
    }
    Ok(None)
}

fn make(socket: &mut Socket, outer: &str, inner: &str) -> Result<(Link, Link), NetlinkError> {
    let mac = MacAddress::new([0x02, 0x42, 0, 0, 0, 1]);
    let end = |link: &mut Attributes<'_>, name: &str| {
        link.text(IFLA_IFNAME, name);
        link.u32(IFLA_MTU, MTU);
        link.bytes(IFLA_ADDRESS, &mac.octets());
    };
    let mut batch = Batch::default();
    let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
    let step = format!("make the veth pair {outer}");
    batch.message(RTM_NEWLINK, flags, &link_header(IFF_NOARP), step, |link| {
        end(link, outer);
        link.nest(IFLA_LINKINFO, |info| {
            info.text(IFLA_INFO_KIND, "veth");
            info.nest(IFLA_INFO_DATA, |data| {
                data.nest(VETH_INFO_PEER, |peer| {
                    peer.raw(&link_header(IFF_NOARP));
                    end(peer, inner);
                });
            });
        });
    });
    // neither comes up before both are there
    for name in [inner, outer] {
        let step = format!("take up the link {name}");
        let header = link_header(IFF_UP);
        batch.message(RTM_NEWLINK, NLM_F_ACK, &header, step, |link| {
            link.text(IFLA_IFNAME, name);
        });
    }
    socket.transact(&mut batch)?;
    pair(socket, outer, inner)?.ok_or_else(|| NetlinkError::Malformed {
        step: format!("look up the link {outer}"),
    })
}

/// `struct ifinfomsg` that sets these flags.
fn link_header(flags: u32) -> [u8; 16] {
    let flags = flags.to_ne_bytes();
    let mut bytes = [0; 16];
    bytes[8..12].copy_from_slice(&flags);
    bytes[12..].copy_from_slice(&flags);
    bytes
}

/// Lets packets in whose senders are reached by other links, as those of all clients are.
fn settings(inner: &str, v6: bool) -> Result<(), sysctl::SysctlError> {
    // loose, which wins over the setting of all links in either case (ip-sysctl.rst)
    sysctl::ensure(&format!("ipv4/conf/{inner}/rp_filter"), "2")?;
    sysctl::ensure(&format!("ipv4/conf/{inner}/forwarding"), "1")?;
    if v6 {
        sysctl::ensure(&format!("ipv6/conf/{inner}/accept_ra"), "0")?;
        sysctl::ensure(&format!("ipv6/conf/{inner}/disable_ipv6"), "0")?;
    }
    Ok(())
}

fn configure(socket: &mut Socket, inner: &Link, v6: bool) -> Result<(), NetlinkError> {
    let mut batch = Batch::default();
    route::add_address(&mut batch, inner.index, INNER_ADDRESS.into(), 32);
    tolerate(socket.transact(&mut batch), Errno::EXIST)?;
    if v6 {
        // For `fib saddr . mark . iif oif missing drop`, by which firewalld checks IPv6 senders.
        let mut batch = Batch::default();
        default_route(&mut batch, inner.index);
        socket.transact(&mut batch)?;
        let mut batch = Batch::default();
        policy(&mut batch, RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL);
        tolerate(socket.transact(&mut batch), Errno::EXIST)?;
    }
    Ok(())
}

/// Adds `default dev INNER table MARK`.
fn default_route(batch: &mut Batch, inner: u32) {
    // struct rtmsg: family, lengths of the prefixes, TOS, table, protocol, scope, type, flags
    let header = [
        AF_INET6,
        0,
        0,
        0,
        0,
        RTPROT_BOOT,
        0,
        RTN_UNICAST,
        0,
        0,
        0,
        0,
    ];
    let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
    let step = "add a route for marked packets";
    batch.message(RTM_NEWROUTE, flags, &header, step, |route| {
        route.u32(RTA_TABLE, MARK);
        route.u32(RTA_OIF, inner);
    });
}

/// Adds or deletes `fwmark MARK lookup MARK`.
fn policy(batch: &mut Batch, kind: u16, flags: u16) {
    // struct fib_rule_hdr: family, lengths of the prefixes, TOS, table, reserved, action, flags
    let header = [AF_INET6, 0, 0, 0, 0, 0, 0, FR_ACT_TO_TBL, 0, 0, 0, 0];
    let step = "change the rule for marked packets";
    batch.message(kind, NLM_F_ACK | flags, &header, step, |rule| {
        rule.u32(FRA_PRIORITY, PRIORITY);
        rule.u32(FRA_FWMARK, MARK);
        rule.u32(FRA_TABLE, MARK);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_the_kernel() {
        assert_eq!(names("gorae"), ["gorae-out", "gorae-in"]);
        for table in ["a-very-long-name-of-a-table", "éééééééé"] {
            assert!(names(table).iter().all(|name| name.len() <= 15));
        }
    }
}
