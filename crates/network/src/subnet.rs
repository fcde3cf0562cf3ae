//! Networks as address and prefix, and the choice of a free one.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::str::FromStr;

use rustix::net::netdevice::index_to_name;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use serde::{Deserialize, Serialize};
use sys::netns::Family;

use crate::netlink::{self, Socket};
use crate::route;

/// A network: an address whose bits behind the prefix are all zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subnet {
    address: IpAddr,
    prefix: u8,
}

/// A large network from which networks of one size are given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressPool {
    /// The large network.
    pub base: Subnet,
    /// The prefix length of what is given out.
    pub size: u8,
}

/// The text is not a network.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid network {text:?}: must be an address and a prefix length, such as 172.17.0.0/16")]
pub struct ParseSubnetError {
    text: String,
}

/// No network could be chosen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PickError {
    /// The host's routes and addresses could not be read.
    #[error("cannot read the networks in use")]
    Read(#[source] netlink::NetlinkError),
    /// Every network of the pools is taken, or the host reaches it by some route.
    #[error("all predefined address pools have been fully subnetted")]
    Exhausted,
}

impl Subnet {
    /// Makes the network of this length that the address is in; `None` when there is no such length.
    pub fn containing(address: IpAddr, prefix: u8) -> Option<Self> {
        let width = width(address);
        if prefix > width {
            return None;
        }
        let network = from_number(number(address) & mask(width, prefix), width);
        Some(Self {
            address: network,
            prefix,
        })
    }

    /// Returns the first address, which names the network.
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// Returns how many bits all addresses of the network share.
    pub const fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Tells whether the address is in the network.
    pub fn contains(&self, address: IpAddr) -> bool {
        Self::containing(address, self.prefix).is_some_and(|subnet| subnet == *self)
    }

    /// Tells whether the two networks have an address in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }

    /// Returns the address for all hosts; IPv6 and networks of one or two addresses have none.
    pub fn broadcast(&self) -> Option<IpAddr> {
        let last = || from_number(self.last(), width(self.address));
        (self.address.is_ipv4() && self.prefix < 31).then(last)
    }

    /// Returns the first address that a host may have: the usual gateway.
    pub fn first_host(&self) -> IpAddr {
        let (low, _) = self.host_range();
        self.at(low)
    }

    /// Returns the lowest and highest address that hosts may have, as offsets.
    pub(crate) fn host_range(&self) -> (u128, u128) {
        let last = self.size_less_one();
        match (self.address, last) {
            // RFC 3021: both addresses of a /31 are hosts; a /32 is one host
            (_, 0) => (0, 0),
            (IpAddr::V4(_), 1) => (0, 1),
            (IpAddr::V4(_), _) => (1, last - 1),
            // offset 0 is the subnet-router anycast address (RFC 4291)
            (IpAddr::V6(_), _) => (1, last),
        }
    }

    pub(crate) fn offset(&self, address: IpAddr) -> Option<u128> {
        self.contains(address)
            .then(|| number(address) - self.first())
    }

    /// Returns the address this far behind the first; the last one for anything beyond it.
    pub(crate) fn at(&self, offset: u128) -> IpAddr {
        from_number(
            self.first() + offset.min(self.size_less_one()),
            width(self.address),
        )
    }

    /// Counts the addresses but one, which fits the number also for all of IPv6.
    pub(crate) fn size_less_one(&self) -> u128 {
        self.last() - self.first()
    }

    fn first(&self) -> u128 {
        number(self.address)
    }

    fn last(&self) -> u128 {
        let width = width(self.address);
        self.first() | (full(width) & !mask(width, self.prefix))
    }

    fn is_link_local(&self) -> bool {
        match self.address {
            // 169.254.0.0/16 counts: clouds answer there
            IpAddr::V4(_) => false,
            IpAddr::V6(address) => self.prefix >= 10 && address.is_unicast_link_local(),
        }
    }
}

/// Chooses the first of Docker's default networks that no route or address of the host touches.
pub fn pick_subnet() -> Result<Subnet, PickError> {
    let used: Vec<Subnet> = used_by_host()?.into_iter().map(|(net, _)| net).collect();
    pick_from(&bridge_pools(), &used)
}

/// Lists the pools that networks are taken from where the administrator names none.
///
/// The networks are small, so that a great many fit, and so that few addresses of the host's
/// surroundings are hidden by one.
pub fn default_pools() -> Vec<AddressPool> {
    let small = |a, b, prefix| AddressPool {
        base: v4(a, b, prefix),
        size: 24,
    };
    vec![
        small(172, 18, 15),
        small(172, 20, 14),
        small(172, 24, 13),
        small(192, 168, 16),
    ]
}

