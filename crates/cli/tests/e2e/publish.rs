//! Published ports of both families: from where they are reached, whom the server sees, and who holds them.

use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

use testkit::docker::Client;
use testkit::engine::Engine;
use testkit::namespace::Namespace;
use testkit::serve::{Server, ask_tcp, ask_tcp_once, ask_udp, ask_udp_once};

use crate::bench::{Checks, LIMIT, engine, eventually, options};
use crate::networks::place;

/// Notes what does not answer as expected.
struct Reach {
    checks: Checks,
}

impl Reach {
    fn new() -> Self {
        Self {
            checks: Checks::default(),
        }
    }

    #[track_caller]
    fn tcp(&mut self, who: &Namespace, address: &str, expect: Option<&str>) {
        let got = who.within(|| match expect {
            Some(_) => ask_tcp(address),
            None => ask_tcp_once(address),
        });
        let got = got.unwrap();
        self.note(&format!("tcp {address}"), got.as_deref(), expect);
    }

    #[track_caller]
    fn udp(&mut self, who: &Namespace, address: &str, expect: Option<&str>) {
        let got = who.within(|| match expect {
            Some(_) => ask_udp(address),
            None => ask_udp_once(address),
        });
        let got = got.unwrap();
        self.note(&format!("udp {address}"), got.as_deref(), expect);
    }

    #[track_caller]
    fn note(&mut self, what: &str, got: Option<&str>, expect: Option<&str>) {
        let line = std::panic::Location::caller().line();
        // what is expected without an address is only to be reached
        let is_so = match (got, expect) {
            (Some(got), Some(expect)) => {
                got == expect || !expect.contains(' ') && got.starts_with(expect)
            }
            (None, None) => true,
            _ => false,
        };
        self.checks.note(is_so, || {
            format!("line {line}: {what}: {got:?}, not {expect:?}")
        });
    }
}

