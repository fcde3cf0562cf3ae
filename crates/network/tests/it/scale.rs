//! What a thousand containers cost.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use network::{
    Bridge, Firewall, Member, Obstacle, Pool, PortMapping, Protocol, PublishPolicy, Rules, mac_for,
};

use crate::lab::{BRIDGE, TABLE, bridge_config, on_a_host, run};
use crate::world::{ip, zone};

fn container(number: u16, with_port: bool) -> Rules {
    let address = ip(&format!("172.20.{}.{}", number / 250, number % 250 + 2));
    let port = PortMapping {
        protocol: Protocol::Tcp,
        host_ip: ip("0.0.0.0"),
        host_port: 20_000 + number,
        container: SocketAddr::new(address, 80),
    };
    Rules {
        members: vec![Member {
            port: format!("veth{number}"),
            mac: mac_for(address),
            addresses: vec![address],
        }],
        published: Vec::from_iter(with_port.then_some(port)),
        ..Rules::default()
    }
}

fn lines() -> usize {
    let text = run("nft", "list ruleset");
    text.lines().filter(|line| line.contains("comment")).count()
}

fn firewall(zones: u8) -> Firewall {
    let rules = Rules {
        zones: (0..zones)
            .map(|number| zone(&format!("br{number}"), number))
            .collect(),
        ..Rules::default()
    };
    Firewall::ensure(TABLE, PublishPolicy::Docker, rules).unwrap()
}

#[test]
fn the_number_of_rules_is_constant() {
    on_a_host(|| {
        let firewall = firewall(1);
        let before = lines();
        for (label, with_port) in [("a member", false), ("a member and a port", true)] {
            let mut times: Vec<_> = (0..1000)
                .map(|number| {
                    let begin = Instant::now();
                    firewall.add(&container(number, with_port)).unwrap();
                    begin.elapsed()
                })
                .collect();
            times.sort();
            let (median, late) = (times[500], times[990]);
            println!("add of {label}: median {median:?}, p99 {late:?}");
            // a build without optimization on a busy machine
            assert!(median < Duration::from_millis(100), "{label}: {median:?}");
            if !with_port {
                for number in 0..1000 {
                    firewall.remove(&container(number, false)).unwrap();
                }
            }
        }
        assert_eq!(lines(), before);
        assert!(!firewall.restore().unwrap());
        firewall
            .add(&Rules {
                zones: (1..200)
                    .map(|number| zone(&format!("br{number}"), number))
                    .collect(),
                ..Rules::default()
            })
            .unwrap();
        assert_eq!(lines(), before);
        let begin = Instant::now();
        assert!(!firewall.restore().unwrap());
        println!("restore of an intact table: {:?}", begin.elapsed());
        run("nft", "flush ruleset");
        let begin = Instant::now();
        assert!(firewall.restore().unwrap());
        println!("restore of a flushed table: {:?}", begin.elapsed());
    });
}

#[test]
fn a_full_bridge_is_named() {
    on_a_host(|| {
        let bridge = Bridge::ensure(bridge_config()).unwrap();
        let mut commands = String::new();
        for number in 0..512 {
            writeln!(commands, "link add a{number} type veth peer name b{number}").unwrap();
            writeln!(commands, "link set a{number} master {BRIDGE}").unwrap();
            if number > 0 {
                writeln!(commands, "link set b{number} master {BRIDGE}").unwrap();
            }
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), commands).unwrap();
        run("ip", &format!("-batch {}", file.path().display()));
        let pool = Pool::new(&bridge, 0).unwrap();
        let text = pool.take().unwrap_err().to_string();
        assert!(
            text.starts_with("the bridge br0 is full: Linux lets a bridge have 1023 ports"),
            "{text}"
        );
        run("ip", "link del a0");
        pool.take().unwrap();
    });
}

