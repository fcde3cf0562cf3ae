//! What networks, containers and ports are as elements of sets and maps.

use std::net::{IpAddr, Ipv6Addr};

use super::ruleset::Which;
use super::{GatewayMode, Member, OpenPort, Rules, Zone, ZoneSide};
use crate::mac::MacAddress;
use crate::nft::{Element, Version, interface_name, push_field};
use crate::ports::PortMapping;

/// Lists the elements that these rules are.
pub(super) fn of(rules: &Rules) -> Vec<(Which, Element)> {
    let mut list = Vec::new();
    rules.zones.iter().for_each(|zone| of_zone(zone, &mut list));
    rules
        .members
        .iter()
        .for_each(|member| of_member(member, &mut list));
    list.extend(rules.published.iter().filter_map(of_mapping));
    list.extend(rules.open.iter().map(of_open_port));
    list
}

fn element(fields: &[&[u8]]) -> Element {
    let mut key = Vec::with_capacity(48);
    fields.iter().for_each(|field| push_field(&mut key, field));
    Element {
        key,
        ..Element::default()
    }
}

fn of_zone(zone: &Zone, list: &mut Vec<(Which, Element)>) {
    let bridge = interface_name(&zone.bridge);
    list.push((Which::Bridges, element(&[&bridge])));
    if zone.icc {
        list.push((Which::Within, element(&[&bridge, &bridge])));
    }
    for (version, side) in [(Version::V4, &zone.v4), (Version::V6, &zone.v6)] {
        let versioned = || element(&[&[version.number()], &bridge]);
        let isolated = side
            .as_ref()
            .is_some_and(|side| side.mode == GatewayMode::Isolated);
        if zone.internal || isolated {
            list.push((Which::Sealed, versioned()));
        }
        if let Some(side) = side {
            list.push(network(version, &bridge, side));
            if !zone.internal && !isolated {
                way_out(version, &bridge, side, list);
            }
            match side.mode {
                GatewayMode::NatUnprotected => list.push((Which::Unprotected, versioned())),
                GatewayMode::Routed => list.push((Which::Routed, versioned())),
                GatewayMode::Nat | GatewayMode::Isolated => {}
            }
        }
    }
}

/// Returns the key of a bridge in sets that tell the versions of IP apart.
pub(super) fn of_bridge(version: Version, bridge: &str) -> Vec<u8> {
    element(&[&[version.number()], &interface_name(bridge)]).key
}

fn network(version: Version, bridge: &[u8], side: &ZoneSide) -> (Which, Element) {
    let (first, last) = bounds(side.subnet.address(), side.subnet.prefix());
    let mut element = element(&[bridge, &first]);
    push_field(&mut element.end, bridge);
    push_field(&mut element.end, &last);
    (Which::Networks(version), element)
}

/// Returns the first and the last address of a network.
fn bounds(address: IpAddr, prefix: u8) -> (Vec<u8>, Vec<u8>) {
    let octets = crate::route::octets(address);
    let mask = |index: usize| {
        let bits = usize::from(prefix).saturating_sub(index * 8).min(8);
        u8::MAX
            .checked_shl(8 - u32::try_from(bits).unwrap_or(0))
            .unwrap_or(0)
    };
    let first = octets.iter().enumerate();
    let last = first.clone();
    (
        first.map(|(index, octet)| octet & mask(index)).collect(),
        last.map(|(index, octet)| octet | !mask(index)).collect(),
    )
}

fn way_out(version: Version, bridge: &[u8], side: &ZoneSide, list: &mut Vec<(Which, Element)>) {
    if side.mode == GatewayMode::Routed || !side.masquerade {
        return;
    }
    match side.source {
        Some(source) if version_of(source) == version => {
            let mut element = element(&[bridge]);
            push_field(&mut element.data, &crate::route::octets(source));
            list.push((Which::Source(version), element));
        }
        _ => list.push((Which::Masquerade, element(&[&[version.number()], bridge]))),
    }
}

