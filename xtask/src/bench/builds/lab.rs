//! The builders of the suite, and what all its rows do with them.

use crate::bench::gorae::Gorae;
use crate::bench::peers::{PODMAN_BUSYBOX, Peers};
use crate::bench::report::{Figure, Row, Unit};
use crate::bench::subject::{Subject, output, word};
use crate::bench::{Bench, image, memory};
use anyhow::{Context, Result};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

/// Where `scripts/fetch-docker-buildx` puts Docker's build plugin.
const PLUGIN: &str = "target/docker-buildx/usr/libexec/docker/cli-plugins/docker-buildx";
/// The memory that the engine may take in all of it, megabytes.
const MEMORY: f64 = 150.0;

/// What the rows of the suite measure with.
#[derive(Debug)]
pub(super) struct Lab<'a> {
    pub(super) bench: &'a Bench,
    /// The home of Docker's command line with its build plugin; absent where there is none.
    home: Option<PathBuf>,
}

/// A builder as the rows drive it.
#[derive(Clone, Debug)]
pub(super) enum Builder<'a> {
    /// Our command line and our engine.
    Gorae(&'a Gorae),
    /// Docker's command line and our engine.
    Client(&'a Gorae, PathBuf, PathBuf),
    /// Docker's command line and dockerd.
    Docker(&'a Peers),
    /// Buildah, which is both.
    Buildah(&'a Peers),
}

impl<'a> Lab<'a> {
    pub(super) fn start(bench: &'a Bench) -> Result<Self> {
        memory::forget_peak(bench.gorae.pid())?;
        let plugin = crate::bench::root().join(PLUGIN);
        let home = plugin.is_file().then(|| home(bench, &plugin)).transpose()?;
        Ok(Self { bench, home })
    }

    /// All builders: ours, ours by Docker's command line, and the peers'.
    pub(super) fn builders(&self) -> Vec<Builder<'_>> {
        let mut all = vec![Builder::Gorae(&self.bench.gorae)];
        if let (Some(home), Some(client)) = (&self.home, &self.bench.docker_cli) {
            let client = Builder::Client(&self.bench.gorae, client.clone(), home.clone());
            all.push(client);
        }
        if let Some(peers) = &self.bench.peers {
            all.extend([Builder::Docker(peers), Builder::Buildah(peers)]);
        }
        all
    }

    /// A folder for the context of a row, emptied.
    pub(super) fn context(&self, name: &str) -> Result<PathBuf> {
        let folder = self.bench.folder.join("contexts").join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))?;
        }
        fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        Ok(folder)
    }

    /// The most memory that the engine held since the suite began.
    pub(super) fn peak(&self) -> Result<Row> {
        let mut figure = Figure::new("gorae");
        let peak = memory::peak(self.bench.gorae.pid())?;
        figure.samples.push(peak as f64 / 1e6);
        let mut row = Row::new(
            "most memory that the engine held during all builds (RSS)",
            Unit::Megabytes,
            vec![figure],
        );
        row.goal_at_most(MEMORY);
        Ok(row)
    }
}

fn home(bench: &Bench, plugin: &Path) -> Result<PathBuf> {
    let home = bench.folder.join("buildx-home");
    let plugins = home.join(".docker/cli-plugins");
    fs::create_dir_all(&plugins).context("make a home for docker's command line")?;
    let link = plugins.join("docker-buildx");
    if link.symlink_metadata().is_err() {
        symlink(plugin, &link).context("link docker's build plugin")?;
    }
    Ok(home)
}