/// Lists the default bridge's choices: 172.17.0.0/16 to 172.31.0.0/16, then a /20 of 192.168.0.0/16.
fn bridge_pools() -> Vec<AddressPool> {
    let large = |second, prefix| AddressPool {
        base: v4(172, second, prefix),
        size: 16,
    };
    let small = AddressPool {
        base: v4(192, 168, 16),
        size: 20,
    };
    vec![
        large(17, 16),
        large(18, 15),
        large(20, 14),
        large(24, 13),
        small,
    ]
}

const fn v4(first: u8, second: u8, prefix: u8) -> Subnet {
    Subnet {
        address: IpAddr::V4(Ipv4Addr::new(first, second, 0, 0)),
        prefix,
    }
}

/// Makes the pool of unique local networks that a host's random 40 bits give it (RFC 4193).
pub fn ula_pool(seed: [u8; 5]) -> AddressPool {
    let [a, b, c, d, e] = seed;
    let octets = [0xfd, a, b, c, d, e, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    AddressPool {
        base: Subnet {
            address: IpAddr::from(octets),
            prefix: 48,
        },
        size: 64,
    }
}

/// Chooses the first network of the pools that has no address in common with the used ones.
pub fn pick_from(pools: &[AddressPool], used: &[Subnet]) -> Result<Subnet, PickError> {
    pools
        .iter()
        .find_map(|pool| pool.first_free(used))
        .ok_or(PickError::Exhausted)
}

impl AddressPool {
    /// Tells whether networks of the size fit into the base.
    pub fn is_valid(&self) -> bool {
        (self.base.prefix..=width(self.base.address)).contains(&self.size)
    }

    /// Finds the first network that touches no used one, in the time that sorting those takes.
    fn first_free(&self, used: &[Subnet]) -> Option<Subnet> {
        if !self.is_valid() {
            return None;
        }
        let width = width(self.base.address);
        let end = self.base.last();
        let mut blocks: Vec<(u128, u128)> = used
            .iter()
            .filter(|subnet| subnet.overlaps(&self.base))
            .map(|subnet| (subnet.first(), subnet.last()))
            .collect();
        blocks.sort_unstable();
        let host_bits = full(width) & !mask(width, self.size);
        let mut first = self.base.first();
        for (low, high) in blocks {
            if low > first | host_bits {
                break;
            }
            if high >= first {
                // networks start where all host bits are zero: the next such number after `high`
                first = (high | host_bits).checked_add(1)?;
            }
        }
        (first <= end).then(|| Subnet {
            address: from_number(first, width),
            prefix: self.size,
        })
    }
}

/// Lists the networks that the host reaches by a route or has an address in, and by what.
///
/// Default routes do not count, nor do the halves of one that VPN programs set in its place, nor
/// link-local networks, which every link has for itself.
pub fn used_by_host() -> Result<Vec<(Subnet, String)>, PickError> {
    let mut socket = Socket::open(Family::Route).map_err(PickError::Read)?;
    let routes = route::destinations(&mut socket).map_err(PickError::Read)?;
    let addresses = route::addresses(&mut socket).map_err(PickError::Read)?;
    let mut names = LinkNames::new();
    let mut used = Vec::with_capacity(routes.len() + addresses.len());
    for assigned in addresses {
        if let Some(subnet) = Subnet::containing(assigned.address, assigned.prefix) {
            used.push((subnet, format!("address of {}", names.of(assigned.link))));
        }
    }
    for route in routes {
        let by = match route.link {
            Some(link) => format!("route via {}", names.of(link)),
            None => "route of the host".to_owned(),
        };
        used.push((route.subnet, by));
    }
    used.retain(|(subnet, _)| subnet.prefix > 1 && !subnet.is_link_local());
    Ok(used)
}

/// Names of links by their index, each asked for once.
struct LinkNames {
    socket: Option<OwnedFd>,
    known: BTreeMap<u32, String>,
}

impl LinkNames {
    fn new() -> Self {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None);
        Self {
            socket: socket.ok(),
            known: BTreeMap::new(),
        }
    }

    fn of(&mut self, index: u32) -> &str {
        let socket = self.socket.as_ref();
        self.known.entry(index).or_insert_with(|| {
            socket
                .and_then(|socket| index_to_name(socket, index).ok())
                .unwrap_or_else(|| format!("link {index}"))
        })
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn full(width: u8) -> u128 {
    u128::MAX >> (128 - u32::from(width))
}

fn mask(width: u8, prefix: u8) -> u128 {
    let hosts = u32::from(width.saturating_sub(prefix));
    full(width) & u128::MAX.checked_shl(hosts).unwrap_or(0)
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

fn from_number(number: u128, width: u8) -> IpAddr {
    match (width, u32::try_from(number)) {
        (32, Ok(number)) => Ipv4Addr::from(number).into(),
        (32, Err(_)) => Ipv4Addr::BROADCAST.into(),
        _ => std::net::Ipv6Addr::from(number).into(),
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Subnet {
    type Err = ParseSubnetError;

    fn from_str(text: &str) -> Result<Self, ParseSubnetError> {
        let invalid = || ParseSubnetError {
            text: text.chars().take(64).collect(),
        };
        let (address, prefix) = text.split_once('/').ok_or_else(invalid)?;
        // as in Go, which takes neither a sign nor a leading zero
        if !prefix.bytes().all(|byte| byte.is_ascii_digit())
            || (prefix.len() > 1 && prefix.starts_with('0'))
        {
            return Err(invalid());
        }
        let address = address.parse().map_err(|_| invalid())?;
        let prefix = prefix.parse().map_err(|_| invalid())?;
        Self::containing(address, prefix).ok_or_else(invalid)
    }
}

impl TryFrom<String> for Subnet {
    type Error = ParseSubnetError;

    fn try_from(text: String) -> Result<Self, ParseSubnetError> {
        text.parse()
    }
}

impl From<Subnet> for String {
    fn from(subnet: Subnet) -> Self {
        subnet.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn subnet(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    #[test]
    fn host_bits_are_cleared() {
        assert_eq!(subnet("172.17.3.4/16").to_string(), "172.17.0.0/16");
        assert_eq!(subnet("fd00::1:2/64").to_string(), "fd00::/64");
        assert_eq!(subnet("1.2.3.4/0").to_string(), "0.0.0.0/0");
        assert_eq!(subnet("1.2.3.4/32").to_string(), "1.2.3.4/32");
    }

    #[test]
    fn bad_texts_are_refused() {
        for bad in [
            "",
            "1.2.3.4",
            "1.2.3.4/33",
            "1.2.3.4/-1",
            "1.2.3.4/+8",
            "1.2.3.4/024",
            "01.2.3.4/24",
            "::/129",
            "a/8",
        ] {
            assert!(bad.parse::<Subnet>().is_err(), "{bad}");
        }
    }

    #[test]
    fn membership_and_overlap() {
        let net = subnet("172.17.0.0/16");
        assert!(net.contains("172.17.255.255".parse().unwrap()));
        assert!(!net.contains("172.18.0.0".parse().unwrap()));
        assert!(!net.contains("::ffff:172.17.0.1".parse().unwrap()));
        assert!(net.overlaps(&subnet("172.16.0.0/12")));
        assert!(net.overlaps(&subnet("172.17.4.0/24")));
        assert!(!net.overlaps(&subnet("172.18.0.0/16")));
        assert_eq!(net.broadcast(), Some("172.17.255.255".parse().unwrap()));
        assert_eq!(net.first_host(), "172.17.0.1".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn the_first_network_that_nothing_touches_is_chosen() {
        let pick = |used: &[&str]| {
            let used: Vec<_> = used.iter().map(|text| subnet(text)).collect();
            pick_from(&bridge_pools(), &used)
                .ok()
                .map(|s| s.to_string())
        };
        for (used, chosen) in [
            (&[][..], Some("172.17.0.0/16")),
            (&["172.17.9.0/24", "172.18.0.1/32"], Some("172.19.0.0/16")),
            (&["172.16.0.0/12"], Some("192.168.0.0/20")),
            (&["172.16.0.0/12", "192.168.0.0/16"], None),
            (&["0.0.0.0/0"], None),
            (&["::/0"], Some("172.17.0.0/16")),
        ] {
            assert_eq!(pick(used).as_deref(), chosen, "{used:?}");
        }
    }

    #[test]
    fn default_networks_are_small_and_many() {
        let mut used = Vec::new();
        while let Ok(subnet) = pick_from(&default_pools(), &used) {
            assert!(!used.iter().any(|other| subnet.overlaps(other)), "{subnet}");
            used.push(subnet);
        }
        assert_eq!(used.len(), 14 * 256 + 256);
        assert_eq!(used[0], subnet("172.18.0.0/24"));
        assert_eq!(used[14 * 256 - 1], subnet("172.31.255.0/24"));
        assert_eq!(used.last(), Some(&subnet("192.168.255.0/24")));
    }

    #[test]
    fn unique_local_networks() {
        let pool = ula_pool([3, 0xf3, 0xfa, 0x60, 0xc6]);
        let first = pick_from(&[pool], &[]).unwrap();
        assert_eq!(first, subnet("fd03:f3fa:60c6::/64"));
        let second = pick_from(&[pool], &[first]).unwrap();
        assert_eq!(second, subnet("fd03:f3fa:60c6:1::/64"));
    }

    #[test]
    fn pools_that_make_no_sense_give_nothing() {
        for (base, size) in [
            ("10.0.0.0/16", 8),
            ("10.0.0.0/16", 33),
            ("fd00::/48", 129),
            ("fd00::/48", 47),
        ] {
            let base = subnet(base);
            assert!(pick_from(&[AddressPool { base, size }], &[]).is_err());
        }
    }

    fn any_subnet() -> impl Strategy<Value = Subnet> {
        let four = (any::<u32>(), 0_u8..=32)
            .prop_map(|(number, prefix)| (IpAddr::from(Ipv4Addr::from(number)), prefix));
        let six = (any::<u128>(), 0_u8..=128)
            .prop_map(|(number, prefix)| (IpAddr::from(std::net::Ipv6Addr::from(number)), prefix));
        // the ends of both spaces come up often, where arithmetic would overflow
        let ends = prop_oneof![
            (0_u8..=32).prop_map(|prefix| (IpAddr::from([255; 4]), prefix)),
            (0_u8..=32).prop_map(|prefix| (IpAddr::from([0; 4]), prefix)),
            (0_u8..=128).prop_map(|prefix| (IpAddr::from([0xff; 16]), prefix)),
            (0_u8..=128).prop_map(|prefix| (IpAddr::from([0; 16]), prefix)),
        ];
        prop_oneof![four, six, ends]
            .prop_map(|(address, prefix)| Subnet::containing(address, prefix).unwrap())
    }

    proptest! {
        #[test]
        fn a_subnet_is_what_it_says(subnet in any_subnet(), offset in any::<u128>()) {
            let text = subnet.to_string();
            prop_assert_eq!(text.parse::<Subnet>(), Ok(subnet));
            let (low, high) = subnet.host_range();
            prop_assert!(low <= high);
            for inside in [subnet.at(low), subnet.at(high), subnet.at(offset), subnet.first_host()] {
                prop_assert!(subnet.contains(inside), "{} not in {}", inside, subnet);
            }
            prop_assert_eq!(subnet.offset(subnet.at(high)), Some(high));
            prop_assert!(subnet.broadcast().is_none_or(|all| subnet.contains(all)));
            prop_assert!(subnet.overlaps(&subnet));
        }

        #[test]
        fn overlaps_are_mutual_and_mean_one_is_in_the_other(a in any_subnet(), b in any_subnet()) {
            prop_assert_eq!(a.overlaps(&b), b.overlaps(&a));
            let same = a.address().is_ipv4() == b.address().is_ipv4();
            let apart = a.last() < b.first() || b.last() < a.first();
            prop_assert_eq!(a.overlaps(&b), same && !apart);
        }

        #[test]
        fn what_is_picked_is_free_and_the_first(
            base in any_subnet(),
            extra in 0_u8..12,
            used in proptest::collection::vec((any::<u16>(), 0_u8..14), 0..12),
        ) {
            let size = base.prefix().saturating_add(extra).min(width(base.address()));
            let used: Vec<Subnet> = used
                .into_iter()
                .filter_map(|(at, longer)| {
                    let prefix = base.prefix().saturating_add(longer).min(width(base.address()));
                    Subnet::containing(base.at(u128::from(at)), prefix)
                })
                .collect();
            let pool = AddressPool { base, size };
            let step = full(width(base.address())) & !mask(width(base.address()), size);
            let mut naive = None;
            let mut at = base.first();
            loop {
                let candidate = Subnet::containing(from_number(at, width(base.address())), size).unwrap();
                if !used.iter().any(|other| other.overlaps(&candidate)) {
                    naive = Some(candidate);
                    break;
                }
                match (at | step).checked_add(1) {
                    Some(next) if next <= base.last() => at = next,
                    _ => break,
                }
            }
            prop_assert_eq!(pick_from(&[pool], &used).ok(), naive);
        }
    }
}
