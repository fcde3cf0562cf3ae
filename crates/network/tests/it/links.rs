//! Links of both protocols: made, attached, routed, found again, detached.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use network::{
    Attachment, Bridge, BridgeConfig, BridgeError, Gateway, Gateways, HostSide, MacAddress, Pool,
    PoolSize, Sandbox, SandboxError, mac_for,
};
use sys::netns;

use crate::lab::{
    PATIENCE, SILENCE, ask_tcp, interface, link_names, on_a_host, run, serve_tcp, until,
};

const PORT: u16 = 80;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn side(subnet: &str, gateway: Option<&str>) -> HostSide {
    HostSide {
        subnet: subnet.parse().unwrap(),
        gateway: gateway.map(ip),
    }
}

fn bridge(name: &str, sides: &[HostSide]) -> Bridge {
    Bridge::ensure(BridgeConfig {
        name: name.to_owned(),
        sides: sides.to_vec(),
        mtu: 1500,
        owner: None,
    })
    .unwrap()
}

/// A bridge of both families: 10.N.0.1/24 and fd00:N::1/64.
fn dual(name: &str, number: u8) -> Bridge {
    bridge(
        name,
        &[
            side(
                &format!("10.{number}.0.0/24"),
                Some(&format!("10.{number}.0.1")),
            ),
            side(
                &format!("fd00:{number}::/64"),
                Some(&format!("fd00:{number}::1")),
            ),
        ],
    )
}

fn attach(sandbox: &mut Sandbox, bridge: &Bridge, name: &str, addresses: &[(&str, u8)]) -> String {
    let addresses: Vec<_> = addresses.iter().map(|(a, p)| (ip(a), *p)).collect();
    let attachment = Attachment::Bridge {
        bridge,
        isolated: false,
    };
    let host = sandbox.attach(attachment, &interface(name, &addresses));
    host.unwrap().unwrap().name
}

fn inside<T: Send>(sandbox: &Sandbox, work: impl FnOnce() -> T + Send) -> T {
    netns::within(sandbox.netns(), work).unwrap()
}

fn ip_inside(sandbox: &Sandbox, arguments: &str) -> String {
    inside(sandbox, || run("ip", arguments))
}

fn gateway(address: &str, interface: &str) -> Option<Gateway> {
    Some(Gateway {
        address: ip(address),
        interface: interface.to_owned(),
    })
}

/// Tells whether a connection from here to a server there comes about.
fn reaches(from: &Sandbox, to: &Sandbox, address: &str) -> bool {
    connects(from, to, address, PATIENCE)
}

/// Tells whether no connection from here to a server there comes about.
fn is_cut_off(from: &Sandbox, to: &Sandbox, address: &str) -> bool {
    !connects(from, to, address, SILENCE)
}

fn connects(from: &Sandbox, to: &Sandbox, address: &str, patience: Duration) -> bool {
    let address = SocketAddr::new(ip(address), PORT);
    let server = inside(to, || serve_tcp(address));
    let outcome = inside(from, || ask_tcp(address, patience));
    if outcome.is_err() {
        // lets the server end
        let _ended = inside(to, || ask_tcp(address, PATIENCE));
    }
    server.join().unwrap();
    outcome.is_ok()
}

/// Tells whether the host answers at this address of its own.
fn reaches_host(from: &Sandbox, address: &str) -> bool {
    connects_to_host(from, address, PATIENCE)
}

fn connects_to_host(from: &Sandbox, address: &str, patience: Duration) -> bool {
    let address = SocketAddr::new(ip(address), PORT);
    let server = serve_tcp(address);
    let outcome = inside(from, || ask_tcp(address, patience));
    if outcome.is_err() {
        let _ended = ask_tcp(address, PATIENCE);
    }
    server.join().unwrap();
    outcome.is_ok()
}

fn setting(name: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/sys/net/{name}")).unwrap();
    text.trim().to_owned()
}

