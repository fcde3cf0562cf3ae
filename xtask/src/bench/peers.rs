//! The engines to compare with, in the root that the project's tool `peers` keeps for them.

use super::image;
use super::subject::{Place, Subject, output, word};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

/// Where the tool lies, beside the checkout.
const TOOL: &str = "../shared/peers/peers";
/// Where this machine's root stands inside the peers' root.
const HOST: &str = "/mnt/host";
/// Where the tool's registry listens.
pub(crate) const REGISTRY: &str = "127.0.0.1:5055";
/// The small image under the name that podman gives to what it imports.
pub(crate) const PODMAN_BUSYBOX: &str = "localhost/bench/busybox:latest";

/// The variables that the tool sets for what runs in its root.
const VARIABLES: [(&str, &str); 2] = [
    ("DOCKER_HOST", "unix:///run/peers/docker.sock"),
    ("PODMAN_IGNORE_CGROUPSV1_WARNING", "1"),
];

/// The peers' tool, and one mount namespace of its making that all commands share: podman's network
/// namespaces are mounted there, and what one command mounts the next must find.
#[derive(Debug)]
pub(crate) struct Peers {
    tool: PathBuf,
    root: PathBuf,
    holder: Child,
}

impl Drop for Peers {
    fn drop(&mut self) {
        if let Err(error) = self.holder.kill().and_then(|()| self.holder.wait()) {
            println!("xtask: cannot end process {}: {error}", self.holder.id());
        }
    }
}

impl Peers {
    /// Finds the tool, builds the root where it is missing, and starts dockerd unless it runs.
    pub(crate) fn find(workspace: &Path, tool: Option<&Path>) -> Result<Option<Self>> {
        let tool = tool.map_or_else(|| workspace.join(TOOL), Path::to_path_buf);
        if !tool.is_file() {
            return Ok(None);
        }
        // the root is built by Debian's tools; what they say is worth seeing
        let status = Command::new(&tool)
            .arg("build")
            .stdin(Stdio::null())
            .status()
            .context("start peers build")?;
        if !status.success() {
            bail!("peers build ended with {status}");
        }
        let root = output(Command::new(&tool).arg("path"))?.trim().into();
        let holder = Command::new(&tool)
            .args(["run", "sleep", "infinity"])
            .stdin(Stdio::null())
            .spawn();
        let peers = Self {
            tool,
            root,
            holder: holder.context("start peers run")?,
        };
        peers.wait_for_root()?;
        if peers.call(&["docker", "version"]).is_err() {
            peers.background(&mut Command::new(&peers.tool), &["dockerd"])?;
        }
        Ok(Some(peers))
    }

    /// Waits until the holder has made its mounts and become what it runs.
    fn wait_for_root(&self) -> Result<()> {
        for _ in 0..500 {
            if super::memory::name(self.holder.id()) == "sleep" {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(10));
        }
        bail!("the peers' root was not entered")
    }

    /// Lets the tool start something that goes on by itself, and does not wait for its output to end.
    fn background(&self, command: &mut Command, words: &[&str]) -> Result<()> {
        let status = command
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        let status = status.with_context(|| format!("start peers {words:?}"))?;
        if !status.success() {
            bail!(
                "peers {words:?} ended with {status}; its logs: {}",
                self.root.join("run/peers").display()
            );
        }
        Ok(())
    }

    /// A program in the root and the network of a process of the peers.
    pub(crate) fn enter(holder: u32, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args([
                "--target",
                &holder.to_string(),
                "--mount",
                "--net",
                "--root",
                "--wd",
                program,
            ])
            .envs(VARIABLES);
        command
    }

    /// The process in whose root and network the peers' programs run.
    pub(crate) fn holder(&self) -> u32 {
        self.holder.id()
    }

    /// The folder of the peers' root.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A program of the peers' root in the network of a file.
    pub(crate) fn in_network(&self, network: &str, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args([
            "--target",
            &self.holder.id().to_string(),
            "--mount",
            "--root",
            "--wd",
            &format!("--net={network}"),
            program,
        ]);
        command
    }

    /// A program of the peers' root.
    pub(crate) fn command(&self, program: &str) -> Command {
        Self::enter(self.holder.id(), program)
    }

    /// A file of this machine, as the peers' root sees it.
    pub(crate) fn seen(path: &Path) -> String {
        format!("{HOST}{}", word(path))
    }

