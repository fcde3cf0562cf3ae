//! The rules themselves, whose number does not depend on how many networks and ports there are.
//!
//! `nft list table inet gorae` and `nft list table bridge gorae` print them; the integration tests
//! hold what is printed. What differs from network to network and port to port is in sets and maps.

use crate::nft::{
    Chain, Expressions, Family, Field, Hook, Set, Transaction, Value, Verdict, Version,
};

use Field::{Address, Address6, Interface, Mac, Port, Protocol};
use Value::{InterfaceIn, InterfaceOut};
use Version::{V4, V6};

use super::reentry::Reentry;

/// One of the sets and maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Which {
    /// Our bridges.
    Bridges,
    /// Pairs of the same bridge twice, whose containers may talk to each other.
    Within,
    /// Bridges that nothing is forwarded from or to, by version of IP.
    Sealed,
    /// Bridges all of whose addresses can be reached.
    Unprotected,
    /// Bridges whose open ports can be reached by their own address.
    Routed,
    /// Bridges whose containers leave with the address of the link that they leave by.
    Masquerade,
    /// Bridges whose containers leave with a certain address.
    Source(Version),
    /// The network of each bridge.
    Networks(Version),
    /// Ports published on one address of the host.
    Published(Version),
    /// Ports published on all addresses of the host.
    Wildcard(Version),
    /// Open ports of routed networks.
    Open(Version),
    /// Ports of bridges whose senders are known.
    Ports,
    /// The Ethernet address behind each of them.
    Macs,
    /// The same with the Internet addresses.
    Senders(Version),
}

impl Which {
    pub(super) const ALL: [Self; 20] = [
        Self::Bridges,
        Self::Within,
        Self::Sealed,
        Self::Unprotected,
        Self::Routed,
        Self::Masquerade,
        Self::Source(V4),
        Self::Source(V6),
        Self::Networks(V4),
        Self::Networks(V6),
        Self::Published(V4),
        Self::Published(V6),
        Self::Wildcard(V4),
        Self::Wildcard(V6),
        Self::Open(V4),
        Self::Open(V6),
        Self::Ports,
        Self::Macs,
        Self::Senders(V4),
        Self::Senders(V6),
    ];

    pub(super) const fn set(self) -> Set {
        let (name, key): (_, &[Field]) = match self {
            Self::Bridges => ("bridges", &[Interface]),
            Self::Within => ("within", &[Interface, Interface]),
            Self::Sealed => ("sealed", &[Field::Version, Interface]),
            Self::Unprotected => ("unprotected", &[Field::Version, Interface]),
            Self::Routed => ("routed", &[Field::Version, Interface]),
            Self::Masquerade => ("masquerade", &[Field::Version, Interface]),
            Self::Source(V4) => ("source4", &[Interface]),
            Self::Source(V6) => ("source6", &[Interface]),
            Self::Networks(V4) => ("networks4", &[Interface, Address]),
            Self::Networks(V6) => ("networks6", &[Interface, Address6]),
            Self::Published(V4) => ("published4", &[Protocol, Address, Port]),
            Self::Published(V6) => ("published6", &[Protocol, Address6, Port]),
            Self::Wildcard(V4) => ("wildcard4", &[Protocol, Port]),
            Self::Wildcard(V6) => ("wildcard6", &[Protocol, Port]),
            Self::Open(V4) => ("open4", &[Interface, Protocol, Address, Port]),
            Self::Open(V6) => ("open6", &[Interface, Protocol, Address6, Port]),
            Self::Ports => ("ports", &[Interface]),
            Self::Macs => ("macs", &[Interface, Mac]),
            Self::Senders(V4) => ("senders4", &[Interface, Mac, Address]),
            Self::Senders(V6) => ("senders6", &[Interface, Mac, Address6]),
        };
        Set {
            family: self.family(),
            name,
            key,
            data: self.data(),
            interval: matches!(self, Self::Networks(_)),
        }
    }

    const fn data(self) -> &'static [Field] {
        match self {
            Self::Source(V4) => &[Address],
            Self::Source(V6) => &[Address6],
            Self::Published(V4) | Self::Wildcard(V4) => &[Address, Port],
            Self::Published(V6) | Self::Wildcard(V6) => &[Address6, Port],
            _ => &[],
        }
    }

    pub(super) const fn family(self) -> Family {
        match self {
            Self::Ports | Self::Macs | Self::Senders(_) => Family::Bridge,
            _ => Family::Inet,
        }
    }

    const fn name(self) -> &'static str {
        self.set().name
    }
}

