//! Pulls that go on where others ended, and pulls of several clients at once.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use testkit::docker::Client;
use testkit::engine::{Engine, EngineOptions};
use testkit::image::{Archive, Built, Compression, TestImage, digest_of};

use crate::bench::{eventually, options};

fn bare() -> Engine {
    Engine::start(EngineOptions {
        busybox: false,
        ..options()
    })
    .unwrap()
}

/// Bytes that do not compress.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
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

fn layer(name: &str, content: &[u8]) -> Vec<u8> {
    let archive = Archive::new().file(name, content, 0o644).unwrap();
    archive.finish().unwrap()
}

/// A registry that stops in the middle of layers until it is told to go on, and notes what is
/// asked of it.
struct Gate {
    address: String,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    images: Mutex<Vec<(String, Built)>>,
    /// Bytes of a layer that are sent before the registry waits; then it waits for this to grow.
    open: AtomicUsize,
    /// Each request for a layer: its digest and its range.
    asked: Mutex<Vec<(String, String)>>,
    /// Bytes of layers that were sent.
    sent: AtomicUsize,
    /// The pause behind each piece of a layer, milliseconds.
    pause: AtomicUsize,
}

impl Gate {
    fn serve(images: Vec<(&str, Built)>, open: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let images = images.into_iter();
        let shared = Arc::new(Shared {
            images: Mutex::new(images.map(|(tag, image)| (tag.to_owned(), image)).collect()),
            open: AtomicUsize::new(open),
            ..Shared::default()
        });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                let shared = Arc::clone(&serving);
                std::thread::spawn(move || drop(shared.answer(stream)));
            }
        });
        Self { address, shared }
    }

    fn open(&self) {
        self.shared.open.store(usize::MAX, Ordering::SeqCst);
    }

    fn asked(&self) -> Vec<(String, String)> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// The ranges of an image's last layer that were asked for.
    fn asked_for(&self, image: &Built) -> Vec<String> {
        let digest = image.layers.last().unwrap().digest.to_string();
        let asked = self.asked().into_iter();
        let of_it = asked.filter(|(asked, _)| *asked == digest);
        of_it.map(|(_, range)| range).collect()
    }

    fn sent(&self) -> usize {
        self.shared.sent.load(Ordering::SeqCst)
    }
}

impl Shared {
    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte)? == 1 {
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let (kind, bytes, is_layer) = self.find(&path);
        let range = head
            .lines()
            .find_map(|line| line.strip_prefix("range: bytes="));
        if is_layer {
            let digest = path.rsplit('/').next().unwrap_or_default().to_owned();
            let asked = (digest, range.unwrap_or_default().to_owned());
            self.asked.lock().unwrap().push(asked);
        }
        let (start, end) = range.and_then(|range| range.split_once('-')).map_or(
            (0, bytes.len()),
            |(start, last)| {
                let last = last.parse::<usize>();
                (
                    start.parse().unwrap(),
                    last.map_or(bytes.len(), |last| last + 1),
                )
            },
        );
        let status = if range.is_some() {
            "206 Partial Content"
        } else {
            "200 OK"
        };
        let mut answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nDocker-Content-Digest: {}\r\nAccept-Ranges: bytes\r\nConnection: close\r\n",
            end - start,
            digest_of(&bytes)
        );
        if range.is_some() {
            answer += &format!(
                "Content-Range: bytes {start}-{}/{}\r\n",
                end - 1,
                bytes.len()
            );
        }
        stream.write_all(format!("{answer}\r\n").as_bytes())?;
        if head.starts_with("HEAD") {
            return Ok(());
        }
        for (number, piece) in bytes[start..end].chunks(64 * 1024).enumerate() {
            let at = start + number * 64 * 1024;
            while is_layer && at >= self.open.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(5));
                // a client that has gone away is not waited for
                stream.set_nonblocking(true)?;
                let gone = matches!(stream.peek(&mut byte), Ok(0));
                stream.set_nonblocking(false)?;
                if gone {
                    return Ok(());
                }
            }
            stream.write_all(piece)?;
            if is_layer {
                let pause = self.pause.load(Ordering::SeqCst) as u64;
                std::thread::sleep(Duration::from_millis(pause));
                self.sent.fetch_add(piece.len(), Ordering::SeqCst);
            }
        }
        Ok(())
    }

    /// What lies at a path: its media type, its bytes, and whether it is a layer.
    fn find(&self, path: &str) -> (String, Vec<u8>, bool) {
        for (tag, image) in self.images.lock().unwrap().iter() {
            let manifest = image.manifest.digest.to_string();
            if path.ends_with(&format!("/manifests/{tag}")) || path.ends_with(&manifest) {
                let manifest = &image.manifest;
                return (manifest.media_type.clone(), manifest.bytes.clone(), false);
            }
            let binary = "application/octet-stream".to_owned();
            if path.ends_with(&image.config.digest.to_string()) {
                return (binary, image.config.bytes.clone(), false);
            }
            for layer in &image.layers {
                if path.ends_with(&layer.digest.to_string()) {
                    return (binary, layer.bytes.clone(), true);
                }
            }
        }
        ("application/json".to_owned(), b"{}".to_vec(), false)
    }
}

