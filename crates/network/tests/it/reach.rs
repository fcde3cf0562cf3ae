//! Who reaches whom.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use network::Protocol;

use crate::lab::{
    ANY, GATEWAY, HOST, LOOPBACK, Lab, OUTSIDE, PATIENCE, SILENCE, answer_udp, ask_again, ask_tcp,
    ask_udp, in_the_lab, inside, mapping, published as rules, run, serve_tcp, serve_udp, sysctl,
    within,
};

const PORT: u16 = 8080;

fn container_port(ip: IpAddr) -> SocketAddr {
    SocketAddr::new(ip, 80)
}

fn published(address: IpAddr) -> SocketAddr {
    SocketAddr::new(address, PORT)
}

/// Runs a test with and without br_netfilter, which has the host's rules see what only crosses the
/// bridge; a kernel that lacks it runs the test once.
fn whatever_br_netfilter_does(test: impl Fn(&Lab) + Send + Sync) {
    for value in ["0", "1"] {
        in_the_lab(|lab| {
            let setting = "/proc/sys/net/bridge/bridge-nf-call-iptables";
            if std::fs::write(setting, value).is_ok() || value == "0" {
                test(lab);
            }
        });
    }
}

#[test]
fn tcp_on_all_addresses_is_reached_from_everywhere() {
    whatever_br_netfilter_does(|lab| {
        let web = lab.container();
        let other = lab.container();
        lab.publish(Protocol::Tcp, ANY, PORT, &web);
        let serve = || inside(&web, || serve_tcp(container_port(ANY)));

        let server = serve();
        within(&lab.outside, || ask_tcp(published(HOST), PATIENCE)).unwrap();
        let peer = server.join().unwrap().unwrap();
        assert_eq!(peer.ip(), OUTSIDE, "the client's address must be kept");

        for address in [HOST, LOOPBACK, IpAddr::from([127, 0, 0, 9]), GATEWAY] {
            let server = serve();
            ask_tcp(published(address), PATIENCE)
                .unwrap_or_else(|kind| panic!("from the host to {address}: {kind}"));
            server.join().unwrap().unwrap();
        }
        for asker in [&web, &other] {
            let server = serve();
            inside(asker, || ask_tcp(published(HOST), PATIENCE))
                .unwrap_or_else(|kind| panic!("from {} to the host: {kind}", asker.ip));
            server.join().unwrap().unwrap();
        }
    });
}

#[test]
fn udp_on_all_addresses_is_reached_from_everywhere() {
    whatever_br_netfilter_does(|lab| {
        let dns = lab.container();
        let other = lab.container();
        lab.publish(Protocol::Udp, ANY, PORT, &dns);
        let serve = || inside(&dns, || serve_udp(container_port(ANY)));

        let server = serve();
        within(&lab.outside, || ask_udp(published(HOST), PATIENCE)).unwrap();
        assert_eq!(server.join().unwrap().unwrap().ip(), OUTSIDE);

        for address in [HOST, LOOPBACK, GATEWAY] {
            let server = serve();
            ask_udp(published(address), PATIENCE)
                .unwrap_or_else(|kind| panic!("from the host to {address}: {kind}"));
            server.join().unwrap().unwrap();
        }
        for asker in [&dns, &other] {
            let server = serve();
            inside(asker, || ask_udp(published(HOST), PATIENCE)).unwrap();
            server.join().unwrap().unwrap();
        }
    });
}

#[test]
fn one_protocol_does_not_open_the_other() {
    in_the_lab(|lab| {
        let web = lab.container();
        lab.publish(Protocol::Udp, ANY, PORT, &web);
        let _server = inside(&web, || serve_tcp(container_port(ANY)));
        let result = within(&lab.outside, || ask_tcp(published(HOST), SILENCE));
        assert_eq!(result, Err(ErrorKind::ConnectionRefused));
    });
}