#[test]
fn both_families_from_everywhere_with_the_clients_address() {
    let engine = engine();
    let world = engine.network().host(1).unwrap();
    engine
        .docker("network create --subnet 10.81.0.0/24 --ipv6 --subnet fd81::/64 app")
        .ok();
    engine
        .docker("network create --subnet 10.82.0.0/24 --ipv6 --subnet fd82::/64 other")
        .ok();
    engine
        .docker("network create --internal --subnet 10.83.0.0/24 inner")
        .ok();
    let web = place(
        &engine,
        "web",
        "--network app --ip 10.81.0.9 --ip6 fd81::9 -p 8080:80 -p 8080:80/udp",
    );
    let peer = place(
        &engine,
        "peer",
        "--network app --ip 10.81.0.10 --ip6 fd81::a",
    );
    let far = place(
        &engine,
        "far",
        "--network other --ip 10.82.0.9 --ip6 fd82::9",
    );
    let plain = place(&engine, "plain", "");
    let shut = place(&engine, "shut", "--network inner --ip 10.83.0.9");
    let _tcp = Server::tcp(&web, "[::]:80", "web").unwrap();
    // one socket a family and an address: a datagram's answer must come from where it went to
    let _udp4 = Server::udp(&web, "10.81.0.9:80", "web").unwrap();
    let _udp6 = Server::udp(&web, "[fd81::9]:80", "web").unwrap();
    let host = engine.network();
    let mut reach = Reach::new();
    for client in Client::BOTH {
        let ports = engine.run(client, "port web 80/tcp");
        let mut lines: Vec<&str> = ports.ok().lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["0.0.0.0:8080", "[::]:8080"]);
        engine
            .run(client, "ps --filter name=web --format {{.Ports}}")
            .prints(
                "0.0.0.0:8080->80/tcp, 0.0.0.0:8080->80/udp, [::]:8080->80/tcp, [::]:8080->80/udp",
            );
    }
    reach.tcp(&world, "10.9.1.1:8080", Some("web sees 10.9.1.2"));
    reach.tcp(&world, "[fd00:9:1::1]:8080", Some("web sees fd00:9:1::2"));
    reach.udp(&world, "10.9.1.1:8080", Some("web sees 10.9.1.2"));
    reach.udp(&world, "[fd00:9:1::1]:8080", Some("web sees fd00:9:1::2"));
    for address in [
        "127.0.0.1:8080",
        "127.0.0.9:8080",
        "10.9.1.1:8080",
        "10.81.0.1:8080",
        "172.17.0.1:8080",
        "[::1]:8080",
        "[fd00:9:1::1]:8080",
        "[fd81::1]:8080",
    ] {
        reach.tcp(host, address, Some("web"));
        reach.udp(host, address, Some("web"));
    }
    // from other networks, by any address of the host
    for address in ["10.9.1.1:8080", "10.82.0.1:8080", "172.17.0.1:8080"] {
        reach.tcp(&far, address, Some("web sees 10.82.0.9"));
        reach.udp(&far, address, Some("web sees 10.82.0.9"));
    }
    reach.tcp(&far, "[fd00:9:1::1]:8080", Some("web sees fd82::9"));
    reach.tcp(&far, "[fd82::1]:8080", Some("web sees fd82::9"));
    reach.tcp(&plain, "172.17.0.1:8080", Some("web"));
    // from its own network and from itself
    for who in [&peer, &web] {
        reach.tcp(who, "10.9.1.1:8080", Some("web"));
        reach.tcp(who, "10.81.0.1:8080", Some("web"));
        reach.tcp(who, "[fd00:9:1::1]:8080", Some("web"));
        reach.udp(who, "10.9.1.1:8080", Some("web"));
    }
    // nothing comes out of an internal network, not even by the host
    shut.run("ip route add default via 10.83.0.1").unwrap();
    reach.tcp(&shut, "10.9.1.1:8080", None);
    reach.tcp(&shut, "10.83.0.1:8080", None);
    // what is not published is not reached
    let _more = Server::tcp(&web, "[::]:81", "web").unwrap();
    reach.tcp(&world, "10.9.1.1:81", None);
    reach.tcp(&world, "10.81.0.9:81", None);
    reach.tcp(&world, "10.81.0.9:80", None);
    reach.tcp(&world, "[fd81::9]:80", None);
    engine.docker("rm -f web").ok();
    reach.tcp(&world, "10.9.1.1:8080", None);
    reach.tcp(host, "[::1]:8080", None);
    reach.tcp(&far, "10.9.1.1:8080", None);
}

#[test]
fn a_container_without_ipv6_is_reached_by_ipv6() {
    let engine = engine();
    let world = engine.network().host(1).unwrap();
    engine
        .docker("network create --subnet 10.81.0.0/24 app")
        .ok();
    engine
        .docker("network create --ipv6 --ipv4=false --subnet fd82::/64 six")
        .ok();
    let web = place(&engine, "web", "--network app -p 8080:80 -p 8080:80/udp");
    let six = place(&engine, "six", "--network six -p 8066:80");
    let _tcp = Server::tcp(&web, "0.0.0.0:80", "web").unwrap();
    let _udp = Server::udp(&web, "0.0.0.0:80", "web").unwrap();
    let _six = Server::tcp(&six, "[::]:80", "six").unwrap();
    let mut reach = Reach::new();
    for (who, address) in [
        (&world, "10.9.1.1:8080"),
        (&world, "[fd00:9:1::1]:8080"),
        (engine.network(), "[::1]:8080"),
        (engine.network(), "127.0.0.1:8080"),
    ] {
        reach.tcp(who, address, Some("web"));
        reach.udp(who, address, Some("web"));
    }
    for (who, address) in [
        (&world, "10.9.1.1:8066"),
        (&world, "[fd00:9:1::1]:8066"),
        (engine.network(), "[::1]:8066"),
        (engine.network(), "127.0.0.1:8066"),
    ] {
        reach.tcp(who, address, Some("six"));
    }
    reach.tcp(&world, "10.9.1.1:8080", Some("web sees 10.9.1.2"));
    reach.tcp(&world, "[fd00:9:1::1]:8066", Some("six sees fd00:9:1::2"));
    // a large answer comes through whole, both ways
    drop(reach);
    let data = vec![7_u8; 3 << 20];
    let echoed = through_relay(&engine, &data);
    assert!(echoed == data, "{} bytes of {}", echoed.len(), data.len());
}

