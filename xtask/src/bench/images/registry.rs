//! Gorae's registry beside CNCF distribution: bytes in and out, many small questions, and memory.

use super::http::Client;
use super::lab::Lab;
use crate::bench::report::{Bound, Figure, Row, Unit};
use crate::bench::subject::kill;
use crate::bench::{image, memory};
use anyhow::{Context, Result, bail};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const OWN: &str = "gorae";
const OTHER: &str = "distribution";
/// Clients that move blobs at once.
const MOVERS: usize = 4;
/// Clients that ask for manifests at once.
const ASKERS: usize = 64;
const BLOB: usize = 32 << 20;
/// Blobs that each mover sends in a turn.
const BLOBS: usize = 4;
/// How often each mover fetches what it sent.
const FETCHES: usize = 4;
const ASKING: Duration = Duration::from_secs(3);
const REPOSITORY: &str = "/v2/bench/load";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A registry's process; it ends with this value.
#[derive(Debug)]
struct Server {
    name: &'static str,
    address: SocketAddr,
    process: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        kill(self.process.id(), "TERM");
        if let Err(error) = self.process.wait() {
            println!("xtask: cannot wait for {}: {error}", self.name);
        }
    }
}

/// What a turn finds.
#[derive(Debug, Default)]
struct Found {
    push: f64,
    pull: f64,
    rate: f64,
    p99: f64,
    memory: f64,
}

pub(super) fn measure(lab: &Lab<'_>) -> Result<Vec<Row>> {
    let blobs = blobs()?;
    let mut found: Vec<(&str, Vec<Found>)> = vec![(OWN, Vec::new()), (OTHER, Vec::new())];
    for _ in 0..lab.bench.plan.long_rounds {
        for (name, list) in &mut found {
            // a folder and a process of its own each time: nothing is there already
            let folder = lab.scratch("registry")?;
            let server = start(lab, name, &folder)?;
            list.push(turn(&server, &blobs)?);
        }
    }
    lab.scratch("registry")?;
    let row = |title: &str, unit, value: fn(&Found) -> f64, goal: (&str, &str, Bound)| {
        let figures = found.iter().map(|(name, list)| {
            let mut figure = Figure::new(name);
            figure.samples.extend(list.iter().map(value));
            figure
        });
        let mut row = Row::new(title, unit, figures.collect());
        row.goal_ratio(goal.0, goal.1, goal.2);
        row
    };
    let faster = (OWN, OTHER, Bound::AtLeast(1.5));
    Ok(vec![
        row(
            "registry: push of blobs of 32 MiB by 4 clients, MB a second",
            Unit::PerSecond,
            |found| found.push,
            faster,
        ),
        row(
            "registry: pull of the same, MB a second",
            Unit::PerSecond,
            |found| found.pull,
            faster,
        ),
        row(
            "registry: manifests, 64 clients",
            Unit::PerSecond,
            |found| found.rate,
            faster,
        ),
        row(
            "registry: p99 of the same",
            Unit::Milliseconds,
            |found| found.p99,
            (OTHER, OWN, Bound::AtLeast(1.5)),
        ),
        row(
            "registry: most memory in all of this (RSS)",
            Unit::Megabytes,
            |found| found.memory,
            (OTHER, OWN, Bound::AtLeast(3.0)),
        ),
    ])
}

/// Starts a registry on a free port of this machine's loopback.
fn start(lab: &Lab<'_>, name: &'static str, folder: &Path) -> Result<Server> {
    let free = std::net::TcpListener::bind("127.0.0.1:0").context("find a free port")?;
    let address = free.local_addr().context("find a free port")?;
    drop(free);
    let mut command = if name == OWN {
        own(lab, address, folder)
    } else {
        other(lab, address, folder)?
    };
    let log = File::create(lab.bench.folder.join(format!("registry-{name}.log")))
        .context("create a registry's log")?;
    let process = command
        .stdin(Stdio::null())
        .stdout(log.try_clone().context("share a registry's log")?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("start {name}"))?;
    let mut server = Server {
        name,
        address,
        process,
    };
    for _ in 0..500 {
        if TcpStream::connect(address).is_ok() {
            return Ok(server);
        }
        if let Some(status) = server.process.try_wait().context("wait for a registry")? {
            bail!("{name} ended at once with {status}");
        }
        thread::sleep(Duration::from_millis(20));
    }
    bail!("{name} does not listen on {address}")
}

fn own(lab: &Lab<'_>, address: SocketAddr, folder: &Path) -> Command {
    let mut command = Command::new(lab.bench.programs.join("gorae"));
    command
        .args([
            "registry",
            "serve",
            "--listen",
            &address.to_string(),
            "--root",
        ])
        .arg(folder);
    command
}

fn other(lab: &Lab<'_>, address: SocketAddr, folder: &Path) -> Result<Command> {
    let file = folder.join("config.yml");
    let seen = crate::bench::peers::Peers::seen(folder);
    let text = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {seen}/data}}}}\nhttp: {{addr: \"{address}\"}}\n"
    );
    fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
    // this process's network, where our own registry is as well
    let mut command = lab.peers.in_network("/proc/self/ns/net", "docker-registry");
    command.args(["serve", &format!("{seen}/config.yml")]);
    Ok(command)
}

/// Bytes and digest of each blob that is sent.
type Blob = (Vec<u8>, String);

