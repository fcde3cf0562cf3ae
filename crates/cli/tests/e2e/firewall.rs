//! The engine as a guest in the host's firewall: what others do to the rules, and whose word is the last.

use std::time::Duration;

use testkit::docker::Client;
use testkit::engine::Engine;
use testkit::namespace::Namespace;
use testkit::serve::{Server, ask_tcp, ask_tcp_once, ask_udp, ask_udp_once};

use crate::bench::{engine, eventually, now, options};
use crate::networks::place;

/// What a host firewall does at each reload: everybody's rules go, and its own come, closed for what
/// comes in but for one port.
const RELOAD: &str = "flush ruleset
table inet hostwall {
  chain input {
    type filter hook input priority filter; policy drop;
    ct state established,related accept
    iif lo accept
    icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert } accept
    PORTS
  }
  chain forward { type filter hook forward priority filter; policy accept; }
}
";

fn reload(engine: &Engine, ports: &str) {
    let file = engine.home().join("hostwall.nft");
    std::fs::write(&file, RELOAD.replace("PORTS", ports)).unwrap();
    let host = engine.network();
    host.run(&format!("nft -f {}", file.display())).unwrap();
}

fn tcp(who: &Namespace, address: &str) -> Option<String> {
    who.within(|| ask_tcp(address)).unwrap()
}

fn udp(who: &Namespace, address: &str) -> Option<String> {
    who.within(|| ask_udp(address)).unwrap()
}

/// Whether nobody answers at an address, by TCP and by UDP.
fn is_shut(who: &Namespace, address: &str) -> bool {
    let asked = who.within(|| (ask_tcp_once(address), ask_udp_once(address)));
    asked.unwrap() == (None, None)
}

#[test]
fn rules_that_are_flushed_come_back_and_an_event_says_so() {
    let engine = engine();
    let world = engine.network().host(1).unwrap();
    engine.docker("network create --ipv6 app").ok();
    let web = place(&engine, "web", "--network app -p 8080:80");
    let _server = Server::tcp(&web, "[::]:80", "web").unwrap();
    assert!(tcp(&world, "10.9.1.1:8080").is_some());
    let text = || engine.network().run("nft list ruleset").unwrap();
    // the elements of a set are in no order
    let rules = || {
        let mut words: Vec<String> = text()
            .split([' ', ',', '\t', '\n'])
            .map(str::to_owned)
            .collect();
        words.sort_unstable();
        words
    };
    let before = rules();
    assert!(text().contains("table inet gorae") && text().contains("table bridge gorae"));
    for client in Client::BOTH {
        let line = format!(
            "events --since {} --filter type=network --format '{{{{.Action}}}}'",
            now()
        );
        let events = engine.session(client, &line);
        engine.network().run("nft flush ruleset").unwrap();
        eventually("the rules are back", || rules() == before);
        assert_eq!(
            tcp(&world, "10.9.1.1:8080").as_deref(),
            Some("web sees 10.9.1.2")
        );
        assert!(tcp(&world, "[fd00:9:1::1]:8080").is_some());
        events.expect("restore");
        events.kill();
    }
    // a part of them is missed as well
    for line in [
        "delete table bridge gorae",
        "delete table inet gorae",
        "flush table inet gorae",
    ] {
        engine.network().run(&format!("nft {line}")).unwrap();
        eventually(line, || rules() == before);
    }
    // a storm of reloads ends well
    for _ in 0..20 {
        engine.network().run("nft flush ruleset").unwrap();
    }
    eventually("the rules are back after a storm", || rules() == before);
    // what was removed meanwhile does not come back with the rest
    engine.docker("rm -f web").ok();
    engine.network().run("nft flush ruleset").unwrap();
    eventually("the table is back", || text().contains("table inet gorae"));
    assert!(!text().contains("8080"));
}