#[test]
fn a_bridge_of_both_families_is_made_and_repaired() {
    on_a_host(|| {
        let made = dual("br0", 1);
        let addresses = || run("ip", "-o addr show dev br0");
        let complete = |text: &str| {
            ["10.1.0.1/24", "fd00:1::1/64", "fe80::1/64"]
                .iter()
                .all(|address| text.contains(address))
                && text.lines().count() == 3
                && !text.contains("tentative")
        };
        assert!(complete(&addresses()), "{}", addresses());
        assert_eq!(setting("ipv6/conf/all/forwarding"), "1");
        assert_eq!(setting("ipv6/conf/br0/accept_ra"), "0");
        assert!(run("ip", "-o link show br0").contains("02:42:0a:01:00:01"));

        run("ip", "link set br0 mtu 1000 down");
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
        assert_eq!(dual("br0", 1), made);
        assert!(complete(&addresses()), "{}", addresses());
        run("ip", "-6 addr add fd00:77::1/64 dev br0");
        run("ip", "addr del 10.1.0.1/24 dev br0");
        assert_eq!(dual("br0", 1), made);
        assert!(complete(&addresses()), "{}", addresses());
        assert_eq!(setting("ipv4/ip_forward"), "1");

        // the network loses its IPv6
        bridge("br0", &[side("10.1.0.0/24", Some("10.1.0.1"))]);
        assert!(!addresses().contains("inet6"), "{}", addresses());
    });
}

#[test]
fn a_pooled_container_has_both_families() {
    on_a_host(|| {
        let bridge = dual("br0", 1);
        let pool = Pool::new(&bridge, 0).unwrap();
        let mut sandbox = pool.take().unwrap();
        let addresses = [(ip("10.1.0.2"), 24), (ip("fd00:1::2"), 64)];
        let gateways = Gateways {
            v4: gateway("10.1.0.1", "eth0"),
            v6: gateway("fd00:1::1", "eth0"),
        };
        sandbox
            .connect_and_route(&interface("eth0", &addresses), &gateways)
            .unwrap();
        let shown = ip_inside(&sandbox, "-o addr show dev eth0");
        let own = mac_for(addresses[0].0).link_local().to_string();
        for expected in ["10.1.0.2/24", "fd00:1::2/64", own.as_str()] {
            assert!(shown.contains(expected), "{expected} in {shown}");
        }
        assert_eq!(shown.lines().count(), 3, "{shown}");
        assert!(!shown.contains("tentative"), "{shown}");
        let ra = inside(&sandbox, || setting("ipv6/conf/eth0/accept_ra"));
        assert_eq!(ra, "0");
        assert!(reaches_host(&sandbox, "10.1.0.1"));
        assert!(reaches_host(&sandbox, "fd00:1::1"));
        let routes = ip_inside(&sandbox, "-6 route show default");
        assert!(
            routes.starts_with("default via fd00:1::1 dev eth0"),
            "{routes}"
        );
    });
}

#[test]
fn a_container_of_one_family_does_not_carry_the_other() {
    on_a_host(|| {
        let both = dual("br0", 1);
        let pool = Pool::new(&both, 0).unwrap();
        let mut four = pool.take().unwrap();
        four.connect(&interface("eth0", &[(ip("10.1.0.2"), 24)]))
            .unwrap();
        assert_eq!(ip_inside(&four, "-6 -o addr show dev eth0"), "");
        assert_eq!(
            inside(&four, || setting("ipv6/conf/eth0/disable_ipv6")),
            "1"
        );

        let six = bridge("br1", &[side("fd00:2::/64", Some("fd00:2::1"))]);
        assert_eq!(run("ip", "-4 -o addr show dev br1"), "");
        let (mut one, mut two) = (Sandbox::isolated().unwrap(), Sandbox::isolated().unwrap());
        attach(&mut one, &six, "eth0", &[("fd00:2::2", 64)]);
        attach(&mut two, &six, "eth0", &[("fd00:2::3", 64)]);
        assert_eq!(ip_inside(&one, "-4 -o addr show dev eth0"), "");
        assert!(reaches(&one, &two, "fd00:2::3"));
        assert!(reaches_host(&one, "fd00:2::1"));
    });
}

