//! An engine as its API's clients know it.

use super::wire::Client;
use crate::bench::peers::{PODMAN_BUSYBOX, Peers};
use crate::bench::turns::Turn;
use crate::bench::{Bench, image, memory};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

/// What containers run that do nothing.
pub(super) const FOREVER: [&str; 2] = ["sleep", "86400"];
/// So many containers are removed at once.
const HANDS: usize = 4;
/// The socket of podman's API, in the peers' root.
const PODMAN_SOCKET: &str = "run/peers/podman-bench.sock";

/// One engine, and how it is reached.
#[derive(Debug)]
pub(super) struct Party {
    pub(super) name: &'static str,
    pub(super) socket: PathBuf,
    pub(super) image: &'static str,
    /// The engine's processes, without those that exist for a container.
    pub(super) engine: Vec<u32>,
    /// Where a file of this machine is for the engine.
    at: fn(&std::path::Path) -> String,
    service: Option<Child>,
}

impl Drop for Party {
    fn drop(&mut self) {
        if let Some(service) = &mut self.service
            && let Err(error) = service.kill().and_then(|()| service.wait())
        {
            println!("xtask: cannot end podman's API: {error}");
        }
    }
}

/// Every engine of this run.
pub(super) fn all(bench: &Bench) -> Result<Vec<Party>> {
    let mut all = vec![Party {
        name: "gorae",
        socket: bench.gorae.socket(),
        image: image::BUSYBOX,
        engine: vec![bench.gorae.pid()],
        at: crate::bench::subject::word,
        service: None,
    }];
    if let Some(peers) = &bench.peers {
        all.push(Party {
            name: "docker",
            socket: peers.root().join("run/peers/docker.sock"),
            image: image::BUSYBOX,
            engine: peers.docker_engine()?,
            at: Peers::seen,
            service: None,
        });
        all.push(podman(peers)?);
    }
    Ok(all)
}

/// Podman answers at a socket as long as it is told to.
fn podman(peers: &Peers) -> Result<Party> {
    let mut service = peers
        .command("podman")
        .args(["system", "service", "--time", "0"])
        .arg(format!("unix:///{PODMAN_SOCKET}"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("start podman's API")?;
    let socket = peers.root().join(PODMAN_SOCKET);
    for _ in 0..500 {
        if Client::connect(&socket).is_ok() {
            return Ok(Party {
                name: "podman",
                socket,
                image: PODMAN_BUSYBOX,
                engine: vec![service.id()],
                at: Peers::seen,
                service: Some(service),
            });
        }
        thread::sleep(Duration::from_millis(20));
    }
    if let Err(error) = service.kill().and_then(|()| service.wait()) {
        println!("xtask: cannot end podman's API: {error}");
    }
    bail!("podman's API does not answer at {}", socket.display())
}

impl Party {
    /// One that is not in the list of all.
    pub(super) fn gorae(gorae: &crate::bench::gorae::Gorae) -> Self {
        Self {
            name: "gorae",
            socket: gorae.socket(),
            image: image::BUSYBOX,
            engine: vec![gorae.pid()],
            at: crate::bench::subject::word,
            service: None,
        }
    }

    pub(super) fn connect(&self) -> Result<Client> {
        Client::connect(&self.socket)
    }

    /// A file of this machine, as a container's mount names it.
    pub(super) fn at(&self, path: &std::path::Path) -> String {
        (self.at)(path)
    }

    /// Makes a container of the small image.
    pub(super) fn create(&self, client: &mut Client, name: &str, command: &[&str]) -> Result<()> {
        self.create_with(client, name, command, &json!({}))
    }

    /// Makes a container of the small image, with settings of the host's side.
    pub(super) fn create_with(
        &self,
        client: &mut Client,
        name: &str,
        command: &[&str],
        host: &Value,
    ) -> Result<()> {
        let body = json!({"Image": self.image, "Cmd": command, "HostConfig": host}).to_string();
        let path = format!("/containers/create?name={name}");
        client.call("POST", &path, &body).map(drop)
    }

    pub(super) fn start(&self, client: &mut Client, name: &str) -> Result<()> {
        let path = format!("/containers/{name}/start");
        client.call("POST", &path, "").map(drop)
    }

    /// Makes and starts a container that does nothing.
    pub(super) fn idle(&self, client: &mut Client, name: &str) -> Result<()> {
        self.create(client, name, &FOREVER)?;
        self.start(client, name)
    }

    /// The processes that exist for containers, their own left out.
    pub(super) fn monitors(&self, names: &[String]) -> Result<Vec<u32>> {
        let mut client = self.connect()?;
        let mut inits = Vec::new();
        for name in names {
            let answer = client.call("GET", &format!("/containers/{name}/json"), "")?;
            let pid = answer["State"]["Pid"].as_u64().unwrap_or_default();
            inits.push(u32::try_from(pid).with_context(|| format!("read the pid of {name}"))?);
        }
        let found = memory::monitors(&inits);
        if found.len() != names.len() {
            bail!(
                "{} has {} containers and {} processes that watch them",
                self.name,
                names.len(),
                found.len()
            );
        }
        Ok(found)
    }

    /// Removes containers; those that are not there are no error.
    pub(super) fn remove(&self, names: &[String]) -> Result<()> {
        let share = names.len().div_ceil(HANDS).max(1);
        thread::scope(|scope| {
            let hands: Vec<_> = names
                .chunks(share)
                .map(|names| scope.spawn(|| self.remove_in_turn(names)))
                .collect();
            for hand in hands {
                hand.join().unwrap_or_else(|_| bail!("a thread panicked"))?;
            }
            Ok(())
        })
    }

    fn remove_in_turn(&self, names: &[String]) -> Result<()> {
        let mut client = self.connect()?;
        for name in names {
            let path = format!("/containers/{name}?force=1&v=1");
            let (status, body) = client.ask("DELETE", &path, "")?;
            if status >= 400 && status != 404 {
                let text = String::from_utf8_lossy(&body);
                bail!("DELETE {path}: {status} {}", text.trim());
            }
        }
        Ok(())
    }

    /// A turn of this engine at a measurement.
    pub(super) fn turn<'a, T>(&self, measure: impl FnMut() -> Result<T> + 'a) -> Turn<'a, T> {
        Turn::new(self.name, measure)
    }
}

/// The names of so many containers.
pub(super) fn names(kind: &str, count: u32) -> Vec<String> {
    (1..=count)
        .map(|number| format!("bench-{kind}-{number}"))
        .collect()
}
