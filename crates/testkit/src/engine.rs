//! An engine under test: the real binaries, on a host of their own.
//!
//! Each engine has its own folder for `--root` and `--run`, its own cgroup parent, and its own network
//! namespace, which the thread that starts it enters. So engines of many tests run side by side, and
//! what one leaves behind can be told from what another needs.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use crate::docker::{
    Client, Outcome, Session, buildx_plugin, compose_plugin, docker_cli, node_packages, python,
    words,
};
use crate::http::{self, Response};
use crate::image::TestImage;
use crate::leaks::Marks;
use crate::namespace::Namespace;

const BRIDGE: &str = "gorae0";
const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(60);
const TAIL: usize = 40;

/// How an engine is started.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// The `gorae` executable; `gorae-shim` is beside it.
    pub gorae: PathBuf,
    /// More flags for `gorae daemon`.
    pub flags: Vec<String>,
    /// Variables of the engine's environment.
    pub environment: Vec<(String, String)>,
    /// The size of a file system of its own for `--root`, in KiB.
    pub disk: Option<u32>,
    /// Whether the image `busybox` is there from the start.
    pub busybox: bool,
    /// Whether the engine and the test's thread see an `/etc` of their own, with what is in `/etc` now.
    pub private_etc: bool,
}

impl EngineOptions {
    /// An engine with the image `busybox`.
    #[must_use]
    pub fn new(gorae: impl Into<PathBuf>) -> Self {
        Self {
            gorae: gorae.into(),
            flags: Vec::new(),
            environment: Vec::new(),
            disk: None,
            busybox: true,
            private_etc: false,
        }
    }
}

/// A running engine. At its end nothing of it may be left; a test whose engine leaves something fails.
#[derive(Debug)]
pub struct Engine {
    options: EngineOptions,
    daemon: Option<Child>,
    docker: PathBuf,
    cgroup: String,
    network: Namespace,
    etc: Option<TempDir>,
    // Dropped last.
    folder: TempDir,
}

impl Engine {
    /// Starts an engine, and moves the calling thread into the engine's network.
    ///
    /// # Errors
    /// When a program is missing or the engine does not listen.
    pub fn start(options: EngineOptions) -> io::Result<Self> {
        require_binaries(&options.gorae)?;
        let network = Namespace::create()?;
        network.enter()?;
        let folder = tempfile::Builder::new()
            .prefix("ge-")
            .tempdir_in("/var/tmp")?;
        for name in ["root", "run", "home/.docker/cli-plugins"] {
            fs::create_dir_all(folder.path().join(name))?;
        }
        let plugins = folder.path().join("home/.docker/cli-plugins");
        for plugin in [compose_plugin(), buildx_plugin()] {
            if let Some(name) = plugin.file_name() {
                symlink(&plugin, plugins.join(name))?;
            }
        }
        let etc = options.private_etc.then(private_etc).transpose()?;
        let mut engine = Self {
            docker: docker_cli()?,
            cgroup: unique_name(),
            daemon: None,
            options,
            network,
            etc,
            folder,
        };
        engine.spawn()?;
        if engine.options.busybox {
            engine.import("busybox")?;
        }
        Ok(engine)
    }

