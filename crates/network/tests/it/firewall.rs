//! The tables as `nft` and the crate itself see them.

use network::{Firewall, GatewayMode, Protocol, PublishPolicy, Rules, Zone, ZoneSide};

use crate::lab::{
    ANY, HOST, Network, TABLE, link_names, mapping, on_a_host, published, run, until,
};

fn rules() -> Rules {
    let side = |subnet: &str| {
        Some(ZoneSide {
            subnet: subnet.parse().unwrap(),
            mode: GatewayMode::Nat,
            masquerade: true,
            source: None,
        })
    };
    Rules {
        zones: vec![Zone {
            bridge: "br0".to_owned(),
            v4: side("172.17.0.0/16"),
            v6: side("fd00:17::/64"),
            internal: false,
            icc: true,
        }],
        ..Rules::default()
    }
}

fn firewall(ports: &[network::PortMapping]) -> Firewall {
    let mut rules = rules();
    rules.published = ports.to_vec();
    Firewall::ensure(TABLE, PublishPolicy::Docker, rules).unwrap()
}

/// What `nft` must print for one bridge and a port of each kind.
const EXPECTED: &str = include_str!("firewall/expected.nft");

#[test]
fn nft_reads_the_table_as_it_was_meant() {
    on_a_host(|| {
        let ports = [
            mapping(Protocol::Tcp, ANY, 8080, [172, 17, 0, 2].into()),
            mapping(Protocol::Udp, HOST, 53, [172, 17, 0, 3].into()),
        ];
        let first = firewall(&ports);
        assert_eq!(run("nft", "list ruleset"), EXPECTED);
        assert!(!first.restore().unwrap());
        let again = firewall(&ports);
        assert_eq!(run("nft", "list ruleset"), EXPECTED);
        assert!(!again.restore().unwrap());
        first.destroy().unwrap();
        assert_eq!(run("nft", "list ruleset"), "");
        again.destroy().unwrap();
    });
}