    /// Runs a program of the peers' root.
    pub(crate) fn call(&self, words: &[&str]) -> Result<String> {
        output(self.command(words[0]).args(&words[1..]))
    }

    /// A command of a peer, to be timed.
    pub(crate) fn subject(&self, name: &'static str, words: &[&str]) -> Subject {
        Subject {
            name,
            command: words.iter().map(|word| (*word).to_owned()).collect(),
            place: Place::Peers(self.holder.id()),
        }
    }

    /// Gives both peers the small image.
    pub(crate) fn load(&self, tarball: &Path) -> Result<()> {
        self.remove_containers()?;
        let seen = Self::seen(tarball);
        self.call(&["docker", "import", &seen, image::BUSYBOX])?;
        self.call(&["podman", "import", "--quiet", &seen, PODMAN_BUSYBOX])?;
        Ok(())
    }

    /// The registry in the peers' network and one of the same program in Gorae's, on the same storage.
    pub(crate) fn start_registries(
        &self,
        workspace_command: impl Fn(&Path) -> Command,
    ) -> Result<Registries> {
        let mut started = Registries { pids: Vec::new() };
        if !self.registry_answers() {
            self.background(&mut Command::new(&self.tool), &["registry"])?;
            started.pids.extend(self.last_pid()?);
        }
        // 'host' is the network of the caller, which is Gorae's here
        self.background(&mut workspace_command(&self.tool), &["registry", "host"])?;
        started.pids.extend(self.last_pid()?);
        for _ in 0..100 {
            if self.registry_answers() {
                return Ok(started);
            }
            thread::sleep(Duration::from_millis(100));
        }
        bail!("the registry does not answer on {REGISTRY}")
    }

    fn registry_answers(&self) -> bool {
        self.call(&[
            "curl",
            "--silent",
            "--fail",
            &format!("http://{REGISTRY}/v2/"),
        ])
        .is_ok()
    }

    /// The process that the tool started last.
    fn last_pid(&self) -> Result<Option<u32>> {
        let file = format!("{}.pids", self.root.display());
        let list = fs::read_to_string(&file).with_context(|| format!("read {file}"))?;
        list.lines()
            .last()
            .map(|line| line.trim().parse().with_context(|| format!("read {file}")))
            .transpose()
    }

    /// The processes of dockerd and its containerd.
    pub(crate) fn docker_engine(&self) -> Result<Vec<u32>> {
        let file = self.root.join("run/peers/docker.pid");
        let dockerd =
            fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        let dockerd: u32 = dockerd
            .trim()
            .parse()
            .with_context(|| format!("read {}", file.display()))?;
        let mut all = vec![dockerd];
        all.extend(
            super::memory::children(dockerd)?
                .into_iter()
                .filter(|pid| super::memory::name(*pid) == "containerd"),
        );
        Ok(all)
    }

    fn remove_containers(&self) -> Result<()> {
        for engine in ["docker", "podman"] {
            let ids = self.call(&[engine, "ps", "--all", "--quiet", "--filter", "name=bench-"])?;
            let ids: Vec<&str> = ids.lines().collect();
            if !ids.is_empty() {
                self.call(&[&remove(engine), ids.as_slice()].concat())?;
            }
        }
        Ok(())
    }

    /// Removes what the benchmark left with the peers; they run on.
    pub(crate) fn clean(&self) -> Result<()> {
        self.remove_containers()?;
        self.call(&["docker", "rmi", "--force", image::BUSYBOX])?;
        self.call(&["podman", "rmi", "--force", PODMAN_BUSYBOX])?;
        Ok(())
    }
}

/// The command that removes running containers at once; podman would wait for each to end by itself.
pub(crate) fn remove(engine: &str) -> Vec<&str> {
    if engine == "podman" {
        vec![engine, "rm", "--force", "--time", "0"]
    } else {
        vec![engine, "rm", "--force"]
    }
}

/// Registries that were started here; they end with this value.
#[derive(Debug)]
pub(crate) struct Registries {
    pids: Vec<u32>,
}

impl Drop for Registries {
    fn drop(&mut self) {
        for pid in &self.pids {
            if let Err(error) = output(Command::new("kill").arg(pid.to_string())) {
                println!("xtask: {error:#}");
            }
        }
    }
}
