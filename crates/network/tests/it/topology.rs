//! Who reaches whom between networks of every kind, in both versions of IP.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};

use network::{Firewall, GatewayMode, OpenPort, PortMapping, Protocol, PublishPolicy, Rules, Zone};

use crate::lab::{TABLE, published, run, sysctl};
use crate::world::{
    Machine, PATIENCE, SERVICE, SILENCE, ask, ask_within, bridge, guest, in_the_world, ip, mapping,
    network, side, silent,
};

const PORT: u16 = 8080;
const BOTH: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];

fn firewall(zones: Vec<Zone>, guests: &[&Machine], published: Vec<PortMapping>) -> Firewall {
    let rules = Rules {
        zones,
        members: guests.iter().map(|guest| guest.member()).collect(),
        published,
        open: Vec::new(),
    };
    Firewall::ensure(TABLE, PublishPolicy::Docker, rules).unwrap()
}

/// One port of each protocol and version on all addresses.
fn everywhere(to: &Machine) -> Vec<PortMapping> {
    BOTH.into_iter()
        .flat_map(|protocol| {
            [
                mapping(protocol, "0.0.0.0", PORT, to.v4()),
                mapping(protocol, "::", PORT, to.v6()),
            ]
        })
        .collect()
}

#[test]
fn published_ports_are_reached_from_everywhere_and_the_address_is_kept() {
    in_the_world(|outside| {
        let zones = vec![network(1), network(2)];
        let (web, same, other) = (guest(1, 2), guest(1, 3), guest(2, 2));
        let _firewall = firewall(zones, &[&web, &same, &other], everywhere(&web));
        for protocol in BOTH {
            for (host, asker, seen) in [
                ("10.9.0.1", outside, outside.v4()),
                ("fd09::1", outside, outside.v6()),
                ("10.9.0.1", &other, other.v4()),
                ("172.20.2.1", &other, other.v4()),
                ("fd09::1", &other, other.v6()),
                ("fd20:2::1", &other, other.v6()),
                // hairpin: the answer has to come back through the host
                ("10.9.0.1", &same, ip("172.20.1.1")),
                ("fd09::1", &same, ip("fd20:1::1")),
                ("172.20.1.1", &web, ip("172.20.1.1")),
                ("fd20:1::1", &web, ip("fd20:1::1")),
            ] {
                let answer = asker.asks(protocol, ip(host), PORT);
                assert_eq!(
                    answer,
                    Some(seen),
                    "{protocol} from {} to {host}",
                    asker.port
                );
            }
            for host in [
                "10.9.0.1",
                "127.0.0.1",
                "172.20.1.1",
                "fd09::1",
                "fd20:1::1",
            ] {
                let answer = ask(protocol, SocketAddr::new(ip(host), PORT));
                assert!(answer.is_some(), "{protocol} from the host to {host}");
            }
        }
    });
}

#[test]
fn networks_are_isolated_and_guests_of_one_talk() {
    in_the_world(|outside| {
        let zones = vec![network(1), network(2)];
        let (a, b, c) = (guest(1, 2), guest(1, 3), guest(2, 2));
        let _firewall = firewall(zones, &[&a, &b, &c], Vec::new());
        for protocol in BOTH {
            for (to, seen) in [(b.v4(), a.v4()), (b.v6(), a.v6())] {
                assert_eq!(a.asks(protocol, to, SERVICE), Some(seen));
            }
            for to in [c.v4(), c.v6()] {
                assert!(
                    a.inside(|| silent(protocol, to, SERVICE)),
                    "{to} from another network"
                );
                assert!(
                    outside.inside(|| silent(protocol, to, SERVICE)),
                    "{to} from outside"
                );
                assert!(
                    ask(protocol, SocketAddr::new(to, SERVICE)).is_some(),
                    "the host may"
                );
            }
            for (to, seen) in [
                (outside.v4(), ip("10.9.0.1")),
                (outside.v6(), ip("fd09::1")),
            ] {
                assert_eq!(a.asks(protocol, to, SERVICE), Some(seen), "masqueraded");
            }
        }
        // and it is the rule that stops it
        run("nft", "flush chain inet gorae forward");
        assert!(a.asks(Protocol::Tcp, c.v4(), SERVICE).is_some());
        assert!(a.asks(Protocol::Tcp, c.v6(), SERVICE).is_some());
    });
}