/// What of the rules depends on the host.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape<'a> {
    /// The kernel has rules for bridges.
    pub(super) bridge: bool,
    /// The way back in of what the host's own rules let through; without it all is let through.
    pub(super) reentry: Option<&'a Reentry>,
}

impl Shape<'_> {
    pub(super) fn families(&self) -> Vec<Family> {
        let mut families = vec![Family::Inet];
        if let Some(reentry) = self.reentry {
            families.push(Family::Ipv4);
            families.extend(reentry.v6().then_some(Family::Ipv6));
        }
        families.extend(self.bridge.then_some(Family::Bridge));
        families
    }
}

const GUARD: Chain = Chain {
    family: Family::Inet,
    name: "guard",
    kind: "filter",
    hook: Hook::Prerouting,
    priority: -300,
};
/// After what `rpfilter` of a host's own rules looks at (firewalld's is at -290) and before routing.
const READMIT: Chain = Chain {
    family: Family::Inet,
    name: "readmit",
    kind: "filter",
    hook: Hook::Prerouting,
    priority: -150,
};
const PREROUTING: Chain = Chain {
    family: Family::Inet,
    name: "prerouting",
    kind: "nat",
    hook: Hook::Prerouting,
    priority: -100,
};
const OUTPUT: Chain = Chain {
    family: Family::Inet,
    name: "output",
    kind: "nat",
    hook: Hook::Output,
    priority: -100,
};
const FORWARD: Chain = Chain {
    family: Family::Inet,
    name: "forward",
    kind: "filter",
    hook: Hook::Forward,
    priority: 0,
};
const POSTROUTING: Chain = Chain {
    family: Family::Inet,
    name: "postrouting",
    kind: "nat",
    hook: Hook::Postrouting,
    priority: 100,
};
/// Behind all of the host's own rules, and before connection tracking believes in the connection
/// (`NF_IP_PRI_CONNTRACK_CONFIRM`, the largest number).
const CLAIM: Chain = Chain {
    family: Family::Inet,
    name: "claim",
    kind: "filter",
    hook: Hook::Input,
    priority: i32::MAX - 2,
};
/// The expression that duplicates is not there in the family `inet`.
const REENTER4: Chain = Chain {
    family: Family::Ipv4,
    name: "reenter",
    kind: "filter",
    hook: Hook::Input,
    priority: i32::MAX - 1,
};
const REENTER6: Chain = Chain {
    family: Family::Ipv6,
    ..REENTER4
};
const SENDERS: Chain = Chain {
    family: Family::Bridge,
    name: "senders",
    kind: "filter",
    hook: Hook::Prerouting,
    priority: -300,
};

const LOOPBACK: [u8; 4] = [127, 0, 0, 0];
const LOOPBACK_MASK: [u8; 4] = [255, 0, 0, 0];
const LOOPBACK6: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const LINK_LOCAL: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const LINK_LOCAL_MASK: [u8; 16] = [0xff, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const ETHERTYPE_IP: [u8; 2] = [0x08, 0x00];
const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const REDIRECT: u8 = 137;

type Write<'a> = Box<dyn Fn(&mut Expressions<'_, '_>) + 'a>;

/// A rule: its chain, its comment, its expressions.
struct Rule<'a> {
    chain: Chain,
    comment: &'static str,
    write: Write<'a>,
}

/// Writes tables, sets, chains and rules.
pub(super) fn write(transaction: &mut Transaction<'_>, shape: &Shape<'_>) {
    let families = shape.families();
    families
        .iter()
        .for_each(|family| transaction.add_table(*family));
    for which in Which::ALL {
        if families.contains(&which.family()) {
            transaction.add_set(&which.set());
        }
    }
    for chain in chains(shape) {
        transaction.add_chain(&chain);
    }
    for rule in rules(shape) {
        transaction.add_rule(&rule.chain, rule.comment, rule.write);
    }
}

fn chains(shape: &Shape<'_>) -> Vec<Chain> {
    let mut chains = vec![GUARD, PREROUTING, OUTPUT, FORWARD, POSTROUTING];
    if let Some(reentry) = shape.reentry {
        chains.extend([READMIT, CLAIM, REENTER4]);
        chains.extend(reentry.v6().then_some(REENTER6));
    }
    chains.extend(shape.bridge.then_some(SENDERS));
    chains
}