#[test]
fn isolated_ports_reach_the_host_and_not_each_other() {
    on_a_host(|| {
        let bridge = dual("br0", 1);
        let isolated = Attachment::Bridge {
            bridge: &bridge,
            isolated: true,
        };
        let mut sandboxes = Vec::new();
        for number in 2..4 {
            let mut sandbox = Sandbox::isolated().unwrap();
            let addresses = [
                (ip(&format!("10.1.0.{number}")), 24),
                (ip(&format!("fd00:1::{number}")), 64),
            ];
            sandbox
                .attach(isolated, &interface("eth0", &addresses))
                .unwrap();
            sandboxes.push(sandbox);
        }
        let pool = Pool::with_isolated_ports(&bridge, 0).unwrap();
        let mut pooled = pool.take().unwrap();
        pooled
            .connect(&interface("eth0", &[(ip("10.1.0.4"), 24)]))
            .unwrap();
        let [one, two] = &sandboxes[..] else {
            panic!("two were made");
        };
        for (from, to, address) in [
            (one, two, "10.1.0.3"),
            (one, two, "fd00:1::3"),
            (two, one, "10.1.0.2"),
            (one, &pooled, "10.1.0.4"),
            (&pooled, two, "10.1.0.3"),
        ] {
            assert!(is_cut_off(from, to, address), "{address}");
        }
        for sandbox in [one, two, &pooled] {
            assert!(reaches_host(sandbox, "10.1.0.1"));
        }
        assert!(reaches_host(one, "fd00:1::1"));
    });
}

#[test]
fn the_gateway_moves_between_several_links() {
    on_a_host(|| {
        let (first, second) = (dual("br0", 1), dual("br1", 2));
        let mut sandbox = Sandbox::isolated().unwrap();
        attach(
            &mut sandbox,
            &first,
            "eth0",
            &[("10.1.0.2", 24), ("fd00:1::2", 64)],
        );
        attach(
            &mut sandbox,
            &second,
            "eth1",
            &[("10.2.0.2", 24), ("fd00:2::2", 64)],
        );
        let defaults = |sandbox: &Sandbox| {
            ["-4 route show default", "-6 route show default"].map(|command| {
                let text = ip_inside(sandbox, command);
                let words = |line: &str| {
                    line.split_whitespace()
                        .take(5)
                        .collect::<Vec<_>>()
                        .join(" ")
                };
                text.lines().map(words).collect::<Vec<_>>()
            })
        };
        assert_eq!(defaults(&sandbox), [vec![""; 0], vec![]]);
        let over = |number: u8, link: &str| Gateways {
            v4: gateway(&format!("10.{number}.0.1"), link),
            v6: gateway(&format!("fd00:{number}::1"), link),
        };
        sandbox.route(&over(1, "eth0")).unwrap();
        assert_eq!(
            defaults(&sandbox),
            [
                ["default via 10.1.0.1 dev eth0"],
                ["default via fd00:1::1 dev eth0"]
            ]
        );
        sandbox.route(&over(2, "eth1")).unwrap();
        assert_eq!(
            defaults(&sandbox),
            [
                ["default via 10.2.0.1 dev eth1"],
                ["default via fd00:2::1 dev eth1"]
            ]
        );
        assert!(reaches_host(&sandbox, "10.1.0.1"));
        sandbox.detach("eth1").unwrap();
        assert_eq!(defaults(&sandbox), [vec![""; 0], vec![]]);
        sandbox.route(&over(1, "eth0")).unwrap();
        let four_only = Gateways {
            v6: None,
            ..over(1, "eth0")
        };
        sandbox.route(&four_only).unwrap();
        let no_six = [vec!["default via 10.1.0.1 dev eth0"], vec![]];
        assert_eq!(defaults(&sandbox), no_six);

        // another engine's sandbox, and a route that somebody added
        ip_inside(&sandbox, "route add default via 10.1.0.9 metric 50");
        let copy = sandbox.netns().try_clone_to_owned().unwrap();
        let mut adopted = Sandbox::adopt(copy).unwrap();
        adopted.route(&Gateways::default()).unwrap();
        assert_eq!(defaults(&sandbox), [vec![""; 0], vec![]]);
        let error = adopted.route(&over(1, "eth7")).unwrap_err();
        assert!(matches!(error, SandboxError::NoInterface { .. }), "{error}");
    });
}