#[test]
fn the_number_of_rules_does_not_grow() {
    let engine = engine();
    let count = || {
        let text = engine.network().run("nft -s list ruleset").unwrap();
        let is_rule = |line: &&str| {
            line.starts_with("\t\t")
                && [
                    "accept",
                    "drop",
                    "nat",
                    "masquerade",
                    "redirect",
                    "return",
                    "jump",
                    "goto",
                    "vmap",
                ]
                .iter()
                .any(|word| line.contains(word))
        };
        text.lines().filter(is_rule).count()
    };
    engine.docker("network create first").ok();
    place(&engine, "one", "--network first -p 8000:80 -p 8000:80/udp");
    let before = count();
    assert!(before > 3, "{before}");
    for n in 0..6 {
        engine.docker(&format!("network create --ipv6 n{n}")).ok();
        let flags = format!("--network n{n} -p 81{n}0-81{n}9:80-89");
        place(&engine, &format!("c{n}"), &flags);
    }
    assert_eq!(count(), before);
}

#[test]
fn other_owners_rules_are_left_alone() {
    let mut engine = engine();
    let host = engine.network();
    host.run("nft add table ip6 others { set mine { type ipv6_addr; elements = { ::1 } ; } ; }")
        .unwrap();
    let ours = || host_rules(&engine, "list table ip6 others");
    let before = ours();
    engine.docker("network create --ipv6 app").ok();
    place(&engine, "web", "--network app -p 8080:80");
    assert_eq!(ours(), before);
    engine.docker("rm -f web").ok();
    engine.docker("network rm app").ok();
    assert_eq!(ours(), before);
    engine.stop().unwrap();
    assert_eq!(host_rules(&engine, "list table ip6 others"), before);
    let tables = host_rules(&engine, "list tables");
    for line in tables.lines() {
        let known = line.ends_with(" others") || line.contains(" gorae");
        assert!(known, "{tables}");
    }
    engine.restart().unwrap();
}

fn host_rules(engine: &Engine, line: &str) -> String {
    engine.network().run(&format!("nft {line}")).unwrap()
}

#[test]
fn by_default_a_published_port_is_reached_whatever_the_host_drops() {
    let engine = engine();
    let world = engine.network().host(1).unwrap();
    engine.docker("network create --ipv6 app").ok();
    let web = place(&engine, "web", "--network app -p 8080:80");
    let _server = Server::tcp(&web, "[::]:80", "web").unwrap();
    reload(&engine, "");
    eventually("it is reached after a reload", || {
        tcp(&world, "10.9.1.1:8080").as_deref() == Some("web sees 10.9.1.2")
    });
    assert!(tcp(&world, "[fd00:9:1::1]:8080").is_some());
}