    /// Where the engine listens.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.run_folder().join("gorae.sock")
    }

    /// The folder given as `--run`.
    #[must_use]
    pub fn run_folder(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    /// The folder given as `--root`.
    #[must_use]
    pub fn root_folder(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    /// A folder for the test's own files, which ends with the engine.
    #[must_use]
    pub fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// The parent of the engine's cgroups, directly below each hierarchy.
    #[must_use]
    pub fn cgroup(&self) -> &str {
        &self.cgroup
    }

    /// The network that the engine and this thread are in.
    #[must_use]
    pub fn network(&self) -> &Namespace {
        &self.network
    }

    /// The network that a running container is in.
    ///
    /// # Panics
    /// When it does not run.
    #[expect(clippy::expect_used, reason = "a test cannot go on without it")]
    #[track_caller]
    #[must_use]
    pub fn inside(&self, container: &str) -> Namespace {
        let pid = self.inspect(container, "{{.State.Pid}}");
        let pid = pid.parse().expect("a container's process has a number");
        Namespace::of_process(pid).expect("a running container has a network")
    }

    /// Writes `/etc/resolv.conf` of the engine's host anew, as a network manager does: by rename.
    ///
    /// # Errors
    /// When the engine has no `/etc` of its own, or it cannot be written.
    pub fn set_resolv_conf(&self, text: &str) -> io::Result<()> {
        let etc = self.etc.as_ref().ok_or(io::ErrorKind::Unsupported)?.path();
        let next = etc.join("resolv.conf.next");
        fs::write(&next, text)?;
        fs::rename(next, etc.join("resolv.conf"))
    }

    /// The engine's process, or the one that started it in a mount namespace of its own.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.daemon.as_ref().map(Child::id)
    }

    /// The engine's log so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// Runs `docker` to its end. The words are split as by a shell.
    ///
    /// # Panics
    /// When it cannot be run, or does not end in time.
    #[track_caller]
    #[must_use]
    pub fn docker(&self, line: &str) -> Outcome {
        self.run(Client::Docker, line)
    }

    /// Runs `gorae` to its end.
    ///
    /// # Panics
    /// When it cannot be run, or does not end in time.
    #[track_caller]
    #[must_use]
    pub fn gorae(&self, line: &str) -> Outcome {
        self.run(Client::Gorae, line)
    }

    /// Runs a client to its end.
    ///
    /// # Panics
    /// When it cannot be run, or does not end in time.
    #[track_caller]
    #[must_use]
    pub fn run(&self, client: Client, line: &str) -> Outcome {
        self.session(client, line).finish()
    }

    /// Starts a client on pipes.
    ///
    /// # Panics
    /// When it cannot be started.
    #[expect(clippy::panic, reason = "a test cannot go on without its client")]
    #[track_caller]
    #[must_use]
    pub fn session(&self, client: Client, line: &str) -> Session {
        let command = self.command(client, words(line));
        Session::pipes(command).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Starts a client on a terminal.
    ///
    /// # Panics
    /// When it cannot be started.
    #[expect(clippy::panic, reason = "a test cannot go on without its client")]
    #[track_caller]
    #[must_use]
    pub fn terminal(&self, client: Client, line: &str) -> Session {
        let command = self.command(client, words(line));
        Session::terminal(&command).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Runs a Python program that finds the engine by its environment.
    ///
    /// # Errors
    /// When there is no Python.
    pub fn python(&self, script: &Path, arguments: &[&str]) -> io::Result<Outcome> {
        let mut command = Command::new(python());
        command.arg(script).args(arguments);
        self.environment(&mut command);
        Ok(Session::pipes(command)?.finish())
    }

    /// A command of any program that finds the engine and the `docker` command line by its environment, not
    /// yet started. Node.js finds the packages that the project fetched.
    pub fn program(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        self.environment(&mut command);
        let search = std::env::var_os("PATH").unwrap_or_default();
        let folder = self.docker.parent().map(Path::to_owned);
        let folders = folder.into_iter().chain(std::env::split_paths(&search));
        if let Ok(search) = std::env::join_paths(folders) {
            command.env("PATH", search);
        }
        command.env("NODE_PATH", node_packages().join("node_modules"));
        command
    }

    /// A command of a client, not yet started.
    pub fn command<S: AsRef<OsStr>>(
        &self,
        client: Client,
        words: impl IntoIterator<Item = S>,
    ) -> Command {
        let mut command = Command::new(match client {
            Client::Docker => &self.docker,
            Client::Gorae => &self.options.gorae,
        });
        command.args(words);
        self.environment(&mut command);
        command
    }

    fn environment(&self, command: &mut Command) {
        let search = std::env::var_os("PATH").unwrap_or_default();
        command.env_clear().env("PATH", search).env("TERM", "xterm");
        command.env("HOME", self.home()).env("LANG", "C.UTF-8");
        command.env("DOCKER_HOST", format!("unix://{}", self.socket().display()));
    }

    /// Sends one request to the API.
    ///
    /// # Errors
    /// When the engine does not listen or answer.
    pub fn api(&self, method: &str, path: &str, body: &str) -> io::Result<Response> {
        let mut stream = UnixStream::connect(self.socket())?;
        stream.set_read_timeout(Some(crate::docker::LIMIT))?;
        let kind = [("Content-Type", "application/json")];
        http::exchange(&mut stream, "gorae", method, path, &kind, body.as_bytes())
    }

    /// Imports busybox with all its applets as an image of this name, `sh` as its command.
    ///
    /// # Errors
    /// When the host has no static busybox, or the engine refuses.
    pub fn import(&self, name: &str) -> io::Result<()> {
        let words = ["import", "-c", "CMD [\"sh\"]", "-", name];
        self.import_with(&words, busybox()?)
    }

    /// Runs `gorae import` on an archive.
    ///
    /// # Errors
    /// When the engine refuses.
    pub fn import_with(&self, words: &[&str], archive: &[u8]) -> io::Result<()> {
        let mut command = self.command(Client::Gorae, words);
        let file = self.home().join("import.tar");
        fs::write(&file, archive)?;
        command.stdin(File::open(&file)?);
        let output = command.output()?;
        fs::remove_file(file)?;
        if output.status.success() {
            return Ok(());
        }
        let complaint = String::from_utf8_lossy(&output.stderr);
        Err(io::Error::other(format!(
            "{words:?}: {complaint}{}",
            self.log_tail()
        )))
    }

    /// Kills the engine as a crash does.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill9(&mut self) -> io::Result<()> {
        let mut daemon = self.daemon.take().ok_or(io::ErrorKind::NotFound)?;
        daemon.kill()?;
        daemon.wait()?;
        Ok(())
    }

    /// Asks the engine to end, and waits for that.
    ///
    /// # Errors
    /// When it does not run, does not end, or ends with an error.
    pub fn stop(&mut self) -> io::Result<()> {
        let mut daemon = self.daemon.take().ok_or(io::ErrorKind::NotFound)?;
        let pid = i32::try_from(daemon.id()).ok().and_then(Pid::from_raw);
        rustix::process::kill_process(pid.ok_or(io::ErrorKind::NotFound)?, Signal::TERM)?;
        let begun = Instant::now();
        loop {
            match daemon.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(self.failure(&format!("the engine ended: {status}"))),
                None if begun.elapsed() > STOP_LIMIT => {
                    daemon.kill()?;
                    daemon.wait()?;
                    return Err(self.failure("the engine does not end at SIGTERM"));
                }
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    /// Adds a flag for the engines that [`Self::restart`] starts.
    pub fn add_flag(&mut self, flag: &str) {
        self.options.flags.push(flag.to_owned());
    }

    /// Sets a variable of the engine's environment for its next start.
    pub fn set_environment(&mut self, name: &str, value: &str) {
        let variable = (name.to_owned(), value.to_owned());
        self.options.environment.push(variable);
    }

    /// Starts the engine again after [`Self::kill9`] or [`Self::stop`].
    ///
    /// # Errors
    /// When it does not listen.
    pub fn restart(&mut self) -> io::Result<()> {
        self.spawn()
    }

    /// Waits until a container has ended, and returns its exit code.
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    #[must_use]
    pub fn wait(&self, container: &str) -> String {
        self.docker(&format!("wait {container}")).ok().to_owned()
    }

    /// What `docker inspect -f` prints.
    ///
    /// # Panics
    /// When there is no such thing.
    #[track_caller]
    #[must_use]
    pub fn inspect(&self, name: &str, format: &str) -> String {
        let words = ["inspect", "-f", format, name];
        let command = self.command(Client::Docker, words);
        let outcome = Session::pipes(command).map(Session::finish);
        outcome.map_or_else(|error| error.to_string(), |outcome| outcome.ok().to_owned())
    }

    /// What is left of containers now.
    #[must_use]
    pub fn traces(&self) -> Vec<String> {
        self.marks().without_containers()
    }

    fn spawn(&mut self) -> io::Result<()> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_file())?;
        let mut command = self.daemon_command();
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        self.daemon = Some(command.spawn()?);
        self.wait_ready()
    }

    fn daemon_command(&self) -> Command {
        const ON_A_DISK: &str =
            r#"mount -t tmpfs -o "size=$1k" gorae "$2" && shift 2 && exec "$@""#;
        let mut command = match self.options.disk {
            None => Command::new(&self.options.gorae),
            Some(size) => {
                let mut command = Command::new("unshare");
                command.args([
                    "--mount",
                    "--propagation",
                    "private",
                    "sh",
                    "-c",
                    ON_A_DISK,
                    "sh",
                ]);
                command
                    .arg(size.to_string())
                    .arg(self.root_folder())
                    .arg(&self.options.gorae);
                command
            }
        };
        let search = std::env::var_os("PATH").unwrap_or_default();
        command
            .env_clear()
            .env("PATH", search)
            .env("HOME", self.home());
        command.envs(
            self.options
                .environment
                .iter()
                .map(|(name, value)| (name, value)),
        );
        command.arg("daemon").arg("--root").arg(self.root_folder());
        command
            .arg("--run")
            .arg(self.run_folder())
            .args(["--bridge", BRIDGE]);
        command
            .arg("--cgroup-parent")
            .arg(format!("/{}", self.cgroup));
        command.args(&self.options.flags);
        command
    }

    fn wait_ready(&mut self) -> io::Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < START_LIMIT {
            let answer = self.api("GET", "/_ping", "");
            if answer.is_ok_and(|answer| answer.status == 200) {
                return Ok(());
            }
            if let Some(daemon) = &mut self.daemon
                && let Some(status) = daemon.try_wait()?
            {
                self.daemon = None;
                return Err(self.failure(&format!("the engine ended at once: {status}")));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err(self.failure("the engine does not listen"))
    }

    fn failure(&self, what: &str) -> io::Error {
        io::Error::other(format!("{what}\n{}", self.log_tail()))
    }

    fn log_file(&self) -> PathBuf {
        self.home().join("engine.log")
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let from = lines.len().saturating_sub(TAIL);
        lines.get(from..).unwrap_or_default().join("\n")
    }

    fn marks(&self) -> Marks<'_> {
        Marks {
            folder: self.folder.path(),
            cgroup: &self.cgroup,
            network: &self.network,
        }
    }

    /// Removes all containers, ends the engine, and names what stays.
    fn leave(&mut self) -> Vec<String> {
        if self.daemon.is_none()
            && let Err(error) = self.restart()
        {
            return vec![format!(
                "the engine cannot be started for the last look: {error}"
            )];
        }
        let mut left = Vec::new();
        for (list, remove) in [
            ("ps -aq --no-trunc", "rm -f -v"),
            ("network ls -q --no-trunc -f type=custom", "network rm"),
        ] {
            let all = self.docker(list).stdout.replace('\n', " ");
            if !all.trim().is_empty() {
                let removed = self.docker(&format!("{remove} {all}"));
                if removed.code != 0 {
                    left.push(format!("{removed:?}"));
                }
            }
        }
        left.extend(self.marks().without_containers());
        if let Err(error) = self.stop() {
            left.push(error.to_string());
        }
        left.extend(self.marks().after_end());
        left
    }
}

impl Drop for Engine {
    #[expect(clippy::panic, reason = "what an engine leaves behind fails its test")]
    #[expect(clippy::print_stderr, reason = "the log explains why a test failed")]
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        let left = if failed { Vec::new() } else { self.leave() };
        if let Some(mut daemon) = self.daemon.take() {
            let _ended = daemon.kill();
            let _reaped = daemon.wait();
        }
        if failed || !left.is_empty() {
            eprintln!("--- the engine's log\n{}\n---", self.log_tail());
            self.marks().sweep();
        }
        self.marks().remove_cgroup_parents();
        if !left.is_empty() && !failed {
            panic!("left behind:\n{}", left.join("\n"));
        }
    }
}