#[test]
fn links_come_and_go_under_a_living_container() {
    on_a_host(|| {
        let (first, second) = (dual("br0", 1), dual("br1", 2));
        let mut sandbox = Sandbox::isolated().unwrap();
        let port = attach(&mut sandbox, &first, "eth0", &[("10.1.0.2", 24)]);
        let copy = sandbox.netns().try_clone_to_owned().unwrap();
        let mut seen = Sandbox::adopt(copy).unwrap();
        let second_port = attach(
            &mut seen,
            &second,
            "eth1",
            &[("fd00:2::2", 64), ("10.2.0.2", 24)],
        );

        let found = seen.interfaces().unwrap();
        let mut names: Vec<_> = found.iter().map(|link| link.name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["eth0", "eth1"]);
        for (name, port) in [("eth0", &port), ("eth1", &second_port)] {
            let link = found.iter().find(|link| link.name == name).unwrap();
            assert_eq!(link.host.as_ref().map(|host| &host.name), Some(port));
        }
        let eth1 = found.iter().find(|link| link.name == "eth1").unwrap();
        assert_eq!(eth1.mac, Some(mac_for(ip("fd00:2::2"))));
        assert_eq!(eth1.mtu, 1500);
        let mut addresses = eth1.addresses.clone();
        addresses.sort_unstable();
        assert_eq!(addresses, [(ip("10.2.0.2"), 24), (ip("fd00:2::2"), 64)]);

        // a pair that the container made itself is nobody's on the host
        ip_inside(&sandbox, "link add own type veth peer name owner");
        let found = seen.interfaces().unwrap();
        let own = found.iter().find(|link| link.name == "own").unwrap();
        assert_eq!(own.host, None);

        seen.detach("eth1").unwrap();
        seen.detach("eth1").unwrap();
        sandbox.detach("eth0").unwrap();
        until(|| {
            let names = link_names();
            (!names.contains(&port) && !names.contains(&second_port)).then_some(())
        })
        .expect("both ends go");
    });
}

