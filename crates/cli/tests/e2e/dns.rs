//! Names of user-defined networks: asked of the resolver inside the container, answered from the engine.

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use testkit::dns::{
    A, AAAA, Behaviour, MX, NO_ERROR, NXDOMAIN, NameServer, PTR, SERVFAIL, TXT, ask, ask_edns,
    ask_tcp, send_raw,
};
use testkit::docker::Client;
use testkit::engine::Engine;
use testkit::namespace::Namespace;

use crate::bench::{Checks, engine, eventually, options};

fn sleeper(engine: &Engine, flags: &str) {
    engine
        .docker(&format!("run -d {flags} busybox sleep 1000"))
        .ok();
}

/// Whoever asks a name server is usually patient for five seconds; on a machine that is busy with other tests all
/// takes longer.
const GIVEN_UP: Duration = Duration::from_secs(15);

/// An engine on a host whose `resolv.conf` names a server at 10.9.1.2, and the host that this is.
fn engine_with_upstream() -> (Engine, Namespace) {
    let mut options = options();
    options.private_etc = true;
    let engine = Engine::start(options).unwrap();
    engine.set_resolv_conf("nameserver 10.9.1.2\n").unwrap();
    let upstream = engine.network().host(1).unwrap();
    (engine, upstream)
}

#[test]
fn names_aliases_and_addresses_are_known() {
    let engine = engine();
    engine
        .docker("network create --subnet 10.81.0.0/24 --ipv6 --subnet fd81::/64 app")
        .ok();
    engine
        .docker("network create --subnet 10.82.0.0/24 far")
        .ok();
    sleeper(
        &engine,
        "--name asker --network app --ip 10.81.0.5 --ip6 fd81::5",
    );
    sleeper(
        &engine,
        "--name web --hostname www.example.org --network app --ip 10.81.0.9 --ip6 fd81::9 --network-alias Front --network-alias shared",
    );
    sleeper(
        &engine,
        "--name web2 --network app --ip 10.81.0.10 --ip6 fd81::a --network-alias shared",
    );
    sleeper(&engine, "--name away --network far");
    let inside = engine.inside("asker");
    let id = engine.inspect("web", "{{slice .Id 0 12}}");
    let mut checks = Checks::default();
    let mut check = |name: &str, kind: u16, code: u8, expect: &[&str]| {
        let got = ask(&inside, name, kind);
        let is_so = got
            .as_ref()
            .is_ok_and(|got| got.code == code && got.data(kind) == expect);
        checks.note(is_so, || {
            format!("{name} {kind}: {got:?}, not {code} {expect:?}")
        });
    };
    for name in [
        "web",
        "WEB",
        "web.",
        "front",
        "Front",
        "web.app",
        id.as_str(),
    ] {
        check(name, A, NO_ERROR, &["10.81.0.9"]);
        check(name, AAAA, NO_ERROR, &["fd81::9"]);
    }
    check("shared", A, NO_ERROR, &["10.81.0.10", "10.81.0.9"]);
    check("shared", AAAA, NO_ERROR, &["fd81::9", "fd81::a"]);
    check("asker", A, NO_ERROR, &["10.81.0.5"]);
    check("9.0.81.10.in-addr.arpa", PTR, NO_ERROR, &["web.app"]);
    let v6 = "9.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.8.d.f.ip6.arpa";
    check(v6, PTR, NO_ERROR, &["web.app"]);
    // the name is ours, so what it has not is not asked elsewhere
    check("web", MX, NO_ERROR, &[]);
    drop(checks);
    let answer = ask(&inside, "web", A).unwrap();
    assert!(answer.recursion, "{answer:?}");
    assert_eq!(answer.records[0].ttl, 600);
    assert_eq!(ask_tcp(&inside, "web", A).unwrap().data(A), ["10.81.0.9"]);
    assert_eq!(
        ask_edns(&inside, "web", A, 1232).unwrap().data(A),
        ["10.81.0.9"]
    );
    // no name reaches beyond its network
    let away = ask(&inside, "away", A).unwrap();
    assert!(away.records.is_empty(), "{away:?}");
    // several addresses come in changing order
    let first = || ask(&inside, "shared", A).unwrap().records[0].data.clone();
    let firsts: BTreeSet<String> = (0..40).map(|_| first()).collect();
    assert_eq!(firsts.len(), 2, "{firsts:?}");
    engine.docker("exec asker ping -c 1 -W 30 shared").ok();
    // rename, connect, disconnect, stop
    engine.docker("rename web2 other").ok();
    assert_eq!(ask(&inside, "other", A).unwrap().data(A), ["10.81.0.10"]);
    assert!(ask(&inside, "web2", A).unwrap().records.is_empty());
    engine
        .docker("network connect --alias guest far asker")
        .ok();
    assert_eq!(ask(&inside, "away", A).unwrap().data(A).len(), 1);
    assert_eq!(
        ask(&engine.inside("away"), "guest", A).unwrap().data(A),
        ["10.82.0.3"]
    );
    engine.docker("network disconnect far asker").ok();
    assert!(ask(&inside, "away", A).unwrap().records.is_empty());
    engine.docker("stop -t 0 other").ok();
    assert_eq!(ask(&inside, "shared", A).unwrap().data(A), ["10.81.0.9"]);
}