#[test]
fn an_internal_network_reaches_the_host_and_nobody_else() {
    in_the_world(|outside| {
        let mut inner = network(1);
        inner.internal = true;
        let zones = vec![inner, network(2)];
        let (a, b, c) = (guest(1, 2), guest(1, 3), guest(2, 2));
        // even a port that should not be published there
        let mut ports = everywhere(&c);
        ports.push(mapping(Protocol::Tcp, "0.0.0.0", 9090, a.v4()));
        let _firewall = firewall(zones, &[&a, &b, &c], ports);
        for protocol in BOTH {
            assert_eq!(a.asks(protocol, b.v4(), SERVICE), Some(a.v4()));
            assert_eq!(a.asks(protocol, b.v6(), SERVICE), Some(a.v6()));
            for address in a.addresses.iter().copied() {
                assert!(ask(protocol, SocketAddr::new(address, SERVICE)).is_some());
                assert!(outside.inside(|| silent(protocol, address, SERVICE)));
                assert!(c.inside(|| silent(protocol, address, SERVICE)));
            }
            for address in [outside.v4(), outside.v6(), c.v4(), c.v6()] {
                assert!(
                    a.inside(|| silent(protocol, address, SERVICE)),
                    "to {address}"
                );
            }
            for host in ["10.9.0.1", "172.20.1.1", "fd09::1"] {
                assert!(
                    a.inside(|| silent(protocol, ip(host), PORT)),
                    "published at {host}"
                );
            }
        }
        assert!(outside.inside(|| silent(Protocol::Tcp, ip("10.9.0.1"), 9090)));
        assert!(c.inside(|| silent(Protocol::Tcp, ip("10.9.0.1"), 9090)));
    });
}

#[test]
fn without_communication_guests_of_one_network_do_not_talk() {
    for br_netfilter in ["0", "1"] {
        in_the_world(|outside| {
            let mut zone = network(1);
            zone.icc = false;
            let (a, b) = (guest(1, 2), guest(1, 3));
            for guest in [&a, &b] {
                run(
                    "ip",
                    &format!("link set {} type bridge_slave isolated on", guest.port),
                );
            }
            let setting = "/proc/sys/net/bridge/bridge-nf-call-iptables";
            if std::fs::write(setting, br_netfilter).is_err() && br_netfilter == "1" {
                return;
            }
            let _firewall = firewall(vec![zone], &[&a, &b], everywhere(&b));
            for address in [b.v4(), b.v6()] {
                assert!(a.inside(|| silent(Protocol::Tcp, address, SERVICE)));
                assert!(ask(Protocol::Tcp, SocketAddr::new(address, SERVICE)).is_some());
            }
            // by way of the host as well: through its gateway, not over the bridge
            a.inside(|| run("ip", "route add 172.20.1.3/32 via 172.20.1.1"));
            assert!(a.inside(|| silent(Protocol::Tcp, b.v4(), SERVICE)));
            // br_netfilter sends what it redirected straight on, which the isolation stops
            let published = a.asks(Protocol::Tcp, ip("10.9.0.1"), PORT);
            if br_netfilter == "0" {
                assert_eq!(published, Some(ip("172.20.1.1")), "what is published is");
            }
            assert!(a.asks(Protocol::Tcp, outside.v4(), SERVICE).is_some());
        });
    }
}

#[test]
fn a_routed_network_is_reached_at_open_ports_and_keeps_its_addresses() {
    in_the_world(|outside| {
        let mut routed = network(1);
        for side in [&mut routed.v4, &mut routed.v6] {
            side.as_mut().unwrap().mode = GatewayMode::Routed;
        }
        let (a, b, c) = (guest(1, 2), guest(1, 3), guest(1, 4));
        let firewall = firewall(vec![routed], &[&a, &b, &c], Vec::new());
        let open = Rules {
            open: a
                .addresses
                .iter()
                .map(|address| OpenPort {
                    bridge: "br1".to_owned(),
                    protocol: Protocol::Tcp,
                    container: SocketAddr::new(*address, SERVICE),
                })
                .collect(),
            ..Rules::default()
        };
        let asks = |to: IpAddr| {
            outside.inside(|| ask_within(Protocol::Tcp, SocketAddr::new(to, SERVICE), SILENCE))
        };
        assert_eq!((asks(a.v4()), asks(a.v6())), (None, None));
        firewall.add(&open).unwrap();
        assert_eq!(asks(a.v4()), Some(outside.v4()));
        assert_eq!(asks(a.v6()), Some(outside.v6()));
        assert_eq!((asks(b.v4()), asks(b.v6())), (None, None), "not opened");
        assert!(outside.inside(|| silent(Protocol::Udp, a.v4(), SERVICE)));
        for address in [b.v4(), b.v6()] {
            assert!(outside.inside(|| echoes(address)), "{address}");
        }
        assert_eq!(a.asks(Protocol::Tcp, outside.v4(), SERVICE), Some(a.v4()));
        assert_eq!(a.asks(Protocol::Udp, outside.v6(), SERVICE), Some(a.v6()));
        firewall.remove(&open).unwrap();
        assert_eq!((asks(a.v4()), asks(a.v6())), (None, None));
    });
}

