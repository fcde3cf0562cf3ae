//! The host's own firewall has the last word on published ports, if that is the policy.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use network::{Firewall, PortMapping, Protocol, PublishPolicy, Rules, Zone};

use crate::lab::{TABLE, run, sysctl};
use crate::world::{Machine, PATIENCE, ask, guest, in_the_world, ip, mapping, network, silent};

const OPEN: u16 = 8080;
const SHUT: u16 = 8081;
const BOTH: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];

/// What hosts have: `nft` rules of their own, and what iptables makes of its rules.
const HOSTS: [&str; 2] = [
    "table inet filter {
        chain input {
            type filter hook input priority filter; policy drop;
            ct state established,related accept
            iif lo accept
            meta l4proto { icmp, ipv6-icmp } accept
            tcp dport 8080 accept
            udp dport 8080 accept
        }
    }",
    "table ip filter {
        chain allowed { tcp dport 8080 counter accept; udp dport 8080 counter accept; }
        chain INPUT {
            type filter hook input priority filter; policy drop;
            iifname lo counter accept
            ct state related,established counter accept
            counter jump allowed
        }
    }
    table ip6 filter {
        chain allowed { tcp dport 8080 counter accept; udp dport 8080 counter accept; }
        chain INPUT {
            type filter hook input priority filter; policy drop;
            iifname lo counter accept
            ct state related,established counter accept
            meta l4proto ipv6-icmp counter accept
            counter jump allowed
        }
    }",
];

fn load(rules: &str) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, rules.as_bytes()).unwrap();
    run("nft", &format!("-f {}", file.path().display()));
}

fn ports(to: &Machine) -> Vec<PortMapping> {
    let mut ports = Vec::new();
    for protocol in BOTH {
        for port in [OPEN, SHUT] {
            ports.push(mapping(protocol, "0.0.0.0", port, to.v4()));
            ports.push(mapping(protocol, "::", port, to.v6()));
        }
    }
    ports
}

fn firewall(policy: PublishPolicy, zones: Vec<Zone>, guests: &[&Machine]) -> Firewall {
    let rules = Rules {
        zones,
        members: guests.iter().map(|guest| guest.member()).collect(),
        published: ports(guests[0]),
        open: Vec::new(),
    };
    Firewall::ensure(TABLE, policy, rules).unwrap()
}

const ADDRESSES: [&str; 2] = ["10.9.0.1", "fd09::1"];

fn own(machine: &Machine, like: &str) -> IpAddr {
    if like.contains(':') {
        machine.v6()
    } else {
        machine.v4()
    }
}

#[test]
fn as_docker_does_the_hosts_rules_are_passed_by() {
    in_the_world(|outside| {
        let zone = network(1);
        let web = guest(1, 2);
        load(HOSTS[0]);
        let _firewall = firewall(PublishPolicy::Docker, vec![zone], &[&web]);
        for (protocol, host) in BOTH
            .into_iter()
            .flat_map(|p| ADDRESSES.map(|host| (p, host)))
        {
            for port in [OPEN, SHUT] {
                let seen = outside.asks(protocol, ip(host), port);
                assert_eq!(seen, Some(own(outside, host)), "{protocol} {host} {port}");
            }
        }
    });
}

#[test]
fn the_hosts_rules_decide_and_the_address_is_kept_and_nobody_waits() {
    for host_rules in HOSTS {
        in_the_world(|outside| {
            sysctl("ipv4/conf/all/rp_filter", "1");
            let zones = vec![network(1), network(2)];
            let (web, same, other) = (guest(1, 2), guest(1, 3), guest(2, 2));
            load(host_rules);
            let firewall = firewall(PublishPolicy::HostFirewall, zones, &[&web, &same, &other]);
            for (protocol, host) in BOTH
                .into_iter()
                .flat_map(|p| ADDRESSES.map(|host| (p, host)))
            {
                // what is lost at first is sent again after a second; a busy machine may be slow once or twice
                let is_quick = (0..10).any(|_| {
                    let begin = Instant::now();
                    let seen = outside.asks(protocol, ip(host), OPEN);
                    assert_eq!(seen, Some(own(outside, host)), "{protocol} to {host}");
                    begin.elapsed() < Duration::from_millis(900)
                });
                assert!(is_quick, "{protocol} to {host} waits");
                assert!(outside.inside(|| silent(protocol, ip(host), SHUT)));
                // so it does on containers
                let seen = other.asks(protocol, ip(host), OPEN);
                assert_eq!(
                    seen,
                    Some(own(&other, host)),
                    "{protocol} to {host} from a network"
                );
                assert!(other.inside(|| silent(protocol, ip(host), SHUT)));
                let gateway = if host.contains(':') {
                    "fd20:1::1"
                } else {
                    "172.20.1.1"
                };
                for asker in [&same, &web] {
                    let seen = asker.asks(protocol, ip(host), OPEN);
                    assert_eq!(seen, Some(ip(gateway)), "{protocol} to {host}, hairpin");
                }
                // but not on the host itself
                for port in [OPEN, SHUT] {
                    assert!(ask(protocol, SocketAddr::new(ip(host), port)).is_some());
                }
            }
            assert!(!firewall.restore().unwrap());
            run("nft", "flush ruleset");
            assert!(firewall.restore().unwrap());
            assert!(
                outside.asks(Protocol::Tcp, ip("10.9.0.1"), SHUT).is_some(),
                "no rules"
            );
            firewall.destroy().unwrap();
            assert_eq!(run("nft", "list tables"), "");
            assert!(!run("ip", "-o link").contains("gorae-in"));
            assert!(!run("ip", "-6 rule").contains("fwmark"));
        });
    }
}