#[test]
fn what_cannot_be_made_leaves_nothing() {
    on_a_host(|| {
        let bridge = dual("br0", 1);
        let mut sandbox = Sandbox::isolated().unwrap();
        attach(&mut sandbox, &bridge, "eth0", &[("10.1.0.2", 24)]);
        let before = (link_names(), inside(&sandbox, link_names));
        let good = interface("eth1", &[(ip("fd00:1::3"), 64)]);
        let attachment = Attachment::Bridge {
            bridge: &bridge,
            isolated: false,
        };
        let mut refused = |change: &dyn Fn(&mut network::Interface)| {
            let mut bad = good.clone();
            change(&mut bad);
            let error = sandbox.attach(attachment, &bad).unwrap_err();
            let after = (link_names(), inside(&sandbox, link_names));
            assert_eq!(before, after, "{error}");
            error
        };
        for mtu in [67, 1279, 65_536, u32::MAX] {
            let error = refused(&|bad| bad.mtu = mtu);
            assert!(matches!(error, SandboxError::Mtu { .. }), "{mtu}: {error}");
        }
        for mac in [
            "01:00:5e:00:00:01",
            "00:00:00:00:00:00",
            "ff:ff:ff:ff:ff:ff",
        ] {
            let error = refused(&|bad| bad.mac = Some(mac.parse().unwrap()));
            assert!(matches!(error, SandboxError::Mac { .. }), "{mac}: {error}");
        }
        let error = refused(&|bad| bad.name = "eth0".to_owned());
        assert!(matches!(error, SandboxError::NameTaken { .. }), "{error}");
        let error = refused(&|bad| bad.name = "a/b".to_owned());
        assert!(matches!(error, SandboxError::Name { .. }), "{error}");
        let unknown = ("net.ipv4.conf.IFNAME.no_such_setting", "1");
        let error =
            refused(&|bad| bad.sysctls = vec![(unknown.0.to_owned(), unknown.1.to_owned())]);
        assert!(matches!(error, SandboxError::Sysctl(_)), "{error}");
        let error = refused(&|bad| bad.sysctls = vec![("kernel.shmmax".to_owned(), String::new())]);
        assert!(matches!(error, SandboxError::Setting { .. }), "{error}");
        let error = refused(&|bad| bad.addresses = vec![(ip("10.1.0.3"), 40)]);
        assert!(matches!(error, SandboxError::Configure { .. }), "{error}");

        run("ip", "link del br0");
        let before: Vec<_> = link_names();
        let error = sandbox.attach(attachment, &good).unwrap_err();
        assert!(matches!(error, SandboxError::Attach { .. }), "{error}");
        until(|| (link_names() == before).then_some(())).expect("the new link goes");
    });
}

#[test]
fn wishes_for_a_link_are_met() {
    on_a_host(|| {
        let bridge = dual("br0", 1);
        let pool = Pool::new(&bridge, 0).unwrap();
        let wish = |number: u8| {
            let mac: MacAddress = format!("06:00:00:00:00:0{number}").parse().unwrap();
            let addresses = [(ip(&format!("10.1.0.{number}")), 24)];
            network::Interface {
                mac: Some(mac),
                mtu: 1300,
                sysctls: vec![(
                    "net.ipv4.conf.IFNAME.log_martians".to_owned(),
                    "1".to_owned(),
                )],
                ..interface("net7", &addresses)
            }
        };
        let (mut pooled, mut attached) = (pool.take().unwrap(), Sandbox::isolated().unwrap());
        pooled.connect(&wish(2)).unwrap();
        let attachment = Attachment::Bridge {
            bridge: &bridge,
            isolated: false,
        };
        attached.attach(attachment, &wish(3)).unwrap();
        for (number, sandbox) in [(2, &mut pooled), (3, &mut attached)] {
            let found = sandbox.interfaces().unwrap();
            assert_eq!(found.len(), 1);
            assert_eq!(
                (&*found[0].name, found[0].mtu, found[0].mac),
                ("net7", 1300, wish(number).mac)
            );
            let logs = inside(sandbox, || setting("ipv4/conf/net7/log_martians"));
            assert_eq!(logs, "1");
            let host = &found[0].host.as_ref().unwrap().name;
            let link = run("ip", &format!("-o link show {host}"));
            assert!(link.contains("mtu 1300"), "{link}");
        }
        assert!(reaches(&pooled, &attached, "10.1.0.3"));
    });
}