/// Sends an echo request and waits for the reply, by the kernel's own sockets for that.
fn echoes(address: IpAddr) -> bool {
    use rustix::net::{
        AddressFamily, RecvFlags, SendFlags, SocketType, ipproto, recv, sendto, socket, sockopt,
    };
    sysctl("ipv4/ping_group_range", "0 2147483647");
    let (family, protocol, request) = if address.is_ipv4() {
        (AddressFamily::INET, ipproto::ICMP, 8)
    } else {
        (AddressFamily::INET6, ipproto::ICMPV6, 128)
    };
    let socket = socket(family, SocketType::DGRAM, Some(protocol)).unwrap();
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE)).unwrap();
    let message = [request, 0, 0, 0, 0, 0, 0, 1];
    let target = SocketAddr::new(address, 0);
    sendto(&socket, &message, SendFlags::empty(), &target).unwrap();
    recv(&socket, &mut [0; 64], RecvFlags::empty()).is_ok()
}

#[test]
fn an_unprotected_network_is_reached_at_all_ports_and_still_masquerades() {
    in_the_world(|outside| {
        let mut zone = network(1);
        zone.v4.as_mut().unwrap().mode = GatewayMode::NatUnprotected;
        let (a, other) = (guest(1, 2), network(2));
        let b = guest(2, 2);
        let _firewall = firewall(vec![zone, other], &[&a, &b], Vec::new());
        assert_eq!(
            outside.asks(Protocol::Tcp, a.v4(), SERVICE),
            Some(outside.v4())
        );
        assert_eq!(b.asks(Protocol::Udp, a.v4(), SERVICE), Some(b.v4()));
        assert!(
            outside.inside(|| silent(Protocol::Tcp, a.v6(), SERVICE)),
            "IPv6 is not"
        );
        assert_eq!(
            a.asks(Protocol::Tcp, outside.v4(), SERVICE),
            Some(ip("10.9.0.1"))
        );
    });
}

#[test]
fn the_way_out_follows_routes_and_settings() {
    in_the_world(|outside| {
        let vpn = Machine::beside(
            "tun0",
            ["10.50.0.1/24", "fd50::1/64"],
            ["10.50.0.2/24", "fd50::2/64"],
        );
        vpn.inside(|| {
            run("ip", "addr add 10.60.0.1/32 dev lo");
        });
        run("ip", "route add 10.60.0.0/16 via 10.50.0.2");
        run("ip", "addr add 10.9.0.77/32 dev lan0");
        run("ip", "addr add fd09::77/128 dev lan0 nodad");
        let mut fixed = network(2);
        fixed.v4.as_mut().unwrap().source = Some(ip("10.9.0.77"));
        fixed.v6.as_mut().unwrap().source = Some(ip("fd09::77"));
        let mut bare = network(3);
        bare.v4.as_mut().unwrap().masquerade = false;
        let (a, b, c) = (guest(2, 2), guest(2, 3), { guest(3, 2) });
        let first = network(1);
        let d = guest(1, 2);
        let _firewall = firewall(vec![first, fixed, bare], &[&a, &b, &c, &d], Vec::new());
        assert_eq!(
            d.asks(Protocol::Tcp, ip("10.60.0.1"), SERVICE),
            Some(ip("10.50.0.1"))
        );
        assert_eq!(
            d.asks(Protocol::Tcp, outside.v4(), SERVICE),
            Some(ip("10.9.0.1"))
        );
        assert_eq!(
            a.asks(Protocol::Tcp, outside.v4(), SERVICE),
            Some(ip("10.9.0.77"))
        );
        assert_eq!(
            a.asks(Protocol::Udp, outside.v6(), SERVICE),
            Some(ip("fd09::77"))
        );
        assert_eq!(b.asks(Protocol::Tcp, a.v4(), SERVICE), Some(b.v4()));
        assert_eq!(c.asks(Protocol::Tcp, outside.v4(), SERVICE), Some(c.v4()));
        // which of several the kernel takes is its affair
        let own = [Some(ip("fd09::1")), Some(ip("fd09::77"))];
        assert!(own.contains(&c.asks(Protocol::Tcp, outside.v6(), SERVICE)));
    });
}

