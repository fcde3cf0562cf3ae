//! Limits of links: set, changed, removed, and near enough to what they say.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use network::{
    Attachment, Bandwidth, BandwidthError, Bridge, HostInterface, Rate, Sandbox, bandwidth,
};
use sys::netns;

use crate::lab::{GATEWAY, PATIENCE, bridge_config, interface, link_names, on_a_host, run, until};

const CONTAINER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(172, 17, 0, 2));
const PORT: u16 = 5201;

struct Limited {
    sandbox: Sandbox,
    port: HostInterface,
}

fn with_a_container(test: impl FnOnce(&Limited) + Send) {
    on_a_host(|| {
        let bridge = Bridge::ensure(bridge_config()).unwrap();
        let mut sandbox = Sandbox::isolated().unwrap();
        let attachment = Attachment::Bridge {
            bridge: &bridge,
            isolated: false,
        };
        let port = sandbox.attach(attachment, &interface("eth0", &[(CONTAINER, 16)]));
        let port = port.unwrap().unwrap();
        test(&Limited { sandbox, port });
    });
}

fn rate(text: &str) -> Option<Rate> {
    Some(text.parse().unwrap())
}

const NONE: Bandwidth = Bandwidth {
    ingress: None,
    egress: None,
};

fn waiting(port: &HostInterface) -> String {
    port.name.replace("veth", "ifb")
}

#[test]
fn limits_are_set_changed_and_removed() {
    with_a_container(|limited| {
        let port = &limited.port;
        let before = (link_names(), run("tc", "qdisc show"));
        assert_eq!(bandwidth::limits_of(port).unwrap(), NONE);
        for (ingress, egress) in [
            (rate("20mbit"), None),
            (rate("20mbit"), rate("5mbit")),
            (rate("20mbit"), rate("5mbit")),
            (rate("1gbit"), rate("8kbit")),
            (None, rate("1234567kbit")),
            (rate("100gbit"), rate("1tbit")),
            (None, None),
            (None, rate("500kbit")),
        ] {
            let wanted = Bandwidth { ingress, egress };
            bandwidth::limit(port, &wanted).unwrap();
            assert_eq!(bandwidth::limits_of(port).unwrap(), wanted);
        }
        bandwidth::limit(port, &NONE).unwrap();
        bandwidth::limit(port, &NONE).unwrap();
        assert_eq!((link_names(), run("tc", "qdisc show")), before);
        let filters = run("tc", &format!("filter show dev {} ingress", port.name));
        assert_eq!(filters, "");
    });
}

#[test]
fn damage_is_repaired_and_others_filters_stay() {
    with_a_container(|limited| {
        let port = &limited.port;
        let wanted = Bandwidth {
            ingress: None,
            egress: rate("5mbit"),
        };
        bandwidth::limit(port, &wanted).unwrap();
        run("ip", &format!("link del {}", waiting(port)));
        assert_eq!(bandwidth::limits_of(port).unwrap(), NONE);
        bandwidth::limit(port, &wanted).unwrap();
        assert!(send_datagrams(limited, Direction::Out, || ()) == DATAGRAMS);

        let foreign = "protocol ip pref 7 u32 match u32 0 0 classid 1:1";
        run(
            "tc",
            &format!("filter add dev {} ingress {foreign}", port.name),
        );
        bandwidth::limit(port, &NONE).unwrap();
        let filters = run("tc", &format!("filter show dev {} ingress", port.name));
        assert!(
            filters.contains("pref 7") && !filters.contains("mirred"),
            "{filters}"
        );
        bandwidth::limit(port, &wanted).unwrap();
        assert_eq!(bandwidth::limits_of(port).unwrap(), wanted);
    });
}

#[test]
fn what_ended_containers_left_is_reaped() {
    with_a_container(|limited| {
        let port = &limited.port;
        let wanted = Bandwidth {
            ingress: rate("5mbit"),
            egress: rate("5mbit"),
        };
        bandwidth::limit(port, &wanted).unwrap();
        run("ip", "link add ifb0 type ifb");
        run("ip", "link add ifb0abcdef type veth peer name other");
        let alive = [port.name.clone()];
        assert_eq!(bandwidth::reap(&alive).unwrap(), [""; 0]);
        assert_eq!(bandwidth::limits_of(port).unwrap(), wanted);

        run("ip", &format!("link del {}", port.name));
        let error = bandwidth::limit(port, &wanted).unwrap_err();
        assert!(matches!(error, BandwidthError::Gone { .. }), "{error}");
        assert_eq!(bandwidth::reap(&alive).unwrap(), alive);
        let names = link_names();
        assert!(!names.contains(&waiting(port)));
        assert!(names.contains(&"ifb0".to_owned()) && names.contains(&"ifb0abcdef".to_owned()));
        bandwidth::limit(port, &NONE).unwrap();
    });
}

