//! Containers that pretend to be somebody else.
//!
//! A container with raw sockets sends what frames it likes. Here a rule at the very entry of its
//! port (family netdev, before the bridge) rewrites honest frames into such, and a rule at the
//! victim's link counts what arrives.

use std::net::{SocketAddr, UdpSocket};

use network::{Firewall, Protocol, PublishPolicy, Rules};

use crate::lab::{TABLE, run, sysctl};
use crate::world::{Machine, PATIENCE, SERVICE, ask_within, guest, in_the_world, ip, network};

const NEIGHBOUR: &str = "172.20.1.4";
const NEIGHBOUR_MAC: &str = "02:42:ac:14:01:04";

/// What the attacker does, how it is disguised, and how the victim would see it.
struct Attack {
    name: &'static str,
    disguise: &'static str,
    trigger: fn(&Machine),
    mark: &'static str,
}

fn datagram(to: &str) {
    let any = if to.contains(':') { "::" } else { "0.0.0.0" };
    let socket = UdpSocket::bind((ip(any), 0)).unwrap();
    let target = SocketAddr::new(ip(to), SERVICE);
    let _refused = socket.send_to(b"hello", target);
}

fn ipv4(attacker: &Machine) {
    attacker.inside(|| datagram("172.20.1.3"));
}

fn ipv6(attacker: &Machine) {
    attacker.inside(|| datagram("fd20:1::3"));
}

/// Has the attacker ask for the victim's Ethernet address.
fn arp(attacker: &Machine) {
    attacker.inside(|| {
        run("ip", "neigh flush dev eth0");
        datagram("172.20.1.3");
    });
}

/// Has the attacker ask for and, being asked back, advertise an address.
fn neighbour_discovery(attacker: &Machine) {
    attacker.inside(|| {
        run("ip", "-6 neigh flush dev eth0");
        datagram("fd20:1::3");
    });
}

/// Has the attacker look whether an address of its neighbour's is free.
fn claim(attacker: &Machine) {
    attacker.inside(|| {
        sysctl("ipv6/conf/eth0/accept_dad", "1");
        // the kernel waits for up to so many seconds before the first question
        sysctl("ipv6/conf/eth0/router_solicitation_delay", "0");
        run("ip", "addr add fd20:1::4/64 dev eth0");
    });
}

const ATTACKS: [Attack; 11] = [
    Attack {
        name: "the IPv4 address of a neighbour",
        disguise: "ip saddr set 172.20.1.4",
        trigger: ipv4,
        mark: "ip saddr 172.20.1.4",
    },
    Attack {
        name: "any IPv4 address",
        disguise: "ip saddr set 8.8.8.8",
        trigger: ipv4,
        mark: "ip saddr 8.8.8.8",
    },
    Attack {
        name: "the Ethernet address of a neighbour",
        disguise: "ether saddr set 02:42:ac:14:01:04",
        trigger: ipv4,
        mark: "ether saddr 02:42:ac:14:01:04 ip saddr 172.20.1.2",
    },
    Attack {
        name: "an Ethernet address of nobody, for ARP",
        disguise: "ether type arp ether saddr set 02:00:00:00:00:99",
        trigger: arp,
        mark: "ether saddr 02:00:00:00:00:99",
    },
    Attack {
        name: "ARP for a neighbour's address",
        disguise: "arp saddr ip set 172.20.1.4",
        trigger: arp,
        mark: "arp saddr ip 172.20.1.4",
    },
    Attack {
        name: "an ARP reply for a neighbour's address",
        disguise: "arp operation set reply arp saddr ip set 172.20.1.4",
        trigger: arp,
        mark: "arp operation reply arp saddr ip 172.20.1.4",
    },
    Attack {
        name: "ARP for a neighbour's Ethernet address",
        disguise: "arp saddr ether set 02:42:ac:14:01:04",
        trigger: arp,
        mark: "arp saddr ether 02:42:ac:14:01:04",
    },
    Attack {
        name: "the IPv6 address of a neighbour",
        disguise: "ip6 nexthdr udp ip6 saddr set fd20:1::4",
        trigger: ipv6,
        mark: "ip6 saddr fd20:1::4",
    },
    Attack {
        name: "an advertisement of a neighbour's address",
        disguise: "icmpv6 type nd-neighbor-solicit icmpv6 type set nd-neighbor-advert \
                   @th,64,128 set 0xfd200001000000000000000000000004",
        trigger: neighbour_discovery,
        mark: "icmpv6 type nd-neighbor-advert @th,64,128 0xfd200001000000000000000000000004",
    },
    Attack {
        name: "the advertisement of a router",
        disguise: "icmpv6 type nd-neighbor-solicit icmpv6 type set nd-router-advert",
        trigger: neighbour_discovery,
        mark: "icmpv6 type nd-router-advert",
    },
    Attack {
        name: "the claim that a neighbour's address is free",
        disguise: "counter",
        trigger: claim,
        mark: "ip6 saddr :: icmpv6 type nd-neighbor-solicit \
               @th,64,128 0xfd200001000000000000000000000004",
    },
];