#[test]
fn a_port_on_one_address_is_on_no_other() {
    in_the_lab(|lab| {
        let web = lab.container();
        run("ip", "addr add 10.9.0.7/24 dev lan0");
        let second = IpAddr::from([10, 9, 0, 7]);
        lab.publish(Protocol::Tcp, HOST, PORT, &web);
        let server = inside(&web, || serve_tcp(container_port(ANY)));
        for address in [second, LOOPBACK, GATEWAY] {
            let refused = ask_tcp(published(address), SILENCE);
            assert_eq!(refused, Err(ErrorKind::ConnectionRefused), "{address}");
        }
        let refused = within(&lab.outside, || ask_tcp(published(second), SILENCE));
        assert_eq!(refused, Err(ErrorKind::ConnectionRefused));
        within(&lab.outside, || ask_tcp(published(HOST), PATIENCE)).unwrap();
        server.join().unwrap().unwrap();
        let server = inside(&web, || serve_tcp(container_port(ANY)));
        ask_tcp(published(HOST), PATIENCE).unwrap();
        server.join().unwrap().unwrap();
    });
}

#[test]
fn an_unpublished_port_is_closed() {
    in_the_lab(|lab| {
        let web = lab.container();
        let ports = [mapping(Protocol::Tcp, ANY, PORT, web.ip)];
        lab.network.firewall.add(&rules(&ports)).unwrap();
        let server = inside(&web, || serve_tcp(container_port(ANY)));
        within(&lab.outside, || ask_tcp(published(HOST), PATIENCE)).unwrap();
        server.join().unwrap().unwrap();
        lab.network.firewall.remove(&rules(&ports)).unwrap();
        let _server = inside(&web, || serve_tcp(container_port(ANY)));
        let result = within(&lab.outside, || ask_tcp(published(HOST), SILENCE));
        assert_eq!(result, Err(ErrorKind::ConnectionRefused));
        lab.network.firewall.remove(&rules(&ports)).unwrap();
    });
}

#[test]
fn containers_go_out_with_the_hosts_address_and_to_each_other_with_their_own() {
    whatever_br_netfilter_does(|lab| {
        let web = lab.container();
        let other = lab.container();
        let server = within(&lab.outside, || serve_tcp(published(OUTSIDE)));
        inside(&web, || ask_tcp(published(OUTSIDE), PATIENCE)).unwrap();
        assert_eq!(server.join().unwrap().unwrap().ip(), HOST);

        let server = inside(&web, || serve_tcp(container_port(ANY)));
        inside(&other, || ask_tcp(container_port(web.ip), PATIENCE)).unwrap();
        assert_eq!(server.join().unwrap().unwrap().ip(), other.ip);

        let server = inside(&web, || serve_tcp(container_port(ANY)));
        ask_tcp(container_port(web.ip), PATIENCE).unwrap();
        assert_eq!(server.join().unwrap().unwrap().ip(), GATEWAY);
    });
}

#[test]
fn what_is_not_published_is_not_reached_from_outside() {
    in_the_lab(|lab| {
        let web = lab.container();
        lab.publish(Protocol::Tcp, LOOPBACK, PORT, &web);
        let server = inside(&web, || serve_tcp(container_port(ANY)));
        // the neighbour knows the way to the containers' network
        let result = within(&lab.outside, || ask_tcp(container_port(web.ip), SILENCE));
        assert_eq!(result, Err(ErrorKind::TimedOut));
        // and it is the rule that stops it
        run("nft", "flush chain inet gorae forward");
        within(&lab.outside, || ask_tcp(container_port(web.ip), PATIENCE)).unwrap();
        server.join().unwrap().unwrap();
    });
}

/// Makes a namespace send packets for 127.0.0.0/8 to the host.
fn send_loopback_to(gateway: &str) {
    run("ip", "addr flush dev lo");
    sysctl("ipv4/conf/eth0/route_localnet", "1");
    run("ip", &format!("route add 127.0.0.0/8 via {gateway}"));
}

#[test]
fn loopback_is_guarded_from_neighbours() {
    in_the_lab(|lab| {
        let web = lab.container();
        lab.publish(Protocol::Tcp, LOOPBACK, PORT, &web);
        let server = inside(&web, || serve_tcp(container_port(ANY)));
        within(&lab.outside, || send_loopback_to("10.9.0.1"));
        let ask = |patience| within(&lab.outside, || ask_tcp(published(LOOPBACK), patience));
        assert_eq!(ask(SILENCE), Err(ErrorKind::TimedOut));
        // without the guard the neighbour gets through: the test does test it
        run("nft", "flush chain inet gorae guard");
        assert_eq!(ask(PATIENCE), Ok(()));
        server.join().unwrap().unwrap();
    });
}

