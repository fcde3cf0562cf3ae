//! Networks as address and prefix, and the choice of a free one.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

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
    /// The host already reaches every candidate by some route.
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
        (self.address.is_ipv4() && self.prefix < 31).then(|| self.nth_from_end(0))
    }

    /// Returns the first address that a host may have: the usual gateway.
    pub fn first_host(&self) -> IpAddr {
        let (low, _) = self.host_range();
        self.at(low)
    }

    /// Returns the lowest and highest address that hosts may have, as offsets.
    pub(crate) fn host_range(&self) -> (u128, u128) {
        let last = !mask(width(self.address), self.prefix) & full(width(self.address));
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
            .then(|| number(address) - number(self.address))
    }

    pub(crate) fn at(&self, offset: u128) -> IpAddr {
        from_number(number(self.address) + offset, width(self.address))
    }

    fn nth_from_end(&self, index: u128) -> IpAddr {
        let width = width(self.address);
        from_number(
            (number(self.address) | (!mask(width, self.prefix) & full(width))) - index,
            width,
        )
    }
}

/// Chooses the first of Docker's default networks that no route or address of the host touches.
pub fn pick_subnet() -> Result<Subnet, PickError> {
    let mut socket = Socket::open(Family::Route).map_err(PickError::Read)?;
    let mut used = route::destinations(&mut socket).map_err(PickError::Read)?;
    let assigned = route::addresses(&mut socket).map_err(PickError::Read)?;
    used.extend(
        assigned
            .iter()
            .filter_map(|a| Subnet::containing(a.address, a.prefix)),
    );
    first_free(&used).ok_or(PickError::Exhausted)
}

fn first_free(used: &[Subnet]) -> Option<Subnet> {
    candidates().find(|candidate| !used.iter().any(|subnet| subnet.overlaps(candidate)))
}

/// Lists 172.17.0.0/16 to 172.31.0.0/16, then 192.168.0.0/20 to 192.168.240.0/20.
fn candidates() -> impl Iterator<Item = Subnet> {
    let large = (17..=31).map(|second| (Ipv4Addr::new(172, second, 0, 0), 16));
    let small = (0..=240)
        .step_by(16)
        .map(|third| (Ipv4Addr::new(192, 168, third, 0), 20));
    large.chain(small).map(|(address, prefix)| Subnet {
        address: address.into(),
        prefix,
    })
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
        if !prefix.bytes().all(|byte| byte.is_ascii_digit()) {
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
        assert_eq!(first_free(&[]), Some(subnet("172.17.0.0/16")));
        let used = [subnet("172.17.9.0/24"), subnet("172.18.0.1/32")];
        assert_eq!(first_free(&used), Some(subnet("172.19.0.0/16")));
        assert_eq!(
            first_free(&[subnet("172.16.0.0/12")]),
            Some(subnet("192.168.0.0/20"))
        );
        let all = [subnet("172.16.0.0/12"), subnet("192.168.0.0/16")];
        assert_eq!(first_free(&all), None);
    }
}
