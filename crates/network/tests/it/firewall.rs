//! The table as `nft` and the crate itself see it.

use network::{Firewall, Protocol, Zone};

use crate::lab::{ANY, HOST, Network, TABLE, link_names, mapping, on_a_host, run, until};

fn zones() -> Vec<Zone> {
    vec![Zone {
        bridge: "br0".to_owned(),
        subnet: "172.17.0.0/16".parse().unwrap(),
    }]
}

/// What `nft` must print for one bridge and a port of each kind.
const EXPECTED: &str = r#"table inet gorae {
	map published {
		type inet_proto . ipv4_addr . inet_service : ipv4_addr . inet_service
		elements = { udp . 10.9.0.1 . 53 : 172.17.0.3 . 80 }
	}

	map wildcard {
		type inet_proto . inet_service : ipv4_addr . inet_service
		elements = { tcp . 8080 : 172.17.0.2 . 80 }
	}

	chain guard {
		type filter hook prerouting priority raw; policy accept;
		iifname != "lo" ip daddr 127.0.0.0/8 drop comment "loopback is for this host"
	}

	chain prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		dnat ip to meta l4proto . ip daddr . th dport map @published comment "ports published on one address"
		meta nfproto ipv4 fib daddr type local dnat ip to meta l4proto . th dport map @wildcard comment "ports published on all addresses"
	}

	chain output {
		type nat hook output priority -100; policy accept;
		dnat ip to meta l4proto . ip daddr . th dport map @published comment "ports published on one address"
		meta nfproto ipv4 fib daddr type local dnat ip to meta l4proto . th dport map @wildcard comment "ports published on all addresses"
	}

	chain forward {
		type filter hook forward priority filter; policy accept;
		ct state established,related accept comment "what has begun goes on"
		oifname "br0" ct status dnat accept comment "published ports into br0"
		oifname "br0" iifname "br0" accept comment "within br0"
		oifname "br0" drop comment "nothing else into br0"
	}

	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		oifname != "br0" ip saddr 172.17.0.0/16 masquerade comment "172.17.0.0/16 leaving br0"
		oifname "br0" ct status dnat ip saddr 172.17.0.0/16 masquerade comment "172.17.0.0/16 to its own published ports"
		oifname "br0" ip saddr 127.0.0.0/8 masquerade comment "loopback to br0"
	}
}
"#;

#[test]
fn nft_reads_the_table_as_it_was_meant() {
    on_a_host(|| {
        let ports = [
            mapping(Protocol::Tcp, ANY, 8080, [172, 17, 0, 2].into()),
            mapping(Protocol::Udp, HOST, 53, [172, 17, 0, 3].into()),
        ];
        let firewall = Firewall::ensure(TABLE, zones(), &ports).unwrap();
        assert_eq!(run("nft", "list ruleset"), EXPECTED);
        assert!(firewall.verify(&ports).unwrap());
        let again = Firewall::ensure(TABLE, zones(), &ports).unwrap();
        assert_eq!(run("nft", "list ruleset"), EXPECTED);
        assert!(again.verify(&ports).unwrap());
        firewall.destroy().unwrap();
        assert_eq!(run("nft", "list ruleset"), "");
        again.destroy().unwrap();
    });
}

#[test]
fn damage_is_seen_and_repaired_and_foreign_tables_stay() {
    on_a_host(|| {
        let ports = [mapping(Protocol::Tcp, ANY, 8080, [172, 17, 0, 2].into())];
        run("nft", "add table inet other");
        let firewall = Firewall::ensure(TABLE, zones(), &ports).unwrap();
        let damages = [
            "flush chain inet gorae guard",
            "flush map inet gorae wildcard",
            "insert rule inet gorae forward accept",
            "delete table inet gorae",
        ];
        for damage in damages {
            assert!(firewall.verify(&ports).unwrap(), "before {damage}");
            run("nft", damage);
            assert!(!firewall.verify(&ports).unwrap(), "after {damage}");
            firewall.replace(&ports).unwrap();
        }
        assert!(firewall.verify(&ports).unwrap());
        assert!(!firewall.verify(&[]).unwrap());
        firewall.destroy().unwrap();
        assert_eq!(run("nft", "list tables"), "table inet other\n");
    });
}

#[test]
fn a_port_that_led_elsewhere_is_moved() {
    on_a_host(|| {
        let firewall = Firewall::ensure(TABLE, zones(), &[]).unwrap();
        let port = |host, container: [u8; 4]| mapping(Protocol::Tcp, host, 8080, container.into());
        firewall
            .publish(&[port(ANY, [172, 17, 0, 2]), port(HOST, [172, 17, 0, 3])])
            .unwrap();
        firewall.publish(&[port(ANY, [172, 17, 0, 2])]).unwrap();
        let moved = [port(ANY, [172, 17, 0, 4]), port(HOST, [172, 17, 0, 5])];
        firewall.publish(&moved).unwrap();
        assert!(firewall.verify(&moved).unwrap());
    });
}

#[test]
fn thousands_of_ports_are_one_transaction() {
    on_a_host(|| {
        let firewall = Firewall::ensure(TABLE, zones(), &[]).unwrap();
        let ports: Vec<_> = (1..=u16::MAX)
            .map(|port| mapping(Protocol::Tcp, ANY, port, [172, 17, 0, 2].into()))
            .collect();
        firewall.publish(&ports).unwrap();
        assert!(firewall.verify(&ports).unwrap());
        firewall.replace(&ports).unwrap();
        assert!(firewall.verify(&ports).unwrap());
        firewall.unpublish(&ports).unwrap();
        assert!(firewall.verify(&[]).unwrap());
    });
}

#[test]
fn the_kernels_words_reach_the_error() {
    on_a_host(|| {
        let long = "x".repeat(300);
        let error = Firewall::ensure(long, zones(), &[]).unwrap_err();
        let source = std::error::Error::source(&error).unwrap();
        assert!(
            source.to_string().contains("cannot make the table"),
            "{source}"
        );
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
