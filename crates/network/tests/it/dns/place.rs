//! Where the resolver is: beside programs that want port 53, without connection tracking, out of
//! reach of neighbours, and back after its engine.

use std::net::{TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

use hickory_proto::rr::RecordType;
use sys::netns;

use super::lab::{Dns, addresses, entry, question};
use crate::lab::{path, run, within};

#[test]
fn a_program_inside_may_have_port_53() {
    Dns::run(|dns| {
        dns.insert("e1", entry(&["web"], &["10.1.0.2"], "web.net"));
        let (udp, _tcp) = within(&dns.container, || {
            let udp = UdpSocket::bind("0.0.0.0:53").unwrap();
            (udp, TcpListener::bind("0.0.0.0:53").unwrap())
        });
        assert_eq!(addresses(&dns.ask("web", RecordType::A)), ["10.1.0.2"]);
        assert_eq!(
            addresses(&dns.ask_tcp("web", RecordType::A).unwrap()),
            ["10.1.0.2"]
        );
        // and is asked itself where it is meant
        let client = within(&dns.container, || UdpSocket::bind("127.0.0.1:0").unwrap());
        client.send_to(b"hello", "127.0.0.1:53").unwrap();
        udp.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        assert_eq!(udp.recv(&mut [0; 16]).unwrap(), 5);
    });
}

#[test]
fn connections_are_not_tracked() {
    Dns::run(|dns| {
        let count = || {
            within(&dns.container, || {
                std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count").unwrap()
            })
        };
        dns.insert("e1", entry(&["web"], &["10.1.0.2"], "web.net"));
        dns.ask("web", RecordType::A);
        dns.ask_tcp("web", RecordType::A).unwrap();
        dns.ask("a.example", RecordType::A);
        assert_eq!(count().trim(), "0");
        let rules = within(&dns.container, || run("nft", "list ruleset"));
        assert!(!rules.contains("ct ") && !rules.contains("nat"), "{rules}");
        assert!(rules.contains("udp dport set"), "{rules}");
    });
}

/// Where the container's own rules track connections, they see whole ones.
#[test]
fn a_stateful_firewall_inside_lets_answers_in() {
    Dns::run(|dns| {
        dns.insert("e1", entry(&["web"], &["10.1.0.2"], "web.net"));
        within(&dns.container, || {
            for rule in [
                "add table inet own",
                "add chain inet own in { type filter hook input priority 0; policy drop; }",
                "add rule inet own in ct state established accept",
                "add rule inet own in udp dport != 53 ct state new accept",
                "add rule inet own in tcp dport != 53 ct state new accept",
            ] {
                run("nft", rule);
            }
        });
        assert_eq!(addresses(&dns.ask("web", RecordType::A)), ["10.1.0.2"]);
        assert_eq!(
            addresses(&dns.ask_tcp("web", RecordType::A).unwrap()),
            ["10.1.0.2"]
        );
    });
}

#[test]
fn a_new_engine_takes_the_place_of_the_old() {
    Dns::run(|dns| {
        dns.insert("e1", entry(&["web"], &["10.1.0.2"], "web.net"));
        let old = within(&dns.container, || run("nft", "list table inet gorae"));
        // the guard of an engine that was killed is never dropped
        let killed = dns.guard.take().unwrap();
        let fresh = dns
            .server
            .serve(dns.container.as_fd(), dns.scope.clone())
            .unwrap();
        let new = within(&dns.container, || run("nft", "list table inet gorae"));
        assert_eq!(new.lines().count(), old.lines().count());
        assert_ne!(new, old);
        assert_eq!(addresses(&dns.ask("web", RecordType::A)), ["10.1.0.2"]);
        drop(fresh);
        assert_eq!(within(&dns.container, || run("nft", "list tables")), "");
        drop(killed);
        dns.guard = Some(
            dns.server
                .serve(dns.container.as_fd(), dns.scope.clone())
                .unwrap(),
        );
        assert_eq!(addresses(&dns.ask("web", RecordType::A)), ["10.1.0.2"]);
    });
}

#[test]
fn a_neighbour_is_not_answered() {
    Dns::run(|dns| {
        dns.insert("e1", entry(&["web"], &["10.1.0.2"], "web.net"));
        let neighbour = netns::create().unwrap();
        let other = path(&neighbour);
        within(&dns.container, || {
            run(
                "ip",
                &format!("link add eth0 type veth peer name eth0 netns {other}"),
            );
            run("ip", "addr add 10.1.0.2/24 dev eth0");
            run("ip", "link set eth0 up");
            for setting in ["all/route_localnet", "eth0/route_localnet"] {
                std::fs::write(format!("/proc/sys/net/ipv4/conf/{setting}"), "1").unwrap();
            }
        });
        let socket = within(&neighbour, || {
            run("ip", "addr add 10.1.0.3/24 dev eth0");
            run("ip", "link set eth0 up");
            for setting in ["all/route_localnet", "eth0/route_localnet"] {
                std::fs::write(format!("/proc/sys/net/ipv4/conf/{setting}"), "1").unwrap();
            }
            run(
                "ip",
                "route add table 7 default via 10.1.0.2 dev eth0 onlink",
            );
            run("ip", "rule add pref 0 to 127.0.0.0/8 lookup 7");
            run("ip", "rule del pref 0 lookup local");
            run("ip", "rule add pref 9 lookup local");
            UdpSocket::bind("10.1.0.3:0").unwrap()
        });
        let port = within(&dns.container, || {
            let rules = run("nft", "list chain inet gorae questions");
            let (_, rest) = rules.split_once("udp dport set ").unwrap();
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            digits.parse::<u16>().unwrap()
        });
        socket
            .set_read_timeout(Some(Duration::from_millis(400)))
            .unwrap();
        // the way is open: a program that listens at all addresses is reached
        let open = within(&dns.container, || UdpSocket::bind("0.0.0.0:7777").unwrap());
        open.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        socket.send_to(b"hello", "127.0.0.11:7777").unwrap();
        assert_eq!(open.recv(&mut [0; 16]).unwrap(), 5);
        for port in [port, 53] {
            socket
                .send_to(&question(1, "web", RecordType::A), ("127.0.0.11", port))
                .unwrap();
            assert!(socket.recv(&mut [0; 512]).is_err(), "port {port}");
        }
        assert_eq!(addresses(&dns.ask("web", RecordType::A)), ["10.1.0.2"]);
    });
}