/// Gives the calling thread a mount namespace with a copy of `/etc` in the place of `/etc`.
fn private_etc() -> io::Result<TempDir> {
    use rustix::mount::{MountPropagationFlags, mount_bind, mount_change};
    let etc = tempfile::Builder::new()
        .prefix("getc-")
        .tempdir_in("/var/tmp")?;
    let copied = Command::new("cp")
        .args(["-a", "/etc/."])
        .arg(etc.path())
        .status()?;
    if !copied.success() {
        return Err(io::Error::other("cp -a /etc failed"));
    }
    sys::process::unshare(rustix::thread::UnshareFlags::NEWNS)?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private)?;
    mount_bind(etc.path(), "/etc")?;
    Ok(etc)
}

/// The archive of busybox, made once.
fn busybox() -> io::Result<&'static [u8]> {
    static ARCHIVE: OnceLock<Vec<u8>> = OnceLock::new();
    if let Some(archive) = ARCHIVE.get() {
        return Ok(archive);
    }
    let layers = TestImage::busybox()?.layers;
    let archive = layers.into_iter().next().map(|(archive, _)| archive);
    Ok(ARCHIVE.get_or_init(|| archive.unwrap_or_default()))
}

fn unique_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("gorae-test-{}-{number}", std::process::id())
}

fn require_binaries(gorae: &Path) -> io::Result<()> {
    for path in [gorae.to_owned(), gorae.with_file_name("gorae-shim")] {
        if !path.is_file() {
            let text = format!("{} is missing: cargo build -p cli -p shim", path.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, text));
        }
    }
    Ok(())
}
