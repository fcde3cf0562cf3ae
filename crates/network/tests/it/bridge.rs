//! Making, repairing and cleaning the bridge; choosing a network.

use network::{Bridge, BridgeError, Pool, pick_subnet};

use crate::lab::{BRIDGE, bridge_config, link_names, on_a_host, run, until};

#[test]
fn made_once_and_repaired_after() {
    on_a_host(|| {
        let bridge = Bridge::ensure(bridge_config()).unwrap();
        let list = || run("ip", &format!("-d -o addr show dev {BRIDGE}"));
        let pristine = list();
        assert!(
            pristine.contains("172.17.0.1/16 brd 172.17.255.255"),
            "{pristine}"
        );
        assert!(run("ip", "-o link show br0").contains("02:42:ac:11:00:01"));
        assert_eq!(Bridge::ensure(bridge_config()).unwrap(), bridge);

        run("ip", "addr flush dev br0");
        run("ip", "addr add 172.18.0.1/16 dev br0");
        run("ip", "link set br0 mtu 1400 down");
        Bridge::ensure(bridge_config()).unwrap();
        let addresses = run("ip", "-4 -o addr show dev br0");
        assert!(addresses.contains("172.17.0.1/16") && !addresses.contains("172.18"));
        assert!(run("ip", "-o link show br0").contains("mtu 1500"));
        assert!(run("ip", "-o link show br0").contains("UP"));
        let setting =
            |name: &str| std::fs::read_to_string(format!("/proc/sys/net/{name}")).unwrap();
        assert_eq!(setting("ipv4/ip_forward"), "1\n");
        assert_eq!(setting("ipv4/conf/br0/route_localnet"), "1\n");

        Bridge::remove(BRIDGE).unwrap();
        assert_eq!(link_names(), ["lo"]);
        Bridge::remove(BRIDGE).unwrap();
    });
}

#[test]
fn a_link_of_another_kind_is_not_taken() {
    on_a_host(|| {
        run("ip", "link add br0 type veth peer name br1");
        let error = Bridge::ensure(bridge_config()).unwrap_err();
        assert!(matches!(error, BridgeError::NotABridge { .. }), "{error}");
        let error = Bridge::remove("br0").unwrap_err();
        assert!(matches!(error, BridgeError::NotABridge { .. }), "{error}");
    });
}

#[test]
fn orphans_are_reaped_and_nothing_else() {
    on_a_host(|| {
        let bridge = Bridge::ensure(bridge_config()).unwrap();
        let pool = Pool::new(&bridge, 0).unwrap();
        let (alive, orphan) = (pool.take().unwrap(), pool.take().unwrap());
        let name = |s: &network::Sandbox| s.host_interface().unwrap().name.clone();
        run("ip", "link add veth0000001 type veth peer name other");
        run("ip", "link add mine type veth peer name yours");
        run("ip", "link set mine master br0");
        let reaped = bridge.reap(&[name(&alive)]).unwrap();
        assert_eq!(reaped, [name(&orphan)]);
        let links = link_names();
        for kept in [name(&alive), "veth0000001".to_owned(), "mine".to_owned()] {
            assert!(links.contains(&kept), "{kept}");
        }
        drop(alive);
        until(|| bridge.reap(&[]).unwrap().is_empty().then_some(())).unwrap();
    });
}

#[test]
fn the_chosen_network_is_free() {
    on_a_host(|| {
        assert_eq!(pick_subnet().unwrap().to_string(), "172.17.0.0/16");
        run("ip", "link add lan0 type veth peer name lan1");
        run("ip", "link set lan0 up");
        run("ip", "link set lan1 up");
        run("ip", "addr add 172.17.5.1/24 dev lan0");
        assert_eq!(pick_subnet().unwrap().to_string(), "172.18.0.0/16");
        run("ip", "route add 172.18.7.0/24 dev lan0");
        run("ip", "route add 172.19.0.0/16 dev lan0 table 77");
        run("ip", "route add default dev lan0");
        assert_eq!(pick_subnet().unwrap().to_string(), "172.20.0.0/16");
    });
}
