//! The resolver of a container, with name servers that behave and some that do not.

mod faults;
mod lab;
mod place;

use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{RData, RecordType};
use network::{ScopeState, Upstream};

use lab::{Dns, entry, question};

#[test]
fn names_are_answered_from_memory() {
    Dns::run(|dns| {
        dns.insert("e1", entry(&["web", "w1"], &["10.1.0.2"], "web.net"));
        dns.insert(
            "e2",
            entry(&["db", "w1"], &["10.1.0.3", "fd00::3"], "db.net"),
        );
        for name in ["web", "WEB", "web.", "web.net"] {
            let answer = dns.ask(name, RecordType::A);
            assert_eq!(lab::addresses(&answer), ["10.1.0.2"], "{name}");
            assert_eq!(answer.answers[0].ttl, 600);
            assert!(answer.metadata.recursion_available && !answer.metadata.authoritative);
        }
        assert_eq!(
            lab::addresses(&dns.ask("db", RecordType::AAAA)),
            ["fd00::3"]
        );
        let mut both = lab::addresses(&dns.ask("w1", RecordType::A));
        both.sort();
        assert_eq!(both, ["10.1.0.2", "10.1.0.3"]);
        for (name, kind) in [
            ("web", RecordType::AAAA),
            ("web", RecordType::TXT),
            ("db", RecordType::MX),
        ] {
            let answer = dns.ask(name, kind);
            assert_eq!(
                answer.metadata.response_code,
                ResponseCode::NoError,
                "{name} {kind}"
            );
            assert!(answer.answers.is_empty(), "{name} {kind}");
        }
        let answer = dns.ask("3.0.1.10.in-addr.arpa", RecordType::PTR);
        let RData::PTR(name) = &answer.answers[0].data else {
            panic!("{answer:?}");
        };
        assert_eq!(name.0.to_ascii(), "db.net.");
        assert_eq!(dns.upstream.seen(), Vec::<String>::new());
        assert_eq!(
            lab::addresses(&dns.ask_tcp("web", RecordType::A).unwrap()),
            ["10.1.0.2"]
        );
    });
}

#[test]
fn answers_come_in_any_order() {
    Dns::run(|dns| {
        for last in 2..5 {
            let address = format!("10.1.0.{last}");
            dns.insert(&address, entry(&["web"], &[&address], ""));
        }
        let firsts: std::collections::BTreeSet<String> = (0..100)
            .map(|_| lab::addresses(&dns.ask("web", RecordType::A)).remove(0))
            .collect();
        assert_eq!(firsts.len(), 3);
    });
}

#[test]
fn other_names_are_asked_for_upstream_from_ports_that_change() {
    Dns::run(|dns| {
        for number in 0..20 {
            let name = format!("n{number}.example");
            assert_eq!(lab::addresses(&dns.ask(&name, RecordType::A)), ["9.9.9.9"]);
        }
        let answer = dns.ask("nx.example", RecordType::A);
        assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
        // single labels too, as with Docker
        assert_eq!(
            lab::addresses(&dns.ask("unknown", RecordType::A)),
            ["9.9.9.9"]
        );
        let ports: std::collections::BTreeSet<u16> = dns.upstream.ports().into_iter().collect();
        assert!(ports.len() > 15, "{ports:?}");
    });
}

#[test]
fn single_labels_stay_where_ndots_is_set() {
    Dns::run(|dns| {
        dns.set(ScopeState {
            keep_single_labels: true,
            ..dns.state()
        });
        for kind in [RecordType::A, RecordType::AAAA] {
            let answer = dns.ask("unknown", kind);
            assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
            assert!(answer.answers.is_empty());
        }
        assert_eq!(dns.upstream.seen(), Vec::<String>::new());
        dns.ask("unknown", RecordType::TXT);
        dns.ask("a.b", RecordType::A);
        assert_eq!(dns.upstream.seen(), ["unknown.", "a.b."]);
    });
}

#[test]
fn an_internal_network_asks_nobody() {
    Dns::run(|dns| {
        dns.insert("e1", entry(&["web"], &["10.1.0.2"], "web.net"));
        dns.set(ScopeState {
            upstream: Upstream::None,
            ..dns.state()
        });
        assert_eq!(lab::addresses(&dns.ask("web", RecordType::A)), ["10.1.0.2"]);
        for (name, kind) in [
            ("a.example", RecordType::A),
            ("9.0.1.10.in-addr.arpa", RecordType::PTR),
        ] {
            let answer = dns.ask(name, kind);
            assert_eq!(
                answer.metadata.response_code,
                ResponseCode::ServFail,
                "{name}"
            );
            let answer = dns.ask_tcp(name, kind).unwrap();
            assert_eq!(
                answer.metadata.response_code,
                ResponseCode::ServFail,
                "{name}"
            );
        }
        assert_eq!(dns.upstream.seen(), Vec::<String>::new());
    });
}

