//! A DNS client that shows what a resolver really answers, and name servers that answer well or badly.
//!
//! The wire format is written by hand: a test must not share its reading with what it tests.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::namespace::Namespace;
use crate::serve::Server;

/// Addresses.
pub const A: u16 = 1;
/// Another name.
pub const CNAME: u16 = 5;
/// The name of an address.
pub const PTR: u16 = 12;
/// Mail exchangers.
pub const MX: u16 = 15;
/// Text.
pub const TXT: u16 = 16;
/// IPv6 addresses.
pub const AAAA: u16 = 28;

/// The code of an answer without error.
pub const NO_ERROR: u8 = 0;
/// The code of a server that failed.
pub const SERVFAIL: u8 = 2;
/// The code of a name that does not exist.
pub const NXDOMAIN: u8 = 3;

const INTERNET: u16 = 1;
const TICK: Duration = Duration::from_millis(20);
/// The resolver of a container's network.
const RESOLVER: &str = "127.0.0.11:53";
/// More than a resolver takes for one query, also where it waits for a processor.
const PATIENCE: Duration = Duration::from_secs(30);

/// One record of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Whose it is, in lower case.
    pub name: String,
    /// Its type.
    pub kind: u16,
    /// How long it may be kept, in seconds.
    pub ttl: u32,
    /// An address or a name as text, or the number of bytes.
    pub data: String,
}

/// A resolver's answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The response code.
    pub code: u8,
    /// Whether the answer was cut off.
    pub truncated: bool,
    /// Whether the server offers to look further.
    pub recursion: bool,
    /// The answers.
    pub records: Vec<Record>,
}

impl Answer {
    /// What the records of one type say, sorted.
    #[must_use]
    pub fn data(&self, kind: u16) -> Vec<&str> {
        let wanted = self.records.iter().filter(|record| record.kind == kind);
        let mut all: Vec<&str> = wanted.map(|record| record.data.as_str()).collect();
        all.sort_unstable();
        all
    }
}

/// Asks a container's resolver by UDP, without EDNS.
///
/// # Errors
/// When it does not answer in time, or not to this question.
pub fn ask(container: &Namespace, name: &str, kind: u16) -> io::Result<Answer> {
    container.within(|| over_udp(RESOLVER, name, kind, None))?
}

/// Asks a container's resolver by UDP for an answer of up to this size.
///
/// # Errors
/// When it does not answer in time, or not to this question.
pub fn ask_edns(container: &Namespace, name: &str, kind: u16, size: u16) -> io::Result<Answer> {
    container.within(|| over_udp(RESOLVER, name, kind, Some(size)))?
}

/// Asks a container's resolver by TCP.
///
/// # Errors
/// When it does not answer in time, or not to this question.
pub fn ask_tcp(container: &Namespace, name: &str, kind: u16) -> io::Result<Answer> {
    container.within(|| {
        let address: SocketAddr = RESOLVER.parse().map_err(io::Error::other)?;
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let query = query(0x5a5a, name, kind, None);
        send_framed(&mut stream, &query)?;
        let answer = receive_framed(&mut stream)?;
        parse_answer(&answer, &query).ok_or_else(strange)
    })?
}

/// Sends bytes to a container's resolver by UDP, and returns what comes back in a short time.
///
/// # Errors
/// When they cannot be sent.
pub fn send_raw(container: &Namespace, bytes: &[u8]) -> io::Result<Option<Vec<u8>>> {
    container.within(|| {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.connect(RESOLVER)?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        socket.send(bytes)?;
        let mut buffer = vec![0; 65535];
        let Ok(count) = socket.recv(&mut buffer) else {
            return Ok(None);
        };
        buffer.truncate(count);
        Ok(Some(buffer))
    })?
}

fn over_udp(server: &str, name: &str, kind: u16, size: Option<u16>) -> io::Result<Answer> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let query = query(0xa5a5, name, kind, size);
    socket.send(&query)?;
    let mut buffer = vec![0; 65535];
    let count = socket.recv(&mut buffer)?;
    buffer.truncate(count);
    parse_answer(&buffer, &query).ok_or_else(strange)
}

fn strange() -> io::Error {
    io::Error::other("this is no answer to the question")
}

