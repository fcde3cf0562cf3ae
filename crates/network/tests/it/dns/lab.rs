//! A host with a name server, a container with a resolver, and clients inside.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RecordType};
use network::{DnsGuard, DnsServer, Entry, NetworkNames, ResolvPaths, Scope, ScopeState};
use sys::netns;

use crate::lab::{on_a_host, run, within};

const PATIENCE: Duration = Duration::from_secs(8);
const TICK: Duration = Duration::from_millis(20);

/// One container and all around it.
pub(crate) struct Dns {
    pub(crate) names: Arc<NetworkNames>,
    pub(crate) scope: Arc<Scope>,
    pub(crate) container: OwnedFd,
    pub(crate) upstream: Upstream,
    pub(crate) server: Arc<DnsServer>,
    pub(crate) guard: Option<DnsGuard>,
    folder: tempfile::TempDir,
    _runtime: tokio::runtime::Runtime,
}

impl Dns {
    /// Runs a test on a host whose name server is at 127.0.0.53 and says 9.9.9.9.
    pub(crate) fn run(test: impl FnOnce(&mut Self) + Send) {
        on_a_host(|| {
            let folder = tempfile::tempdir().unwrap();
            let main = folder.path().join("resolv.conf");
            std::fs::write(&main, "nameserver 127.0.0.53\n").unwrap();
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap();
            let server = DnsServer::start(runtime.handle().clone(), ResolvPaths { main }).unwrap();
            let (container, ()) = netns::create_with(|| {
                run("ip", "link set lo up");
            })
            .unwrap();
            let names = Arc::new(NetworkNames::default());
            let state = ScopeState {
                networks: vec![Arc::clone(&names)],
                ..ScopeState::default()
            };
            let scope = Arc::new(Scope::new(state));
            let guard = server.serve(container.as_fd(), Arc::clone(&scope)).unwrap();
            let mut dns = Self {
                names,
                scope,
                container,
                upstream: Upstream::start("127.0.0.53", |query| reply(query, [9, 9, 9, 9])),
                server,
                guard: Some(guard),
                folder,
                _runtime: runtime,
            };
            test(&mut dns);
        });
    }

    pub(crate) fn resolv_conf(&self) -> PathBuf {
        self.folder.path().join("resolv.conf")
    }

    pub(crate) fn insert(&self, endpoint: &str, entry: Entry) {
        self.names.insert(endpoint, entry);
    }

    pub(crate) fn state(&self) -> ScopeState {
        ScopeState {
            networks: vec![Arc::clone(&self.names)],
            ..ScopeState::default()
        }
    }

    pub(crate) fn set(&self, state: ScopeState) {
        self.scope.set(state);
    }

    /// Starts another name server on the host.
    pub(crate) fn upstream_at(
        &self,
        address: &str,
        behave: impl Fn(&[u8]) -> Vec<u8> + Send + Sync + 'static,
    ) -> Upstream {
        Upstream::start(address, behave)
    }

    /// Starts a name server inside the container.
    pub(crate) fn upstream_inside(&self, address: &str) -> Upstream {
        within(&self.container, || {
            Upstream::start(address, |query| reply(query, [7, 7, 7, 7]))
        })
    }

    /// Opens a client's socket inside the container.
    pub(crate) fn socket(&self) -> UdpSocket {
        within(&self.container, client)
    }

    pub(crate) fn ask(&self, name: &str, kind: RecordType) -> Message {
        self.ask_raw(&question(rand_id(), name, kind))
    }

    pub(crate) fn ask_raw(&self, query: &[u8]) -> Message {
        let socket = self.socket();
        socket.send(query).unwrap();
        receive(&socket).expect("the resolver answers")
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = within(&self.container, || TcpStream::connect("127.0.0.11:53")).unwrap();
        stream.set_read_timeout(Some(PATIENCE * 2)).unwrap();
        stream
    }

    pub(crate) fn ask_tcp(&self, name: &str, kind: RecordType) -> std::io::Result<Message> {
        let mut stream = self.connect();
        let id = rand_id();
        send_frame(&mut stream, &question(id, name, kind))?;
        let answer = Message::from_vec(&read_frame(&mut stream)?).unwrap();
        assert_eq!(answer.metadata.id, id);
        Ok(answer)
    }
}

/// Opens a client's socket in the namespace of the calling thread.
pub(crate) fn client() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect("127.0.0.11:53").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

