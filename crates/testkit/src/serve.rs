//! Servers that run inside a namespace and tell each client from which address they see it.
//!
//! The program that listens is this one: a server is ready when it is made, and answers the next
//! client at once, which no shell loop around `nc` does.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::namespace::Namespace;

/// How long a server sleeps at most before it looks whether it is to end.
const TICK: Duration = Duration::from_millis(20);
/// How long a client waits for a connection or an answer before it tries again or gives up.
const ATTEMPT: Duration = Duration::from_millis(500);
/// How long a client tries to reach what is to be reached, on a machine that may be busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server; it ends when it is dropped, so that it keeps no namespace alive.
#[derive(Debug)]
pub struct Server {
    end: Arc<AtomicBool>,
    worker: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens for TCP; each client is told `<name> sees <its address>`.
    ///
    /// # Errors
    /// When the address is not free inside.
    pub fn tcp(inside: &Namespace, address: &str, name: &str) -> io::Result<Self> {
        let listener = inside.within(|| TcpListener::bind(address))??;
        listener.set_nonblocking(true)?;
        let name = name.to_owned();
        Self::start(move || {
            while let Ok((mut stream, from)) = listener.accept() {
                let _gone = writeln!(stream, "{name} sees {}", plain(from.ip()));
                let _gone = stream.shutdown(Shutdown::Write);
            }
            std::thread::sleep(Duration::from_millis(1));
        })
    }

    /// Answers datagrams in the same words.
    ///
    /// # Errors
    /// When the address is not free inside.
    pub fn udp(inside: &Namespace, address: &str, name: &str) -> io::Result<Self> {
        let socket = inside.within(|| UdpSocket::bind(address))??;
        socket.set_read_timeout(Some(TICK))?;
        let name = name.to_owned();
        Self::start(move || {
            let mut buffer = [0; 2048];
            if let Ok((_, from)) = socket.recv_from(&mut buffer) {
                let text = format!("{name} sees {}\n", plain(from.ip()));
                let _gone = socket.send_to(text.as_bytes(), from);
            }
        })
    }

    /// Repeats `step`, which must return soon, until the server is dropped.
    pub(crate) fn start(mut step: impl FnMut() + Send + 'static) -> io::Result<Self> {
        let end = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&end);
        let work = move || {
            while !seen.load(Ordering::Relaxed) {
                step();
            }
        };
        let worker = std::thread::Builder::new()
            .name("server".to_owned())
            .spawn(work)?;
        Ok(Self {
            end,
            worker: Some(worker),
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        let _panicked = self.worker.take().map(JoinHandle::join);
    }
}

/// An IPv4 client of an IPv6 socket, as itself.
fn plain(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// What a TCP server at this address says, from the calling thread's namespace. Asks until it is answered, for
/// half a minute.
#[must_use]
pub fn ask_tcp(address: &str) -> Option<String> {
    patiently(|| ask_tcp_once(address))
}

/// What a UDP server at this address answers, from the calling thread's namespace. Asks until it is answered,
/// for half a minute.
#[must_use]
pub fn ask_udp(address: &str) -> Option<String> {
    patiently(|| ask_udp_once(address))
}

fn patiently(ask: impl Fn() -> Option<String>) -> Option<String> {
    let begun = Instant::now();
    loop {
        let answer = ask();
        if answer.is_some() || begun.elapsed() > PATIENCE {
            return answer;
        }
        std::thread::sleep(TICK);
    }
}

/// What a TCP server at this address says at the first attempt: for what is not to be reached.
#[must_use]
pub fn ask_tcp_once(address: &str) -> Option<String> {
    let address: SocketAddr = address.parse().ok()?;
    let mut stream = TcpStream::connect_timeout(&address, ATTEMPT).ok()?;
    stream.set_read_timeout(Some(ATTEMPT)).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    (!text.is_empty()).then(|| text.trim().to_owned())
}

/// What a UDP server at this address answers to one datagram: for what is not to be reached.
#[must_use]
pub fn ask_udp_once(address: &str) -> Option<String> {
    let address: SocketAddr = address.parse().ok()?;
    let own: SocketAddr = if address.is_ipv6() {
        "[::]:0".parse().ok()?
    } else {
        "0.0.0.0:0".parse().ok()?
    };
    let socket = UdpSocket::bind(own).ok()?;
    socket.connect(address).ok()?;
    socket.set_read_timeout(Some(ATTEMPT)).ok()?;
    socket.send(b"who am I").ok()?;
    let mut buffer = [0; 256];
    let count = socket.recv(&mut buffer).ok()?;
    let text = String::from_utf8_lossy(buffer.get(..count)?);
    Some(text.trim().to_owned())
}