#[test]
fn a_limit_that_is_lifted_after_its_link_went_leaves_nothing() {
    with_a_container(|limited| {
        let port = &limited.port;
        let wanted = Bandwidth {
            ingress: None,
            egress: rate("5mbit"),
        };
        bandwidth::limit(port, &wanted).unwrap();
        run("ip", &format!("link del {}", port.name));
        assert!(link_names().contains(&waiting(port)));
        bandwidth::limit(port, &NONE).unwrap();
        assert!(!link_names().contains(&waiting(port)));
    });
}

#[derive(Clone, Copy)]
enum Direction {
    In,
    Out,
}

const DATAGRAMS: usize = 40;

/// Sends a handful of datagrams at once, does something, and counts those that arrive.
fn send_datagrams(limited: &Limited, direction: Direction, meanwhile: impl FnOnce()) -> usize {
    let inside = |address: IpAddr| {
        netns::within(limited.sandbox.netns(), || UdpSocket::bind((address, 0)))
            .unwrap()
            .unwrap()
    };
    let outside = UdpSocket::bind((GATEWAY, 0)).unwrap();
    let (from, to) = match direction {
        Direction::In => (outside, inside(CONTAINER)),
        Direction::Out => (inside(CONTAINER), outside),
    };
    from.connect(to.local_addr().unwrap()).unwrap();
    for _ in 0..DATAGRAMS {
        from.send(&[0; 600]).unwrap();
    }
    meanwhile();
    to.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut buffer = [0; 1024];
    (0..DATAGRAMS)
        .take_while(|_| to.recv(&mut buffer).is_ok())
        .count()
}

#[test]
fn packets_that_wait_are_not_lost_when_limits_change() {
    with_a_container(|limited| {
        let port = &limited.port;
        let set = |text: &str| {
            let (ingress, egress) = (rate(text), rate(text));
            bandwidth::limit(port, &Bandwidth { ingress, egress }).unwrap();
        };
        for direction in [Direction::In, Direction::Out] {
            set("500kbit");
            let arrived = send_datagrams(limited, direction, || set("1mbit"));
            assert_eq!(arrived, DATAGRAMS, "changed");
            set("100kbit");
            let lift = || bandwidth::limit(port, &NONE).unwrap();
            assert_eq!(
                send_datagrams(limited, direction, lift),
                DATAGRAMS,
                "removed"
            );
        }
    });
}

/// Measures what arrives in bits a second.
fn throughput(limited: &Limited, direction: Direction) -> u64 {
    const TIME: Duration = Duration::from_millis(1500);
    let inside = || {
        netns::within(limited.sandbox.netns(), || {
            TcpListener::bind((CONTAINER, PORT))
        })
    };
    let connect = |address: IpAddr| {
        let connect = || TcpStream::connect_timeout(&SocketAddr::new(address, PORT), PATIENCE);
        until(|| connect().ok()).unwrap()
    };
    let (listener, mut sender) = match direction {
        Direction::In => (inside().unwrap().unwrap(), connect(CONTAINER)),
        Direction::Out => (
            TcpListener::bind((GATEWAY, PORT)).unwrap(),
            netns::within(limited.sandbox.netns(), || connect(GATEWAY)).unwrap(),
        ),
    };
    let (mut receiver, _) = listener.accept().unwrap();
    let sending = std::thread::spawn(move || while sender.write_all(&[0; 65_536]).is_ok() {});
    receiver.set_read_timeout(Some(PATIENCE)).unwrap();
    let (mut buffer, mut bytes) = (vec![0; 65_536], 0);
    let started = Instant::now();
    while started.elapsed() < TIME {
        bytes += receiver.read(&mut buffer).unwrap();
    }
    let time = started.elapsed().as_millis();
    drop(receiver);
    sending.join().unwrap();
    u64::try_from(bytes as u128 * 8 * 1000 / time).unwrap()
}

#[test]
fn what_flows_is_what_was_asked_for() {
    with_a_container(|limited| {
        for text in ["4mbit", "50mbit"] {
            let (ingress, egress) = (rate(text), rate(text));
            let limits = Bandwidth { ingress, egress };
            bandwidth::limit(&limited.port, &limits).unwrap();
            for direction in [Direction::In, Direction::Out] {
                let wanted = ingress.unwrap().bits();
                // a short look on a busy machine is less exact than the limit is
                let mut seen = Vec::new();
                let is_met = (0..10).any(|_| {
                    let got = throughput(limited, direction);
                    seen.push(got);
                    got.abs_diff(wanted) < wanted / 4
                });
                assert!(is_met, "{seen:?} bit/s of {wanted}");
            }
        }
    });
}
