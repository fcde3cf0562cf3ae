//! Sandboxes and the pool of them.

use std::process::{Command, Stdio};
use std::time::Duration;

use network::{Bridge, CounterReader, Pool, PoolSize, Protocol, Sandbox, mac_for};
use sys::netns;

use crate::lab::{
    ANY, BRIDGE, Lab, Network, PATIENCE, ask_tcp, bridge_config, in_the_lab, inside, interface,
    join, link_names, on_a_host, run, serve_tcp, until,
};

fn ip_inside(sandbox: &Sandbox, arguments: &str) -> String {
    netns::within(sandbox.netns(), || run("ip", arguments)).unwrap()
}

#[test]
fn connecting_gives_address_route_and_mac() {
    on_a_host(|| {
        let bridge = Bridge::ensure(bridge_config()).unwrap();
        let pool = Pool::new(&bridge, 0).unwrap();
        let mut sandbox = pool.take().unwrap();
        assert_eq!(ip_inside(&sandbox, "-4 -o addr show dev eth0"), "");
        let ip = [172, 17, 0, 9].into();
        join(&mut sandbox, ip);
        let address = ip_inside(&sandbox, "-4 -o addr show dev eth0");
        assert!(
            address.contains("172.17.0.9/16 brd 172.17.255.255"),
            "{address}"
        );
        let link = ip_inside(&sandbox, "-o link show dev eth0");
        assert!(
            link.contains(&mac_for(ip).to_string()) && link.contains("UP"),
            "{link}"
        );
        let routes = ip_inside(&sandbox, "route");
        assert!(
            routes.starts_with("default via 172.17.0.1 dev eth0"),
            "{routes}"
        );
        let settings = netns::within(sandbox.netns(), || {
            ["ip_unprivileged_port_start", "ping_group_range"]
                .map(|name| std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap())
        });
        assert_eq!(settings.unwrap(), ["0\n", "0\t2147483647\n"]);
    });
}

#[test]
fn an_isolated_sandbox_has_loopback_only() {
    on_a_host(|| {
        let bridge = Bridge::ensure(bridge_config()).unwrap();
        let pool = Pool::new(
            &bridge,
            PoolSize {
                attached: 0,
                isolated: 1,
            },
        )
        .unwrap();
        let mut sandbox = pool.take_isolated().unwrap();
        assert!(sandbox.host_interface().is_none());
        let eth0 = interface("eth0", &[([172, 17, 0, 9].into(), 16)]);
        assert!(sandbox.connect(&eth0).is_err());
        let links = netns::within(sandbox.netns(), link_names).unwrap();
        assert_eq!(links, ["lo"]);
        assert!(ip_inside(&sandbox, "-o addr").contains("127.0.0.1/8"));
    });
}

#[test]
fn the_pool_fills_and_empties_and_fills() {
    on_a_host(|| {
        let bridge = Bridge::ensure(bridge_config()).unwrap();
        let pool = Pool::new(
            &bridge,
            PoolSize {
                attached: 3,
                isolated: 2,
            },
        )
        .unwrap();
        let filled = || until(|| (pool.ready() == (3, 2)).then_some(())).unwrap();
        filled();
        let taken: Vec<_> = (0..5).map(|_| pool.take().unwrap()).collect();
        let isolated: Vec<_> = (0..3).map(|_| pool.take_isolated().unwrap()).collect();
        filled();
        let ports = || {
            link_names()
                .iter()
                .filter(|name| name.starts_with("veth"))
                .count()
        };
        assert_eq!(ports(), 8);
        drop((taken, isolated));
        until(|| (ports() == 3).then_some(())).expect("dropped sandboxes must go");
        drop(pool);
        until(|| (ports() == 0).then_some(())).expect("a dropped pool's sandboxes must go");
    });
}

#[test]
fn a_namespace_in_use_is_found_again() {
    in_the_lab(|lab| {
        let web = lab.container();
        let known = web.sandbox.host_interface().unwrap().clone();
        let copy = web.sandbox.netns().try_clone_to_owned().unwrap();
        let found = Sandbox::adopt(copy).unwrap().interfaces().unwrap();
        let [eth0] = &found[..] else {
            panic!("{found:?}");
        };
        assert_eq!((eth0.name.as_str(), eth0.mtu), ("eth0", 1500));
        assert_eq!(eth0.mac, Some(mac_for(web.ip)));
        assert_eq!(eth0.addresses, [(web.ip, 16)]);
        assert_eq!(eth0.host, Some(known));
        let mut isolated = lab.network.pool.take_isolated().unwrap();
        assert_eq!(isolated.interfaces().unwrap(), []);
    });
}

/// Reads how many bytes came in, as `ip` prints it.
fn received(sandbox: &Sandbox) -> u64 {
    let text = ip_inside(sandbox, "-s -o link show dev eth0");
    let (_, behind) = text.split_once("RX:").unwrap();
    behind
        .split_whitespace()
        .find_map(|word| word.parse().ok())
        .unwrap()
}

#[test]
fn counters_tell_what_the_container_received() {
    in_the_lab(|lab| {
        let web = lab.container();
        let server = inside(&web, || serve_tcp((ANY, 80).into()));
        ask_tcp((web.ip, 80).into(), PATIENCE).unwrap();
        server.join().unwrap().unwrap();
        let index = web.sandbox.host_interface().unwrap().index;
        let mut reader = CounterReader::open().unwrap();
        let mut seen = || {
            reader
                .read(index)
                .unwrap()
                .map(network::Counters::from_peer)
        };
        // the connection's last packets are still on their way
        let same = || seen().filter(|seen| seen.rx_bytes == received(&web.sandbox));
        let seen = until(same).expect("both count the same");
        assert!(seen.rx_packets >= 3 && seen.tx_packets >= 3);
        assert_eq!(reader.read(99_999).unwrap(), None);
    });
}

const VICTIM: &str = "GORAE_NETWORK_TEST_VICTIM";

/// Only as a child of the test below: an engine with a network, a container and a port.
#[test]
fn victim() {
    if std::env::var_os(VICTIM).is_none() {
        return;
    }
    let network = Network::start(3);
    let lab = Lab {
        network,
        outside: netns::create().unwrap(),
    };
    let web = lab.container();
    lab.publish(Protocol::Tcp, ANY, 8080, &web);
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn an_engine_killed_at_any_moment_leaves_no_link_and_the_next_one_starts() {
    on_a_host(|| {
        for delay in [2, 5, 10, 20, 40, 200] {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "sandbox::victim"])
                .env(VICTIM, "1")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let reached = until(|| link_names().contains(&BRIDGE.to_owned()).then_some(()));
            std::thread::sleep(Duration::from_millis(delay));
            child.kill().unwrap();
            child.wait().unwrap();
            reached.expect("the victim starts");
            let none_left = || !link_names().iter().any(|name| name.starts_with("veth"));
            until(|| none_left().then_some(())).expect("the kernel removes its links");
            let next = Network::start(0);
            assert!(!next.firewall.restore().unwrap());
            next.destroy();
            assert_eq!(
                (link_names(), run("nft", "list tables")),
                (vec!["lo".to_owned()], String::new())
            );
        }
    });
}
