//! Pushes to registries that do not take a layer while it is packed, and engines that die in between.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use testkit::engine::Engine;
use testkit::image::Archive;
use testkit::registry::Registry;

use crate::bench::{engine, eventually};

/// What becomes of a layer that is sent in pieces.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// The connection ends after so many bytes.
    CutOff(usize),
    /// It is refused at once.
    Refused,
    /// After so many bytes no more are taken until the gate is opened.
    Held(usize),
}

/// A registry behind a relay that lets some requests fail.
struct Relay {
    address: String,
    shared: Arc<Shared>,
    _registry: Registry,
}

struct Shared {
    registry: String,
    fate: Fate,
    open: AtomicBool,
    /// Bytes of such requests that were passed on.
    passed: AtomicUsize,
    /// How many of them there were.
    patches: AtomicUsize,
}

impl Relay {
    fn start(fate: Fate) -> Self {
        let registry = Registry::start().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Shared {
            registry: registry.name(),
            fate,
            open: AtomicBool::new(false),
            passed: AtomicUsize::new(0),
            patches: AtomicUsize::new(0),
        });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&serving);
                std::thread::spawn(move || shared.relay(&stream));
            }
        });
        Self {
            address,
            shared,
            _registry: registry,
        }
    }
}

impl Shared {
    fn relay(&self, client: &TcpStream) {
        let Ok(server) = TcpStream::connect(&self.registry) else {
            return;
        };
        let answers = (server.try_clone().unwrap(), client.try_clone().unwrap());
        std::thread::spawn(move || {
            let (mut from, mut to) = answers;
            drop(io::copy(&mut from, &mut to));
            drop(to.shutdown(Shutdown::Both));
        });
        // either end is told by the other
        drop(self.pass(client, &server));
        drop(server.shutdown(Shutdown::Both));
        drop(client.shutdown(Shutdown::Both));
    }

    /// Passes requests on. A head begins a piece of its own: nobody sends it before the last answer.
    fn pass(&self, mut client: &TcpStream, mut server: &TcpStream) -> io::Result<()> {
        let mut buffer = vec![0; 64 << 10];
        let (mut in_patch, mut passed) = (false, 0);
        loop {
            let count = client.read(&mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            let piece = &buffer[..count];
            let begins = |method: &str| piece.starts_with(method.as_bytes());
            if begins("PATCH /v2/") {
                (in_patch, passed) = (true, 0);
                self.patches.fetch_add(1, Ordering::SeqCst);
                if matches!(self.fate, Fate::Refused) {
                    let answer = "HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                    return client.write_all(answer.as_bytes());
                }
            } else if begins("PUT /v2/") || begins("GET /v2/") || begins("HEAD /v2/") {
                in_patch = false;
            }
            if in_patch {
                passed += count;
                self.passed.fetch_add(count, Ordering::SeqCst);
                match self.fate {
                    Fate::CutOff(limit) if passed > limit => return Ok(()),
                    Fate::Held(limit) => {
                        while passed > limit && !self.open.load(Ordering::SeqCst) {
                            std::thread::sleep(Duration::from_millis(20));
                        }
                    }
                    _ => {}
                }
            }
            server.write_all(piece)?;
        }
    }
}

/// Bytes that do not pack.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Imports a layer that is to be packed when it is pushed.
fn import(engine: &Engine, name: &str, length: usize) {
    let archive = Archive::new().file("noise", &noise(length), 0o644).unwrap();
    engine
        .import_with(&["import", "-", name], &archive.finish().unwrap())
        .unwrap();
}

/// The most that the engine ever had in memory, kB.
fn most_memory(engine: &Engine) -> u64 {
    let pid = engine.pid().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let text = line.unwrap().trim().trim_end_matches(" kB");
    text.parse().unwrap()
}

/// What was pushed is whole.
fn comes_back(engine: &Engine, name: &str) {
    let id = engine.inspect(name, "{{.Id}}");
    engine.docker(&format!("rmi {name}")).ok();
    engine.docker(&format!("pull {name}")).ok();
    assert_eq!(engine.inspect(name, "{{.Id}}"), id);
}

#[test]
fn a_layer_that_is_not_taken_in_pieces_is_sent_as_a_whole() {
    let engine = engine();
    for fate in [Fate::CutOff(3 << 20), Fate::CutOff(0), Fate::Refused] {
        let relay = Relay::start(fate);
        let name = format!("{}/made/noise:1", relay.address);
        import(&engine, &name, 12 << 20);
        let pushed = engine.docker(&format!("push {name}"));
        pushed.shows(": Pushed");
        pushed.ok();
        assert!(relay.shared.patches.load(Ordering::SeqCst) > 0, "{fate:?}");
        comes_back(&engine, &name);
        engine.docker(&format!("rmi {name}")).ok();
    }
}

#[test]
fn a_slow_registry_takes_no_memory_of_the_engine() {
    let engine = engine();
    let held = 1 << 20;
    let relay = Relay::start(Fate::Held(held));
    let name = format!("{}/made/noise:1", relay.address);
    import(&engine, &name, 128 << 20);
    let before = most_memory(&engine);
    let session = engine.session(testkit::docker::Client::Docker, &format!("push {name}"));
    eventually("the registry takes no more", || {
        relay.shared.passed.load(Ordering::SeqCst) > held
    });
    // whatever is done ahead of the registry would be there by now
    std::thread::sleep(Duration::from_secs(2));
    let more = most_memory(&engine) - before;
    assert!(more < 60 << 10, "{more} kB");
    relay.shared.open.store(true, Ordering::SeqCst);
    let outcome = session.finish_within(Duration::from_secs(240));
    assert_eq!(outcome.code, 0, "{outcome:?}");
    comes_back(&engine, &name);
    engine.docker(&format!("rmi {name}")).ok();
}

#[test]
fn a_push_that_was_killed_is_done_again() {
    let mut engine = engine();
    let relay = Relay::start(Fate::Held(1 << 20));
    let name = format!("{}/made/noise:1", relay.address);
    import(&engine, &name, 12 << 20);
    let line = format!("push {name}");
    let session = engine.session(testkit::docker::Client::Docker, &line);
    eventually("the registry takes no more", || {
        relay.shared.passed.load(Ordering::SeqCst) > 1 << 20
    });
    engine.kill9().unwrap();
    session.kill();
    engine.restart().unwrap();
    // what was packed is nobody's
    engine.gorae("system check --deep").prints("All is well.");
    relay.shared.open.store(true, Ordering::SeqCst);
    engine.docker(&line).ok();
    comes_back(&engine, &name);
    engine.docker(&format!("rmi {name}")).ok();
}
