//! Which networks the host already has, and the small ones that are chosen beside them.

use network::{default_pools, pick_from, ula_pool, used_by_host};

use crate::lab::{on_a_host, run};

#[test]
fn new_networks_avoid_what_the_host_and_its_vpn_reach() {
    on_a_host(|| {
        assert!(host().is_empty(), "{:?}", host());
        run("ip", "link add tun0 type veth peer name far0");
        run("ip", "link set tun0 up");
        run("ip", "link set far0 up");
        run("ip", "addr add 10.8.0.6/24 dev tun0");
        run("ip", "-6 addr add fd12:3456::6/64 dev tun0 nodad");
        run("ip", "route add default dev tun0");
        // a VPN that takes all traffic sets the halves of a default route
        run("ip", "route add 0.0.0.0/1 dev tun0");
        run("ip", "route add 128.0.0.0/1 dev tun0");
        run("ip", "route add 172.18.0.0/16 via 10.8.0.1 dev tun0");
        run("ip", "route add blackhole 192.0.2.0/24");
        let expected = [
            "10.8.0.0/24 address of tun0",
            "10.8.0.0/24 route via tun0",
            "172.18.0.0/16 route via tun0",
            "192.0.2.0/24 route of the host",
            "fd12:3456::/64 address of tun0",
            "fd12:3456::/64 route via tun0",
        ];
        assert_eq!(host(), expected);
        assert_eq!(pick(), "172.19.0.0/24");
        run("ip", "route add 172.19.0.0/23 dev tun0 table 77");
        assert_eq!(pick(), "172.19.2.0/24");
    });
}

fn host() -> Vec<String> {
    let used = used_by_host().unwrap();
    let mut lines: Vec<_> = used.iter().map(|(net, by)| format!("{net} {by}")).collect();
    lines.sort();
    lines.dedup();
    lines.retain(|line| !line.ends_with(" lo"));
    lines
}

fn pick() -> String {
    let used: Vec<_> = used_by_host()
        .unwrap()
        .iter()
        .map(|(net, _)| *net)
        .collect();
    let six = pick_from(&[ula_pool([0x12, 0x34, 0x56, 0, 0])], &used).unwrap();
    assert_eq!(six.to_string(), "fd12:3456:0:1::/64");
    pick_from(&default_pools(), &used).unwrap().to_string()
}