/// Publishes one more port of an IPv6-only container on IPv4, and sends data there and back.
fn through_relay(engine: &Engine, data: &[u8]) -> Vec<u8> {
    use std::io::{Read as _, Write as _};
    let echo = place(engine, "echo", "--network six -p 8067:81");
    let listener = echo
        .within(|| TcpListener::bind("[::]:81"))
        .unwrap()
        .unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            stream.write_all(&all).unwrap();
        });
        let mut stream = std::net::TcpStream::connect("127.0.0.1:8067").unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.write_all(data).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        all
    })
}

#[test]
fn one_address_of_the_host_and_no_other() {
    let engine = engine();
    let world = engine.network().host(1).unwrap();
    engine.docker("network create --ipv6 app").ok();
    let web = place(
        &engine,
        "web",
        "--network app -p 10.9.1.1:8080:80 -p [fd00:9:1::1]:8081:80 -p 127.0.0.1:8082:80 -p [::1]:8083:80 -p 0.0.0.0:8084:80 -p [::]:8085:80",
    );
    let _server = Server::tcp(&web, "[::]:80", "web").unwrap();
    let host = engine.network();
    let mut reach = Reach::new();
    let some = Some("web");
    for (port, who, address, expect) in [
        (8080, &world, "10.9.1.1", some),
        (8080, host, "10.9.1.1", some),
        (8080, host, "127.0.0.1", None),
        (8081, &world, "[fd00:9:1::1]", some),
        (8081, &world, "10.9.1.1", None),
        (8081, host, "[::1]", None),
        (8082, host, "127.0.0.1", some),
        (8082, &world, "10.9.1.1", None),
        (8082, host, "10.9.1.1", None),
        (8083, host, "[::1]", some),
        (8083, host, "127.0.0.1", None),
        (8083, &world, "[fd00:9:1::1]", None),
        (8084, &world, "10.9.1.1", some),
        (8084, &world, "[fd00:9:1::1]", None),
        (8085, &world, "[fd00:9:1::1]", some),
        (8085, &world, "10.9.1.1", None),
    ] {
        reach.tcp(who, &format!("{address}:{port}"), expect);
    }
    // a neighbour on the cable does not reach what is for loopback by a route of its own (CVE-2020-8558)
    world
        .run("sysctl -qw net.ipv4.conf.all.route_localnet=1")
        .unwrap();
    world
        .run("ip route add 127.0.0.1/32 via 10.9.1.1 table local")
        .unwrap_or_default();
    reach.tcp(&world, "127.0.0.1:8082", None);
    for client in Client::BOTH {
        engine
            .run(client, "port web")
            .shows("80/tcp -> 127.0.0.1:8082");
        engine.run(client, "port web").shows("80/tcp -> [::1]:8083");
    }
}

#[test]
fn a_default_address_for_ports_that_name_none() {
    let mut options = options();
    options.flags = vec!["--publish-address".to_owned(), "127.0.0.1".to_owned()];
    let engine = Engine::start(options).unwrap();
    let world = engine.network().host(1).unwrap();
    let web = place(&engine, "web", "-p 8080:80 -p 0.0.0.0:8081:80");
    let _server = Server::tcp(&web, "0.0.0.0:80", "web").unwrap();
    engine
        .docker("port web")
        .prints("80/tcp -> 0.0.0.0:8081\n80/tcp -> 127.0.0.1:8080");
    let mut reach = Reach::new();
    reach.tcp(engine.network(), "127.0.0.1:8080", Some("web"));
    reach.tcp(&world, "10.9.1.1:8080", None);
    reach.tcp(&world, "10.9.1.1:8081", Some("web"));
}

