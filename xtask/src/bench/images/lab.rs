//! The engines and registries of the suite, and what all its rows do with them.

use crate::bench::gorae::{FOLDERS, Gorae};
use crate::bench::image::{self, Large};
use crate::bench::peers::{Peers, REGISTRY, Registries};
use crate::bench::report::{Bound, Figure, Goal, Row, Unit};
use crate::bench::subject::{Subject, output};
use crate::bench::{Bench, memory};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// Gorae with layers as folders of overlayfs, beside the engine with what is the default.
pub(super) const OVERLAYFS: &str = "gorae overlayfs";
/// What is removed must be gone from the disk within this time.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the rows of the suite measure with.
#[derive(Debug)]
pub(super) struct Lab<'a> {
    pub(super) bench: &'a Bench,
    pub(super) peers: &'a Peers,
    /// An engine that keeps layers as folders.
    folders: Gorae,
    _registries: [Registries; 2],
}

/// An engine as the rows drive it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Engine<'a> {
    Gorae(&'static str, &'a Gorae),
    Peer(&'static str, &'a Peers),
}

impl<'a> Lab<'a> {
    /// Starts the second engine, and the peers' registry in all three networks.
    pub(super) fn start(bench: &'a Bench) -> Result<Self> {
        let Some(peers) = &bench.peers else {
            bail!("the registry is the peers': their tool is missing")
        };
        let folders = Gorae::start_with(
            FOLDERS,
            &bench.programs,
            &bench.folder,
            &["--snapshotter", "overlayfs"],
        )?;
        let registries = [
            peers.start_registries(|tool| bench.gorae.inside(tool))?,
            peers.start_registries(|tool| folders.inside(tool))?,
        ];
        for gorae in [&bench.gorae, &folders] {
            memory::forget_peak(gorae.pid())?;
        }
        Ok(Self {
            bench,
            peers,
            folders,
            _registries: registries,
        })
    }

    /// Gorae in both ways, docker and podman.
    pub(super) fn engines(&self) -> [Engine<'_>; 4] {
        [
            Engine::Gorae("gorae", &self.bench.gorae),
            Engine::Gorae(OVERLAYFS, &self.folders),
            Engine::Peer("docker", self.peers),
            Engine::Peer("podman", self.peers),
        ]
    }

    /// Puts an image of a layout into the registry; gives its name there.
    pub(super) fn publish(&self, large: &Large, part: &str) -> Result<String> {
        let name = format!("{REGISTRY}/bench/{}-{part}:1", large.name);
        self.peers.call(&[
            "skopeo",
            "copy",
            "--quiet",
            "--dest-tls-verify=false",
            &format!("oci:{}:{part}", Peers::seen(&large.layout)),
            &format!("docker://{name}"),
        ])?;
        Ok(name)
    }

    /// The large image, packed this way.
    pub(super) fn large(&self, packing: image::Packing) -> Result<Large> {
        image::large(&self.bench.folder, packing)
    }

    /// A folder for what a row writes; it is emptied first.
    pub(super) fn scratch(&self, name: &str) -> Result<std::path::PathBuf> {
        let folder = self.bench.folder.join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))?;
        }
        fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        Ok(folder)
    }

    /// The most memory that the engines held since the suite began.
    pub(super) fn peaks(&self) -> Result<Row> {
        let mut figures = Vec::new();
        for (name, gorae) in [("gorae", &self.bench.gorae), (OVERLAYFS, &self.folders)] {
            let mut figure = Figure::new(name);
            figure.samples.push(memory::peak(gorae.pid())? as f64 / 1e6);
            figures.push(figure);
        }
        let mut row = Row::new(
            "most memory that the engine held in all of this (RSS)",
            Unit::Megabytes,
            figures,
        );
        row.goal_at_most(120.0);
        let folders = row.median(OVERLAYFS);
        row.goals.push(Goal::new(
            &format!("{OVERLAYFS} {} MB", Bound::AtMost(120.0)),
            folders.map(|folders| folders <= 120.0),
        ));
        Ok(row)
    }
}

impl Engine<'_> {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Gorae(name, _) | Self::Peer(name, _) => name,
        }
    }

    /// A command in this engine's command line, to be timed.
    pub(super) fn subject(&self, words: &[&str]) -> Subject {
        match self {
            Self::Gorae(name, gorae) => Subject {
                name,
                ..gorae.subject(words)
            },
            Self::Peer(name, peers) => peers.subject(name, &[&[*name], words].concat()),
        }
    }

    pub(super) fn call(&self, words: &[&str]) -> Result<String> {
        match self {
            Self::Gorae(_, gorae) => gorae.call(words),
            Self::Peer(name, peers) => peers.call(&[&[*name], words].concat()),
        }
    }

    /// A file of this machine, as the engine's command line names it.
    pub(super) fn seen(&self, path: &Path) -> String {
        match self {
            Self::Gorae(..) => crate::bench::subject::word(path),
            Self::Peer(..) => Peers::seen(path),
        }
    }

    /// What `pull` and `push` of podman want to be told of a registry without TLS.
    pub(super) fn plain(&self) -> &'static [&'static str] {
        match self {
            Self::Peer("podman", _) => &["--tls-verify=false"],
            _ => &[],
        }
    }

    /// Pulls an image; gives milliseconds.
    pub(super) fn pull(&self, image: &str) -> Result<f64> {
        let words = [&["pull", "--quiet"], self.plain(), &[image]].concat();
        one(&self.subject(&words))
    }

    /// Removes an image.
    pub(super) fn remove(&self, image: &str) -> Result<Removal> {
        let begun = Instant::now();
        self.call(&["rmi", "--force", image])?;
        let told = begun.elapsed().as_secs_f64() * 1e3;
        if let Self::Gorae(_, gorae) = self {
            wait_empty(gorae)?;
        }
        let gone = begun.elapsed().as_secs_f64() * 1e3;
        Ok(Removal { told, gone })
    }
}

/// Milliseconds of a removal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Removal {
    /// Until the command has ended.
    pub(super) told: f64,
    /// Until nothing of the image is on the disk any more.
    pub(super) gone: f64,
}

/// Times a command once.
pub(super) fn one(subject: &Subject) -> Result<f64> {
    let times = subject.time(1)?;
    times.first().copied().context("a command was not timed")
}

/// Waits until an engine has deleted what it has moved away.
fn wait_empty(gorae: &Gorae) -> Result<()> {
    let begun = Instant::now();
    let folder = gorae.store().join("tmp");
    while fs::read_dir(&folder).is_ok_and(|mut left| left.next().is_some()) {
        if begun.elapsed() > PATIENCE {
            bail!("what was removed stays in {}", folder.display());
        }
        thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// Writes what is to be written, and drops the caches: the next one begins as the one before did.
pub(super) fn cold() -> Result<()> {
    output(&mut Command::new("sync"))?;
    let file = "/proc/sys/vm/drop_caches";
    fs::write(file, "3").with_context(|| format!("write {file}"))
}