fn image(content: &[&[u8]]) -> Built {
    let mut image = TestImage::busybox().unwrap();
    for (number, bytes) in content.iter().enumerate() {
        image = image.with_layer(layer(&format!("file{number}"), bytes), Compression::None);
    }
    image.build().unwrap()
}

/// What lies in the folder of partial blobs, bytes: also of layers that are complete, and wait for the
/// image's other layers.
fn partial(engine: &Engine) -> u64 {
    let folder = engine.root_folder().join("content/ingest");
    let entries = std::fs::read_dir(folder).unwrap();
    let lengths = entries.filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len()));
    lengths.sum()
}

/// What is there of an image's last layer, bytes.
fn arrived(engine: &Engine, image: &Built) -> u64 {
    let last = image.layers.last().unwrap();
    let folder = engine.root_folder().join("content/ingest");
    let file = std::fs::metadata(folder.join(last.digest.hex()));
    file.map_or(0, |file| file.len())
}

/// Too little for a second connection.
const BIG: usize = 7 << 20;
/// Where the registry stops.
const HALF: usize = 4 << 20;

#[test]
fn a_pull_goes_on_after_the_engine_was_killed_or_restarted() {
    let mut engine = bare();
    let bytes = noise(BIG, 11);
    let big = image(&[&bytes]);
    let gate = Gate::serve(vec![("v1", big.clone())], HALF);
    let pull = format!("pull {}/test/big:v1", gate.address);
    for (time, kill) in [(1, true), (2, false)] {
        let session = engine.session(Client::Docker, &pull);
        eventually("half of the layer is there", || {
            gate.asked_for(&big).len() == time && arrived(&engine, &big) == HALF as u64
        });
        if kill {
            engine.kill9().unwrap();
        } else {
            engine.stop().unwrap();
        }
        session.kill();
        engine.restart().unwrap();
        assert_eq!(arrived(&engine, &big), HALF as u64);
    }
    gate.open();
    engine.docker(&pull).ok();
    // not a byte that was there
    let rest = format!("{HALF}-");
    assert_eq!(gate.asked_for(&big), ["", &rest, &rest]);
    engine
        .docker(&format!(
            "run --rm {}/test/big:v1 sh -c 'wc -c < /file0'",
            gate.address
        ))
        .prints(&BIG.to_string());
    eventually("no part is left", || partial(&engine) == 0);
    engine
        .docker(&format!("rmi {}/test/big:v1", gate.address))
        .ok();
}

/// The folders of layers that are unpacked, by their inodes.
fn unpacked(engine: &Engine) -> Vec<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let folder = std::fs::read_dir(engine.root_folder().join("snapshots")).unwrap();
    let mut inodes: Vec<u64> = folder
        .flatten()
        .filter_map(|entry| Some(entry.metadata().ok()?.ino()))
        .collect();
    inodes.sort_unstable();
    inodes
}

