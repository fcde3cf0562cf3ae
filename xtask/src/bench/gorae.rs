//! The engine under test: the executables of `make build`, in a folder and a network of their own.

use super::subject::{Place, Subject, output, word};
use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// The name of the engine that most rows measure.
pub(crate) const MAIN: &str = "gorae-bench";
/// The name of the engine that has a thousand containers, and is killed.
pub(crate) const CROWD: &str = "gorae-crowd";
/// The name of the engine that keeps layers as folders.
pub(crate) const FOLDERS: &str = "gorae-folders";
const PATIENCE: Duration = Duration::from_secs(20);

/// A running engine; it ends with this value.
#[derive(Debug)]
pub(crate) struct Gorae {
    /// Of its network namespace and its cgroup.
    name: &'static str,
    program: PathBuf,
    folder: PathBuf,
    /// What its command line says besides.
    flags: Vec<String>,
    daemon: Child,
}

impl Gorae {
    /// Starts an engine of this name from a folder of programs.
    pub(crate) fn start(name: &'static str, programs: &Path, bench: &Path) -> Result<Self> {
        Self::start_with(name, programs, bench, &[])
    }

    /// Starts an engine with further flags.
    pub(crate) fn start_with(
        name: &'static str,
        programs: &Path,
        bench: &Path,
        flags: &[&str],
    ) -> Result<Self> {
        let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let program = programs.join("gorae");
        if !program.is_file() {
            bail!("{} is missing: run 'make build' first", program.display());
        }
        make_namespace(name)?;
        let folder = bench.join(name);
        for part in ["root", "run"] {
            fs::create_dir_all(folder.join(part))
                .with_context(|| format!("create {}", folder.display()))?;
        }
        let daemon = launch(name, &program, &folder, &flags)?;
        let mut gorae = Self {
            name,
            program,
            folder,
            flags,
            daemon,
        };
        gorae.wait_ready()?;
        Ok(gorae)
    }

    /// Kills the engine as a crash does.
    pub(crate) fn kill9(&mut self) -> Result<()> {
        self.daemon.kill().context("kill the engine")?;
        self.daemon.wait().context("wait for the engine")?;
        Ok(())
    }

    /// Starts the engine again, and does not wait until it listens.
    pub(crate) fn spawn(&mut self) -> Result<()> {
        self.daemon = launch(self.name, &self.program, &self.folder, &self.flags)?;
        Ok(())
    }

    fn wait_ready(&mut self) -> Result<()> {
        let begun = Instant::now();
        while UnixStream::connect(self.socket()).is_err() {
            if let Some(status) = self.daemon.try_wait().context("wait for the engine")? {
                bail!(
                    "the engine ended at once with {status}; its log: {}",
                    self.folder.join("engine.log").display()
                );
            }
            if begun.elapsed() > PATIENCE {
                bail!("the engine does not listen on {}", self.socket().display());
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join("run/gorae.sock")
    }

    /// The address of its API.
    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// The engine's process.
    pub(crate) fn pid(&self) -> u32 {
        self.daemon.id()
    }

    /// The folder of the engine's store.
    pub(crate) fn store(&self) -> PathBuf {
        self.folder.join("root")
    }

    /// A command of the own command line, to be timed.
    pub(crate) fn subject(&self, words: &[&str]) -> Subject {
        let program = std::iter::once(word(&self.program));
        Subject {
            name: "gorae",
            command: program
                .chain(words.iter().map(|word| (*word).to_owned()))
                .collect(),
            place: Place::Here(vec![("GORAE_HOST", self.host())]),
        }
    }

    /// Runs a command of the own command line.
    pub(crate) fn call(&self, words: &[&str]) -> Result<String> {
        output(
            Command::new(&self.program)
                .env("GORAE_HOST", self.host())
                .args(words),
        )
    }

    /// A program in the engine's network.
    pub(crate) fn inside(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.namespace()))
            .arg(program);
        command
    }

    /// The file of the engine's network namespace.
    pub(crate) fn namespace(&self) -> String {
        namespace_file(self.name)
    }

    fn remove_containers(&self) -> Result<()> {
        let ids = self.call(&["ps", "--all", "--quiet"])?;
        let ids: Vec<&str> = ids.lines().collect();
        if !ids.is_empty() {
            self.call(&[&["rm", "--force"], ids.as_slice()].concat())?;
        }
        Ok(())
    }
}

impl Drop for Gorae {
    fn drop(&mut self) {
        // each step is tried, whatever became of the one before
        if let Err(error) = self.remove_containers() {
            println!("xtask: cannot remove the containers: {error:#}");
        }
        let ended = output(Command::new("kill").args(["-TERM", &self.daemon.id().to_string()]));
        if ended.is_err() || self.daemon.wait().is_err() {
            println!(
                "xtask: cannot stop the engine, process {}",
                self.daemon.id()
            );
        }
        if let Err(error) = output(Command::new("ip").args(["netns", "delete", self.name])) {
            println!("xtask: {error:#}");
        }
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            println!("xtask: cannot remove {}: {error}", self.folder.display());
        }
        for folder in cgroups(self.name) {
            remove_cgroups(&folder);
        }
    }
}

/// Starts the program in the network of this name, with its folders below one.
fn launch(name: &str, program: &Path, folder: &Path, flags: &[String]) -> Result<Child> {
    let log = File::options()
        .create(true)
        .append(true)
        .open(folder.join("engine.log"))
        .context("open the engine's log")?;
    Command::new("nsenter")
        .arg(format!("--net={}", namespace_file(name)))
        .arg(program)
        .args(["daemon", "--cgroup-parent", &format!("/{name}"), "--root"])
        .arg(folder.join("root"))
        .arg("--run")
        .arg(folder.join("run"))
        .args(flags)
        .stdin(Stdio::null())
        .stdout(log.try_clone().context("share the engine's log")?)
        .stderr(log)
        .spawn()
        .context("start the engine")
}

/// The cgroups of this name, in the hierarchy of version 2 and in those of version 1.
fn cgroups(name: &str) -> Vec<PathBuf> {
    let base = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(base).into_iter().flatten().flatten();
    let hierarchies = hierarchies.map(|entry| entry.path());
    std::iter::once(base.to_path_buf())
        .chain(hierarchies)
        .map(|hierarchy| hierarchy.join(name))
        .collect()
}

/// Removes a cgroup from its leaves up; its last processes may still be ending.
fn remove_cgroups(folder: &Path) {
    let parts = fs::read_dir(folder).into_iter().flatten().flatten();
    for part in parts.filter(|part| part.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove_cgroups(&part.path());
    }
    for _ in 0..40 {
        if !folder.exists() || fs::remove_dir(folder).is_ok() {
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
    println!("xtask: cannot remove {}", folder.display());
}

fn namespace_file(name: &str) -> String {
    format!("/run/netns/{name}")
}

fn make_namespace(name: &str) -> Result<()> {
    if !Path::new(&namespace_file(name)).exists() {
        output(Command::new("ip").args(["netns", "add", name]))?;
    }
    output(Command::new("ip").args(["-n", name, "link", "set", "lo", "up"]))?;
    Ok(())
}
