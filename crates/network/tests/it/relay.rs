//! Published ports that no rule redirects: served by the socket that holds them.

use std::io::{ErrorKind, Read, Write};
use std::net::{
    IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, SocketAddrV6, TcpListener, TcpStream,
    UdpSocket,
};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use network::{HostAddress, HostPort, PortLease, PortRequest, Ports, Protocol};
use rustix::net::sockopt::{set_ipv6_v6only, set_socket_linger};
use tokio::runtime::Runtime;

use crate::lab::{ANY, LOOPBACK, PATIENCE, SILENCE, on_a_host, path, run, sysctl, until, within};

const ANY6: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
const LOOPBACK6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
const CONTAINER: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 2);
const CONTAINER6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x17, 0, 0, 0, 0, 0, 2);
const HOST6: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0xfd00, 9, 0, 0, 0, 0, 0, 1),
    Ipv6Addr::new(0xfd00, 9, 0, 0, 0, 0, 0, 9),
];
const PORT: u16 = 8080;
/// More than all buffers on the way hold.
const MUCH: usize = 12 << 20;

/// Runs a test on a host that is its own container: the relay sees only addresses.
fn with_a_relay(test: impl FnOnce(&Ports, &Runtime) + Send) {
    on_a_host(|| {
        run("ip", &format!("addr add {CONTAINER}/32 dev lo"));
        for address in HOST6.iter().chain([&CONTAINER6]) {
            run("ip", &format!("addr add {address}/128 dev lo nodad"));
        }
        // an address of IPv6 gets its routes a moment after it is there
        for address in HOST6.iter().chain([&CONTAINER6]) {
            let reaches_itself = || {
                let socket = UdpSocket::bind((*address, 0)).ok()?;
                socket.connect(socket.local_addr().ok()?).ok()?;
                socket.set_read_timeout(Some(SILENCE)).unwrap();
                socket.send(b"x").ok()?;
                socket.recv(&mut [0; 1]).ok()
            };
            assert!(until(reaches_itself).is_some(), "{address}");
        }
        let runtime = runtime();
        test(&Ports::new(), &runtime);
        runtime.shutdown_timeout(PATIENCE);
    });
}

/// Its threads are in the namespace of the one that makes it.
fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

fn request(protocol: Protocol, host: HostAddress) -> PortRequest {
    PortRequest {
        protocol,
        host,
        port: HostPort::Range {
            first: PORT,
            last: PORT,
        },
        container_port: 80,
        v4: Some(CONTAINER),
        v6: None,
        owner: "web".to_owned(),
    }
}

fn serve(ports: &Ports, runtime: &Runtime, request: PortRequest) -> PortLease {
    let mut lease = ports.reserve_all(&[request]).unwrap();
    lease.serve(runtime.handle()).unwrap();
    lease
}

fn on(ip: impl Into<IpAddr>) -> SocketAddr {
    SocketAddr::new(ip.into(), PORT)
}

fn dial(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Serves one connection in the container.
fn container<T: Send + 'static>(
    address: impl Into<IpAddr>,
    work: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> JoinHandle<T> {
    let address = SocketAddr::new(address.into(), 80);
    let listener = until(|| TcpListener::bind(address).ok()).expect("the port is free");
    thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        work(stream)
    })
}

fn pattern(seed: u8) -> Vec<u8> {
    let block: Vec<u8> = (0..251).map(|at: u8| at.wrapping_mul(7) ^ seed).collect();
    block.repeat(MUCH / block.len())
}

