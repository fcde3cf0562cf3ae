//! What the tests of the daemon as a service share: an engine that is started in some way of its own.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use testkit::docker::{Outcome, Session, docker_cli, words};
use testkit::http::{self, Response};
use testkit::namespace::Namespace;

use crate::bench::eventually;

/// The program under test.
pub(crate) const GORAE: &str = env!("CARGO_BIN_EXE_gorae");

/// A host of its own for an engine that the test starts by itself.
///
/// Its folder, its network and the engine's cgroup are gone with it.
pub(crate) struct Host {
    daemon: Option<Child>,
    pub(crate) cgroup: String,
    _network: Namespace,
    folder: TempDir,
}

impl Host {
    /// Makes the host, and moves the calling thread into its network.
    pub(crate) fn new() -> Self {
        let network = Namespace::create().unwrap();
        network.enter().unwrap();
        let folder = tempfile::Builder::new()
            .prefix("gs-")
            .tempdir_in("/var/tmp")
            .unwrap();
        let name = folder.path().file_name().unwrap().to_string_lossy();
        let cgroup = format!("/gorae-test-{}", name.trim_start_matches("gs-"));
        Self {
            daemon: None,
            cgroup,
            _network: network,
            folder,
        }
    }

    /// A path in the host's folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The same as a text.
    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Writes a file, and gives its path.
    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        self.text(name)
    }

    /// The flags that keep an engine on this host.
    pub(crate) fn flags(&self) -> Vec<String> {
        [
            ["--root", &self.text("root")],
            ["--run", &self.text("run")],
            ["--cgroup-parent", &self.cgroup],
        ]
        .concat()
        .into_iter()
        .map(str::to_owned)
        .collect()
    }

    /// A program with its words, that logs into the host's folder.
    pub(crate) fn command<S: AsRef<OsStr>>(
        &self,
        program: &str,
        words: impl IntoIterator<Item = S>,
    ) -> Command {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.path("log"))
            .unwrap();
        let mut command = Command::new(program);
        command.args(words).env("HOME", self.path("home"));
        command
            .env_remove("DOCKER_HOST")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        command
    }

    /// Starts an engine, and waits until it answers at a socket.
    pub(crate) fn start(&mut self, mut command: Command, socket: &Path) {
        self.daemon = Some(command.spawn().unwrap());
        let daemon = &mut self.daemon;
        let log = self.folder.path().join("log");
        eventually("the engine answers", || {
            let ended = daemon.as_mut().unwrap().try_wait().unwrap();
            let text = || fs::read_to_string(&log).unwrap_or_default();
            assert!(ended.is_none(), "it ended: {}", text());
            ping(socket).is_ok()
        });
    }

    /// Starts `gorae daemon` with more flags, and waits until it answers at its own socket.
    pub(crate) fn gorae(&mut self, more: &[&str]) {
        let mut all = vec!["daemon".to_owned()];
        all.extend(self.flags());
        all.extend(more.iter().map(|&word| word.to_owned()));
        let command = self.command(GORAE, all);
        self.start(command, &self.path("run/gorae.sock"));
    }

    /// What the engine has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Waits until the log holds a text.
    pub(crate) fn logs(&self, text: &str) {
        eventually(text, || self.log().contains(text));
    }

    /// Sends the engine a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = self.daemon.as_ref().unwrap().id();
        let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// The engine's process id.
    pub(crate) fn pid(&self) -> u32 {
        self.daemon.as_ref().unwrap().id()
    }

    /// Ends the engine by SIGTERM.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.daemon.take().unwrap().wait().unwrap()
    }

    /// Runs `docker` with these variables.
    pub(crate) fn docker(&self, variables: &[(&str, &str)], line: &str) -> Outcome {
        self.client(docker_cli().unwrap(), variables, line)
    }

    /// Runs a client with these variables and no others that name an engine.
    pub(crate) fn client(
        &self,
        program: impl AsRef<OsStr>,
        variables: &[(&str, &str)],
        line: &str,
    ) -> Outcome {
        let mut command = Command::new(program);
        let search = std::env::var_os("PATH").unwrap_or_default();
        command.args(words(line)).env_clear().env("PATH", search);
        command.env("HOME", self.path("home"));
        command.envs(variables.iter().copied());
        Session::pipes(command).unwrap().finish()
    }

    /// The engine removes its own cgroup, but not the one that it was told to make it in.
    fn remove_cgroups(&self) {
        let name = self.cgroup.trim_start_matches('/');
        let hierarchies = fs::read_dir("/sys/fs/cgroup")
            .into_iter()
            .flatten()
            .flatten();
        let mut folders: Vec<PathBuf> = hierarchies.map(|entry| entry.path()).collect();
        folders.push("/sys/fs/cgroup".into());
        for folder in folders {
            let parent = folder.join(name);
            let own = fs::read_dir(&parent).into_iter().flatten().flatten();
            // an engine that ends while it makes a shim ready leaves its own
            for entry in own.filter(|entry| entry.path().is_dir()) {
                let _gone = fs::remove_dir(entry.path());
            }
            let _gone = fs::remove_dir(parent);
        }
    }

    /// Imports busybox into the engine at a socket.
    pub(crate) fn import(&self, socket: &Path) {
        let image = testkit::image::TestImage::busybox().unwrap();
        let (archive, _) = image.layers.into_iter().next().unwrap();
        let file = self.path("busybox.tar");
        fs::write(&file, archive).unwrap();
        let host = format!("unix://{}", socket.display());
        let line = format!("import {} busybox", file.display());
        self.docker(&[("DOCKER_HOST", &host)], &line).ok();
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            if std::thread::panicking() {
                eprintln!("--- the engine's log\n{}", self.log());
            }
            let pid = i32::try_from(daemon.id()).ok().and_then(Pid::from_raw);
            let _asked = pid.map(|pid| kill_process(pid, Signal::TERM));
            let _reaped = daemon.wait();
        }
        self.remove_cgroups();
    }
}

/// Asks an engine whether it answers.
pub(crate) fn ping(socket: &Path) -> io::Result<Response> {
    get(socket, "/_ping")
}

/// Sends a request to an engine.
pub(crate) fn get(socket: &Path, path: &str) -> io::Result<Response> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    http::exchange(&mut stream, "gorae", "GET", path, &[], b"")
}

/// A port of loopback that nobody listens at in this network.
pub(crate) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Whether somebody listens at a port of loopback.
pub(crate) fn listens(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

/// An authority and the files of those that it vouches for, as Docker's guide lays them out.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    /// Writes `ca.pem`, and `cert.pem` and `key.pem` for a server or a client.
    pub(crate) fn write(&self, folder: &Path, is_server: bool) {
        let names = ["localhost", "127.0.0.1"].map(str::to_owned);
        let names = if is_server {
            names.to_vec()
        } else {
            Vec::new()
        };
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, "one");
        params.extended_key_usages = vec![if is_server {
            ExtendedKeyUsagePurpose::ServerAuth
        } else {
            ExtendedKeyUsagePurpose::ClientAuth
        }];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join("ca.pem"), self.0.pem()).unwrap();
        fs::write(folder.join("cert.pem"), certificate.pem()).unwrap();
        fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
    }
}