fn query(id: u16, name: &str, kind: u16, size: Option<u16>) -> Vec<u8> {
    let extra = u16::from(size.is_some());
    let mut bytes = Vec::new();
    for field in [id, 0x0100, 1, 0, 0, extra] {
        bytes.extend(field.to_be_bytes());
    }
    put_name(&mut bytes, name);
    bytes.extend(kind.to_be_bytes());
    bytes.extend(INTERNET.to_be_bytes());
    if let Some(size) = size {
        bytes.extend([0, 0, 41]);
        bytes.extend(size.to_be_bytes());
        bytes.extend([0; 6]);
    }
    bytes
}

fn put_name(bytes: &mut Vec<u8>, name: &str) {
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(u8::try_from(label.len()).unwrap_or(63));
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
}

fn send_framed(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend(message);
    stream.write_all(&framed)
}

fn receive_framed(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message)?;
    Ok(message)
}

/// Reads an answer that has the query's id and question.
fn parse_answer(bytes: &[u8], query: &[u8]) -> Option<Answer> {
    let mut reader = Reader { bytes, at: 0 };
    let [id, flags, questions, answers, _, _] = reader.header()?;
    let mut asked = Reader {
        bytes: query,
        at: 0,
    };
    let [wanted, _, _, _, _, _] = asked.header()?;
    let is_answer = flags & 0x8000 != 0 && id == wanted && questions == 1;
    if !is_answer || reader.question()? != asked.question()? {
        return None;
    }
    let records = (0..answers).map(|_| reader.record());
    Some(Answer {
        code: u8::try_from(flags & 15).ok()?,
        truncated: flags & 0x0200 != 0,
        recursion: flags & 0x0080 != 0,
        records: records.collect::<Option<_>>()?,
    })
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn take(&mut self, count: usize) -> Option<&[u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }

    fn number(&mut self) -> Option<u16> {
        let bytes = self.take(2)?.try_into().ok()?;
        Some(u16::from_be_bytes(bytes))
    }

    fn header(&mut self) -> Option<[u16; 6]> {
        let mut fields = [0; 6];
        for field in &mut fields {
            *field = self.number()?;
        }
        Some(fields)
    }

    /// Reads a name, follows pointers, and stands behind its first part.
    fn name(&mut self) -> Option<String> {
        let mut labels = Vec::new();
        let mut behind = None;
        for _ in 0..128 {
            let length = self.take(1)?.first().copied()?;
            match length {
                0 => {
                    self.at = behind.unwrap_or(self.at);
                    return Some(labels.join("."));
                }
                64.. => {
                    let low = self.take(1)?.first().copied()?;
                    behind.get_or_insert(self.at);
                    self.at = usize::from(u16::from_be_bytes([length & 63, low]));
                }
                _ => {
                    let label = self.take(usize::from(length))?;
                    labels.push(String::from_utf8_lossy(label).to_lowercase());
                }
            }
        }
        None
    }

    fn question(&mut self) -> Option<(String, u16, u16)> {
        Some((self.name()?, self.number()?, self.number()?))
    }

    fn record(&mut self) -> Option<Record> {
        let (name, kind, _) = self.question()?;
        let ttl = u32::from(self.number()?) << 16 | u32::from(self.number()?);
        let length = usize::from(self.number()?);
        let end = self.at + length;
        let data = match (kind, length) {
            (A, 4) => {
                let bytes: [u8; 4] = self.take(4)?.try_into().ok()?;
                Ipv4Addr::from(bytes).to_string()
            }
            (AAAA, 16) => {
                let bytes: [u8; 16] = self.take(16)?.try_into().ok()?;
                Ipv6Addr::from(bytes).to_string()
            }
            (CNAME | PTR, _) => self.name()?,
            _ => {
                self.take(length)?;
                format!("{length} bytes")
            }
        };
        (self.at == end).then_some(Record {
            name,
            kind,
            ttl,
            data,
        })
    }
}

/// What a name server does with a question.
#[derive(Clone, Debug)]
pub enum Behaviour {
    /// Answers questions for addresses with this one, whatever the name.
    Address(IpAddr),
    /// Says that there is no such name.
    NoSuchName,
    /// Says nothing.
    Silence,
    /// Answers a question with this much text; by UDP it says that this is too much.
    Text(usize),
    /// Answers with another id, then to another question, and never rightly.
    Lies,
}

/// A name server inside a namespace, UDP and TCP.
#[derive(Debug)]
pub struct NameServer {
    asked: Arc<Mutex<Vec<String>>>,
    _workers: [Server; 2],
}