fn rules<'a>(shape: &Shape<'a>) -> Vec<Rule<'a>> {
    let mut rules = vec![guard()];
    rules.extend(redirections(PREROUTING, shape.reentry));
    rules.extend(redirections(OUTPUT, None));
    rules.extend(forward());
    rules.extend(postrouting());
    if let Some(reentry) = shape.reentry {
        rules.extend(host_firewall(reentry));
    }
    if shape.bridge {
        rules.extend(senders());
    }
    rules
}

fn rule<'a>(
    chain: Chain,
    comment: &'static str,
    write: impl Fn(&mut Expressions<'_, '_>) + 'a,
) -> Rule<'a> {
    Rule {
        chain,
        comment,
        write: Box::new(write),
    }
}

/// Keeps neighbours and containers from what is published or listens on loopback: redirecting
/// happens before the kernel would refuse such a destination, and the bridge has `route_localnet`.
/// The kernel itself refuses ::1 from a link earlier (`ip6_rcv_core`).
fn guard<'a>() -> Rule<'a> {
    rule(GUARD, "loopback is for this host", |e| {
        e.interface_is_not(InterfaceIn, "lo");
        e.version(V4);
        e.within(Value::Destination(V4), &LOOPBACK, &LOOPBACK_MASK);
        e.verdict(Verdict::Drop);
    })
}

/// The keys of the two maps of published ports.
const fn published_key(version: Version) -> [Value; 3] {
    [
        Value::Protocol,
        Value::Destination(version),
        Value::DestinationPort,
    ]
}
const WILDCARD_KEY: [Value; 2] = [Value::Protocol, Value::DestinationPort];

/// Sends what is for a published port to its container; with a way back in only what comes by it.
fn redirections<'a>(chain: Chain, by: Option<&'a Reentry>) -> Vec<Rule<'a>> {
    let only = move |e: &mut Expressions<'_, '_>| {
        if let Some(reentry) = by {
            e.interface_is(InterfaceIn, reentry.inner());
        }
    };
    let mut rules = Vec::new();
    for version in [V4, V6] {
        rules.push(rule(chain, "ports published on one address", move |e| {
            only(e);
            e.version(version);
            e.find(&published_key(version), Which::Published(version).name());
            e.redirect(version);
        }));
        rules.push(rule(chain, "ports published on all addresses", move |e| {
            only(e);
            to_any_address(e, version);
            e.find(&WILDCARD_KEY, Which::Wildcard(version).name());
            e.redirect(version);
        }));
    }
    rules
}

/// Left out are link-local addresses, since the kernel forwards nothing that comes from one, and
/// ::1, to which it takes answers from the link `lo` only (`rt6_need_strict`).
fn to_any_address(e: &mut Expressions<'_, '_>, version: Version) {
    e.version(version);
    if version == V6 {
        e.outside(Value::Destination(V6), &LINK_LOCAL, &LINK_LOCAL_MASK);
        e.differs(Value::Destination(V6), &LOOPBACK6);
    }
    e.destination_is_local();
}

fn forward<'a>() -> Vec<Rule<'a>> {
    let accept = |comment, write: fn(&mut Expressions<'_, '_>)| {
        rule(FORWARD, comment, move |e| {
            write(e);
            e.verdict(Verdict::Accept);
        })
    };
    let drop = |comment, write: fn(&mut Expressions<'_, '_>)| {
        rule(FORWARD, comment, move |e| {
            write(e);
            e.verdict(Verdict::Drop);
        })
    };
    let mut rules = vec![
        accept("what has begun goes on", |e| e.holds(Value::Established)),
        accept("within a network", |e| {
            e.among(&[InterfaceIn, InterfaceOut], Which::Within.name());
        }),
        drop("nothing leaves an internal network", |e| {
            e.among(&[Value::Version, InterfaceIn], Which::Sealed.name());
        }),
        drop("nothing enters an internal network", |e| {
            e.among(&[Value::Version, InterfaceOut], Which::Sealed.name());
        }),
        accept("published ports", |e| {
            e.among(&[InterfaceOut], Which::Bridges.name());
            e.holds(Value::Redirected);
        }),
    ];
    for version in [V4, V6] {
        rules.push(rule(FORWARD, "open ports of routed networks", move |e| {
            e.version(version);
            let key = [
                InterfaceOut,
                Value::Protocol,
                Value::Destination(version),
                Value::DestinationPort,
            ];
            e.among(&key, Which::Open(version).name());
            e.verdict(Verdict::Accept);
        }));
        rules.push(rule(
            FORWARD,
            "errors and echoes of routed networks",
            move |e| {
                e.version(version);
                e.equals(
                    Value::Protocol,
                    &[if version == V4 { ICMP } else { ICMPV6 }],
                );
                e.among(&[Value::Version, InterfaceOut], Which::Routed.name());
                e.verdict(Verdict::Accept);
            },
        ));
    }
    rules.push(accept("unprotected networks", |e| {
        e.among(&[Value::Version, InterfaceOut], Which::Unprotected.name());
    }));
    rules.push(drop("nothing else into a network", |e| {
        e.among(&[InterfaceOut], Which::Bridges.name());
    }));
    rules
}

