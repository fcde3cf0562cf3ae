//! Interfaces, addresses and the default gateway, as `/proc/net` and `/sys/class/net` tell them.

use crate::proc::read;
use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

/// One network interface.
#[derive(Debug)]
pub(crate) struct Interface {
    pub(crate) name: String,
    pub(crate) received: u64,
    pub(crate) sent: u64,
}

/// The interfaces of this network namespace.
pub(crate) fn interfaces() -> Vec<Interface> {
    let table = read("/proc/net/dev").unwrap_or_default();
    // two lines of headings
    table.lines().skip(2).filter_map(interface).collect()
}

fn interface(line: &str) -> Option<Interface> {
    let (name, figures) = line.split_once(':')?;
    let figures: Vec<u64> = figures
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    Some(Interface {
        name: name.trim().to_owned(),
        received: *figures.first()?,
        sent: *figures.get(8)?,
    })
}

/// Interfaces with their addresses, and the gateway, as names and words.
pub(crate) fn facts() -> Vec<(String, String)> {
    let routes = routes(&read("/proc/net/route").unwrap_or_default());
    let own = local_addresses(&read("/proc/net/fib_trie").unwrap_or_default());
    let six = read("/proc/net/if_inet6").unwrap_or_default();
    let mut facts: Vec<(String, String)> = interfaces()
        .iter()
        .map(|link| (link.name.clone(), describe(&link.name, &routes, &own, &six)))
        .collect();
    if let Some(route) = routes
        .iter()
        .find(|route| route.mask == 0 && route.gateway != 0)
    {
        facts.push((
            "gateway".to_owned(),
            format!("{} by {}", Ipv4Addr::from(route.gateway), route.link),
        ));
    }
    facts
}

fn describe(link: &str, routes: &[Route], own: &[Ipv4Addr], six: &str) -> String {
    let mut text = String::new();
    for address in own {
        let length = if address.is_loopback() {
            (link == "lo").then_some(8)
        } else {
            let bits = u32::from(*address);
            let on_link = |route: &&Route| {
                route.link == link && route.mask != 0 && bits & route.mask == route.destination
            };
            routes
                .iter()
                .find(on_link)
                .map(|route| route.mask.count_ones())
        };
        if let Some(length) = length {
            push(&mut text, format_args!("{address}/{length}"));
        }
    }
    for line in six.lines() {
        if let Some((address, length)) = address6(line, link) {
            push(&mut text, format_args!("{address}/{length}"));
        }
    }
    let detail =
        |file: &str| read(format!("/sys/class/net/{link}/{file}")).filter(|text| !text.is_empty());
    if let Some(mac) = detail("address").filter(|_| link != "lo") {
        push(&mut text, format_args!("{mac}"));
    }
    if let Some(mtu) = detail("mtu") {
        push(&mut text, format_args!("mtu {mtu}"));
    }
    if text.is_empty() {
        "no address".to_owned()
    } else {
        text
    }
}

fn push(text: &mut String, word: std::fmt::Arguments<'_>) {
    let gap = if text.is_empty() { "" } else { ", " };
    // a String takes all that is written to it
    let _ = write!(text, "{gap}{word}");
}

#[derive(Debug, PartialEq, Eq)]
struct Route {
    link: String,
    destination: u32,
    gateway: u32,
    mask: u32,
}

/// Reads `/proc/net/route`, whose addresses are the memory of big-endian words read as native ones.
fn routes(table: &str) -> Vec<Route> {
    let address = |text: &str| u32::from_str_radix(text, 16).ok().map(u32::from_be);
    let route = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        Some(Route {
            link: (*words.first()?).to_owned(),
            destination: address(words.get(1)?)?,
            gateway: address(words.get(2)?)?,
            mask: address(words.get(7)?)?,
        })
    };
    table.lines().skip(1).filter_map(route).collect()
}

/// The addresses of this host among the leaves of `/proc/net/fib_trie`.
fn local_addresses(trie: &str) -> Vec<Ipv4Addr> {
    let mut found = Vec::new();
    let mut leaf = None;
    for line in trie.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address.parse::<Ipv4Addr>().ok();
        } else if line == "/32 host LOCAL" {
            found.extend(leaf.filter(|address| !found.contains(address)));
        }
    }
    found
}

fn address6(line: &str, link: &str) -> Option<(Ipv6Addr, u8)> {
    let mut words = line.split_whitespace();
    let address = u128::from_str_radix(words.next()?, 16).ok()?;
    let length = u8::from_str_radix(words.nth(1)?, 16).ok()?;
    (words.nth(2)? == link).then_some((Ipv6Addr::from(address), length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn route_table() {
        let table = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n\
                     eth0 00000000 010011AC 0003 0 0 0 00000000 0 0 0\n\
                     eth0 000011AC 00000000 0001 0 0 0 0000FFFF 0 0 0\n";
        let found = routes(table);
        assert_eq!(
            Ipv4Addr::from(found[0].gateway),
            Ipv4Addr::new(172, 17, 0, 1)
        );
        assert_eq!(found[1].mask.count_ones(), 16);
        let own = [Ipv4Addr::new(172, 17, 0, 9)];
        assert!(describe("eth0", &found, &own, "").starts_with("172.17.0.9/16"));
    }

    #[test]
    fn addresses_of_the_trie() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 172.17.0.2\n        /32 host LOCAL\n     |-- 172.17.0.0\n        /16 link UNICAST\n\
                    Local:\n     |-- 172.17.0.2\n        /32 host LOCAL\n     |-- 127.0.0.1\n        /32 host LOCAL\n";
        assert_eq!(
            local_addresses(trie),
            [Ipv4Addr::new(172, 17, 0, 2), Ipv4Addr::LOCALHOST]
        );
    }

    #[test]
    fn sixes() {
        let line = "fe800000000000000042acfffe110002 02 40 20 80     eth0";
        assert_eq!(
            address6(line, "eth0"),
            Some(("fe80::42:acff:fe11:2".parse().unwrap(), 64))
        );
        assert_eq!(address6(line, "eth1"), None);
    }

    #[test]
    fn counters() {
        let link = interface("  eth0: 100 1 0 0 0 0 0 0 200 2 0 0 0 0 0 0").unwrap();
        assert_eq!(
            (link.name.as_str(), link.received, link.sent),
            ("eth0", 100, 200)
        );
    }
}