#[test]
fn living_containers_rejoin_a_bridge_that_was_deleted() {
    on_a_host(|| {
        let bridge = dual("br0", 1);
        let pool = Pool::new(
            &bridge,
            PoolSize {
                attached: 1,
                isolated: 0,
            },
        )
        .unwrap();
        let (mut one, mut two) = (Sandbox::isolated().unwrap(), Sandbox::isolated().unwrap());
        let mut ports = Vec::new();
        for (number, sandbox) in [(2, &mut one), (3, &mut two)] {
            let addresses = [
                (ip(&format!("10.1.0.{number}")), 24),
                (ip(&format!("fd00:1::{number}")), 64),
            ];
            let attachment = Attachment::Bridge {
                bridge: &bridge,
                isolated: number == 3,
            };
            let host = sandbox.attach(attachment, &interface("eth0", &addresses));
            ports.push((host.unwrap().unwrap().name, number == 3));
        }
        assert!(reaches(&one, &two, "10.1.0.3"));
        run("ip", "link del br0");
        assert!(is_cut_off(&one, &two, "10.1.0.3"));

        let again = dual("br0", 1);
        assert_ne!(again.index(), bridge.index());
        ports.push(("veth0000000".to_owned(), false));
        again.rejoin(&ports).unwrap();
        assert!(reaches(&one, &two, "10.1.0.3"));
        assert!(reaches(&one, &two, "fd00:1::3"));
        assert!(reaches_host(&one, "10.1.0.1") && reaches_host(&two, "fd00:1::1"));
        let port = run("bridge", &format!("-d link show dev {}", ports[1].0));
        assert!(
            port.contains("isolated on") && port.contains("hairpin on"),
            "{port}"
        );

        pool.rebind(&again);
        let mut pooled = pool.take().unwrap();
        pooled
            .connect(&interface("eth0", &[(ip("10.1.0.4"), 24)]))
            .unwrap();
        assert!(reaches(&pooled, &one, "10.1.0.2"));
    });
}

#[test]
fn a_host_that_listens_to_routers_goes_on_to() {
    on_a_host(|| {
        run("ip", "link add lan0 type veth peer name lan1");
        run("ip", "link add lan2 type veth peer name lan3");
        let write = |name: &str, value: &str| {
            std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}"), value).unwrap();
        };
        write("lan0/accept_ra", "1");
        write("lan1/accept_ra", "0");
        // somebody made this one a router, which does not listen
        write("lan2/accept_ra", "1");
        write("lan2/forwarding", "1");
        bridge("br0", &[side("10.1.0.0/24", Some("10.1.0.1"))]);
        let accept = |link: &str| setting(&format!("ipv6/conf/{link}/accept_ra"));
        assert_eq!(accept("lan0"), "1", "without IPv6 nothing is touched");
        assert_eq!(setting("ipv6/conf/all/forwarding"), "0");
        dual("br1", 2);
        assert_eq!(
            ["lan0", "lan1", "lan2", "br1"].map(accept),
            ["2", "0", "1", "0"]
        );
        run("ip", "link add late type veth peer name later");
        assert_eq!(accept("late"), "2");
    });
}

#[test]
fn a_host_without_address_is_no_part_of_the_network() {
    on_a_host(|| {
        run("ip", "link add lan0 type veth peer name lan1");
        run("ip", "addr add 10.9.0.1/24 dev lan0");
        run("ip", "link set lan0 up");
        let lone = bridge(
            "br0",
            &[side("10.1.0.0/24", None), side("fd00:1::/64", None)],
        );
        assert_eq!(run("ip", "-o addr show dev br0"), "");
        let (mut one, mut two) = (Sandbox::isolated().unwrap(), Sandbox::isolated().unwrap());
        attach(
            &mut one,
            &lone,
            "eth0",
            &[("10.1.0.2", 24), ("fd00:1::2", 64)],
        );
        attach(
            &mut two,
            &lone,
            "eth0",
            &[("10.1.0.3", 24), ("fd00:1::3", 64)],
        );
        assert!(reaches(&one, &two, "10.1.0.3"));
        assert!(reaches(&one, &two, "fd00:1::3"));
        // even one that looks for the host's other addresses on the wire
        ip_inside(&one, "route add 10.9.0.1 dev eth0");
        assert!(!connects_to_host(&one, "10.9.0.1", SILENCE));
        bridge("br0", &[side("10.1.0.0/24", Some("10.1.0.1"))]);
        assert!(reaches_host(&one, "10.1.0.1"));
    });
}