#[test]
fn layers_of_a_pull_stay_when_the_engine_is_killed() {
    let mut engine = bare();
    let (small, bytes) = (noise(100_000, 18), noise(BIG, 19));
    let big = image(&[&small, &bytes]);
    let gate = Gate::serve(vec![("v1", big.clone())], HALF);
    let name = format!("{}/test/big:v1", gate.address);
    let session = engine.session(Client::Docker, &format!("pull {name}"));
    eventually(
        "the smaller layers are there, and half of the other",
        || arrived(&engine, &big) == HALF as u64 && unpacked(&engine).len() == 2,
    );
    let before = unpacked(&engine);
    engine.kill9().unwrap();
    session.kill();
    engine.restart().unwrap();
    assert_eq!(unpacked(&engine), before);
    let found = engine.gorae("system check --deep");
    found.shows(&format!("Interrupted: pull {name}; 2 layers and 0 blobs"));
    found.shows("All is well.");
    gate.open();
    engine.docker(&format!("pull {name}")).ok();
    let after = unpacked(&engine);
    assert!(
        before.iter().all(|layer| after.contains(layer)),
        "{before:?} {after:?}"
    );
    // each layer was asked for once, and the last one from where it ended
    let asked = gate.asked();
    assert_eq!(asked.len(), 4, "{asked:?}");
    eventually("the lease has ended", || {
        engine.gorae("system check").ok() == "All is well."
    });
    engine
        .docker(&format!("run --rm {name} sh -c 'wc -c < /file1'"))
        .prints(&BIG.to_string());
    engine.docker(&format!("rmi {name}")).ok();
    assert!(unpacked(&engine).is_empty());
}

#[test]
fn a_cancelled_pull_leaves_what_came_and_prune_removes_it() {
    let engine = bare();
    let bytes = noise(BIG, 12);
    let big = image(&[&bytes]);
    let gate = Gate::serve(vec![("v1", big.clone())], HALF);
    for (time, client) in [(1, Client::Docker), (2, Client::Gorae)] {
        let session = engine.session(client, &format!("pull {}/test/big:v1", gate.address));
        eventually("half of the layer is there", || {
            gate.asked_for(&big).len() == time && arrived(&engine, &big) == HALF as u64
        });
        session.kill();
    }
    // the second one asks for nothing that is there
    assert_eq!(gate.asked_for(&big), ["", &format!("{HALF}-")]);
    engine.docker("images -q").prints("");
    // the pull may need a moment to let go of its file
    eventually("nothing is left", || {
        engine.docker("image prune -f").ok();
        partial(&engine) == 0
    });
}

#[test]
fn damage_in_what_was_left_is_found_and_fetched_again() {
    let engine = bare();
    let bytes = noise(BIG, 13);
    let big = image(&[&bytes]);
    let gate = Gate::serve(vec![("v1", big.clone())], HALF);
    let pull = format!("pull {}/test/big:v1", gate.address);
    let session = engine.session(Client::Docker, &pull);
    eventually("half of the layer is there", || {
        arrived(&engine, &big) == HALF as u64
    });
    session.kill();
    let folder = engine.root_folder().join("content/ingest");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        eventually("the file is let go", || {
            let file = std::fs::File::open(&path).unwrap();
            file.try_lock().is_ok()
        });
        let mut left = std::fs::read(&path).unwrap();
        let middle = left.len() / 2;
        left[middle] ^= 1;
        std::fs::write(&path, left).unwrap();
    }
    gate.open();
    engine.docker(&pull).ok();
    engine
        .docker(&format!(
            "run --rm {}/test/big:v1 sh -c 'wc -c < /file0'",
            gate.address
        ))
        .prints(&BIG.to_string());
    engine
        .docker(&format!("rmi {}/test/big:v1", gate.address))
        .ok();
    eventually("no part is left", || partial(&engine) == 0);
}

