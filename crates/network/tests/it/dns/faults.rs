//! Name servers that are dead, slow, lie, say too much, or lead back to us; clients that ask
//! without end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use network::{ScopeState, Upstream};

use super::lab::{
    Dns, addresses, client, entry, question, rand_id, read_frame, receive, reply, send_frame,
};

fn servers(dns: &Dns, list: &[&str]) {
    let lines: String = list
        .iter()
        .map(|server| format!("nameserver {server}\n"))
        .collect();
    std::fs::write(dns.resolv_conf(), lines).unwrap();
    std::thread::sleep(Duration::from_millis(300));
}

#[test]
fn a_dead_server_costs_a_second_once() {
    Dns::run(|dns| {
        let silent = dns.upstream_at("127.0.0.54", |_| Vec::new());
        servers(dns, &["127.0.0.54", "127.0.0.53"]);
        let start = Instant::now();
        assert_eq!(addresses(&dns.ask("a.example", RecordType::A)), ["9.9.9.9"]);
        let first = start.elapsed();
        assert!(
            (Duration::from_millis(900)..Duration::from_secs(2)).contains(&first),
            "{first:?}"
        );
        let start = Instant::now();
        assert_eq!(addresses(&dns.ask("b.example", RecordType::A)), ["9.9.9.9"]);
        assert!(
            start.elapsed() < Duration::from_millis(500),
            "{:?}",
            start.elapsed()
        );
        assert_eq!(silent.seen(), ["a.example."]);
    });
}

#[test]
fn a_question_fails_when_its_time_is_over() {
    Dns::run(|dns| {
        let silent = dns.upstream_at("127.0.0.54", |_| Vec::new());
        servers(dns, &["127.0.0.54"]);
        let start = Instant::now();
        let answer = dns.ask("a.example", RecordType::A);
        assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
        let time = start.elapsed();
        assert!(
            (Duration::from_millis(3900)..Duration::from_secs(5)).contains(&time),
            "{time:?}"
        );
        assert!(silent.seen().len() > 1, "a lost datagram is sent again");
    });
}

#[test]
fn nobody_there_is_known_at_once() {
    Dns::run(|dns| {
        servers(dns, &["127.0.0.77", "127.0.0.78"]);
        let start = Instant::now();
        let answer = dns.ask("a.example", RecordType::A);
        assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
        let answer = dns.ask_tcp("a.example", RecordType::A).unwrap();
        assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
        assert!(
            start.elapsed() < Duration::from_secs(1),
            "{:?}",
            start.elapsed()
        );
        servers(dns, &["127.0.0.77", "127.0.0.53"]);
        assert_eq!(addresses(&dns.ask("b.example", RecordType::A)), ["9.9.9.9"]);
        assert_eq!(
            addresses(&dns.ask_tcp("c.example", RecordType::A).unwrap()),
            ["9.9.9.9"]
        );
    });
}

#[test]
fn a_server_that_fails_is_passed_by() {
    Dns::run(|dns| {
        let failing = dns.upstream_at("127.0.0.54", |query| {
            let mut reply = reply(query, [1, 1, 1, 1]);
            reply[3] |= if query[13] == b'r' { 5 } else { 2 };
            reply
        });
        servers(dns, &["127.0.0.54", "127.0.0.53"]);
        for name in ["servfail.example", "refused.example"] {
            assert_eq!(
                addresses(&dns.ask(name, RecordType::A)),
                ["9.9.9.9"],
                "{name}"
            );
        }
        assert_eq!(failing.seen().len(), 2);
        servers(dns, &["127.0.0.54"]);
        for name in ["servfail.example", "refused.example"] {
            let answer = dns.ask(name, RecordType::A);
            assert_eq!(
                answer.metadata.response_code,
                ResponseCode::ServFail,
                "{name}"
            );
            assert!(answer.answers.is_empty());
        }
    });
}