fn read_all(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn connections_of_the_other_family_are_served_both_ways() {
    with_a_relay(|ports, runtime| {
        let lease = serve(ports, runtime, request(Protocol::Tcp, HostAddress::Any));
        assert_eq!(lease.mappings().len(), 2);
        let relayed: Vec<_> = lease.mappings().iter().map(|m| m.relayed()).collect();
        assert_eq!(relayed, [false, true]);
        for address in [LOOPBACK6, HOST6[0].into(), HOST6[1].into()] {
            // the client ends first, and still gets all of the answer
            let server = container(CONTAINER, |mut stream| {
                let asked = read_all(&mut stream);
                stream.write_all(&pattern(2)).unwrap();
                asked
            });
            let mut client = dial(on(address));
            client.write_all(&pattern(1)).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            assert!(read_all(&mut client) == pattern(2), "{address}: answer");
            assert!(server.join().unwrap() == pattern(1), "{address}: question");
        }
        // the server ends first, and still gets all that the client sends
        let server = container(CONTAINER, |mut stream| {
            stream.write_all(b"hello").unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            read_all(&mut stream)
        });
        let mut client = dial(on(LOOPBACK6));
        assert_eq!(read_all(&mut client), b"hello");
        client.write_all(&pattern(3)).unwrap();
        drop(client);
        assert!(server.join().unwrap() == pattern(3));
    });
}

#[test]
fn both_ways_at_once() {
    with_a_relay(|ports, runtime| {
        let _lease = serve(ports, runtime, request(Protocol::Tcp, HostAddress::Any));
        let talk = |stream: TcpStream, seed: u8| {
            let mut writer = stream.try_clone().unwrap();
            let sender = thread::spawn(move || {
                writer.write_all(&pattern(seed)).unwrap();
                writer.shutdown(Shutdown::Write).unwrap();
            });
            let mut reader = stream;
            let got = read_all(&mut reader);
            sender.join().unwrap();
            got
        };
        let server = container(CONTAINER, move |stream| talk(stream, 1));
        assert!(talk(dial(on(LOOPBACK6)), 2) == pattern(1));
        assert!(server.join().unwrap() == pattern(2));
    });
}

#[test]
fn a_container_without_ipv4_is_reached_over_it() {
    with_a_relay(|ports, runtime| {
        let only_v6 = PortRequest {
            v4: None,
            v6: Some(CONTAINER6),
            ..request(Protocol::Tcp, HostAddress::Any)
        };
        let lease = serve(ports, runtime, only_v6);
        let relayed: Vec<_> = lease.mappings().iter().map(|m| m.relayed()).collect();
        assert_eq!(relayed, [true, false]);
        // what rules would not redirect of IPv6 is served too
        for address in [LOOPBACK, CONTAINER.into(), LOOPBACK6] {
            let server = container(CONTAINER6, |stream| stream.peer_addr().unwrap().ip());
            assert_eq!(read_all(&mut dial(on(address))), b"");
            assert_ne!(server.join().unwrap(), LOOPBACK6, "no program trusts it");
        }
    });
}

#[test]
fn a_failure_of_one_side_is_seen_by_the_other() {
    with_a_relay(|ports, runtime| {
        let _lease = serve(ports, runtime, request(Protocol::Tcp, HostAddress::Any));
        let reset = |mut stream: TcpStream| stream.read(&mut [0; 16]).map_err(|e| e.kind());
        // which may come while the client still waits for the connection
        let dial_and_reset = || {
            let address = on(LOOPBACK6);
            TcpStream::connect_timeout(&address, PATIENCE)
                .map_err(|e| e.kind())
                .and_then(reset)
        };
        // nobody listens in the container
        assert_eq!(dial_and_reset(), Err(ErrorKind::ConnectionReset));

        let abort = |stream: TcpStream| {
            set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
        };
        let server = container(CONTAINER, abort);
        assert_eq!(dial_and_reset(), Err(ErrorKind::ConnectionReset));
        server.join().unwrap();

        let server = container(CONTAINER, reset);
        let mut client = dial(on(LOOPBACK6));
        client.write_all(b"").unwrap();
        thread::sleep(Duration::from_millis(100));
        abort(client);
        assert_eq!(server.join().unwrap(), Err(ErrorKind::ConnectionReset));
    });
}

#[test]
fn a_lease_that_is_not_served_or_dropped_takes_nothing() {
    with_a_relay(|ports, runtime| {
        let both = [
            request(Protocol::Tcp, HostAddress::Any),
            request(Protocol::Udp, HostAddress::Any),
        ];
        let refuses = |when: &str| {
            for address in [LOOPBACK, CONTAINER.into(), LOOPBACK6, HOST6[0].into()] {
                let kind = TcpStream::connect_timeout(&on(address), PATIENCE).map_err(|e| e.kind());
                let kind = kind.err();
                assert_eq!(kind, Some(ErrorKind::ConnectionRefused), "{when} {address}");
                let client = asker(address);
                client.send(b"hello").unwrap();
                let kind = client.recv(&mut [0; 16]).map_err(|e| e.kind()).err();
                assert_eq!(kind, Some(ErrorKind::ConnectionRefused), "{when} {address}");
            }
        };
        let mut lease = ports.reserve_all(&both).unwrap();
        refuses("held");
        lease.serve(runtime.handle()).unwrap();
        lease.serve(runtime.handle()).unwrap();
        let server = container(CONTAINER, |mut stream| read_all(&mut stream));
        let mut client = dial(on(LOOPBACK6));
        client.write_all(b"hello").unwrap();
        thread::sleep(Duration::from_millis(100));
        drop(lease);
        let free = until(|| TcpListener::bind((ANY6, PORT)).ok());
        assert!(free.is_some(), "the port is free");
        drop(free);
        refuses("dropped");
        assert_eq!(server.join().unwrap(), b"hello");
        assert_eq!(client.read(&mut [0; 16]).unwrap(), 0);
        assert!(ports.is_empty());
    });
}

#[test]
fn many_ports_and_many_clients_at_once() {
    with_a_relay(|ports, runtime| {
        let requests: Vec<_> = (0..200)
            .map(|index| PortRequest {
                port: HostPort::Range {
                    first: 20_000 + index,
                    last: 20_000 + index,
                },
                ..request(Protocol::Tcp, HostAddress::Any)
            })
            .collect();
        let mut lease = ports.reserve_all(&requests).unwrap();
        lease.serve(runtime.handle()).unwrap();
        let listener = TcpListener::bind((CONTAINER, 80)).unwrap();
        let server = thread::spawn(move || {
            let mut streams: Vec<_> = (0..400).map(|_| listener.accept().unwrap().0).collect();
            for stream in &mut streams {
                let mut byte = [0; 2];
                stream.read_exact(&mut byte).unwrap();
                stream.write_all(&byte).unwrap();
            }
        });
        let mut clients: Vec<_> = (0..400)
            .map(|index: u16| {
                let mut client = dial(SocketAddr::new(LOOPBACK6, 20_000 + index % 200));
                client.write_all(&index.to_be_bytes()).unwrap();
                client
            })
            .collect();
        server.join().unwrap();
        for (index, client) in (0u16..).zip(&mut clients) {
            assert_eq!(read_all(client), index.to_be_bytes());
        }
    });
}

/// A client of datagrams that takes answers only from whom it asks.
fn asker(address: IpAddr) -> UdpSocket {
    let own = if address.is_ipv4() { ANY } else { ANY6 };
    let socket = UdpSocket::bind((own, 0)).unwrap();
    socket.connect(on(address)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Answers datagrams in the container with the same, until one says `end`; tells who asked.
fn echo(address: impl Into<IpAddr>) -> JoinHandle<Vec<SocketAddr>> {
    let address = SocketAddr::new(address.into(), 80);
    let socket = until(|| UdpSocket::bind(address).ok()).expect("the port is free");
    thread::spawn(move || {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut buffer = vec![0; 65536];
        let mut askers = Vec::new();
        loop {
            let (length, from) = socket.recv_from(&mut buffer).unwrap();
            if &buffer[..length] == b"end" {
                return askers;
            }
            askers.push(from);
            socket.send_to(&buffer[..length], from).unwrap();
        }
    })
}

fn ask(socket: &UdpSocket, question: &[u8]) -> bool {
    socket.send(question).unwrap();
    let mut buffer = vec![0; 65536];
    let length = socket.recv(&mut buffer).unwrap();
    buffer[..length] == *question
}

#[test]
fn datagrams_are_answered_from_the_address_that_was_asked() {
    with_a_relay(|ports, runtime| {
        let _lease = serve(ports, runtime, request(Protocol::Udp, HostAddress::Any));
        let server = echo(CONTAINER);
        let askers: Vec<_> = [LOOPBACK6, HOST6[0].into(), HOST6[1].into()]
            .into_iter()
            .map(asker)
            .collect();
        for round in 0..3 {
            for (index, asker) in askers.iter().enumerate() {
                assert!(ask(asker, format!("{round} {index}").as_bytes()));
            }
        }
        assert!(ask(&askers[0], b""), "an empty one is one");
        assert!(ask(&askers[0], &[7; 60_000]));
        // one client, two addresses: two conversations
        let one = UdpSocket::bind((ANY6, 0)).unwrap();
        one.set_read_timeout(Some(PATIENCE)).unwrap();
        for address in HOST6 {
            one.send_to(b"hello", on(address)).unwrap();
            let (_, from) = one.recv_from(&mut [0; 16]).unwrap();
            assert_eq!(from, on(address));
        }
        askers[0].send(b"end").unwrap();
        let mut seen = server.join().unwrap();
        assert_eq!(seen.len(), 13);
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 5, "the container tells clients apart: {seen:?}");
    });
}

#[test]
fn datagrams_wait_for_a_server_and_pass_to_its_successor() {
    with_a_relay(|ports, runtime| {
        let only_v6 = PortRequest {
            v4: None,
            v6: Some(CONTAINER6),
            ..request(Protocol::Udp, HostAddress::Any)
        };
        let _lease = serve(ports, runtime, only_v6);
        let client = asker(LOOPBACK);
        for _ in 0..3 {
            client.send(b"nobody").unwrap();
        }
        for _ in 0..2 {
            let server = echo(CONTAINER6);
            client.set_read_timeout(Some(SILENCE)).unwrap();
            let mut answer = [0; 16];
            let answered = until(|| {
                client.send(b"hello").unwrap();
                client.recv(&mut answer).ok()
            });
            assert!(answered.is_some());
            client.send(b"end").unwrap();
            server.join().unwrap();
        }
    });
}

#[test]
fn living_containers_are_served_again_by_the_next_engine() {
    with_a_relay(|ports, runtime| {
        let both = [
            request(Protocol::Tcp, HostAddress::Any),
            request(Protocol::Udp, HostAddress::Any),
        ];
        let mut first = ports.reserve_all(&both).unwrap();
        first.serve(runtime.handle()).unwrap();
        let mappings = first.mappings().to_vec();
        let server = container(CONTAINER, |mut stream| stream.write_all(b"one").unwrap());
        let mut client = dial(on(LOOPBACK6));
        client.read_exact(&mut [0; 3]).unwrap();
        server.join().unwrap();
        drop(first);
        // the engine's end of the connection is in FIN_WAIT2 as long as this client does not end

        let next = Ports::new();
        let mut lease = next.adopt(mappings.clone(), "web").unwrap();
        assert_eq!(lease.mappings(), mappings);
        lease.serve(runtime.handle()).unwrap();
        let server = container(CONTAINER, |mut stream| stream.write_all(b"two").unwrap());
        assert_eq!(read_all(&mut dial(on(LOOPBACK6))), b"two");
        drop(client);
        server.join().unwrap();
        let server = echo(CONTAINER);
        let client = asker(LOOPBACK6);
        assert!(ask(&client, b"hello"));
        client.send(b"end").unwrap();
        server.join().unwrap();
    });
}

/// The rules that redirect a port of IPv6 to a container, in the words of `nft`.
const RULES: &str = "
table inet gorae {
    chain prerouting {
        type nat hook prerouting priority -100
        ip6 daddr != ::1 fib daddr type local tcp dport 8080 dnat ip6 to [fd00:17::2]:80
    }
    chain output {
        type nat hook output priority -100
        ip6 daddr != ::1 fib daddr type local tcp dport 8080 dnat ip6 to [fd00:17::2]:80
    }
}
";

#[test]
fn rules_redirect_what_they_can_and_loopback_of_ipv6_is_relayed() {
    on_a_host(|| {
        let inside = sys::netns::create().unwrap();
        run("ip", "link add br0 type bridge");
        run("ip", "addr add fd00:17::1/64 dev br0 nodad");
        run("ip", "link set br0 up");
        let peer = format!(
            "link add v0 type veth peer name eth0 netns {}",
            path(&inside)
        );
        run("ip", &peer);
        run("ip", "link set v0 master br0 up");
        sysctl("ipv6/conf/all/forwarding", "1");
        within(&inside, || {
            run("ip", "link set eth0 up");
            run("ip", "addr add fd00:17::2/64 dev eth0 nodad");
        });
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), RULES).unwrap();
        run("nft", &format!("-f {}", file.path().display()));

        let runtime = runtime();
        let ports = Ports::new();
        let dual = PortRequest {
            v6: Some(CONTAINER6),
            ..request(Protocol::Tcp, HostAddress::Ip(ANY6))
        };
        let _lease = serve(&ports, &runtime, dual);
        let bridge: IpAddr = "fd00:17::1".parse().unwrap();
        for address in [bridge, LOOPBACK6] {
            // links of IPv6 take a moment until they pass packets
            let answered = until(|| {
                let server = within(&inside, || {
                    container(CONTAINER6, |mut stream| {
                        stream.write_all(b"hello").unwrap();
                        stream.peer_addr().unwrap().ip()
                    })
                });
                let mut client = TcpStream::connect_timeout(&on(address), PATIENCE).ok()?;
                let mut answer = String::new();
                client.read_to_string(&mut answer).ok()?;
                Some((answer, server.join().unwrap()))
            });
            assert_eq!(answered, Some(("hello".to_owned(), bridge)), "{address}");
        }
        runtime.shutdown_timeout(PATIENCE);
    });
}