#[test]
fn with_host_firewall_the_hosts_own_policy_decides() {
    let mut options = options();
    options.flags = vec!["--publish-policy".to_owned(), "host-firewall".to_owned()];
    let mut engine = Engine::start(options).unwrap();
    let world = engine.network().host(1).unwrap();
    engine
        .docker("network create --subnet 10.81.0.0/24 --ipv6 --subnet fd81::/64 app")
        .ok();
    let web = place(
        &engine,
        "web",
        "--network app --ip 10.81.0.9 --ip6 fd81::9 -p 8080:80 -p 8080:80/udp",
    );
    let _tcp = Server::tcp(&web, "[::]:80", "web").unwrap();
    let _udp4 = Server::udp(&web, "10.81.0.9:80", "web").unwrap();
    let _udp6 = Server::udp(&web, "[fd81::9]:80", "web").unwrap();
    let is_reached = || {
        for (address, from) in [
            ("10.9.1.1:8080", "10.9.1.2"),
            ("[fd00:9:1::1]:8080", "fd00:9:1::2"),
        ] {
            let expect = Some(format!("web sees {from}"));
            assert_eq!(tcp(&world, address), expect, "tcp");
            assert_eq!(udp(&world, address), expect, "udp");
        }
    };
    // no policy of the host: nothing is dropped
    is_reached();
    reload(&engine, "");
    // from the moment of the reload on, and after the rules have come back
    assert!(is_shut(&world, "10.9.1.1:8080"));
    let rules = || host_rules(&engine, "list tables");
    eventually("the rules are back", || rules().contains("inet gorae"));
    std::thread::sleep(Duration::from_millis(700));
    for address in ["10.9.1.1:8080", "[fd00:9:1::1]:8080"] {
        assert!(is_shut(&world, address), "{address}");
    }
    // this host itself is let in by the policy
    assert!(tcp(engine.network(), "127.0.0.1:8080").is_some());
    assert!(tcp(engine.network(), "10.9.1.1:8080").is_some());
    let audit = engine.gorae("network audit");
    audit.shows("host-firewall");
    audit.shows("8080");
    reload(&engine, "tcp dport 8080 accept\nudp dport 8080 accept");
    is_reached();
    // who may is a matter of the policy, too, and sees the client's own address
    reload(
        &engine,
        "ip saddr 10.9.1.2 tcp dport 8080 accept\nip6 saddr fd00:9:1::99 tcp dport 8080 accept",
    );
    std::thread::sleep(Duration::from_millis(700));
    eventually("the one address is let in", || {
        tcp(&world, "10.9.1.1:8080").as_deref() == Some("web sees 10.9.1.2")
    });
    let no_udp = || {
        let asked = world.within(|| ask_udp_once("10.9.1.1:8080"));
        asked.unwrap().is_none()
    };
    assert!(is_shut(&world, "[fd00:9:1::1]:8080") && no_udp());
    // no engine, no change
    engine.kill9().unwrap();
    assert!(tcp(&world, "10.9.1.1:8080").is_some());
    assert!(no_udp());
    engine.restart().unwrap();
    assert!(tcp(&world, "10.9.1.1:8080").is_some());
    assert!(is_shut(&world, "[fd00:9:1::1]:8080"));
}

#[test]
fn a_deleted_bridge_comes_back_with_its_containers() {
    let engine = engine();
    let world = engine.network().host(1).unwrap();
    engine
        .docker("network create --subnet 10.81.0.0/24 --ipv6 --subnet fd81::/64 -o com.docker.network.bridge.name=brapp app")
        .ok();
    let web = place(&engine, "web", "--network app -p 8080:80");
    let peer = place(&engine, "peer", "--network app");
    let plain = place(&engine, "plain", "-p 8081:80");
    let _a = Server::tcp(&web, "[::]:80", "web").unwrap();
    let _b = Server::tcp(&plain, "0.0.0.0:80", "plain").unwrap();
    let web_ip = engine.inspect("web", "{{.NetworkSettings.Networks.app.IPAddress}}");
    for (bridge, address) in [("brapp", "10.9.1.1:8080"), ("gorae0", "10.9.1.1:8081")] {
        engine
            .network()
            .run(&format!("ip link del {bridge}"))
            .unwrap();
        assert!(tcp(&world, address).is_some(), "{bridge}");
    }
    assert!(tcp(&peer, &format!("{web_ip}:80")).is_some());
    assert!(tcp(&world, "[fd00:9:1::1]:8080").is_some());
    place(&engine, "late", "--network app");
    engine.docker("exec late ping -c 1 -W 30 web").ok();
    // switched off or without its address
    engine.network().run("ip link set brapp down").unwrap();
    engine.network().run("ip addr flush dev gorae0").unwrap();
    engine.gorae("system check --repair").ok();
    assert!(tcp(&world, "10.9.1.1:8080").is_some());
    assert!(tcp(&world, "10.9.1.1:8081").is_some());
}