#[test]
fn damage_is_seen_and_repaired_and_foreign_tables_stay() {
    on_a_host(|| {
        let ports = [mapping(Protocol::Tcp, ANY, 8080, [172, 17, 0, 2].into())];
        run("nft", "add table inet other");
        let firewall = firewall(&ports);
        let sorted = || {
            let text = run("nft", "list ruleset");
            let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        let whole = sorted();
        let damages = [
            "flush chain inet gorae guard",
            "flush set inet gorae bridges",
            "delete element inet gorae wildcard4 { tcp . 8080 : 172.17.0.2 . 80 }",
            "add element inet gorae wildcard4 { tcp . 8081 : 172.17.0.2 . 80 }",
            "insert rule inet gorae forward accept",
            "insert rule bridge gorae senders accept",
            "add chain inet gorae forward { policy drop ; }",
            "add chain inet gorae another",
            "add table inet gorae { flags dormant ; }",
            "delete table inet gorae",
            "delete table bridge gorae",
        ];
        for damage in damages {
            assert!(!firewall.restore().unwrap(), "before {damage}");
            run("nft", damage);
            assert!(firewall.restore().unwrap(), "after {damage}");
            assert_eq!(sorted(), whole, "after {damage}");
        }
        run("nft", "flush ruleset");
        assert!(firewall.restore().unwrap());
        run("nft", "add table inet other");
        assert_eq!(sorted(), whole);
        firewall.destroy().unwrap();
        assert_eq!(run("nft", "list tables"), "table inet other\n");
    });
}

#[test]
fn a_change_finds_its_way_when_somebody_flushed_the_tables() {
    on_a_host(|| {
        let firewall = firewall(&[]);
        run("nft", "flush ruleset");
        let port = [mapping(Protocol::Tcp, ANY, 8080, [172, 17, 0, 2].into())];
        firewall.add(&published(&port)).unwrap();
        assert!(run("nft", "list map inet gorae wildcard4").contains("8080"));
        assert!(!firewall.restore().unwrap());
        run("nft", "flush map inet gorae wildcard4");
        firewall.remove(&published(&port)).unwrap();
        assert!(!firewall.restore().unwrap());
        firewall.remove(&published(&port)).unwrap();
    });
}

#[test]
fn a_port_that_led_elsewhere_is_moved() {
    on_a_host(|| {
        let firewall = firewall(&[]);
        let port = |host, container: [u8; 4]| mapping(Protocol::Tcp, host, 8080, container.into());
        let add = |ports: &[_]| firewall.add(&published(ports)).unwrap();
        add(&[port(ANY, [172, 17, 0, 2]), port(HOST, [172, 17, 0, 3])]);
        add(&[port(ANY, [172, 17, 0, 2])]);
        add(&[port(ANY, [172, 17, 0, 4]), port(HOST, [172, 17, 0, 5])]);
        let held = run("nft", "list map inet gorae wildcard4");
        assert!(
            held.contains("172.17.0.4") && !held.contains("172.17.0.2"),
            "{held}"
        );
        // whoever had it before does not take it away from who has it now
        firewall
            .remove(&published(&[port(ANY, [172, 17, 0, 2])]))
            .unwrap();
        assert!(run("nft", "list map inet gorae wildcard4").contains("172.17.0.4"));
        assert!(!firewall.restore().unwrap());
    });
}

#[test]
fn thousands_of_ports_are_one_transaction() {
    on_a_host(|| {
        let firewall = firewall(&[]);
        let empty = run("nft", "list ruleset");
        let ports: Vec<_> = (1..=u16::MAX)
            .map(|port| mapping(Protocol::Tcp, ANY, port, [172, 17, 0, 2].into()))
            .collect();
        firewall.add(&published(&ports)).unwrap();
        assert!(!firewall.restore().unwrap());
        run("nft", "delete table inet gorae");
        assert!(firewall.restore().unwrap());
        assert!(!firewall.restore().unwrap());
        firewall.remove(&published(&ports)).unwrap();
        assert!(!firewall.restore().unwrap());
        assert_eq!(run("nft", "list ruleset").len(), empty.len());
    });
}

#[test]
fn the_kernels_words_reach_the_error() {
    on_a_host(|| {
        let long = "x".repeat(300);
        let error = Firewall::ensure(&long, PublishPolicy::Docker, rules()).unwrap_err();
        let source = std::error::Error::source(&error).unwrap();
        assert!(
            source.to_string().contains("cannot make the table"),
            "{source}"
        );
    });
}

#[test]
fn without_rules_for_bridges_the_rest_works() {
    on_a_host(|| {
        // a table that belongs to a living process is out of reach, as if the kernel had none
        let mut owner = std::process::Command::new("nft")
            .arg("-i")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let mut commands = owner.stdin.take().unwrap();
        let command = "add table bridge gorae { flags owner ; }\n";
        std::io::Write::write_all(&mut commands, command.as_bytes()).unwrap();
        until(|| run("nft", "list tables").contains("bridge").then_some(())).unwrap();
        let firewall = firewall(&[]);
        assert!(run("nft", "list table inet gorae").contains("br0"));
        let member = network::Member {
            port: "veth0".to_owned(),
            mac: network::mac_for([172, 17, 0, 2].into()),
            addresses: vec![[172, 17, 0, 2].into()],
        };
        let members = Rules {
            members: vec![member],
            ..Rules::default()
        };
        firewall.add(&members).unwrap();
        firewall.remove(&members).unwrap();
        assert!(!firewall.restore().unwrap());
        drop(commands);
        owner.wait().unwrap();
    });
}

#[test]
fn destroyed_means_gone() {
    on_a_host(|| {
        let network = Network::start(2);
        until(|| (network.pool.ready() == (2, 1)).then_some(())).unwrap();
        let sandbox = network.pool.take().unwrap();
        drop(sandbox);
        network.destroy();
        assert_eq!(run("nft", "list tables"), "");
        until(|| (link_names() == ["lo"]).then_some(())).expect("links left");
    });
}