/// Loads a chain with one rule at the entry of a link.
fn at_the_entry(link: &str, rule: &str) {
    run("nft", "add table netdev watch");
    run(
        "nft",
        &format!(
            "add chain netdev watch entry {{ type filter hook ingress device {link} priority 0 ; }}"
        ),
    );
    run("nft", &format!("add rule netdev watch entry {rule}"));
}

fn counted(victim: &Machine) -> u64 {
    let text = victim.inside(|| run("nft", "list table netdev watch"));
    let number = text.split("packets ").nth(1).unwrap();
    number.split(' ').next().unwrap().parse().unwrap()
}

/// Runs an attack; returns how many frames of it reached the victim.
fn attack(attack: &Attack, checked: bool) -> u64 {
    let mut arrived = 0;
    in_the_world(|_| {
        let zone = network(1);
        run("ip", "link set br1 type bridge mcast_snooping 0");
        let (attacker, victim, neighbour) = (guest(1, 2), guest(1, 3), guest(1, 4));
        assert_eq!(neighbour.mac().to_string(), NEIGHBOUR_MAC);
        assert_eq!(neighbour.v4(), ip(NEIGHBOUR));
        let guests = [&attacker, &victim, &neighbour];
        let members = guests
            .iter()
            .filter(|_| checked)
            .map(|guest| guest.member());
        let rules = Rules {
            zones: vec![zone],
            members: members.collect(),
            ..Rules::default()
        };
        let _firewall = Firewall::ensure(TABLE, PublishPolicy::Docker, rules).unwrap();
        for address in ["172.20.1.3", "fd20:1::3"] {
            let target = SocketAddr::new(ip(address), SERVICE);
            let honest = attacker.inside(|| ask_within(Protocol::Udp, target, PATIENCE));
            assert!(honest.is_some(), "{address} before {}", attack.name);
        }
        at_the_entry(&attacker.port, attack.disguise);
        victim.inside(|| at_the_entry("eth0", &format!("{} counter", attack.mark)));
        (attack.trigger)(&attacker);
        std::thread::sleep(std::time::Duration::from_millis(300));
        arrived = counted(&victim);
    });
    arrived
}

#[test]
fn nobody_takes_the_place_of_another() {
    for one in &ATTACKS {
        assert!(
            attack(one, false) > 0,
            "{}: the test does test it",
            one.name
        );
        assert_eq!(attack(one, true), 0, "{}", one.name);
    }
}

#[test]
fn honest_frames_pass() {
    in_the_world(|_| {
        let zone = network(1);
        run("ip", "link set br1 type bridge mcast_snooping 0");
        let (a, b) = (guest(1, 2), guest(1, 3));
        let rules = Rules {
            zones: vec![zone],
            members: vec![a.member(), b.member()],
            ..Rules::default()
        };
        let firewall = Firewall::ensure(TABLE, PublishPolicy::Docker, rules).unwrap();
        let sees = |mark: &str, trigger: &dyn Fn()| {
            b.inside(|| at_the_entry("eth0", &format!("{mark} counter")));
            trigger();
            std::thread::sleep(std::time::Duration::from_millis(300));
            assert!(counted(&b) > 0, "{mark}");
            b.inside(|| run("nft", "delete table netdev watch"));
        };
        // duplicate address detection, of an own address and the link-local one
        sees(
            "ip6 saddr :: icmpv6 type nd-neighbor-solicit @th,64,128 0xfd200001000000000000000000000002",
            &|| {
                a.inside(|| {
                    sysctl("ipv6/conf/eth0/accept_dad", "1");
                    // the kernel waits for up to so many seconds before the first question
                    sysctl("ipv6/conf/eth0/router_solicitation_delay", "0");
                    run("ip", "addr del fd20:1::2/64 dev eth0");
                    run("ip", "addr add fd20:1::2/64 dev eth0");
                });
            },
        );
        sees("ip6 nexthdr hopopt", &|| {
            a.inside(|| {
                let socket = UdpSocket::bind((ip("::"), 0)).unwrap();
                let group = "ff05::1234".parse().unwrap();
                socket.join_multicast_v6(&group, 0).unwrap();
            });
        });
        sees(
            "ip6 saddr fe80::/10 icmpv6 type nd-neighbor-solicit",
            &|| {
                a.inside(|| {
                    run("ip", "-6 neigh flush dev eth0");
                    let scope = run("ip", "-o link show eth0");
                    let index = scope.split(':').next().unwrap().parse().unwrap();
                    let socket = UdpSocket::bind((ip("::"), 0)).unwrap();
                    let neighbour = b.link_local();
                    let target = std::net::SocketAddrV6::new(neighbour, SERVICE, 0, index);
                    socket.send_to(b"hello", target).unwrap();
                });
            },
        );
        sees("arp saddr ip 0.0.0.0", &|| {
            at_the_entry(&a.port, "arp saddr ip set 0.0.0.0");
            arp(&a);
            run("nft", "delete table netdev watch");
        });
        // and who is no member may do what he likes
        firewall
            .remove(&Rules {
                members: vec![a.member()],
                ..Rules::default()
            })
            .unwrap();
        sees("ip saddr 8.8.8.8", &|| {
            at_the_entry(&a.port, "ip saddr set 8.8.8.8");
            ipv4(&a);
            run("nft", "delete table netdev watch");
        });
    });
}