fn of_member(member: &Member, list: &mut Vec<(Which, Element)>) {
    let port = interface_name(&member.port);
    let mac = member.mac.octets();
    list.push((Which::Ports, element(&[&port])));
    list.push((Which::Macs, element(&[&port, &mac])));
    let link_local = member
        .addresses
        .iter()
        .any(IpAddr::is_ipv6)
        .then(|| link_local(member.mac));
    for address in member.addresses.iter().copied().chain(link_local) {
        let sender = element(&[&port, &mac, &crate::route::octets(address)]);
        list.push((Which::Senders(version_of(address)), sender));
    }
}

/// Derives the address that the kernel gives a link by itself (RFC 4291, appendix A).
fn link_local(mac: MacAddress) -> IpAddr {
    let [a, b, c, d, e, f] = mac.octets();
    let half = [0xfe, 0x80, 0, 0, 0, 0, 0, 0];
    let [g, h, i, j, k, l, m, n] = half;
    Ipv6Addr::from([g, h, i, j, k, l, m, n, a ^ 2, b, c, 0xff, 0xfe, d, e, f]).into()
}

/// Returns nothing for a mapping between the versions of IP, which no rewriting can bridge, and for
/// ::1, to which the kernel takes answers from the link `lo` only (`rt6_need_strict`).
pub(super) fn of_mapping(port: &PortMapping) -> Option<(Which, Element)> {
    let version = version_of(port.host_ip);
    if version != version_of(port.container.ip()) || port.host_ip == Ipv6Addr::LOCALHOST {
        return None;
    }
    let protocol = [port.protocol.number()];
    let host_port = port.host_port.to_be_bytes();
    let (which, mut element) = if port.host_ip.is_unspecified() {
        (Which::Wildcard(version), element(&[&protocol, &host_port]))
    } else {
        let host = crate::route::octets(port.host_ip);
        let key = element(&[&protocol, &host, &host_port]);
        (Which::Published(version), key)
    };
    push_field(
        &mut element.data,
        &crate::route::octets(port.container.ip()),
    );
    push_field(&mut element.data, &port.container.port().to_be_bytes());
    Some((which, element))
}

fn of_open_port(port: &OpenPort) -> (Which, Element) {
    let address = port.container.ip();
    let key = element(&[
        &interface_name(&port.bridge),
        &[port.protocol.number()],
        &crate::route::octets(address),
        &port.container.port().to_be_bytes(),
    ]);
    (Which::Open(version_of(address)), key)
}

pub(super) const fn version_of(address: IpAddr) -> Version {
    match address {
        IpAddr::V4(_) => Version::V4,
        IpAddr::V6(_) => Version::V6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounds_of_networks() {
        let check = |network: &str, prefix, first: &str, last: &str| {
            let octets = |text: &str| crate::route::octets(text.parse().unwrap());
            let found = bounds(network.parse().unwrap(), prefix);
            assert_eq!(found, (octets(first), octets(last)), "{network}/{prefix}");
        };
        check("172.17.0.0", 16, "172.17.0.0", "172.17.255.255");
        check("10.1.2.192", 27, "10.1.2.192", "10.1.2.223");
        check("10.1.2.3", 32, "10.1.2.3", "10.1.2.3");
        check("0.0.0.0", 0, "0.0.0.0", "255.255.255.255");
        check("fd00:1::", 61, "fd00:1::", "fd00:1:0:7:ffff:ffff:ffff:ffff");
    }

    #[test]
    fn a_mapping_that_cannot_be_rewritten_is_no_element() {
        let mapping = |host: &str, container: &str| PortMapping {
            protocol: crate::ports::Protocol::Tcp,
            host_ip: host.parse().unwrap(),
            host_port: 80,
            container: container.parse().unwrap(),
        };
        assert!(of_mapping(&mapping("::", "10.0.0.1:80")).is_none());
        assert!(of_mapping(&mapping("0.0.0.0", "[fd00::1]:80")).is_none());
        assert!(of_mapping(&mapping("::1", "[fd00::1]:80")).is_none());
        assert!(of_mapping(&mapping("::", "[fd00::1]:80")).is_some());
    }

    #[test]
    fn the_link_local_address_of_a_mac() {
        let mac = MacAddress::new([0x02, 0x42, 0xac, 0x11, 0, 2]);
        assert_eq!(link_local(mac).to_string(), "fe80::42:acff:fe11:2");
    }
}
