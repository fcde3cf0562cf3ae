//! One engine as the rows about networks see it.

use crate::bench::gorae::Gorae;
use crate::bench::image;
use crate::bench::peers::{PODMAN_BUSYBOX, Peers};
use crate::bench::subject::{Place, Subject, output};
use anyhow::{Context, Result};

/// The subjects' names in the report.
pub(crate) const GORAE: &str = "gorae";
pub(crate) const DOCKER: &str = "docker";
pub(crate) const PLAIN: &str = "docker without proxy";
pub(crate) const PODMAN: &str = "podman";

/// An engine, and its side of the host.
#[derive(Debug)]
pub(crate) struct Party {
    pub(crate) name: &'static str,
    image: &'static str,
    /// Its command line.
    program: Vec<String>,
    place: Place,
    /// The file of the network namespace that is the engine's host.
    pub(crate) network: String,
    /// Which link leads from its host to the outside.
    pub(crate) uplink: u8,
}

impl Party {
    pub(crate) fn gorae(gorae: &Gorae) -> Self {
        let subject = gorae.subject(&[]);
        Self {
            name: GORAE,
            image: image::BUSYBOX,
            program: subject.command,
            place: subject.place,
            network: gorae.namespace(),
            uplink: 1,
        }
    }

    /// Docker as it comes.
    pub(crate) fn docker(peers: &Peers) -> Self {
        Self {
            name: DOCKER,
            image: image::BUSYBOX,
            program: vec![DOCKER.to_owned()],
            place: Place::Peers(peers.holder()),
            network: super::namespace::of_process(peers.holder()),
            uplink: 2,
        }
    }

    /// Podman in the network of a process, with flags that say where its state is.
    pub(crate) fn podman(holder: u32, flags: &[String]) -> Self {
        let program = std::iter::once(PODMAN.to_owned());
        Self {
            name: PODMAN,
            image: PODMAN_BUSYBOX,
            program: program.chain(flags.iter().cloned()).collect(),
            place: Place::Peers(holder),
            network: super::namespace::of_process(holder),
            uplink: 5,
        }
    }

    /// Another dockerd, by its process and its socket in the peers' root.
    pub(crate) fn plain(dockerd: u32, socket: &str) -> Self {
        Self {
            name: PLAIN,
            image: image::BUSYBOX,
            program: ["docker", "--host", socket].map(str::to_owned).to_vec(),
            place: Place::Peers(dockerd),
            network: super::namespace::of_process(dockerd),
            uplink: 3,
        }
    }

    /// A command of its command line, to be timed.
    pub(crate) fn subject(&self, words: &[&str]) -> Subject {
        let words = words.iter().map(|word| (*word).to_owned());
        Subject {
            name: self.name,
            command: self.program.iter().cloned().chain(words).collect(),
            place: self.place.clone(),
        }
    }

    /// Runs a command of its command line.
    pub(crate) fn call(&self, words: &[&str]) -> Result<String> {
        let (program, rest) = self
            .program
            .split_first()
            .context("an engine has a command line")?;
        output(self.place.command(program).args(rest).args(words))
    }

    /// A command that starts a container that only waits.
    pub(crate) fn start(&self, name: &str, flags: &[&str]) -> Subject {
        let begin = ["run", "--detach", "--name", name];
        let end = [self.image, "sleep", "86400"];
        self.subject(&[&begin, flags, &end].concat())
    }

    /// Starts a container that only waits; gives its first process.
    pub(crate) fn run(&self, name: &str, flags: &[&str]) -> Result<u32> {
        let begin = ["run", "--detach", "--name", name];
        let end = [self.image, "sleep", "86400"];
        self.call(&[&begin, flags, &end].concat())?;
        self.pid(name)
    }

    /// The first process of a container.
    pub(crate) fn pid(&self, name: &str) -> Result<u32> {
        let text = self.call(&["inspect", "--format", "{{.State.Pid}}", name])?;
        text.trim()
            .parse()
            .with_context(|| format!("read the process of {name} of {}", self.name))
    }

    /// Removes running containers.
    pub(crate) fn remove(&self, names: &[&str]) -> Result<()> {
        let begin: &[&str] = if self.name == PODMAN {
            &["rm", "--force", "--time", "0"]
        } else {
            &["rm", "--force"]
        };
        self.call(&[begin, names].concat()).map(drop)
    }

    /// Gives it the small image.
    pub(crate) fn load(&self, tarball: &str) -> Result<()> {
        self.call(&["import", tarball, self.image]).map(drop)
    }

    /// Removes what rows left: their containers and networks have names that begin alike.
    pub(crate) fn sweep(&self) -> Result<()> {
        let filter = "name=bench-";
        let found = self.call(&["ps", "--all", "--quiet", "--filter", filter])?;
        let found: Vec<&str> = found.split_whitespace().collect();
        if !found.is_empty() {
            self.remove(&found)?;
        }
        let found = self.call(&["network", "ls", "--quiet", "--filter", filter])?;
        let found: Vec<&str> = found.split_whitespace().collect();
        if !found.is_empty() {
            self.call(&[&["network", "rm"], found.as_slice()].concat())?;
        }
        Ok(())
    }
}
