//! What the kernel takes for a link's name and packet size.

/// The largest packet of IP, and with it of any link here (`ETH_MAX_MTU`).
pub(crate) const MAXIMUM_MTU: u32 = 65_535;
/// The ports that a bridge can have (`BR_MAX_PORTS` in net/bridge/br_private.h, of which number 0 is none).
pub(crate) const MAXIMUM_PORTS: u32 = 1023;
/// The smallest packet size that IPv4 works with (RFC 791, `ETH_MIN_MTU`).
const MINIMUM_MTU: u32 = 68;
/// The smallest packet size that IPv6 works with (RFC 8200, section 5).
pub(crate) const MINIMUM_MTU_OF_IPV6: u32 = 1280;

pub(crate) const fn minimum_mtu(ipv6: bool) -> u32 {
    if ipv6 {
        MINIMUM_MTU_OF_IPV6
    } else {
        MINIMUM_MTU
    }
}

/// Tells whether a link can have the name (`dev_valid_name`), which also becomes part of a path
/// below `/proc/sys`.
pub(crate) fn is_link_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'/' && byte != b':';
    (1..=15).contains(&name.len()) && name != "." && name != ".." && name.bytes().all(plain)
}

/// Tells whether a name is a prefix and the seven hexadecimal digits of a sandbox's suffix.
pub(crate) fn has_suffix(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| {
        rest.len() == 7 && rest.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_are_recognised() {
        assert!(has_suffix("veth012cdef", "veth"));
        for bad in [
            "veth",
            "veth12345678",
            "veth12345",
            "vethABCDEF0",
            "eth0123456",
        ] {
            assert!(!has_suffix(bad, "veth"), "{bad}");
        }
    }
}