fn blobs() -> Result<Vec<Vec<Blob>>> {
    let mover = |mover: usize| {
        (0..BLOBS)
            .map(|number| {
                let seed = u64::try_from(mover * BLOBS + number)? + 77;
                let bytes = image::bytes(seed, BLOB);
                let digest = format!("sha256:{}", hex::encode(Sha256::digest(&bytes)));
                Ok((bytes, digest))
            })
            .collect()
    };
    (0..MOVERS).map(mover).collect()
}

fn turn(server: &Server, blobs: &[Vec<Blob>]) -> Result<Found> {
    let bytes = (MOVERS * BLOBS * BLOB) as f64 / 1e6;
    let push = together(
        blobs,
        |client, (bytes, digest)| push(client, bytes, digest),
        server,
    )?;
    let pull = together(
        blobs,
        |client, (bytes, digest)| {
            for _ in 0..FETCHES {
                let path = format!("{REPOSITORY}/blobs/{digest}");
                let (_, length) = client.expect(200, "GET", &path, "", b"")?;
                anyhow::ensure!(length == bytes.len() as u64, "{path} has {length} bytes");
            }
            Ok(())
        },
        server,
    )?;
    let digest = manifest(server, &blobs[0][0])?;
    let mut taken = ask(server, &digest)?;
    taken.sort_by(f64::total_cmp);
    let last = taken
        .len()
        .checked_sub(1)
        .context("no manifest was fetched")?;
    Ok(Found {
        push: bytes / push.as_secs_f64(),
        pull: bytes * FETCHES as f64 / pull.as_secs_f64(),
        rate: taken.len() as f64 / ASKING.as_secs_f64(),
        p99: taken[last * 99 / 100],
        memory: memory::peak(served_by(server)?)? as f64 / 1e6,
    })
}

/// The registry's own process: `nsenter` becomes it.
fn served_by(server: &Server) -> Result<u32> {
    let pid = server.process.id();
    let children = memory::children(pid)?;
    Ok(children.first().copied().unwrap_or(pid))
}

/// Lets each mover do something with its blobs, all at once; gives how long that took.
fn together(
    blobs: &[Vec<Blob>],
    work: impl Fn(&mut Client, &Blob) -> Result<()> + Sync,
    server: &Server,
) -> Result<Duration> {
    let begun = Instant::now();
    thread::scope(|scope| {
        let movers: Vec<_> = blobs
            .iter()
            .map(|own| {
                scope.spawn(|| {
                    let mut client = Client::connect(server.address)?;
                    own.iter().try_for_each(|blob| work(&mut client, blob))
                })
            })
            .collect();
        for mover in movers {
            mover
                .join()
                .unwrap_or_else(|_| bail!("a thread panicked"))?;
        }
        Ok::<(), anyhow::Error>(())
    })?;
    Ok(begun.elapsed())
}

fn push(client: &mut Client, bytes: &[u8], digest: &str) -> Result<()> {
    let begin = format!("{REPOSITORY}/blobs/uploads/");
    let (head, _) = client.expect(202, "POST", &begin, "", b"")?;
    let location = head.location.context("find the upload's address")?;
    // an address with or without a host
    let path = location
        .find("/v2/")
        .map_or(location.as_str(), |at| &location[at..]);
    let mark = if path.contains('?') { '&' } else { '?' };
    let end = format!("{path}{mark}digest={digest}");
    let kind = "Content-Type: application/octet-stream\r\n";
    client.expect(201, "PUT", &end, kind, bytes).map(drop)
}

/// Puts a manifest of one layer; gives its digest.
fn manifest(server: &Server, layer: &Blob) -> Result<String> {
    let mut client = Client::connect(server.address)?;
    let config = br#"{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":[]}}"#;
    let config_digest = format!("sha256:{}", hex::encode(Sha256::digest(config)));
    push(&mut client, config, &config_digest)?;
    let text = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config_digest, "size": config.len()},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer.1, "size": layer.0.len()}],
    });
    let text = serde_json::to_vec(&text)?;
    let kind = format!("Content-Type: {MANIFEST}\r\n");
    client.expect(
        201,
        "PUT",
        &format!("{REPOSITORY}/manifests/1"),
        &kind,
        &text,
    )?;
    Ok(format!("sha256:{}", hex::encode(Sha256::digest(&text))))
}

/// Fetches the manifest by tag and by digest from many clients; gives the milliseconds of each answer.
fn ask(server: &Server, digest: &str) -> Result<Vec<f64>> {
    let paths = ["1", digest].map(|name| format!("{REPOSITORY}/manifests/{name}"));
    let accept = format!("Accept: {MANIFEST}\r\n");
    let end = Instant::now() + ASKING;
    thread::scope(|scope| {
        let askers: Vec<_> = (0..ASKERS)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = Client::connect(server.address)?;
                    let mut taken = Vec::new();
                    while Instant::now() < end {
                        for path in &paths {
                            let begun = Instant::now();
                            client.expect(200, "GET", path, &accept, b"")?;
                            taken.push(begun.elapsed().as_secs_f64() * 1e3);
                        }
                    }
                    Ok::<_, anyhow::Error>(taken)
                })
            })
            .collect();
        let mut all = Vec::new();
        for asker in askers {
            all.extend(
                asker
                    .join()
                    .unwrap_or_else(|_| bail!("a thread panicked"))?,
            );
        }
        Ok(all)
    })
}