#[test]
fn a_name_with_one_family_has_an_empty_answer_for_the_other() {
    let engine = engine();
    engine.docker("network create four").ok();
    sleeper(&engine, "--name one --network four");
    let answer = ask(&engine.inside("one"), "one", AAAA).unwrap();
    assert_eq!((answer.code, answer.records.len()), (NO_ERROR, 0));
    engine.docker("network create --ipv6 --ipv4=false six").ok();
    sleeper(&engine, "--name two --network six");
    let answer = ask(&engine.inside("two"), "two", A).unwrap();
    assert_eq!((answer.code, answer.records.len()), (NO_ERROR, 0));
    engine
        .docker("exec one sh -c 'ping -c 1 -W 30 one && nslookup one'")
        .ok();
}

#[test]
fn the_resolvers_file_and_its_options() {
    let (engine, _upstream) = engine_with_upstream();
    engine
        .set_resolv_conf("nameserver 10.9.1.2\nsearch corp.example\noptions timeout:3\n")
        .unwrap();
    engine.docker("network create app").ok();
    for client in Client::BOTH {
        let lines = |flags: &str| {
            let outcome = engine.run(
                client,
                &format!("run --rm {flags} busybox cat /etc/resolv.conf"),
            );
            let kept = outcome.ok().lines();
            let kept = kept.filter(|line| !line.is_empty() && !line.starts_with('#'));
            kept.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(
            lines("--network app"),
            [
                "nameserver 127.0.0.11",
                "search corp.example",
                "options timeout:3 ndots:0"
            ]
        );
        assert_eq!(
            lines(
                "--network app --dns 10.1.1.1 --dns-search a.example --dns-search b.example --dns-option ndots:2"
            ),
            [
                "nameserver 127.0.0.11",
                "search a.example b.example",
                "options ndots:2"
            ]
        );
        assert_eq!(
            lines("--network app --dns-search .")[0],
            "nameserver 127.0.0.11"
        );
        assert_eq!(
            lines(""),
            [
                "nameserver 10.9.1.2",
                "search corp.example",
                "options timeout:3"
            ]
        );
        assert_eq!(lines("--dns 10.1.1.1")[0], "nameserver 10.1.1.1");
    }
}

#[test]
fn other_names_are_asked_of_the_hosts_servers() {
    let (engine, upstream) = engine_with_upstream();
    let server = NameServer::start(
        &upstream,
        "10.9.1.2",
        Behaviour::Address("192.0.2.7".parse().unwrap()),
    )
    .unwrap();
    engine.docker("network create app").ok();
    engine.docker("network create --internal inner").ok();
    sleeper(&engine, "--name box --network app");
    sleeper(&engine, "--name shut --network inner");
    let inside = engine.inside("box");
    let answer = ask(&inside, "www.example.org", A).unwrap();
    assert_eq!(answer.data(A), ["192.0.2.7"], "{answer:?}");
    assert_eq!(
        ask_tcp(&inside, "tcp.example.org", A).unwrap().data(A),
        ["192.0.2.7"]
    );
    assert_eq!(
        ask_edns(&inside, "edns.example.org", A, 4096)
            .unwrap()
            .data(A),
        ["192.0.2.7"]
    );
    // a name without a dot is asked as well, a name of ours never
    assert_eq!(ask(&inside, "single", A).unwrap().data(A), ["192.0.2.7"]);
    let _own = ask(&inside, "box", A).unwrap();
    let _own = ask(&inside, "box", MX).unwrap();
    let asked = server.asked();
    assert!(asked.contains(&"www.example.org".to_owned()), "{asked:?}");
    assert!(!asked.contains(&"box".to_owned()), "{asked:?}");
    // an internal network leaks no question
    let refused = ask(&engine.inside("shut"), "secret.example.org", A).unwrap();
    assert_ne!(refused.code, NO_ERROR, "{refused:?}");
    assert!(refused.records.is_empty(), "{refused:?}");
    let asked = server.asked();
    assert!(
        !asked.contains(&"secret.example.org".to_owned()),
        "{asked:?}"
    );
    // one more network that leads out, and it may
    engine.docker("network connect app shut").ok();
    let answer = ask(&engine.inside("shut"), "open.example.org", A).unwrap();
    assert_eq!(answer.data(A), ["192.0.2.7"], "{answer:?}");
    engine.docker("network disconnect app shut").ok();
    let refused = ask(&engine.inside("shut"), "again.example.org", A).unwrap();
    assert!(refused.records.is_empty(), "{refused:?}");
    // programs get it too
    engine
        .docker("exec box nslookup www.example.org")
        .shows("192.0.2.7");
}

#[test]
fn a_change_of_the_hosts_resolv_conf_is_picked_up() {
    let (engine, upstream) = engine_with_upstream();
    upstream.run("ip addr add 10.9.1.3/24 dev eth0").unwrap();
    let _first = NameServer::start(
        &upstream,
        "10.9.1.2",
        Behaviour::Address("192.0.2.1".parse().unwrap()),
    );
    let _second = NameServer::start(
        &upstream,
        "10.9.1.3",
        Behaviour::Address("192.0.2.2".parse().unwrap()),
    );
    engine.docker("network create app").ok();
    sleeper(&engine, "--name box --network app");
    let inside = engine.inside("box");
    let answer = || ask(&inside, "www.example.org", A).map(|answer| answer.data(A).join(" "));
    assert_eq!(answer().unwrap(), "192.0.2.1");
    engine.set_resolv_conf("nameserver 10.9.1.3\n").unwrap();
    eventually("the new server is asked", || {
        answer().is_ok_and(|text| text == "192.0.2.2")
    });
    // a resolver on the host's own loopback, as systemd-resolved has it, is asked from there
    let _local = NameServer::start(
        engine.network(),
        "127.0.0.53",
        Behaviour::Address("192.0.2.3".parse().unwrap()),
    )
    .unwrap();
    engine.set_resolv_conf("nameserver 127.0.0.53\n").unwrap();
    eventually("the host's own resolver is asked", || {
        answer().is_ok_and(|text| text == "192.0.2.3")
    });
}

#[test]
fn bad_servers_cost_little_and_spoil_nothing() {
    let (engine, upstream) = engine_with_upstream();
    for last in 3..=6 {
        upstream
            .run(&format!("ip addr add 10.9.1.{last}/24 dev eth0"))
            .unwrap();
    }
    let start = |last: u8, behaviour: Behaviour| {
        NameServer::start(&upstream, &format!("10.9.1.{last}"), behaviour).unwrap()
    };
    let _good = start(2, Behaviour::Address("192.0.2.7".parse().unwrap()));
    let _silent = start(3, Behaviour::Silence);
    let _liar = start(4, Behaviour::Lies);
    let _large = start(5, Behaviour::Text(60 << 10));
    let _none = start(6, Behaviour::NoSuchName);
    engine.docker("network create app").ok();
    let servers = |list: &[u8]| {
        let flags: String = list
            .iter()
            .map(|last| format!("--dns 10.9.1.{last} "))
            .collect();
        sleeper(&engine, &format!("--name box --network app {flags}"));
        engine.inside("box")
    };
    let timed = |inside: &Namespace, kind: u16| {
        let begun = Instant::now();
        let answer = ask(inside, "www.example.org", kind);
        (answer, begun.elapsed())
    };
    let over = || engine.docker("rm -f box").ok().to_owned();

    let (answer, time) = timed(&servers(&[3, 2]), A);
    assert_eq!(answer.unwrap().data(A), ["192.0.2.7"]);
    assert!(time < GIVEN_UP, "{time:?}");
    over();
    let (answer, time) = timed(&servers(&[4, 2]), A);
    assert_eq!(answer.unwrap().data(A), ["192.0.2.7"]);
    assert!(time < GIVEN_UP, "{time:?}");
    over();
    // nobody answers: the client is told so before it gives up
    let inside = servers(&[3, 4]);
    let (answer, time) = timed(&inside, A);
    assert_eq!(answer.unwrap().code, SERVFAIL);
    assert!(time < GIVEN_UP, "{time:?}");
    // and names of the network are as quick as ever meanwhile
    let slow = std::thread::scope(|scope| {
        for n in 0..8 {
            let inside = &inside;
            scope.spawn(move || ask(inside, &format!("n{n}.example.org"), A));
        }
        std::thread::sleep(Duration::from_millis(100));
        let begun = Instant::now();
        assert_eq!(ask(&inside, "box", A).unwrap().data(A).len(), 1);
        begun.elapsed()
    });
    assert!(slow < GIVEN_UP, "{slow:?}");
    over();
    // what is there is not asked for twice
    let (answer, _) = timed(&servers(&[6, 2]), A);
    assert_eq!(answer.unwrap().code, NXDOMAIN);
    over();
    let inside = servers(&[5]);
    let answer = ask(&inside, "large.example.org", TXT).unwrap();
    assert!(answer.truncated, "{} records", answer.records.len());
    let answer = ask_tcp(&inside, "large.example.org", TXT).unwrap();
    assert_eq!(answer.records.len(), 240);
    over();
    // a server that is this resolver again
    sleeper(&engine, "--name box --network app --dns 127.0.0.11");
    let (answer, time) = timed(&engine.inside("box"), A);
    assert_ne!(answer.unwrap().code, NO_ERROR);
    assert!(time < GIVEN_UP, "{time:?}");
}

#[test]
fn malformed_questions_do_no_harm() {
    let engine = engine();
    engine.docker("network create app").ok();
    sleeper(&engine, "--name box --network app");
    let inside = engine.inside("box");
    let head = |questions: u8| vec![1, 2, 1, 0, 0, questions, 0, 0, 0, 0, 0, 0];
    let with = |questions: u8, rest: &[u8]| [head(questions), rest.to_vec()].concat();
    let cases = [
        vec![],
        vec![0],
        head(0),
        head(1),
        with(255, &[0, 0, 1, 0, 1]),
        with(1, &[0xc0, 12, 0, 1, 0, 1]),
        with(1, &[0xff, 0xff, 0, 1, 0, 1]),
        with(1, &[63, b'a', 0, 0, 1, 0, 1]),
        with(1, &[&[1, b'a'].repeat(200)[..], &[0, 0, 1, 0, 1]].concat()),
        with(1, &[3, 0xff, 0xfe, 0, 0, 0, 1, 0, 1]),
        vec![0xff; 512],
        vec![0; 4000],
        // an answer is no question
        [
            vec![1, 2, 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0],
            vec![3, b'b', b'o', b'x', 0, 0, 1, 0, 1],
        ]
        .concat(),
    ];
    for case in cases {
        let answer = send_raw(&inside, &case).unwrap();
        if let Some(answer) = answer {
            assert!(answer.len() < 600, "{case:?} is answered with {answer:?}");
        }
        assert_eq!(ask(&inside, "box", A).unwrap().data(A).len(), 1, "{case:?}");
    }
}

#[test]
fn names_come_back_after_a_crash_and_a_program_may_have_port_53() {
    let mut engine = engine();
    engine.docker("network create app").ok();
    sleeper(&engine, "--name box --network app");
    sleeper(&engine, "--name other --network app --network-alias second");
    let inside = engine.inside("box");
    let bind = |address: &str| inside.within(|| UdpSocket::bind(address)).unwrap();
    // both the whole port and the loopback address of the container are its own
    let own = bind("0.0.0.0:53").unwrap();
    drop(own);
    let own = bind("127.0.0.1:53").unwrap();
    let knows = || {
        ["other", "second"]
            .iter()
            .all(|name| ask(&inside, name, A).is_ok_and(|answer| answer.data(A).len() == 1))
    };
    assert!(knows());
    engine.kill9().unwrap();
    engine.restart().unwrap();
    eventually("names are back", knows);
    assert_eq!(ask_tcp(&inside, "other", A).unwrap().data(A).len(), 1);
    engine.stop().unwrap();
    engine.restart().unwrap();
    eventually("names are back", knows);
    // what comes after the crash is known to what was there before, and the reverse
    sleeper(&engine, "--name third --network app");
    assert_eq!(ask(&inside, "third", A).unwrap().data(A).len(), 1);
    assert_eq!(
        ask(&engine.inside("third"), "box", A)
            .unwrap()
            .data(A)
            .len(),
        1
    );
    engine.docker("restart -t 0 other").ok();
    assert!(knows());
    drop(own);
    let own = bind("0.0.0.0:53").unwrap();
    assert!(knows());
    drop(own);
}

#[test]
fn a_flush_inside_the_container_harms_itself_only() {
    let engine = engine();
    engine.docker("network create app").ok();
    sleeper(&engine, "--name box --network app --cap-add NET_ADMIN");
    sleeper(&engine, "--name other --network app");
    engine.inside("box").run("nft flush ruleset").unwrap();
    let other = engine.inside("other");
    assert_eq!(ask(&other, "box", A).unwrap().data(A).len(), 1);
    engine.docker("restart -t 0 box").ok();
    let inside = engine.inside("box");
    assert_eq!(ask(&inside, "other", A).unwrap().data(A).len(), 1);
}
