//! Making, repairing and cleaning the bridge; choosing a network.

use network::{Bridge, BridgeError, BridgeFault, HostSide, Pool, macvlan, pick_subnet};

use crate::lab::{BRIDGE, bridge_config, link_names, on_a_host, run, sysctl};

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
fn links_bear_their_owners_mark_and_no_others_are_deleted() {
    on_a_host(|| {
        let mut config = bridge_config();
        config.owner = Some("gorae test".to_owned());
        let bridge = Bridge::ensure(config).unwrap();
        let pool = Pool::new(&bridge, 0).unwrap();
        let sandbox = pool.take().unwrap();
        macvlan::ensure_parent("dm-000000000001", Some("gorae test")).unwrap();
        run("ip", "link add br1 type bridge");
        run("ip", "link add br2 type bridge");
        run("ip", "link set br2 alias other");
        let port = sandbox.host_interface().unwrap().name.clone();
        let links = network::host_links().unwrap();
        let ours = links.iter().filter(|link| link.alias == "gorae test");
        let mut ours: Vec<_> = ours.map(|link| link.name.as_str()).collect();
        ours.sort_unstable();
        assert_eq!(ours, ["br0", "dm-000000000001", &port]);
        for name in ["br1", "br2", "lo", "dm-000000000001", "gone"] {
            network::delete_owned("gorae test", name).unwrap();
            network::delete_owned("", name).unwrap();
        }
        let mut left = link_names();
        left.sort_unstable();
        assert_eq!(left, ["br0", "br1", "br2", "lo", &port]);
        network::delete_owned("gorae test", &port).unwrap();
        assert!(!link_names().contains(&port));
    });
}

#[test]
fn a_fault_is_named_and_mended() {
    on_a_host(|| {
        let mut config = bridge_config();
        config.sides.push(HostSide {
            subnet: "fd00:17::/64".parse().unwrap(),
            gateway: Some("fd00:17::1".parse().unwrap()),
        });
        let mut bridge = Bridge::ensure(config.clone()).unwrap();
        assert_eq!(bridge.fault().unwrap(), None);
        run("ip", "addr add 172.20.0.1/16 dev br0");
        assert_eq!(bridge.fault().unwrap(), None);
        for (damage, words) in [
            ("link set br0 down", "is down"),
            ("link set br0 mtu 1400", "has the MTU 1400 instead of 1500"),
            (
                "addr del 172.17.0.1/16 dev br0",
                "has lost its address 172.17.0.1/16",
            ),
            (
                "addr del fd00:17::1/64 dev br0",
                "has lost its address fd00:17::1/64",
            ),
            (
                "addr del fe80::1/64 dev br0",
                "has lost its address fe80::1/64",
            ),
            ("link del br0", "is gone"),
        ] {
            run("ip", damage);
            let fault = bridge.fault().unwrap().unwrap();
            assert_eq!(fault.to_string(), words, "{damage}");
            bridge = Bridge::ensure(config.clone()).unwrap();
            assert_eq!(bridge.fault().unwrap(), None, "{damage}");
        }
        for setting in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            sysctl(setting, "0");
            let fault = bridge.fault().unwrap();
            assert!(
                matches!(fault, Some(BridgeFault::Setting { .. })),
                "{setting}"
            );
            bridge = Bridge::ensure(config.clone()).unwrap();
            assert_eq!(bridge.fault().unwrap(), None, "{setting}");
        }
        run("ip", "link del br0");
        run("ip", "link add br0 type bridge");
        assert_eq!(bridge.fault().unwrap(), Some(BridgeFault::Another));
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