#[test]
fn a_host_that_checks_ipv6_senders_as_firewalld_does_is_no_obstacle() {
    in_the_world(|outside| {
        let zone = network(1);
        let web = guest(1, 2);
        load(
            "table inet firewalld {
                chain filter_PREROUTING {
                    type filter hook prerouting priority raw + 10; policy accept;
                    icmpv6 type { nd-router-advert, nd-neighbor-solicit } accept
                    meta nfproto ipv6 fib saddr . mark . iif oif missing drop
                }
                chain filter_INPUT {
                    type filter hook input priority filter + 10; policy accept;
                    ct state { established, related } accept
                    ct status dnat accept
                    iifname lo accept
                    meta l4proto { icmp, ipv6-icmp } accept
                    th dport 8080 accept
                    ct state invalid drop
                    reject with icmpx admin-prohibited
                }
                chain filter_FORWARD {
                    type filter hook forward priority filter + 10; policy accept;
                    ct state { established, related } accept
                    ct status dnat accept
                    ct state invalid drop
                    reject with icmpx admin-prohibited
                }
            }",
        );
        let _firewall = firewall(PublishPolicy::HostFirewall, vec![zone], &[&web]);
        for (protocol, host) in BOTH
            .into_iter()
            .flat_map(|p| ADDRESSES.map(|host| (p, host)))
        {
            let seen = outside.asks(protocol, ip(host), OPEN);
            assert_eq!(seen, Some(own(outside, host)), "{protocol} to {host}");
            assert!(outside.inside(|| silent(protocol, ip(host), SHUT)));
        }
    });
}

#[test]
fn flows_of_udp_go_on_whatever_their_size() {
    in_the_world(|outside| {
        let zone = network(1);
        let web = guest(1, 2);
        load(HOSTS[0]);
        let _firewall = firewall(PublishPolicy::HostFirewall, vec![zone], &[&web]);
        for (host, size) in [("10.9.0.1", 10), ("10.9.0.1", 3000), ("fd09::1", 10)] {
            outside.inside(|| {
                let any = if host.contains(':') { "::" } else { "0.0.0.0" };
                let socket = UdpSocket::bind((ip(any), 0)).unwrap();
                socket.connect((ip(host), OPEN)).unwrap();
                socket.set_read_timeout(Some(PATIENCE)).unwrap();
                for turn in 0..5 {
                    socket.send(&vec![0; size]).unwrap();
                    let answer = socket.recv(&mut [0; 64]);
                    assert!(
                        answer.is_ok(),
                        "{host}, {size} bytes, turn {turn}: {answer:?}"
                    );
                }
            });
        }
    });
}

#[test]
fn what_the_hosts_rules_let_through_is_no_endless_journey() {
    in_the_world(|outside| {
        let zone = network(1);
        let web = guest(1, 2);
        let firewall = firewall(PublishPolicy::HostFirewall, vec![zone], &[&web]);
        // redirection is broken: the copy must not be copied again
        run("nft", "flush chain inet gorae prerouting");
        load(
            "table inet watch { chain again {
                type filter hook prerouting priority raw - 10; policy accept;
                iifname gorae-in udp dport 8080 counter
            }
            }",
        );
        assert!(outside.inside(|| silent(Protocol::Udp, ip("10.9.0.1"), OPEN)));
        let counted = run("nft", "list table inet watch");
        assert!(counted.contains("counter packets 1 "), "{counted}");
        assert!(firewall.restore().unwrap());
    });
}