#[test]
fn a_check_finds_what_is_wrong_and_repairs_it() {
    let engine = engine();
    engine
        .docker("network create --subnet 10.81.0.0/24 --gateway 10.81.0.1 app")
        .ok();
    let web = place(&engine, "web", "--network app --ip 10.81.0.9 -p 8080:80");
    let _server = Server::tcp(&web, "0.0.0.0:80", "web").unwrap();
    let report = |path: &str| {
        let answer = engine.api("POST", path, "").unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        String::from_utf8(answer.body).unwrap()
    };
    let well =
        |text: &str| text.contains(r#""Findings":[]"#) || text.contains(r#""Findings":null"#);
    let first = report("/gorae/system/check");
    assert!(well(&first), "{first}");
    engine.gorae("system check").ok();
    type Damage<'a> = (&'a str, &'a Namespace, &'a str);
    // a bridge that is gone, down or without its address is back before anybody asks
    let damages: [Damage<'_>; 7] = [
        ("10.81.0.9", &web, "ip addr del 10.81.0.9/24 dev eth0"),
        ("eth0", &web, "ip link set eth0 down"),
        (
            "Ethernet",
            &web,
            "ip link set eth0 address 02:00:00:00:00:99",
        ),
        ("route", &web, "ip route del default"),
        (
            "not on the bridge",
            engine.network(),
            "ip link set PORT nomaster",
        ),
        ("is down", engine.network(), "ip link set PORT down"),
        ("app", engine.network(), "ip link set BRIDGE mtu 1400"),
    ];
    let id = engine.docker("network inspect app -f '{{slice .Id 0 12}}'");
    let bridge = format!("br-{}", id.ok());
    let ports = engine
        .network()
        .run(&format!("ip -o link show master {bridge}"))
        .unwrap();
    let port = ports
        .split([' ', '@'])
        .find(|word| word.starts_with("veth"));
    for (word, place, line) in damages {
        let line = line
            .replace("BRIDGE", &bridge)
            .replace("PORT", port.unwrap());
        place.run(&line).unwrap();
        let found = report("/gorae/system/check");
        assert!(found.contains(word), "{line}: {found}");
        assert!(!found.contains(r#""Repaired":true"#), "{line}: {found}");
        let told = engine.gorae("system check");
        assert_ne!(told.code, 0, "{told:?}");
        let repaired = report("/gorae/system/check?repair=true");
        assert!(
            repaired.contains(r#""Repaired":true"#),
            "{line}: {repaired}"
        );
        let after = report("/gorae/system/check");
        assert!(well(&after), "{line}: {after}");
        // neighbours look for each other again first
        eventually(&line, || {
            tcp(engine.network(), "127.0.0.1:8080").is_some_and(|text| text.len() > 3)
        });
        engine.docker("exec web ping -c 1 -W 30 10.81.0.1").ok();
    }
}

#[test]
fn an_audit_tells_what_is_reached_from_where() {
    let engine = engine();
    let world = engine.network().host(1).unwrap();
    engine.docker("network create app").ok();
    let web = place(
        &engine,
        "web",
        "--network app -p 8080:80 -p 127.0.0.1:8081:81 --expose 82",
    );
    let _a = Server::tcp(&web, "0.0.0.0:80", "web").unwrap();
    assert!(tcp(&world, "10.9.1.1:8080").is_some());
    let answer = engine.api("GET", "/gorae/network/audit", "").unwrap();
    assert_eq!(answer.status, 200);
    let text = String::from_utf8(answer.body).unwrap();
    for part in [
        r#""Policy":"docker""#,
        r#""Container":"web""#,
        r#""HostPort":8080"#,
        r#""HostPort":8081"#,
        r#""HostIP":"127.0.0.1""#,
        r#""Reachable":true"#,
        r#""Reachable":false"#,
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let table = engine.gorae("network audit");
    for part in ["web", "8080", "8081"] {
        table.shows(part);
    }
    // somebody else's chain that drops what is forwarded is named
    engine.network().run("nft add table inet wall").unwrap();
    engine
        .network()
        .run("nft add chain inet wall forward '{ type filter hook forward priority filter; policy drop; }'")
        .unwrap();
    assert!(is_shut(&world, "10.9.1.1:8080"));
    engine.gorae("network audit").shows("wall");
}
