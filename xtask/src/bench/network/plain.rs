//! A dockerd without docker-proxy, beside the peers' own: in a network and folders of its own.

use super::folders::Folders;
use super::namespace::{Background, Namespace};
use super::party::Party;
use crate::bench::peers::Peers;
use anyhow::{Context, Result, bail};
use std::fs;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

/// In the peers' root.
const RUN: &str = "/run/gorae-bench-docker";
const DATA: &str = "/var/lib/gorae-bench-docker";

/// The running dockerd; it ends with this value, and its folders go.
#[derive(Debug)]
pub(crate) struct Plain {
    // the order of the fields is that of their end
    _dockerd: Background,
    pid: u32,
    _folders: Folders,
    _namespace: Namespace,
}

impl Plain {
    pub(crate) fn start(peers: &Peers) -> Result<Self> {
        let namespace = Namespace::new("gorae-bench-docker")?;
        let folders = Folders::new(peers, [RUN, DATA])?;
        let log = folders.first().join("log");
        let log = fs::File::create(&log).with_context(|| format!("create {}", log.display()))?;
        let child = peers
            .in_network(&namespace.file(), "dockerd")
            .args(["--userland-proxy=false", "--host", &socket()])
            .args(["--exec-root", &format!("{RUN}/exec")])
            .args(["--pidfile", &format!("{RUN}/pid")])
            .args(["--data-root", DATA])
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("share a log")?)
            .stderr(log)
            .spawn()
            .context("start dockerd")?;
        let plain = Self {
            pid: child.id(),
            _dockerd: Background::of(child),
            _folders: folders,
            _namespace: namespace,
        };
        plain.wait_ready()?;
        Ok(plain)
    }

    fn wait_ready(&self) -> Result<()> {
        let party = self.party();
        for _ in 0..200 {
            if party.call(&["version"]).is_ok() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(100));
        }
        bail!("dockerd without docker-proxy did not answer")
    }

    pub(crate) fn party(&self) -> Party {
        Party::plain(self.pid, &socket())
    }
}

fn socket() -> String {
    format!("unix://{RUN}/docker.sock")
}