#[test]
fn whose_port_it_is_when_it_is_taken() {
    let engine = engine();
    let mut checks = Checks::default();
    engine.docker("network create app").ok();
    let _web = place(&engine, "web", "-p 8080:80 -p 127.0.0.1:8090:80");
    let own = std::process::id();
    let _held = TcpListener::bind("0.0.0.0:9000").unwrap();
    let _datagrams = UdpSocket::bind("127.0.0.1:9001").unwrap();
    for client in Client::BOTH {
        let mut check = |flags: &str, texts: &[&str]| {
            let outcome = engine.run(client, &format!("run --rm {flags} busybox true"));
            for text in texts {
                checks.complains(&outcome, 125, text);
            }
        };
        let taken = "Bind for 0.0.0.0:8080 failed: port is already allocated";
        check("-p 8080:80", &[taken, "web"]);
        check("--network app -p 8080:81", &[taken, "web"]);
        check(
            "-p 127.0.0.1:8080:80",
            &["port is already allocated", "web"],
        );
        check(
            "-p 8090:80",
            &[
                "Bind for 127.0.0.1:8090 failed: port is already allocated",
                "web",
            ],
        );
        check(
            "-p 9000:80",
            &["address already in use", &format!("process {own}")],
        );
        check(
            "-p 9001:80/udp",
            &["address already in use", &format!("process {own}")],
        );
        check("-p 10.99.99.99:80:80", &["cannot assign requested address"]);
        check("-p 8079-8081:79-81", &["8080", "web"]);
        check("-p 70000:80", &["invalid hostPort: 70000"]);
        check("-p 80:70000", &["invalid containerPort: 70000"]);
        check("-p 8081-8080:80", &["invalid hostPort"]);
        check("-p 8000-8001:80-82", &["invalid ranges specified"]);
        check("-p x:80", &["invalid hostPort"]);
        check("-p 300.1.1.1:80:80", &["invalid IP address: 300.1.1.1"]);
        check("-p 80:80/icmp", &["invalid proto: icmp"]);
    }
    drop(checks);
    // what failed has taken nothing: a part of its range is free
    engine
        .docker("run --rm -p 8079:80 -p 8081:81 busybox true")
        .ok();
    // no clash: another protocol, another address
    engine
        .docker("run --rm -p 8080:80/udp -p 127.0.0.2:8090:80 -p 9000:80/udp busybox true")
        .ok();
    engine.docker("ps -aq --filter status=created").prints("");
}

#[test]
fn a_range_of_500_and_ports_that_are_chosen() {
    let engine = engine();
    let world = engine.network().host(1).unwrap();
    let wide = place(
        &engine,
        "wide",
        "-p 20000-20499:20000-20499 -p 20000-20499:20000-20499/udp",
    );
    let _first = Server::tcp(&wide, "0.0.0.0:20000", "first").unwrap();
    let _last = Server::tcp(&wide, "0.0.0.0:20499", "last").unwrap();
    let _udp = Server::udp(&wide, "0.0.0.0:20250", "middle").unwrap();
    let mut reach = Reach::new();
    reach.tcp(&world, "10.9.1.1:20000", Some("first sees 10.9.1.2"));
    reach.tcp(&world, "10.9.1.1:20499", Some("last sees 10.9.1.2"));
    reach.udp(&world, "10.9.1.1:20250", Some("middle sees 10.9.1.2"));
    let ports = engine.docker("ps --filter name=wide --format {{.Ports}}");
    ports.shows("0.0.0.0:20000-20499->20000-20499/tcp");
    let rules = engine.network().run("nft list ruleset").unwrap();
    let count = rules.lines().filter(|line| line.contains("20250")).count();
    assert!(count < 20, "{count} lines of rules know one port");

    let chosen = place(&engine, "chosen", "-p 80 -p 81/udp -p 30000-30010:82");
    let _a = Server::tcp(&chosen, "0.0.0.0:80", "a").unwrap();
    let _b = Server::udp(&chosen, "0.0.0.0:81", "b").unwrap();
    let _c = Server::tcp(&chosen, "0.0.0.0:82", "c").unwrap();
    let port = |inside: &str| {
        let all = engine.docker(&format!("port chosen {inside}"));
        let first = all.ok().lines().next().unwrap();
        first.rsplit(':').next().unwrap().to_owned()
    };
    reach.tcp(&world, &format!("10.9.1.1:{}", port("80/tcp")), Some("a"));
    reach.udp(&world, &format!("10.9.1.1:{}", port("81/udp")), Some("b"));
    reach.tcp(&world, &format!("10.9.1.1:{}", port("82/tcp")), Some("c"));
    let in_range: u16 = port("82/tcp").parse().unwrap();
    assert!((30000..=30010).contains(&in_range), "{in_range}");
    // the same for both families, as Docker has it
    engine
        .docker("run --rm -d --name pair -p 83 busybox sleep 100")
        .ok();
    let pair = engine.docker("port pair 83");
    let mut numbers: Vec<&str> = pair
        .ok()
        .lines()
        .map(|line| line.rsplit(':').next().unwrap())
        .collect();
    numbers.dedup();
    assert_eq!(numbers.len(), 1, "{pair:?}");
}

