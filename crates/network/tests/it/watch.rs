//! What others do to our tables and bridges is seen and put back.

use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use network::{Disturbance, Firewall, GatewayMode, PublishPolicy, Rules, Watcher, Zone, ZoneSide};

use crate::lab::{ANY, TABLE, mapping, on_a_host, published, run, until};

const QUIET: Duration = Duration::from_millis(200);
/// On a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

fn rules() -> Rules {
    Rules {
        zones: vec![Zone {
            bridge: "br0".to_owned(),
            v4: Some(ZoneSide {
                subnet: "172.17.0.0/16".parse().unwrap(),
                mode: GatewayMode::Nat,
                masquerade: true,
                source: None,
            }),
            v6: None,
            internal: false,
            icc: true,
        }],
        published: vec![mapping(
            network::Protocol::Tcp,
            ANY,
            8080,
            [172, 17, 0, 2].into(),
        )],
        ..Rules::default()
    }
}

fn watched(policy: PublishPolicy, test: impl FnOnce(&Firewall, &Receiver<Disturbance>) + Send) {
    on_a_host(|| {
        run("ip", "link add br0 type bridge");
        run("ip", "addr add 172.17.0.1/16 dev br0");
        run("ip", "link set br0 up");
        let bridges = Arc::new(Mutex::new(BTreeSet::from(["br0".to_owned()])));
        let (tell, told) = channel();
        let firewall = Firewall::ensure(TABLE, policy, rules()).unwrap();
        let on = Box::new(move |what| tell.send(what).unwrap());
        let watcher = Watcher::start(TABLE, bridges, on).unwrap();
        test(&firewall, &told);
        drop(watcher);
        // the channel closes when the watcher's thread has ended
        while told.recv().is_ok() {}
    });
}

#[test]
fn what_others_take_away_is_back_within_a_second() {
    watched(PublishPolicy::Docker, |firewall, told| {
        let rule = run("nft", "-a list chain inet gorae forward");
        let handle = rule
            .lines()
            .find(|line| line.contains("published ports"))
            .and_then(|line| line.split("handle ").nth(1))
            .unwrap();
        let deletion = format!("delete rule inet gorae forward handle {handle}");
        for damage in [
            "flush ruleset",
            "delete table inet gorae",
            "delete table bridge gorae",
            "delete element inet gorae wildcard4 { tcp . 8080 }",
            "add element inet gorae bridges { eth0 }",
            "insert rule inet gorae forward drop",
            "flush chain inet gorae postrouting",
            &deletion,
        ] {
            if damage == deletion {
                // its number changed when the table was made again
                let list = run("nft", "-a list chain inet gorae forward");
                let line = list.lines().find(|line| line.contains("published ports"));
                let handle = line.unwrap().split("handle ").nth(1).unwrap();
                run(
                    "nft",
                    &format!("delete rule inet gorae forward handle {handle}"),
                );
            } else {
                run("nft", damage);
            }
            let seen = told.recv_timeout(PATIENCE);
            assert_eq!(seen, Ok(Disturbance::Rules), "{damage}");
            assert!(firewall.restore().unwrap(), "{damage}");
            assert!(told.recv_timeout(QUIET).is_err(), "{damage}: told twice");
            assert!(!firewall.restore().unwrap(), "{damage}");
        }
    });
}

#[test]
fn what_we_do_and_what_others_do_elsewhere_is_not_told() {
    watched(PublishPolicy::Docker, |firewall, told| {
        let port = [mapping(
            network::Protocol::Tcp,
            ANY,
            81,
            [172, 17, 0, 3].into(),
        )];
        firewall.add(&published(&port)).unwrap();
        firewall.remove(&published(&port)).unwrap();
        let again = Firewall::ensure(TABLE, PublishPolicy::Docker, rules()).unwrap();
        again.destroy().unwrap();
        assert!(firewall.restore().unwrap());
        run("nft", "add table inet other");
        run(
            "nft",
            "add chain inet other input { type filter hook input priority 0 ; }",
        );
        run("nft", "delete table inet other");
        run("ip", "link add br9 type bridge");
        run("ip", "link delete br9");
        run("ip", "link add veth0 type veth peer name veth1");
        run("ip", "link set veth0 master br0");
        run("ip", "link set veth0 up");
        run("ip", "link delete veth0");
        run("ip", "addr add 10.1.1.1/24 dev lo");
        run("ip", "addr del 10.1.1.1/24 dev lo");
        assert_eq!(told.recv_timeout(QUIET).ok(), None);
    });
}

#[test]
fn a_bridge_that_is_deleted_or_changed_is_told_by_name() {
    watched(PublishPolicy::Docker, |_, told| {
        let bridge = Ok(Disturbance::Bridge("br0".to_owned()));
        for damage in [
            "addr del 172.17.0.1/16 dev br0",
            "link set br0 down",
            "link delete br0",
        ] {
            run("ip", damage);
            let seen = told.recv_timeout(PATIENCE);
            assert_eq!(seen, bridge, "{damage}");
            assert!(told.recv_timeout(QUIET).is_err(), "{damage}: told twice");
        }
    });
}

#[test]
fn the_links_of_the_hosts_last_word_are_put_back() {
    watched(PublishPolicy::HostFirewall, |firewall, told| {
        run("ip", "link delete gorae-in");
        let seen = told.recv_timeout(PATIENCE);
        assert_eq!(seen, Ok(Disturbance::Rules));
        assert!(firewall.restore().unwrap());
        assert!(!firewall.restore().unwrap());
        assert!(run("ip", "-o link").contains("gorae-in"));
    });
}

#[test]
fn a_flush_of_tens_of_thousands_of_elements_is_told() {
    watched(PublishPolicy::Docker, |firewall, told| {
        let ports: Vec<_> = (1..=u16::MAX)
            .map(|port| mapping(network::Protocol::Udp, ANY, port, [172, 17, 0, 2].into()))
            .collect();
        firewall.add(&published(&ports)).unwrap();
        while told.recv_timeout(QUIET).is_ok() {}
        run("nft", "flush ruleset");
        let rules = until(|| (told.recv() == Ok(Disturbance::Rules)).then_some(()));
        assert!(rules.is_some());
        assert!(firewall.restore().unwrap());
        assert!(!firewall.restore().unwrap());
    });
}