#[test]
fn a_relayed_port_is_busy_for_others() {
    with_a_relay(|ports, runtime| {
        let _lease = serve(ports, runtime, request(Protocol::Tcp, HostAddress::Any));
        for address in [ANY6, LOOPBACK6, ANY, LOOPBACK] {
            let other = TcpListener::bind((address, PORT)).map_err(|e| e.kind());
            assert_eq!(other.err(), Some(ErrorKind::AddrInUse), "{address}");
        }
        // std's sockets of IPv6 take IPv4 too; this one does not
        let socket = rustix::net::socket(
            rustix::net::AddressFamily::INET6,
            rustix::net::SocketType::STREAM,
            None,
        )
        .unwrap();
        set_ipv6_v6only(&socket, true).unwrap();
        assert!(rustix::net::bind(&socket, &on(ANY6)).is_err());
    });
}

#[test]
fn neighbours_are_answered_from_the_links_own_address() {
    on_a_host(|| {
        run("ip", &format!("addr add {CONTAINER}/32 dev lo"));
        let outside = sys::netns::create().unwrap();
        let peer = format!(
            "link add lan0 type veth peer name eth0 netns {}",
            path(&outside)
        );
        run("ip", &peer);
        for name in ["lan0", "lan1"] {
            sysctl(&format!("ipv6/conf/{}/addr_gen_mode", "default"), "1");
            if name == "lan1" {
                // a second link with the same network: the answer must find the right one
                run("ip", "link add lan1 type bridge");
            }
            run("ip", &format!("addr add fe80::aa/64 dev {name} nodad"));
            run("ip", &format!("link set {name} up"));
        }
        let index = within(&outside, || {
            run("ip", "link set eth0 up");
            run("ip", "addr add fe80::bb/64 dev eth0 nodad");
            let text = run("ip", "-o link show eth0");
            text.split(':').next().unwrap().parse::<u32>().unwrap()
        });
        let host: Ipv6Addr = "fe80::aa".parse().unwrap();
        let host = SocketAddrV6::new(host, PORT, 0, index);

        let runtime = runtime();
        let ports = Ports::new();
        let requests = [Protocol::Tcp, Protocol::Udp].map(|p| request(p, HostAddress::Any));
        let mut lease = ports.reserve_all(&requests).unwrap();
        lease.serve(runtime.handle()).unwrap();
        let server = container(CONTAINER, |mut stream| stream.write_all(b"hello").unwrap());
        let datagrams = echo(CONTAINER);
        within(&outside, || {
            let client = until(|| TcpStream::connect(host).ok()).expect("the link comes up");
            let mut client = client;
            assert_eq!(read_all(&mut client), b"hello");
            let client = UdpSocket::bind((ANY6, 0)).unwrap();
            client.connect(host).unwrap();
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            assert!(ask(&client, b"hello"));
            client.send(b"end").unwrap();
        });
        server.join().unwrap();
        datagrams.join().unwrap();
        drop(lease);
        runtime.shutdown_timeout(PATIENCE);
    });
}