impl Builder<'_> {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Gorae(_) => "gorae",
            Self::Client(..) => "gorae by docker's client",
            Self::Docker(_) => "docker",
            Self::Buildah(_) => "buildah",
        }
    }

    /// The small image, by the builder's name for it.
    pub(super) fn base(&self) -> &'static str {
        match self {
            Self::Buildah(_) => PODMAN_BUSYBOX,
            _ => image::BUSYBOX,
        }
    }

    /// A file or folder of this machine as the builder's command line names it.
    fn seen(&self, path: &Path) -> String {
        match self {
            Self::Gorae(_) | Self::Client(..) => word(path),
            Self::Docker(_) | Self::Buildah(_) => Peers::seen(path),
        }
    }

    /// The command that builds a context, to be timed.
    pub(super) fn build(&self, context: &Path, flags: &[&str]) -> Subject {
        let context = self.seen(context);
        let docker = [&["build", "--quiet"], flags, &[context.as_str()]].concat();
        match self {
            Self::Gorae(gorae) => gorae.subject(&docker),
            Self::Client(gorae, client, home) => client_of(gorae, client, home, &docker),
            Self::Docker(peers) => peers.subject("docker", &[&["docker"], &docker[..]].concat()),
            Self::Buildah(peers) => {
                let layers = if flags.contains(&"--no-cache") {
                    "--layers=false"
                } else {
                    "--layers=true"
                };
                // its own defaults are more than every machine allows
                let (files, processes) = ("--ulimit=nofile=1024:1024", "--ulimit=nproc=4096:4096");
                let own = ["buildah", "build", "--quiet", files, processes, layers];
                peers.subject("buildah", &[&own[..], flags, &[context.as_str()]].concat())
            }
        }
    }

    /// The start of the client alone.
    pub(super) fn version(&self) -> Subject {
        match self {
            Self::Gorae(gorae) => gorae.subject(&["version"]),
            Self::Client(gorae, client, home) => client_of(gorae, client, home, &["version"]),
            Self::Docker(peers) => peers.subject("docker", &["docker", "version"]),
            Self::Buildah(peers) => peers.subject("buildah", &["buildah", "version"]),
        }
    }

    /// The start of the client up to where it would build: Docker's starts its plugin three times.
    pub(super) fn start_of_build(&self) -> Subject {
        match self {
            Self::Gorae(gorae) => gorae.subject(&["build", "--help"]),
            Self::Client(gorae, client, home) => {
                client_of(gorae, client, home, &["build", "--help"])
            }
            Self::Docker(peers) => peers.subject("docker", &["docker", "build", "--help"]),
            Self::Buildah(peers) => peers.subject("buildah", &["buildah", "build", "--help"]),
        }
    }

    /// Builds once; gives milliseconds.
    pub(super) fn once(&self, context: &Path, flags: &[&str]) -> Result<f64> {
        one(&self.build(context, flags))
    }
}

fn client_of(gorae: &Gorae, client: &Path, home: &Path, words: &[&str]) -> Subject {
    let mut subject = gorae.subject(words);
    subject.name = "gorae by docker's client";
    if let Some(program) = subject.command.first_mut() {
        *program = word(client);
    }
    if let crate::bench::subject::Place::Here(variables) = &mut subject.place {
        variables.push(("DOCKER_HOST", gorae.host()));
        variables.push(("HOME", word(home)));
    }
    subject
}

/// Something that no build has seen, for peers keep their cache from run to run.
pub(super) fn fresh_word() -> Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    Ok(now.context("read the clock")?.as_nanos().to_string())
}

/// Times a command once.
pub(super) fn one(subject: &Subject) -> Result<f64> {
    let times = subject.time(1)?;
    times.first().copied().context("a command was not timed")
}

/// Writes a file and the folders above it.
pub(super) fn write(path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    fs::write(path, content).with_context(|| format!("write {}", path.display()))
}

/// Writes many small files, a hundred in a folder.
pub(super) fn files(folder: &Path, count: u32) -> Result<()> {
    for number in 0..count {
        let path = folder.join(format!("d{}/f{number}", number / 100));
        write(&path, format!("file {number}\n").repeat(20))?;
    }
    Ok(())
}

/// Runs a command to its end without looking at the clock.
pub(super) fn run(subject: &Subject) -> Result<()> {
    let mut command: Command = subject.place.command(&subject.command[0]);
    output(command.args(&subject.command[1..])).map(drop)
}