#[test]
fn a_network_of_ipv6_alone() {
    in_the_world(|outside| {
        bridge("br1", &["fd20:1::1/64"]);
        let zone = Zone {
            bridge: "br1".to_owned(),
            v4: None,
            v6: Some(side("fd20:1::/64")),
            internal: false,
            icc: true,
        };
        let a = Machine::behind("br1", "p1", &["fd20:1::2/64"]);
        let b = Machine::behind("br1", "p2", &["fd20:1::3/64"]);
        let ports = vec![
            mapping(Protocol::Tcp, "::", PORT, a.v6()),
            // no rewriting leads from one version to the other: somebody else's affair
            mapping(Protocol::Tcp, "0.0.0.0", PORT, a.v6()),
            mapping(Protocol::Udp, "fd09::1", PORT, a.v6()),
        ];
        let firewall = firewall(vec![zone], &[&a, &b], ports);
        assert!(!firewall.restore().unwrap());
        assert_eq!(
            outside.asks(Protocol::Tcp, ip("fd09::1"), PORT),
            Some(outside.v6())
        );
        assert_eq!(
            outside.asks(Protocol::Udp, ip("fd09::1"), PORT),
            Some(outside.v6())
        );
        assert!(outside.inside(|| silent(Protocol::Tcp, ip("10.9.0.1"), PORT)));
        assert!(outside.inside(|| silent(Protocol::Udp, ip("fd20:1::1"), PORT)));
        assert_eq!(b.asks(Protocol::Tcp, a.v6(), SERVICE), Some(b.v6()));
        assert_eq!(
            a.asks(Protocol::Tcp, outside.v6(), SERVICE),
            Some(ip("fd09::1"))
        );
    });
}

#[test]
fn loopback_of_ipv6_is_left_to_who_listens_there() {
    in_the_world(|_| {
        let zone = network(1);
        let web = guest(1, 2);
        let mut ports = everywhere(&web);
        ports.push(mapping(Protocol::Tcp, "::1", PORT, web.v6()));
        let _firewall = firewall(vec![zone], &[&web], ports);
        let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, PORT)).unwrap();
        TcpStream::connect((Ipv6Addr::LOCALHOST, PORT)).unwrap();
        listener.accept().unwrap();
    });
}

#[test]
fn other_hosts_do_not_get_at_loopback() {
    in_the_world(|outside| {
        let zone = network(1);
        let web = guest(1, 2);
        let ports = vec![mapping(Protocol::Tcp, "127.0.0.1", PORT, web.v4())];
        let _firewall = firewall(vec![zone], &[&web], ports);
        assert!(ask(Protocol::Tcp, SocketAddr::new(ip("127.0.0.1"), PORT)).is_some());
        outside.inside(|| {
            run("ip", "addr flush dev lo");
            sysctl("ipv4/conf/eth0/route_localnet", "1");
            run("ip", "route add 127.0.0.0/8 via 10.9.0.1");
            assert!(silent(Protocol::Tcp, ip("127.0.0.1"), PORT));
        });
        assert!(outside.inside(|| silent(Protocol::Tcp, ip("10.9.0.1"), PORT)));
    });
}

#[test]
fn flows_of_udp_follow_their_port_in_both_versions() {
    in_the_world(|outside| {
        let zone = network(1);
        let (first, second) = (guest(1, 2), guest(1, 3));
        let firewall = firewall(vec![zone], &[&first, &second], Vec::new());
        for host in ["10.9.0.1", "fd09::1"] {
            let port = |to: &Machine| {
                let (any, to) = if host.contains(':') {
                    ("::", to.v6())
                } else {
                    ("0.0.0.0", to.v4())
                };
                published(&[mapping(Protocol::Udp, any, PORT, to)])
            };
            // one socket that is never closed, so that its flow is always the same
            let client = outside.inside(|| {
                let any = if host.contains(':') { "::" } else { "0.0.0.0" };
                let socket = UdpSocket::bind((ip(any), 0)).unwrap();
                socket.connect((ip(host), PORT)).unwrap();
                socket.set_read_timeout(Some(SILENCE)).unwrap();
                socket
            });
            let ask = || {
                let _refused = client.send(b"hello");
                client.recv(&mut [0; 64]).is_ok()
            };
            assert!(!ask(), "{host}: nothing there yet");
            for to in [&first, &second] {
                firewall.add(&port(to)).unwrap();
                firewall.settle();
                assert!(ask(), "{host}: published late, or elsewhere than before");
            }
            firewall.remove(&port(&second)).unwrap();
            firewall.settle();
            assert!(!ask(), "{host}: taken back");
        }
    });
}