#[test]
fn lies_are_not_believed() {
    Dns::run(|dns| {
        let _liar = dns.upstream_at("127.0.0.54", |query| {
            let mut lie = reply(query, [6, 6, 6, 6]);
            match query[13] {
                b'i' => lie[0] ^= 0x55,
                b'q' => lie[14] ^= 1,
                b't' => lie[query.len() - 3] = 28,
                b'n' => lie[2] &= 0x7f,
                b's' => lie.truncate(11),
                _ => lie[5] = 0,
            }
            lie
        });
        servers(dns, &["127.0.0.54", "127.0.0.53"]);
        for name in ["id", "question", "type", "no-answer", "short", "header"] {
            let name = format!("{name}.example");
            assert_eq!(
                addresses(&dns.ask(&name, RecordType::A)),
                ["9.9.9.9"],
                "{name}"
            );
        }
    });
}

#[test]
fn a_stranger_is_not_believed() {
    Dns::run(|dns| {
        let silent = dns.upstream_at("127.0.0.54", |_| Vec::new());
        servers(dns, &["127.0.0.54"]);
        let socket = dns.socket();
        socket
            .send(&question(5, "a.example", RecordType::A))
            .unwrap();
        let stranger = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let end = Instant::now() + Duration::from_secs(2);
        while silent.ports().is_empty() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        let port = silent.ports()[0];
        for id in 0..=u16::MAX {
            let lie = reply(&question(id, "a.example", RecordType::A), [6, 6, 6, 6]);
            stranger.send_to(&lie, ("127.0.0.1", port)).ok();
        }
        let answer = receive(&socket).unwrap();
        assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    });
}

#[test]
fn a_long_answer_is_asked_for_again_by_tcp() {
    Dns::run(|dns| {
        let _long = dns.upstream_at("127.0.0.54", |query| {
            let mut long = reply(query, [1, 1, 1, 1]);
            let record = long[long.len() - 16..].to_vec();
            // the largest that a frame holds
            while long.len() + 16 <= 65535 {
                long.extend_from_slice(&record);
            }
            let count = u16::try_from((long.len() - query.len()) / 16).unwrap();
            long[6..8].copy_from_slice(&count.to_be_bytes());
            if query[13] == b'u' {
                long.truncate(query.len() + 16 * 500);
            }
            long
        });
        servers(dns, &["127.0.0.54"]);
        // more than the client takes, from a server that does not care
        let answer = dns.ask("u.example", RecordType::A);
        assert!(answer.metadata.truncation && answer.answers.is_empty());
        let answer = dns.ask_tcp("t.example", RecordType::A).unwrap();
        assert_eq!(answer.answers.len(), 4094);
    });
}

#[test]
fn the_same_question_is_asked_once() {
    Dns::run(|dns| {
        let slow = dns.upstream_at("127.0.0.54", |query| {
            std::thread::sleep(Duration::from_millis(200));
            reply(query, [9, 9, 9, 9])
        });
        servers(dns, &["127.0.0.54"]);
        let sockets: Vec<_> = (0..20).map(|_| dns.socket()).collect();
        for (index, socket) in sockets.iter().enumerate() {
            let name = if index % 2 == 0 {
                "a.example"
            } else {
                "A.EXAMPLE"
            };
            socket
                .send(&question(rand_id(), name, RecordType::A))
                .unwrap();
        }
        for (index, socket) in sockets.iter().enumerate() {
            let answer = receive(socket).unwrap();
            let name = if index % 2 == 0 {
                "a.example."
            } else {
                "A.EXAMPLE."
            };
            assert_eq!(answer.queries[0].name().to_ascii(), name);
            assert_eq!(addresses(&answer), ["9.9.9.9"]);
        }
        assert_eq!(slow.seen().len(), 1);
    });
}