#[test]
fn sctp_is_published_as_far_as_the_kernel_knows_it() {
    let engine = engine();
    engine
        .docker("run -d --name web -p 8080:80/sctp busybox sleep 1000")
        .ok();
    engine.docker("port web").shows("80/sctp -> 0.0.0.0:8080");
    let rules = engine.network().run("nft list ruleset").unwrap();
    assert!(rules.contains("sctp") || rules.contains("132"), "{rules}");
    engine
        .docker("run --rm -p 8080:80/sctp busybox true")
        .complains(125, "port is already allocated");
}

#[test]
fn a_connection_outlives_the_engine_and_a_stranger_meets_no_relay_of_the_dead() {
    use std::io::{Read as _, Write as _};
    let mut engine = engine();
    let world = engine.network().host(1).unwrap();
    let web = place(&engine, "web", "-p 8080:80");
    let listener = web
        .within(|| TcpListener::bind("0.0.0.0:80"))
        .unwrap()
        .unwrap();
    let mut client = world
        .within(|| std::net::TcpStream::connect("10.9.1.1:8080"))
        .unwrap()
        .unwrap();
    let (mut server, from) = listener.accept().unwrap();
    assert_eq!(from.ip().to_string(), "10.9.1.2");
    let mut exchange = |client: &mut std::net::TcpStream| {
        client.set_read_timeout(Some(LIMIT)).unwrap();
        server.set_read_timeout(Some(LIMIT)).unwrap();
        let mut buffer = [0; 4];
        client.write_all(b"ping").unwrap();
        server.read_exact(&mut buffer).unwrap();
        server.write_all(b"pong").unwrap();
        client.read_exact(&mut buffer).unwrap();
    };
    exchange(&mut client);
    engine.kill9().unwrap();
    exchange(&mut client);
    engine.restart().unwrap();
    exchange(&mut client);
    // A connection that is silent until the rules are back outlives a flush as well. The last answer is
    // acknowledged up to 40 ms late (TCP_DELACK_MIN), which is not silence: the host itself would get
    // the acknowledgement and answer with a reset.
    std::thread::sleep(Duration::from_millis(250));
    let rules = || engine.network().run("nft list ruleset").unwrap();
    engine.network().run("nft flush ruleset").unwrap();
    eventually("the rules are back", || {
        rules().contains("dnat") && rules().contains("8080")
    });
    exchange(&mut client);
    drop((client, server, listener));
    // ::1 goes by way of the engine and is there again with it
    // a program that another test is just starting holds copies of the listener until it runs
    let mut server = None;
    eventually("the port inside is free", || {
        server = Server::tcp(&web, "0.0.0.0:80", "web").ok();
        server.is_some()
    });
    let mut reach = Reach::new();
    reach.tcp(engine.network(), "[::1]:8080", Some("web"));
    reach.tcp(&world, "10.9.1.1:8080", Some("web sees 10.9.1.2"));
}