#[test]
fn obstacles_are_named_and_harmless_chains_are_not() {
    on_a_host(|| {
        let firewall = firewall(1);
        assert_eq!(firewall.obstacles().unwrap(), []);
        let nft = |command: &str| run("nft", command);
        nft("add table inet harmless");
        nft("add chain inet harmless input { type filter hook input priority 0 ; }");
        nft("add rule inet harmless input counter accept");
        nft("add chain inet harmless unused");
        nft("add rule inet harmless unused drop");
        nft("add chain inet harmless out { type filter hook output priority 0 ; policy drop ; }");
        assert_eq!(firewall.obstacles().unwrap(), []);
        nft("add table ip filter");
        nft("add chain ip filter FORWARD { type filter hook forward priority 0 ; policy drop ; }");
        nft("add table inet fw");
        nft("add chain inet fw input { type filter hook input priority 10 ; }");
        nft("add chain inet fw last");
        nft("add chain inet fw middle");
        nft("add rule inet fw last reject with icmpx admin-prohibited");
        nft("add rule inet fw middle goto last");
        nft("add rule inet fw input iifname vmap { lo : accept , eth0 : jump middle }");
        let obstacle =
            |family: &str, table: &str, chain: &str, hook: &str, priority, policy: &str| Obstacle {
                family: family.to_owned(),
                table: table.to_owned(),
                chain: chain.to_owned(),
                hook: hook.to_owned(),
                priority,
                policy: policy.to_owned(),
            };
        assert_eq!(
            firewall.obstacles().unwrap(),
            [
                obstacle("ip", "filter", "FORWARD", "forward", 0, "drop"),
                obstacle("inet", "fw", "input", "input", 10, "accept"),
            ]
        );
    });
}

#[test]
fn an_audit_tells_who_reaches_what_and_why() {
    on_a_host(|| {
        let mut inner = zone("br2", 2);
        inner.internal = true;
        let rules = Rules {
            zones: vec![zone("br0", 0), zone("br1", 1), inner],
            ..container(3, true)
        };
        let port = rules.published[0].clone();
        let firewall = Firewall::ensure(TABLE, PublishPolicy::Docker, rules).unwrap();
        let audit = |port: &PortMapping| {
            let obstacles = firewall.obstacles().unwrap();
            let name = |bridge: &str| format!("net-{bridge}");
            let origins = firewall.audit(port, &obstacles, &name);
            let line = |origin: &network::Origin| {
                format!("{}: {}: {}", origin.who, origin.reachable, origin.rule)
            };
            origins.iter().map(line).collect::<Vec<_>>()
        };
        let out = "table inet gorae, chain output: ports published on all addresses";
        let pre = "table inet gorae, chain prerouting: ports published on all addresses";
        assert_eq!(
            audit(&port),
            [
                format!("this host: true: {out}"),
                format!("this host by its loopback address: true: {out}"),
                format!("other hosts: true: {pre}"),
                format!(
                    "containers of net-br0: true: {pre}; table inet gorae, chain postrouting: a \
                     network to its own published ports"
                ),
                format!("containers of net-br1: true: {pre}"),
                "containers of net-br2: false: table inet gorae, chain forward: nothing leaves an \
                 internal network"
                    .to_owned(),
                "other hosts by the address 172.20.0.5: false: table inet gorae, chain forward: \
                 nothing else into a network"
                    .to_owned(),
            ]
        );
        let mut local = port.clone();
        local.host_ip = ip("127.0.0.1");
        let lines = audit(&local);
        assert!(
            lines[0].contains("false: published on 127.0.0.1 only"),
            "{lines:?}"
        );
        assert!(lines[1].contains("address: true"), "{lines:?}");
        assert!(
            lines[2].contains("false: table inet gorae, chain guard"),
            "{lines:?}"
        );
        run("nft", "add table ip filter");
        run(
            "nft",
            "add chain ip filter FORWARD { type filter hook forward priority 0 ; policy drop ; }",
        );
        let lines = audit(&port);
        assert!(
            lines[2].starts_with("other hosts: false: table ip filter, chain FORWARD"),
            "{lines:?}"
        );
        assert!(lines[0].contains("this host: true"), "{lines:?}");
    });
}
