//! Podman with a host network of its own: where docker is too, docker's firewall drops what podman forwards.

use super::folders::Folders;
use super::namespace::{Background, Namespace};
use super::party::Party;
use crate::bench::memory;
use crate::bench::peers::Peers;
use anyhow::{Context, Result, bail};
use std::thread;
use std::time::Duration;

/// In the peers' root.
const RUN: &str = "/run/gorae-bench-podman";
const DATA: &str = "/var/lib/gorae-bench-podman";

/// What podman's containers are started from; it ends with this value, and the folders go.
#[derive(Debug)]
pub(crate) struct Podman {
    // the order of the fields is that of their end
    holder: Background,
    _folders: Folders,
    _namespace: Namespace,
}

impl Podman {
    pub(crate) fn start(peers: &Peers) -> Result<Self> {
        let namespace = Namespace::new("gorae-bench-podman")?;
        let folders = Folders::new(peers, [RUN, DATA])?;
        let mut sleep = peers.in_network(&namespace.file(), "sleep");
        let holder = Background::start(sleep.arg("infinity")).context("hold podman's network")?;
        let podman = Self {
            holder,
            _folders: folders,
            _namespace: namespace,
        };
        podman.wait_entered()?;
        Ok(podman)
    }

    fn wait_entered(&self) -> Result<()> {
        for _ in 0..500 {
            if memory::name(self.holder.pid()) == "sleep" {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(10));
        }
        bail!("podman's network was not entered")
    }

    pub(crate) fn party(&self) -> Party {
        let flags = [
            ("--root", DATA, ""),
            ("--runroot", RUN, "/run"),
            ("--tmpdir", RUN, "/tmp"),
            ("--network-config-dir", RUN, "/networks"),
        ];
        let flags = flags.map(|(flag, folder, part)| format!("{flag}={folder}{part}"));
        Party::podman(self.holder.pid(), &flags)
    }
}