#[test]
fn a_link_is_seen_by_its_container_alone() {
    Dns::run(|dns| {
        dns.insert(
            "e1",
            entry(&["postgres-1"], &["10.1.0.7"], "postgres-1.net"),
        );
        dns.set(ScopeState {
            links: vec![("DB".to_owned(), "Postgres-1".to_owned())],
            ..dns.state()
        });
        assert_eq!(lab::addresses(&dns.ask("db", RecordType::A)), ["10.1.0.7"]);
        dns.set(dns.state());
        assert_eq!(lab::addresses(&dns.ask("db", RecordType::A)), ["9.9.9.9"]);
    });
}

#[test]
fn the_hosts_file_is_followed() {
    Dns::run(|dns| {
        let other = dns.upstream_at("127.0.0.54", |query| lab::reply(query, [8, 8, 8, 8]));
        let until_answered = |by: &str| {
            let end = Instant::now() + Duration::from_secs(60);
            while lab::addresses(&dns.ask("a.example", RecordType::A)) != [by] {
                assert!(Instant::now() < end, "still not {by}");
                std::thread::sleep(Duration::from_millis(20));
            }
        };
        until_answered("9.9.9.9");
        // in place, as dhclient does
        std::fs::write(dns.resolv_conf(), "nameserver 127.0.0.54\n").unwrap();
        until_answered("8.8.8.8");
        // by another file, as systemd-resolved and NetworkManager do
        let fresh = dns.resolv_conf().with_extension("new");
        std::fs::write(&fresh, "nameserver 127.0.0.53\n").unwrap();
        std::fs::rename(&fresh, dns.resolv_conf()).unwrap();
        until_answered("9.9.9.9");
        std::fs::remove_file(dns.resolv_conf()).unwrap();
        let fresh = dns.resolv_conf().with_extension("target");
        std::fs::write(&fresh, "nameserver 127.0.0.54\n").unwrap();
        std::os::unix::fs::symlink(&fresh, dns.resolv_conf()).unwrap();
        until_answered("8.8.8.8");
        assert!(!other.seen().is_empty());
    });
}

#[test]
fn given_servers_are_asked_from_inside() {
    Dns::run(|dns| {
        let inside = dns.upstream_inside("127.0.0.1");
        dns.set(ScopeState {
            upstream: Upstream::Given(vec!["127.0.0.1".parse().unwrap()]),
            ..dns.state()
        });
        assert_eq!(
            lab::addresses(&dns.ask("a.example", RecordType::A)),
            ["7.7.7.7"]
        );
        let answer = dns.ask_tcp("b.example", RecordType::A).unwrap();
        assert_eq!(lab::addresses(&answer), ["7.7.7.7"]);
        assert_eq!(inside.seen(), ["a.example.", "b.example."]);
        assert_eq!(dns.upstream.seen(), Vec::<String>::new());
        // our own address among them would only bring the question back
        dns.set(ScopeState {
            upstream: Upstream::Given(vec!["127.0.0.11".parse().unwrap()]),
            ..dns.state()
        });
        let answer = dns.ask("c.example", RecordType::A);
        assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    });
}

#[test]
fn bytes_that_are_no_question_are_answered_as_such() {
    Dns::run(|dns| {
        dns.insert("e1", entry(&["web"], &["10.1.0.2"], "web.net"));
        let good = question(7, "web", RecordType::A);
        let mut seed = 0x9e37_79b9_u32;
        let mut next = || {
            seed ^= seed << 13;
            seed ^= seed >> 17;
            seed ^= seed << 5;
            seed as usize
        };
        let socket = dns.socket();
        for _ in 0..5000 {
            let mut bytes = good.clone();
            for _ in 0..next() % 4 {
                let place = next() % bytes.len();
                bytes[place] = next().to_le_bytes()[0];
            }
            bytes.truncate(1 + next() % bytes.len());
            socket.send(&bytes).unwrap();
        }
        socket.send(&[0xff; 1400]).unwrap();
        assert_eq!(lab::addresses(&dns.ask("web", RecordType::A)), ["10.1.0.2"]);
        let answer = dns.ask_raw(&[0, 9, 0x28, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(
            (answer.metadata.id, answer.metadata.response_code),
            (9, ResponseCode::NotImp)
        );
        let answer = dns.ask_raw(&[0, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 12, 0, 1, 0, 1]);
        assert_eq!(
            (answer.metadata.id, answer.metadata.response_code),
            (9, ResponseCode::FormErr)
        );
    });
}