fn postrouting<'a>() -> Vec<Rule<'a>> {
    let mut rules = Vec::new();
    for version in [V4, V6] {
        // The answer must come back through the host to be rewritten; without this it would go
        // straight from container to container, from an address that the asker never asked.
        rules.push(rule(
            POSTROUTING,
            "a network to its own published ports",
            move |e| {
                e.version(version);
                let key = [InterfaceOut, Value::Source(version)];
                e.among(&key, Which::Networks(version).name());
                e.holds(Value::Redirected);
                e.masquerade();
            },
        ));
    }
    rules.push(rule(POSTROUTING, "loopback to a network", |e| {
        e.version(V4);
        e.within(Value::Source(V4), &LOOPBACK, &LOOPBACK_MASK);
        e.among(&[InterfaceOut], Which::Bridges.name());
        e.masquerade();
    }));
    rules.push(rule(
        POSTROUTING,
        "between networks nothing is rewritten",
        |e| {
            e.among(&[InterfaceOut], Which::Bridges.name());
            e.verdict(Verdict::Accept);
        },
    ));
    for version in [V4, V6] {
        rules.push(rule(
            POSTROUTING,
            "networks that leave with one address",
            move |e| {
                e.version(version);
                e.find(&[InterfaceIn], Which::Source(version).name());
                e.disguise(version);
            },
        ));
    }
    rules.push(rule(
        POSTROUTING,
        "networks that leave with the host's address",
        |e| {
            e.among(&[Value::Version, InterfaceIn], Which::Masquerade.name());
            e.masquerade();
        },
    ));
    rules
}

/// Has the host's own rules for incoming traffic decide on published ports.
///
/// New connections are not redirected but go up to the input hook. What arrives at its end was let
/// through by everybody; a copy goes out by one end of a veth pair, comes in by the other, and is
/// redirected. The original is dropped before it becomes a connection. All later packets follow the
/// connection that the copy began.
fn host_firewall<'a>(reentry: &'a Reentry) -> Vec<Rule<'a>> {
    let mut rules = vec![
        rule(READMIT, "the mark has done its duty", |e| {
            e.interface_is(InterfaceIn, reentry.inner());
            e.set_mark(0);
        }),
        // else it would go round until its time to live ends
        rule(CLAIM, "a port that was unpublished meanwhile", |e| {
            e.interface_is(InterfaceIn, reentry.inner());
            e.verdict(Verdict::Drop);
        }),
        rule(CLAIM, "what has begun goes on", |e| {
            e.holds(Value::Established);
            e.verdict(Verdict::Accept);
        }),
        rule(CLAIM, "this host's own connections", |e| {
            e.interface_is(InterfaceIn, "lo");
            e.verdict(Verdict::Accept);
        }),
    ];
    for version in [V4, V6] {
        rules.push(rule(CLAIM, "ports published on one address", move |e| {
            e.version(version);
            e.find(&published_key(version), Which::Published(version).name());
            e.set_mark(reentry.mark());
            e.verdict(Verdict::Accept);
        }));
        rules.push(rule(CLAIM, "ports published on all addresses", move |e| {
            to_any_address(e, version);
            e.find(&WILDCARD_KEY, Which::Wildcard(version).name());
            e.set_mark(reentry.mark());
            e.verdict(Verdict::Accept);
        }));
    }
    for chain in [REENTER4, REENTER6] {
        if chain.family == Family::Ipv6 && !reentry.v6() {
            continue;
        }
        rules.push(rule(chain, "let through to a published port", move |e| {
            e.equals(Value::Mark, &reentry.mark().to_ne_bytes());
            e.duplicate(reentry.neighbour(chain.family), reentry.outer());
            e.verdict(Verdict::Drop);
        }));
    }
    rules
}

