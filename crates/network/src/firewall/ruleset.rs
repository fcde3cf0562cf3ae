//! The rules themselves.
//!
//! In `nft`'s words, for one bridge `br0` with the network `172.17.0.0/16`:
//!
//! ```text
//! map published { type inet_proto . ipv4_addr . inet_service : ipv4_addr . inet_service }
//! map wildcard  { type inet_proto . inet_service : ipv4_addr . inet_service }
//! chain guard { type filter hook prerouting priority raw
//!     iifname != "lo" meta nfproto ipv4 ip daddr 127.0.0.0/8 drop }
//! chain prerouting { type nat hook prerouting priority dstnat
//!     meta nfproto ipv4 dnat ip to meta l4proto . ip daddr . th dport map @published
//!     meta nfproto ipv4 fib daddr type local dnat ip to meta l4proto . th dport map @wildcard }
//! chain output { type nat hook output priority dstnat ... the same two ... }
//! chain forward { type filter hook forward priority filter
//!     ct state established,related accept
//!     oifname "br0" ct status dnat accept
//!     oifname "br0" iifname "br0" accept
//!     oifname "br0" drop }
//! chain postrouting { type nat hook postrouting priority srcnat
//!     oifname != "br0" meta nfproto ipv4 ip saddr 172.17.0.0/16 masquerade
//!     oifname "br0" ct status dnat meta nfproto ipv4 ip saddr 172.17.0.0/16 masquerade
//!     oifname "br0" meta nfproto ipv4 ip saddr 127.0.0.0/8 masquerade }
//! ```

use std::net::{IpAddr, Ipv4Addr};

use super::Zone;
use crate::nft::{
    Chain, Expressions, Field, Hook, Interface, Map, Register, Status, Transaction, Verdict,
};

/// The map of ports published on one address of the host.
pub(super) const SPECIFIC: &str = "published";
/// The map of ports published on all addresses of the host.
pub(super) const WILDCARD: &str = "wildcard";

const MAPS: [Map; 2] = [
    Map {
        name: SPECIFIC,
        key: &[Field::Protocol, Field::Address, Field::Port],
        data: &[Field::Address, Field::Port],
    },
    Map {
        name: WILDCARD,
        key: &[Field::Protocol, Field::Port],
        data: &[Field::Address, Field::Port],
    },
];

const GUARD: Chain = Chain {
    name: "guard",
    kind: "filter",
    hook: Hook::Prerouting,
    priority: -300,
};
const PREROUTING: Chain = Chain {
    name: "prerouting",
    kind: "nat",
    hook: Hook::Prerouting,
    priority: -100,
};
const OUTPUT: Chain = Chain {
    name: "output",
    kind: "nat",
    hook: Hook::Output,
    priority: -100,
};
const FORWARD: Chain = Chain {
    name: "forward",
    kind: "filter",
    hook: Hook::Forward,
    priority: 0,
};
const POSTROUTING: Chain = Chain {
    name: "postrouting",
    kind: "nat",
    hook: Hook::Postrouting,
    priority: 100,
};

const LOOPBACK: (Ipv4Addr, u8) = (Ipv4Addr::new(127, 0, 0, 0), 8);

type Write = Box<dyn Fn(&mut Expressions<'_, '_>)>;

/// A rule: its chain, its comment, its expressions.
struct Rule {
    chain: &'static str,
    comment: String,
    write: Write,
}

/// Writes maps, chains and rules.
pub(super) fn write(transaction: &mut Transaction<'_>, zones: &[Zone]) {
    MAPS.iter().for_each(|map| transaction.add_map(map));
    for chain in [GUARD, PREROUTING, OUTPUT, FORWARD, POSTROUTING] {
        transaction.add_chain(&chain);
    }
    for rule in rules(zones) {
        transaction.add_rule(rule.chain, &rule.comment, rule.write);
    }
}

/// Lists chain and comment of every rule, in the order in which the kernel lists them.
pub(super) fn comments(zones: &[Zone]) -> Vec<(String, String)> {
    rules(zones)
        .into_iter()
        .map(|rule| (rule.chain.to_owned(), rule.comment))
        .collect()
}