impl NameServer {
    /// Starts it at `address:53`.
    ///
    /// # Errors
    /// When the port is not free.
    pub fn start(inside: &Namespace, address: &str, behaviour: Behaviour) -> io::Result<Self> {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let sockets = inside.within(|| {
            Ok::<_, io::Error>((
                UdpSocket::bind((address, 53))?,
                TcpListener::bind((address, 53))?,
            ))
        });
        let (socket, listener) = sockets??;
        socket.set_read_timeout(Some(TICK))?;
        listener.set_nonblocking(true)?;
        let (log, by_udp) = (Arc::clone(&asked), behaviour.clone());
        let udp = Server::start(move || {
            let mut buffer = [0; 4096];
            if let Ok((count, from)) = socket.recv_from(&mut buffer) {
                for answer in note_and_answer(&log, &buffer[..count], &by_udp, true) {
                    let _gone = socket.send_to(&answer, from);
                }
            }
        })?;
        let log = Arc::clone(&asked);
        let tcp = Server::start(move || {
            if let Ok((mut stream, _)) = listener.accept() {
                let _gone = serve_stream(&log, &mut stream, &behaviour);
            }
            std::thread::sleep(Duration::from_millis(1));
        })?;
        Ok(Self {
            asked,
            _workers: [udp, tcp],
        })
    }

    /// The names that were asked for.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

fn serve_stream(
    log: &Mutex<Vec<String>>,
    stream: &mut TcpStream,
    behaviour: &Behaviour,
) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let query = receive_framed(stream)?;
    for answer in note_and_answer(log, &query, behaviour, false) {
        send_framed(stream, &answer)?;
    }
    Ok(())
}

fn note_and_answer(
    log: &Mutex<Vec<String>>,
    query: &[u8],
    behaviour: &Behaviour,
    is_udp: bool,
) -> Vec<Vec<u8>> {
    let mut reader = Reader {
        bytes: query,
        at: 0,
    };
    let Some([id, ..]) = reader.header() else {
        return Vec::new();
    };
    let Some((name, kind, _)) = reader.question() else {
        return Vec::new();
    };
    log.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(name.clone());
    match behaviour {
        Behaviour::Silence => Vec::new(),
        Behaviour::NoSuchName => vec![answer(id, 0x8183, &name, kind, &[])],
        Behaviour::Address(IpAddr::V4(v4)) if kind == A => {
            vec![answer(id, 0x8180, &name, kind, &[v4.octets().to_vec()])]
        }
        Behaviour::Address(IpAddr::V6(v6)) if kind == AAAA => {
            vec![answer(id, 0x8180, &name, kind, &[v6.octets().to_vec()])]
        }
        Behaviour::Address(_) => vec![answer(id, 0x8180, &name, kind, &[])],
        Behaviour::Text(_) if is_udp => vec![answer(id, 0x8380, &name, kind, &[])],
        Behaviour::Text(size) => vec![answer(id, 0x8180, &name, kind, &texts(*size))],
        Behaviour::Lies => {
            let wrong = vec![Ipv4Addr::new(6, 6, 6, 6).octets().to_vec()];
            vec![
                answer(id.wrapping_add(1), 0x8180, &name, kind, &wrong),
                answer(id, 0x8180, "another.example", kind, &wrong),
            ]
        }
    }
}

/// Records of text that are this large together.
fn texts(size: usize) -> Vec<Vec<u8>> {
    const STEP: usize = 256;
    let one = || std::iter::once(255).chain([b'x'; 255]).collect();
    (0..size / STEP).map(|_| one()).collect()
}

fn answer(id: u16, flags: u16, name: &str, kind: u16, data: &[Vec<u8>]) -> Vec<u8> {
    let count = u16::try_from(data.len()).unwrap_or(u16::MAX);
    let mut bytes = Vec::new();
    for field in [id, flags, 1, count, 0, 0] {
        bytes.extend(field.to_be_bytes());
    }
    put_name(&mut bytes, name);
    bytes.extend(kind.to_be_bytes());
    bytes.extend(INTERNET.to_be_bytes());
    for one in data {
        bytes.extend([0xc0, 12]);
        bytes.extend(kind.to_be_bytes());
        bytes.extend(INTERNET.to_be_bytes());
        bytes.extend(60_u32.to_be_bytes());
        let length = u16::try_from(one.len()).unwrap_or(u16::MAX);
        bytes.extend(length.to_be_bytes());
        bytes.extend(one);
    }
    bytes
}
