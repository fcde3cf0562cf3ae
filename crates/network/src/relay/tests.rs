//! Limits, which take a relay of their own; all else is tested on hosts with addresses.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use super::*;

const PATIENCE: Duration = Duration::from_secs(60);
const SILENCE: Duration = Duration::from_millis(200);

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

fn small() -> Limits {
    Limits {
        connections: 2,
        sessions: 2,
        // long enough for a machine that is busy with other tests
        unanswered: Duration::from_secs(2),
        answered: Duration::from_secs(60),
        connect: Duration::from_secs(2),
    }
}

fn relay(
    runtime: &Runtime,
    limits: &Limits,
    protocol: Protocol,
    container: SocketAddr,
) -> (Relay, SocketAddr) {
    let (socket, address): (OwnedFd, _) = match protocol {
        Protocol::Udp => {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            let address = socket.local_addr().unwrap();
            (socket.into(), address)
        }
        Protocol::Tcp | Protocol::Sctp => {
            let socket = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = socket.local_addr().unwrap();
            (socket.into(), address)
        }
    };
    let listener = Listener {
        socket,
        protocol,
        bound: address.ip(),
        port: address.port(),
        container,
    };
    let relay = Relay::start(runtime.handle(), vec![listener], limits).unwrap();
    (relay, address)
}

fn dial(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Dials and reads; a reset may come while the client still waits for the connection.
fn failure(address: SocketAddr) -> Option<ErrorKind> {
    let outcome = TcpStream::connect(address).and_then(|mut stream| {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.read(&mut [0; 1])
    });
    outcome.err().map(|error| error.kind())
}

#[test]
fn connections_beyond_the_limit_are_reset_and_places_become_free() {
    let runtime = runtime();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let container = server.local_addr().unwrap();
    let (_relay, address) = relay(&runtime, &small(), Protocol::Tcp, container);
    let mut open: Vec<_> = (0..2).map(|_| (dial(address), server.accept())).collect();
    assert_eq!(failure(address), Some(ErrorKind::ConnectionReset));
    for (client, accepted) in &mut open {
        accepted.as_mut().unwrap().0.write_all(b"x").unwrap();
        client.read_exact(&mut [0; 1]).unwrap();
    }
    open.clear();
    let end = Instant::now() + PATIENCE;
    let served = |client: &mut TcpStream| {
        server.set_nonblocking(true).unwrap();
        let until = Instant::now() + SILENCE;
        while Instant::now() < until {
            if let Ok((mut accepted, _)) = server.accept() {
                accepted.write_all(b"x").unwrap();
                return client.read_exact(&mut [0; 1]).is_ok();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    };
    while !TcpStream::connect(address).is_ok_and(|mut client| served(&mut client)) {
        assert!(Instant::now() < end, "no place became free");
    }
}

#[test]
fn a_container_that_does_not_answer_is_given_up() {
    let runtime = runtime();
    // a backlog that is full drops what comes further
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::listen(&silent, 0).unwrap();
    let container = silent.local_addr().unwrap();
    let _full = dial(container);
    let (_relay, address) = relay(&runtime, &small(), Protocol::Tcp, container);
    assert_eq!(failure(address), Some(ErrorKind::ConnectionReset));
}

fn client(address: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Receives in the container; `None` when nothing comes for as long as its socket waits.
fn next(server: &UdpSocket) -> Option<(String, SocketAddr)> {
    let mut buffer = [0; 64];
    let (length, from) = server.recv_from(&mut buffer).ok()?;
    Some((
        String::from_utf8_lossy(&buffer[..length]).into_owned(),
        from,
    ))
}

fn silent_server() -> (UdpSocket, SocketAddr) {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    let address = server.local_addr().unwrap();
    (server, address)
}

#[test]
fn clients_that_were_answered_are_not_pushed_out() {
    let runtime = runtime();
    let (server, container) = silent_server();
    let limits = Limits {
        unanswered: Duration::from_secs(60),
        ..small()
    };
    let (_relay, address) = relay(&runtime, &limits, Protocol::Udp, container);
    let friends = [client(address), client(address)];
    friends[0].send(b"friend").unwrap();
    let (_, friend) = next(&server).unwrap();
    server.send_to(b"hello", friend).unwrap();
    assert_eq!(friends[0].recv(&mut [0; 16]).unwrap(), 5);
    // strangers push out each other only
    let strangers: Vec<_> = (0..5).map(|_| client(address)).collect();
    for stranger in &strangers {
        stranger.send(b"stranger").unwrap();
        assert!(next(&server).is_some());
    }
    friends[0].send(b"again").unwrap();
    assert_eq!(next(&server), Some(("again".to_owned(), friend)));
    // when all were answered, nobody new comes in
    friends[1].send(b"second").unwrap();
    let (_, second) = next(&server).unwrap();
    server.send_to(b"hello", second).unwrap();
    assert_eq!(friends[1].recv(&mut [0; 16]).unwrap(), 5);
    strangers[0].send(b"stranger").unwrap();
    server.set_read_timeout(Some(SILENCE)).unwrap();
    assert_eq!(next(&server), None);
}

#[test]
fn idle_clients_are_forgotten() {
    let runtime = runtime();
    let (server, container) = silent_server();
    let limits = small();
    let (_relay, address) = relay(&runtime, &limits, Protocol::Udp, container);
    let client = client(address);
    let from = || {
        client.send(b"hello").unwrap();
        next(&server).unwrap().1
    };
    let first = from();
    std::thread::sleep(limits.unanswered / 4);
    assert_eq!(from(), first, "not idle for long enough");
    std::thread::sleep(limits.unanswered * 2);
    // the socket of that session is closed
    let probe = UdpSocket::bind(first).expect("the session's socket is closed");
    drop(probe);
    from();
    let (_, again) = {
        client.send(b"hello").unwrap();
        next(&server).unwrap()
    };
    server.send_to(b"hello", again).unwrap();
    assert_eq!(client.recv(&mut [0; 16]).unwrap(), 5);
    std::thread::sleep(limits.unanswered * 2);
    assert_eq!(from(), again, "those who were answered stay longer");
}

#[test]
fn what_the_limits_are_by_default() {
    let limits = Limits::default();
    assert!((1..=4096).contains(&limits.connections));
    assert!((1..=1024).contains(&limits.sessions));
    assert!(limits.unanswered < limits.answered);
}
