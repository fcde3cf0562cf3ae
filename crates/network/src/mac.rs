//! Ethernet addresses.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddress([u8; 6]);

/// The text is not an Ethernet address.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid MAC address {text:?}")]
pub struct ParseMacError {
    text: String,
}

impl MacAddress {
    /// Makes an address of its bytes.
    pub const fn new(octets: [u8; 6]) -> Self {
        Self(octets)
    }

    /// Returns the bytes.
    pub const fn octets(self) -> [u8; 6] {
        self.0
    }

    /// Tells whether one link can have the address: it is neither a group's nor zero.
    pub const fn is_unicast(self) -> bool {
        let [a, b, c, d, e, f] = self.0;
        a & 1 == 0 && (a | b | c | d | e | f) != 0
    }

    /// Derives the IPv6 address that a link with this address has on its own (RFC 4291, appendix A).
    pub const fn link_local(self) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.0;
        let octets = [
            0xfe,
            0x80,
            0,
            0,
            0,
            0,
            0,
            0,
            a ^ 2,
            b,
            c,
            0xff,
            0xfe,
            d,
            e,
            f,
        ];
        Ipv6Addr::from_octets(octets)
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

/// Derives the Ethernet address of a container from its IP address.
///
/// The next container with the same IP address then has the same Ethernet address, so a
/// neighbour's stale ARP entry is right all the same. 02 marks it as locally administered.
pub fn mac_for(address: IpAddr) -> MacAddress {
    let [.., a, b, c, d] = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    };
    MacAddress([0x02, 0x42, a, b, c, d])
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MacAddress {
    type Err = ParseMacError;

    fn from_str(text: &str) -> Result<Self, ParseMacError> {
        let invalid = || ParseMacError {
            text: text.chars().take(64).collect(),
        };
        let separator = if text.contains('-') { '-' } else { ':' };
        let mut octets = [0; 6];
        let mut parts = text.split(separator);
        for octet in &mut octets {
            let part = parts
                .next()
                .filter(|part| part.len() == 2)
                .ok_or_else(invalid)?;
            if !part.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(invalid());
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| invalid())?;
        }
        if parts.next().is_some() {
            return Err(invalid());
        }
        Ok(Self(octets))
    }
}

impl TryFrom<String> for MacAddress {
    type Error = ParseMacError;

    fn try_from(text: String) -> Result<Self, ParseMacError> {
        text.parse()
    }
}

impl From<MacAddress> for String {
    fn from(mac: MacAddress) -> Self {
        mac.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_from_the_ip_address() {
        let mac = mac_for(IpAddr::from([172, 17, 0, 2]));
        assert_eq!(mac.to_string(), "02:42:ac:11:00:02");
    }

    #[test]
    fn gives_the_link_local_address() {
        let mac = MacAddress::new([2, 0x42, 0xac, 0x11, 0, 2]);
        assert_eq!(mac.link_local().to_string(), "fe80::42:acff:fe11:2");
    }

    #[test]
    fn groups_and_zero_are_nobodys_address() {
        assert!(MacAddress::new([2, 0, 0, 0, 0, 1]).is_unicast());
        assert!(!MacAddress::new([3, 0, 0, 0, 0, 1]).is_unicast());
        assert!(!MacAddress::new([0xff; 6]).is_unicast());
        assert!(!MacAddress::new([0; 6]).is_unicast());
    }

    #[test]
    fn parses_what_it_prints_and_nothing_else() {
        let mac = MacAddress::new([2, 0x42, 0xac, 0x11, 0, 0xfe]);
        assert_eq!(mac.to_string().parse(), Ok(mac));
        assert_eq!("02-42-AC-11-00-FE".parse(), Ok(mac));
        for bad in [
            "",
            "02:42",
            "02:42:ac:11:00:+2",
            "02:42:ac:11:00:02:03",
            "0242ac110002",
        ] {
            assert!(bad.parse::<MacAddress>().is_err(), "{bad}");
        }
    }
}