pub(crate) fn receive(socket: &UdpSocket) -> Option<Message> {
    let mut answer = [0; 8192];
    let length = socket.recv(&mut answer).ok()?;
    Some(Message::from_vec(&answer[..length]).unwrap())
}

pub(crate) fn entry(names: &[&str], addresses: &[&str], canonical: &str) -> Entry {
    Entry {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        canonical: canonical.to_owned(),
    }
}

/// Writes a query without EDNS.
pub(crate) fn question(id: u16, name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::query();
    message.metadata.id = id;
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message.to_vec().unwrap()
}

/// Returns another id for every question.
pub(crate) fn rand_id() -> u16 {
    static NEXT: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Lists the addresses of an answer.
pub(crate) fn addresses(answer: &Message) -> Vec<String> {
    let records = answer.answers.iter();
    records
        .filter_map(|record| record.data.ip_addr())
        .map(|address| address.to_string())
        .collect()
}

/// Answers a query with one address, or as its name wants: `nx...` does not exist.
pub(crate) fn reply(query: &[u8], address: [u8; 4]) -> Vec<u8> {
    let mut reply = query.to_vec();
    reply[2] |= 0x80;
    reply[3] |= 0x80;
    if query[13..].starts_with(b"nx") {
        reply[3] |= 3;
        return reply;
    }
    reply[7] = 1;
    reply.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
    reply.extend_from_slice(&address);
    reply
}

/// A name server that notes what it is asked; an empty reply is none.
pub(crate) struct Upstream {
    seen: Arc<Mutex<Vec<(String, SocketAddr)>>>,
    end: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

type Behaviour = Arc<dyn Fn(&[u8]) -> Vec<u8> + Send + Sync>;

impl Upstream {
    fn start(address: &str, behave: impl Fn(&[u8]) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let address = format!("{address}:53");
        let udp = UdpSocket::bind(&address).unwrap();
        let tcp = TcpListener::bind(&address).unwrap();
        udp.set_read_timeout(Some(TICK)).unwrap();
        tcp.set_nonblocking(true).unwrap();
        let mut upstream = Self {
            seen: Arc::default(),
            end: Arc::default(),
            threads: Vec::new(),
        };
        let behave: Behaviour = Arc::new(behave);
        let (seen, end, how) = (
            Arc::clone(&upstream.seen),
            Arc::clone(&upstream.end),
            Arc::clone(&behave),
        );
        upstream.threads.push(std::thread::spawn(move || {
            let mut query = [0; 4096];
            while !end.load(Ordering::Relaxed) {
                if let Ok((length, client)) = udp.recv_from(&mut query) {
                    note(&seen, &query[..length], client);
                    let reply = how(&query[..length]);
                    if !reply.is_empty() {
                        drop(udp.send_to(&reply, client));
                    }
                }
            }
        }));
        let (seen, end) = (Arc::clone(&upstream.seen), Arc::clone(&upstream.end));
        upstream.threads.push(std::thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                match tcp.accept() {
                    Ok((stream, client)) => serve_tcp(stream, client, &seen, &behave),
                    Err(_) => std::thread::sleep(TICK),
                }
            }
        }));
        upstream
    }

    /// Lists the names that were asked for.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen
            .lock()
            .unwrap()
            .iter()
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Lists the ports that questions came from.
    pub(crate) fn ports(&self) -> Vec<u16> {
        self.seen
            .lock()
            .unwrap()
            .iter()
            .map(|(_, client)| client.port())
            .collect()
    }
}

fn serve_tcp(
    mut stream: TcpStream,
    client: SocketAddr,
    seen: &Mutex<Vec<(String, SocketAddr)>>,
    behave: &Behaviour,
) {
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    if let Ok(query) = read_frame(&mut stream) {
        note(seen, &query, client);
        drop(send_frame(&mut stream, &behave(&query)));
    }
}

fn note(seen: &Mutex<Vec<(String, SocketAddr)>>, query: &[u8], client: SocketAddr) {
    let message = Message::from_vec(query).unwrap();
    let name = message.queries[0].name().to_ascii();
    seen.lock().unwrap().push((name, client));
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}

pub(crate) fn send_frame(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    let length = u16::try_from(bytes.len()).unwrap();
    stream.write_all(&[&length.to_be_bytes()[..], bytes].concat())
}

pub(crate) fn read_frame(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut frame = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut frame)?;
    Ok(frame)
}