#[test]
fn a_layer_that_several_pulls_want_is_fetched_once() {
    let engine = bare();
    let (shared, own) = (noise(BIG, 14), noise(100_000, 15));
    let big = image(&[&shared]);
    let images = vec![("v1", big.clone()), ("v2", image(&[&shared, &own]))];
    let gate = Gate::serve(images, HALF);
    let name = format!("{}/test/shared", gate.address);
    let first = engine.session(Client::Docker, &format!("pull {name}:v1"));
    eventually("half of the layer is there", || {
        arrived(&engine, &big) == HALF as u64
    });
    let second = engine.session(Client::Gorae, &format!("pull {name}:v2"));
    let third = engine.session(Client::Docker, &format!("pull {name}:v2"));
    eventually("the other image's own layer was asked for", || {
        gate.asked().len() >= 3
    });
    // who began it leaves: the others go on
    first.kill();
    gate.open();
    for session in [second, third] {
        let outcome = session.finish();
        assert_eq!(outcome.code, 0, "{outcome:?}");
    }
    engine
        .docker(&format!(
            "run --rm {name}:v2 sh -c 'cat /file0 /file1 | wc -c'"
        ))
        .prints(&(BIG + 100_000).to_string());
    let mut asked: Vec<String> = gate.asked().into_iter().map(|(digest, _)| digest).collect();
    let all = asked.len();
    asked.sort();
    asked.dedup();
    assert_eq!(
        asked.len(),
        all,
        "each layer is asked for once: {:?}",
        gate.asked()
    );
    // all its layers are there
    engine.docker(&format!("pull {name}:v1")).ok();
    assert_eq!(gate.asked().len(), all);
    engine.docker(&format!("rmi {name}:v1 {name}:v2")).ok();
    eventually("no part is left", || partial(&engine) == 0);
}

#[test]
fn a_slow_registry_is_asked_over_several_connections() {
    let engine = bare();
    // 64 KiB each 40 ms: 20 seconds over one connection
    let bytes = noise(32 << 20, 16);
    let gate = Gate::serve(vec![("v1", image(&[&bytes]))], usize::MAX);
    gate.shared.pause.store(40, Ordering::SeqCst);
    let name = format!("{}/test/slow:v1", gate.address);
    let session = engine.session(Client::Docker, &format!("pull {name}"));
    eventually("another connection fetches a part", || {
        let asked = gate.asked();
        asked.iter().any(|(_, range)| !range.is_empty())
    });
    let outcome = session.finish_within(Duration::from_secs(120));
    assert_eq!(outcome.code, 0, "{outcome:?}");
    engine
        .docker(&format!("run --rm {name} sh -c 'wc -c < /file0'"))
        .prints(&bytes.len().to_string());
    // each byte was asked for once, but for what was on its way when a part was shared
    assert!(gate.sent() < bytes.len() + (8 << 20), "{}", gate.sent());
    engine.docker(&format!("rmi {name}")).ok();
    eventually("no part is left", || partial(&engine) == 0);
}

#[test]
fn only_what_is_missing_is_fetched() {
    let engine = bare();
    let layers: Vec<Vec<u8>> = (0..5).map(|n| noise(300_000, 20 + n)).collect();
    let parts: Vec<&[u8]> = layers.iter().map(Vec::as_slice).collect();
    let images = vec![("four", image(&parts[..4])), ("five", image(&parts))];
    let gate = Gate::serve(images, usize::MAX);
    let name = format!("{}/test/five", gate.address);
    engine.docker(&format!("pull {name}:four")).ok();
    let (before, sent) = (gate.asked().len(), gate.sent());
    let pulled = engine.docker(&format!("pull {name}:five"));
    pulled.shows("Already exists");
    assert_eq!(gate.asked().len(), before + 1);
    assert!(gate.sent() - sent < 310_000);
    // a blob that is lost is fetched, and nothing is unpacked for it
    let blobs = engine.root_folder().join("content/blobs/sha256");
    let lost = &image(&parts).layers[5];
    std::fs::remove_file(blobs.join(lost.digest.hex())).unwrap();
    engine.docker(&format!("pull {name}:five")).ok();
    assert_eq!(gate.asked().len(), before + 2);
    assert!(blobs.join(lost.digest.hex()).exists());
    engine.docker(&format!("rmi {name}:four {name}:five")).ok();
}