/// The host's name server is a program in a container that asks us in turn.
#[test]
fn a_loop_ends_by_itself() {
    Dns::run(|dns| {
        let inside = sys::netns::within(std::os::fd::AsFd::as_fd(&dns.container), || {
            Arc::new(client())
        })
        .unwrap();
        let turns = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&turns);
        let _looping = dns.upstream_at("127.0.0.54", move |query| {
            counter.fetch_add(1, Ordering::Relaxed);
            inside.send(query).ok();
            Vec::new()
        });
        servers(dns, &["127.0.0.54"]);
        let answer = dns.ask("a.example", RecordType::A);
        assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
        let turns = turns.load(Ordering::Relaxed);
        assert!(turns <= 4, "{turns} turns");
    });
}

#[test]
fn what_is_under_way_is_bounded() {
    Dns::run(|dns| {
        let _silent = dns.upstream_at("127.0.0.54", |_| Vec::new());
        servers(dns, &["127.0.0.54"]);
        let socket = dns.socket();
        for number in 0..3000_u16 {
            let query = question(number, &format!("n{number}.example"), RecordType::A);
            socket.send(&query).unwrap();
            if number % 100 == 0 {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        let refused = || receive(&socket).unwrap().metadata.response_code == ResponseCode::Refused;
        let refusals = (0..100).filter(|_| refused()).count();
        assert_eq!(refusals, 100);
        // and names of ours are answered all the same
        dns.insert("e1", entry(&["web"], &["10.1.0.2"], "web.net"));
        let start = Instant::now();
        assert_eq!(addresses(&dns.ask("web", RecordType::A)), ["10.1.0.2"]);
        assert!(start.elapsed() < Duration::from_millis(500));
    });
}

#[test]
fn connections_are_bounded_and_end_when_idle() {
    Dns::run(|dns| {
        dns.insert("e1", entry(&["web"], &["10.1.0.2"], "web.net"));
        let idle: Vec<_> = (0..40).map(|_| dns.connect()).collect();
        assert_eq!(addresses(&dns.ask("web", RecordType::A)), ["10.1.0.2"]);
        let start = Instant::now();
        assert_eq!(
            addresses(&dns.ask_tcp("web", RecordType::A).unwrap()),
            ["10.1.0.2"]
        );
        let time = start.elapsed();
        assert!(
            (Duration::from_secs(5)..Duration::from_secs(14)).contains(&time),
            "{time:?}"
        );
        drop(idle);
    });
}

#[test]
fn a_connection_takes_many_questions_at_once() {
    Dns::run(|dns| {
        dns.insert("e1", entry(&["web"], &["10.1.0.2"], "web.net"));
        let mut stream = dns.connect();
        for id in 0..40 {
            let name = if id % 2 == 0 {
                "web".to_owned()
            } else {
                format!("n{id}.example")
            };
            send_frame(&mut stream, &question(id, &name, RecordType::A)).unwrap();
        }
        let mut ids: Vec<u16> = (0..40)
            .map(|_| Message::from_vec(&read_frame(&mut stream).unwrap()).unwrap())
            .inspect(|answer| assert_eq!(answer.answers.len(), 1))
            .map(|answer| answer.metadata.id)
            .collect();
        ids.sort_unstable();
        assert_eq!(ids, (0..40).collect::<Vec<u16>>());
        // a frame that no client writes ends the connection
        std::io::Write::write_all(&mut stream, &[0xff, 0xff, 1, 2, 3]).unwrap();
        assert!(read_frame(&mut stream).is_err());
    });
}

#[test]
fn servers_that_change_are_asked_what_is_under_way() {
    Dns::run(|dns| {
        let _silent = dns.upstream_at("127.0.0.54", |_| Vec::new());
        servers(dns, &["127.0.0.54"]);
        let socket = dns.socket();
        socket
            .send(&question(5, "a.example", RecordType::A))
            .unwrap();
        std::thread::sleep(Duration::from_millis(50));
        servers(dns, &["127.0.0.53"]);
        assert_eq!(addresses(&receive(&socket).unwrap()), ["9.9.9.9"]);
        dns.set(ScopeState {
            upstream: Upstream::None,
            ..dns.state()
        });
        assert_eq!(
            dns.ask("b.example", RecordType::A).metadata.response_code,
            ResponseCode::ServFail
        );
    });
}