fn rules(zones: &[Zone]) -> Vec<Rule> {
    let mut rules = vec![guard()];
    for chain in [PREROUTING.name, OUTPUT.name] {
        rules.push(redirect_specific(chain));
        rules.push(redirect_wildcard(chain));
    }
    rules.extend(forward(zones));
    for zone in zones {
        rules.extend(postrouting(zone));
    }
    rules
}

fn rule(
    chain: &'static str,
    comment: impl Into<String>,
    write: impl Fn(&mut Expressions<'_, '_>) + 'static,
) -> Rule {
    Rule {
        chain,
        comment: comment.into(),
        write: Box::new(write),
    }
}

/// Keeps neighbours and containers from what is published or listens on loopback: redirecting
/// happens before the kernel would refuse such a destination, and the bridge has `route_localnet`.
fn guard() -> Rule {
    rule(GUARD.name, "loopback is for this host", |e| {
        e.interface_is_not(Interface::In, "lo");
        e.is_ipv4();
        e.destination_in(LOOPBACK.0, LOOPBACK.1);
        e.verdict(Verdict::Drop);
    })
}

fn redirect_specific(chain: &'static str) -> Rule {
    rule(chain, "ports published on one address", |e| {
        e.is_ipv4();
        e.load_protocol(Register(0));
        e.load_destination(Register(1));
        e.load_port(Register(2));
        e.look_up(SPECIFIC, Register(0), Register(0));
        e.redirect(Register(0), Register(1));
    })
}

fn redirect_wildcard(chain: &'static str) -> Rule {
    rule(chain, "ports published on all addresses", |e| {
        e.is_ipv4();
        e.destination_is_local();
        e.load_protocol(Register(0));
        e.load_port(Register(1));
        e.look_up(WILDCARD, Register(0), Register(0));
        e.redirect(Register(0), Register(1));
    })
}

fn forward(zones: &[Zone]) -> Vec<Rule> {
    let mut rules = vec![rule(FORWARD.name, "what has begun goes on", |e| {
        e.connection(Status::Established);
        e.verdict(Verdict::Accept);
    })];
    for Zone { bridge, .. } in zones {
        let name = bridge.clone();
        rules.push(rule(
            FORWARD.name,
            format!("published ports into {bridge}"),
            move |e| {
                e.interface_is(Interface::Out, &name);
                e.connection(Status::DestinationRewritten);
                e.verdict(Verdict::Accept);
            },
        ));
        let name = bridge.clone();
        rules.push(rule(FORWARD.name, format!("within {bridge}"), move |e| {
            e.interface_is(Interface::Out, &name);
            e.interface_is(Interface::In, &name);
            e.verdict(Verdict::Accept);
        }));
        let name = bridge.clone();
        rules.push(rule(
            FORWARD.name,
            format!("nothing else into {bridge}"),
            move |e| {
                e.interface_is(Interface::Out, &name);
                e.verdict(Verdict::Drop);
            },
        ));
    }
    rules
}

fn postrouting(zone: &Zone) -> Vec<Rule> {
    let Zone { bridge, subnet } = zone;
    let IpAddr::V4(network) = subnet.address() else {
        return Vec::new();
    };
    let prefix = subnet.prefix();
    let name = bridge.clone();
    let outwards = rule(
        POSTROUTING.name,
        format!("{subnet} leaving {bridge}"),
        move |e| {
            e.interface_is_not(Interface::Out, &name);
            e.is_ipv4();
            e.source_in(network, prefix);
            e.masquerade();
        },
    );
    // The answer must come back through the host to be rewritten; without this it would go
    // straight from container to container, from an address that the asker never asked.
    let name = bridge.clone();
    let hairpin = rule(
        POSTROUTING.name,
        format!("{subnet} to its own published ports"),
        move |e| {
            e.interface_is(Interface::Out, &name);
            e.connection(Status::DestinationRewritten);
            e.is_ipv4();
            e.source_in(network, prefix);
            e.masquerade();
        },
    );
    let name = bridge.clone();
    let loopback = rule(
        POSTROUTING.name,
        format!("loopback to {bridge}"),
        move |e| {
            e.interface_is(Interface::Out, &name);
            e.is_ipv4();
            e.source_in(LOOPBACK.0, LOOPBACK.1);
            e.masquerade();
        },
    );
    vec![outwards, hairpin, loopback]
}