#[test]
fn loopback_is_guarded_from_containers() {
    in_the_lab(|lab| {
        let evil = lab.container();
        let server = serve_tcp(published(LOOPBACK));
        inside(&evil, || send_loopback_to("172.17.0.1"));
        let ask = |patience| inside(&evil, || ask_tcp(published(LOOPBACK), patience));
        assert_eq!(ask(SILENCE), Err(ErrorKind::TimedOut));
        run("nft", "flush chain inet gorae guard");
        assert_eq!(ask(PATIENCE), Ok(()));
        server.join().unwrap().unwrap();
    });
}

/// A UDP client outside that never closes its socket, so that its flow is always the same.
fn lasting_client(lab: &Lab) -> UdpSocket {
    within(&lab.outside, || {
        let socket = UdpSocket::bind((OUTSIDE, 0)).unwrap();
        socket.connect(published(HOST)).unwrap();
        socket
    })
}

#[test]
fn udp_flows_follow_a_port_that_is_published_late_or_moves() {
    in_the_lab(|lab| {
        let first = lab.container();
        let second = lab.container();
        let bind = || UdpSocket::bind(container_port(ANY)).unwrap();
        let (at_first, at_second) = (inside(&first, bind), inside(&second, bind));
        let client = lasting_client(lab);
        // tracked as a flow to the host, since rules look at connections
        assert!(ask_again(&client, SILENCE).is_err());

        let to_first = [mapping(Protocol::Udp, ANY, PORT, first.ip)];
        lab.network.firewall.add(&rules(&to_first)).unwrap();
        lab.network.firewall.settle();
        let server = std::thread::spawn(move || {
            (
                answer_udp(&at_first, PATIENCE),
                answer_udp(&at_first, SILENCE),
            )
        });
        ask_again(&client, PATIENCE).unwrap();
        lab.network.firewall.remove(&rules(&to_first)).unwrap();
        lab.network.firewall.settle();
        assert!(ask_again(&client, SILENCE).is_err());
        let (once, twice) = server.join().unwrap();
        assert!(once.is_some());
        assert_eq!(twice, None, "the flow must have ended with the port");

        lab.network
            .firewall
            .add(&rules(&[mapping(Protocol::Udp, HOST, PORT, second.ip)]))
            .unwrap();
        lab.network.firewall.settle();
        let server = std::thread::spawn(move || answer_udp(&at_second, PATIENCE));
        ask_again(&client, PATIENCE).unwrap();
        assert_eq!(server.join().unwrap().unwrap().ip(), OUTSIDE);
    });
}

#[test]
fn a_container_that_takes_over_an_address_is_reached_at_once() {
    in_the_lab(|lab| {
        let old = lab.container();
        let ip = old.ip;
        let server = inside(&old, || serve_tcp(container_port(ANY)));
        ask_tcp(container_port(ip), PATIENCE).unwrap();
        server.join().unwrap().unwrap();
        // the namespace of the old one is held, so its port is still on the bridge
        let mut new = lab.network.pool.take().unwrap();
        inside(&old, || run("ip", "addr flush dev eth0"));
        crate::lab::join(&mut new, ip);
        let new = crate::lab::Container { sandbox: new, ip };
        let server = inside(&new, || serve_tcp(container_port(ANY)));
        // without an announcement it would take more than the five seconds of a neighbour's DELAY state
        ask_tcp(container_port(ip), Duration::from_secs(4)).unwrap();
        server.join().unwrap().unwrap();
    });
}

#[test]
fn no_ipv6_where_none_was_asked_for() {
    in_the_lab(|lab| {
        let web = lab.container();
        let link_local = inside(&web, || run("ip", "-6 -o addr show dev eth0"));
        assert_eq!(link_local, "");
        assert_eq!(
            run("ip", &format!("-6 -o addr show dev {}", crate::lab::BRIDGE)),
            ""
        );
        let host = &web.sandbox.host_interface().unwrap().name;
        assert_eq!(run("ip", &format!("-6 -o addr show dev {host}")), "");
        let loopback = inside(&web, || run("ip", "-6 -o addr show dev lo"));
        assert!(loopback.contains("::1"), "{loopback}");
        assert_eq!(Ipv4Addr::new(172, 17, 0, 2), web.ip);
    });
}