/// Has frames from a container's port carry the container's addresses only.
fn senders<'a>() -> Vec<Rule<'a>> {
    let mut rules = vec![
        rule(SENDERS, "ports of others", |e| {
            e.not_among(&[InterfaceIn], Which::Ports.name());
            e.verdict(Verdict::Accept);
        }),
        rule(SENDERS, "an honest sender", |e| {
            e.equals(Value::FrameType, &ETHERTYPE_IP);
            let key = [InterfaceIn, Value::EthernetSource, Value::Source(V4)];
            e.among(&key, Which::Senders(V4).name());
            e.verdict(Verdict::Accept);
        }),
        rule(SENDERS, "the Ethernet address of another", |e| {
            e.not_among(&[InterfaceIn, Value::EthernetSource], Which::Macs.name());
            e.verdict(Verdict::Drop);
        }),
        rule(SENDERS, "the IPv4 address of another", |e| {
            e.equals(Value::FrameType, &ETHERTYPE_IP);
            e.verdict(Verdict::Drop);
        }),
    ];
    rules.extend(senders_of_arp());
    rules.extend(senders_of_ipv6());
    rules
}

fn senders_of_arp<'a>() -> Vec<Rule<'a>> {
    vec![
        rule(SENDERS, "ARP for the Ethernet address of another", |e| {
            e.equals(Value::FrameType, &ETHERTYPE_ARP);
            e.not_among(&[InterfaceIn, Value::ArpSourceMac], Which::Macs.name());
            e.verdict(Verdict::Drop);
        }),
        // RFC 5227: the probe for an address has the sender 0.0.0.0
        rule(SENDERS, "ARP probes", |e| {
            e.equals(Value::FrameType, &ETHERTYPE_ARP);
            e.equals(Value::ArpSource, &[0; 4]);
            e.verdict(Verdict::Accept);
        }),
        rule(SENDERS, "ARP for the address of another", |e| {
            e.equals(Value::FrameType, &ETHERTYPE_ARP);
            let key = [InterfaceIn, Value::ArpSourceMac, Value::ArpSource];
            e.not_among(&key, Which::Senders(V4).name());
            e.verdict(Verdict::Drop);
        }),
    ]
}

fn senders_of_ipv6<'a>() -> Vec<Rule<'a>> {
    let control = |e: &mut Expressions<'_, '_>, message: u8| {
        e.equals(Value::FrameType, &ETHERTYPE_IPV6);
        e.equals(Value::Protocol, &[ICMPV6]);
        e.equals(Value::MessageType, &[message]);
    };
    let target_key = [InterfaceIn, Value::EthernetSource, Value::NeighbourTarget];
    let unspecified: [u8; 16] = [0; 16];
    let mut rules = Vec::new();
    // CVE-2020-13401: a container as the host's router
    for (comment, message) in [
        ("containers are no routers", ROUTER_ADVERTISEMENT),
        ("containers redirect nobody", REDIRECT),
    ] {
        rules.push(rule(SENDERS, comment, move |e| {
            control(e, message);
            e.verdict(Verdict::Drop);
        }));
    }
    rules.extend([
        rule(SENDERS, "advertising the address of another", move |e| {
            control(e, NEIGHBOUR_ADVERTISEMENT);
            e.not_among(&target_key, Which::Senders(V6).name());
            e.verdict(Verdict::Drop);
        }),
        // RFC 4862, 5.4: without an address yet, is this one free?
        rule(SENDERS, "claiming the address of another", move |e| {
            control(e, NEIGHBOUR_SOLICITATION);
            e.equals(Value::Source(V6), &unspecified);
            e.not_among(&target_key, Which::Senders(V6).name());
            e.verdict(Verdict::Drop);
        }),
        rule(SENDERS, "not yet an IPv6 address", move |e| {
            e.equals(Value::FrameType, &ETHERTYPE_IPV6);
            e.equals(Value::Protocol, &[ICMPV6]);
            e.equals(Value::Source(V6), &unspecified);
            e.verdict(Verdict::Accept);
        }),
        rule(SENDERS, "the IPv6 address of another", |e| {
            e.equals(Value::FrameType, &ETHERTYPE_IPV6);
            let key = [InterfaceIn, Value::EthernetSource, Value::Source(V6)];
            e.not_among(&key, Which::Senders(V6).name());
            e.verdict(Verdict::Drop);
        }),
    ]);
    rules
}