#[test]
fn bridges_that_cannot_be_are_refused() {
    on_a_host(|| {
        let make = |sides: &[HostSide], mtu| {
            Bridge::ensure(BridgeConfig {
                name: "br0".to_owned(),
                sides: sides.to_vec(),
                mtu,
                owner: None,
            })
        };
        let outside = make(&[side("10.1.0.0/24", Some("10.2.0.1"))], 1500).unwrap_err();
        assert!(matches!(outside, BridgeError::Gateway { .. }), "{outside}");
        for mtu in [0, 67, 65_536] {
            let error = make(&[side("10.1.0.0/24", Some("10.1.0.1"))], mtu).unwrap_err();
            assert!(matches!(error, BridgeError::Mtu { .. }), "{error}");
        }
        let small = make(&[side("fd00::/64", None)], 1279).unwrap_err();
        assert!(matches!(small, BridgeError::Mtu { .. }), "{small}");
        assert_eq!(link_names(), ["lo"]);
        make(&[side("10.1.0.0/24", Some("10.1.0.1"))], 1000).unwrap();
        let mut sandbox = Sandbox::isolated().unwrap();
        let four = Bridge::ensure(BridgeConfig {
            name: "br0".to_owned(),
            sides: vec![side("10.1.0.0/24", Some("10.1.0.1"))],
            mtu: 1000,
            owner: None,
        });
        attach(&mut sandbox, &four.unwrap(), "eth0", &[("10.1.0.2", 24)]);
        assert!(reaches_host(&sandbox, "10.1.0.1"));
    });
}

#[test]
fn what_a_link_has_lost_is_given_back() {
    on_a_host(|| {
        let bridge = dual("br0", 1);
        let mut sandbox = Sandbox::isolated().unwrap();
        let addresses = [("10.1.0.2", 24), ("fd00:1::2", 64)];
        attach(&mut sandbox, &bridge, "eth0", &addresses);
        let routes = Gateways {
            v4: gateway("10.1.0.1", "eth0"),
            v6: gateway("fd00:1::1", "eth0"),
        };
        sandbox.route(&routes).unwrap();
        let wanted = addresses.map(|(a, p)| (ip(a), p));
        let wanted = interface("eth0", &wanted);
        let pristine = sandbox.interfaces().unwrap();
        assert!(pristine[0].up);
        let both = [routes.v4.clone().unwrap(), routes.v6.clone().unwrap()];
        assert_eq!(sandbox.default_routes().unwrap(), both);
        for damage in [
            "addr del 10.1.0.2/24 dev eth0",
            "addr flush dev eth0",
            "link set eth0 down",
            "link set eth0 address 02:00:00:00:00:99",
        ] {
            ip_inside(&sandbox, damage);
            assert_ne!(sandbox.interfaces().unwrap(), pristine, "{damage}");
            sandbox.refresh(&wanted).unwrap();
            sandbox.route(&routes).unwrap();
            assert_eq!(sandbox.interfaces().unwrap(), pristine, "{damage}");
            assert_eq!(sandbox.default_routes().unwrap(), both, "{damage}");
            assert!(reaches_host(&sandbox, "10.1.0.1"), "{damage}");
            assert!(reaches_host(&sandbox, "fd00:1::1"), "{damage}");
        }
        ip_inside(&sandbox, "route del default");
        assert_eq!(sandbox.default_routes().unwrap(), both[1..]);
        ip_inside(&sandbox, "-6 route del default");
        ip_inside(&sandbox, "route add default dev eth0 scope link");
        ip_inside(&sandbox, "route add unreachable default metric 9");
        assert_eq!(
            sandbox.default_routes().unwrap(),
            [gateway("0.0.0.0", "eth0").unwrap()]
        );
        let lost = interface("eth1", &[(ip("10.1.0.2"), 24)]);
        let error = sandbox.refresh(&lost).unwrap_err();
        assert!(matches!(error, SandboxError::NoInterface { .. }), "{error}");
    });
}
