//! A shim with a container that lives in a temporary directory, and nothing left of it afterwards.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use sys::spawn::Spawned;

use oci::runtime::{
    Capabilities, Linux, Mount, Namespace, NamespaceKind, Process, Root, Spec, User,
};
use runtime::cgroup::{Cgroup, Hierarchies};
use runtime::{Order, Rootfs};
use shim::{
    AttachOrder, CallError, ErrorKind, Event, ExecOrder, Exit, FdRole, Launched, Launcher, LogSink,
    Prepare, Reply, Request, RunOrder, State, call, connect, receive,
};

pub(crate) const ALL: AttachOrder = AttachOrder {
    stdin: true,
    stdout: true,
    stderr: true,
};
const PATIENCE: Duration = Duration::from_secs(60);

/// A plain json-file log.
pub(crate) fn log_sink(path: &Path, max_size: Option<u64>, max_files: u32) -> LogSink {
    LogSink::File {
        settings: logfile::Settings {
            path: path.into(),
            format: logfile::Format::Json,
            max_size,
            max_files,
            compress: false,
            attrs: String::new(),
            ring: 0,
        },
        hold: None,
    }
}

/// A container and its shim.
pub(crate) struct Fixture {
    pub(crate) control: UnixStream,
    pub(crate) child: Spawned,
    pub(crate) order: RunOrder,
    pub(crate) pid: i32,
    pub(crate) folder: tempfile::TempDir,
}

impl Fixture {
    /// A shim without a container, and the order for one that runs `args`.
    pub(crate) fn new(args: &[&str]) -> Self {
        let folder = tempfile::tempdir_in("/var/tmp").unwrap();
        make_rootfs(&folder.path().join("rootfs"));
        let order = order(folder.path(), args);
        let Launched { child, control } = launcher().spawn().unwrap();
        control.set_read_timeout(Some(PATIENCE)).unwrap();
        Self {
            control,
            child,
            order,
            pid: 0,
            folder,
        }
    }

    /// A running container without clients.
    pub(crate) fn running(args: &[&str]) -> Self {
        let mut fixture = Self::new(args);
        fixture.start();
        fixture
    }

    /// A running container with a client from the start.
    pub(crate) fn attached(
        args: &[&str],
        change: impl FnOnce(&mut RunOrder),
    ) -> (Self, UnixStream) {
        let mut fixture = Self::new(args);
        change(&mut fixture.order);
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(PATIENCE)).unwrap();
        fixture.order.fds = vec![FdRole::Attach(ALL)];
        fixture.start_with(&[theirs.as_fd()]).unwrap();
        (fixture, ours)
    }

    pub(crate) fn start(&mut self) {
        self.start_with(&[]).unwrap();
    }

    pub(crate) fn start_with(&mut self, fds: &[BorrowedFd<'_>]) -> Result<(), CallError> {
        match call(
            &self.control,
            &Request::Run(Box::new(self.order.clone())),
            fds,
        )? {
            Reply::Started { pid, .. } => self.pid = pid,
            other => panic!("unexpected reply {other:?}"),
        }
        Ok(())
    }

    /// Starts what cannot start.
    pub(crate) fn start_fails(&mut self) -> (ErrorKind, String) {
        match self.start_with(&[]) {
            Err(CallError::Refused { kind, message, .. }) => (kind, message),
            other => panic!("unexpected result {other:?}"),
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.order.dir
    }

    pub(crate) fn connect(&self) -> UnixStream {
        let connection = connect(self.dir()).unwrap();
        connection.set_read_timeout(Some(PATIENCE)).unwrap();
        connection
    }

    /// Asks over a connection of its own.
    pub(crate) fn ask(&self, request: &Request) -> Reply {
        call(self.connect(), request, &[]).unwrap()
    }

    pub(crate) fn refused(&self, request: &Request) -> (ErrorKind, String) {
        match call(self.connect(), request, &[]) {
            Err(CallError::Refused { kind, message, .. }) => (kind, message),
            other => panic!("unexpected result {other:?}"),
        }
    }

    pub(crate) fn state(&self) -> State {
        match self.ask(&Request::State) {
            Reply::State(state) => *state,
            other => panic!("unexpected reply {other:?}"),
        }
    }

    pub(crate) fn attach(&self, order: AttachOrder) -> UnixStream {
        let connection = self.connect();
        assert!(matches!(
            call(&connection, &Request::Attach(order), &[]).unwrap(),
            Reply::Ok
        ));
        connection
    }

    /// Runs one more process, and gives its stream.
    pub(crate) fn exec(&self, id: &str, args: &[&str], streams: AttachOrder) -> UnixStream {
        self.exec_order(ExecOrder {
            id: id.into(),
            process: process(args),
            streams,
        })
    }

    pub(crate) fn exec_order(&self, order: ExecOrder) -> UnixStream {
        let connection = self.connect();
        let reply = call(&connection, &Request::Exec(Box::new(order)), &[]).unwrap();
        assert!(matches!(reply, Reply::Exec { pid } if pid > 0), "{reply:?}");
        connection
    }

    pub(crate) fn kill(&self, signal: i32) {
        assert!(matches!(
            self.ask(&Request::Kill { signal, exec: None }),
            Reply::Ok
        ));
    }

    /// The next event on control.
    pub(crate) fn event(&self) -> Event {
        next_event(&self.control)
    }

    /// Waits for the end, and checks that nothing is left.
    pub(crate) fn wait(mut self) -> Exit {
        let exit = loop {
            if let Event::Exited(exit) = self.event() {
                break exit;
            }
        };
        self.check_gone();
        let record = fs::read(self.dir().join("exit.json")).unwrap();
        let record: Exit = serde_json::from_slice(&record).unwrap();
        assert_eq!(record, exit);
        exit
    }

    /// Waits for the shim's end and checks that socket, cgroup and processes are gone.
    pub(crate) fn check_gone(&mut self) {
        let mut rest = Vec::new();
        let _end = (&self.control).read_to_end(&mut rest);
        assert!(!self.dir().join("shim.sock").exists());
        assert!(self.cgroup().is_none(), "the cgroup is still there");
        wait_until("the shim to end", || self.child.has_ended().unwrap());
        assert!(self.pid == 0 || !Path::new(&format!("/proc/{}", self.pid)).exists());
    }

    pub(crate) fn cgroup(&self) -> Option<Cgroup> {
        let path = self.order.order.spec.linux.cgroups_path.as_ref().unwrap();
        Cgroup::open(&Hierarchies::detect().unwrap(), path).ok()
    }

    pub(crate) fn log_path(&self) -> PathBuf {
        self.folder.path().join("log/json.log")
    }

    /// The log's records: text and stream.
    pub(crate) fn log(&self) -> Vec<(String, String)> {
        read_log(&self.log_path())
    }
}

impl Drop for Fixture {
    /// Ends what a failed test has left: the shim and, with the cgroup, everything in it.
    fn drop(&mut self) {
        let _killed = self.child.kill();
        let _reaped = self.child.wait();
        for _try in 0..50 {
            let Some(cgroup) = self.cgroup() else { break };
            let _killed = cgroup.kill_all();
            if cgroup.delete().is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

pub(crate) fn next_event(connection: &UnixStream) -> Event {
    receive(connection)
        .unwrap()
        .expect("the shim has ended")
        .parse()
        .unwrap()
}

pub(crate) fn read_log(path: &Path) -> Vec<(String, String)> {
    let text = fs::read_to_string(path).unwrap();
    let record = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(value["time"].as_str().unwrap().ends_with('Z'));
        let text = |name: &str| value[name].as_str().unwrap().to_owned();
        (text("log"), text("stream"))
    };
    text.lines().map(record).collect()
}

pub(crate) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Reads a multiplexed stream to its end: standard output and standard error.
pub(crate) fn demultiplex(mut stream: &UnixStream) -> (String, String) {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    split(&bytes)
}

pub(crate) fn split(mut bytes: &[u8]) -> (String, String) {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    while let [kind, 0, 0, 0, a, b, c, d, rest @ ..] = bytes {
        let length = usize::try_from(u32::from_be_bytes([*a, *b, *c, *d])).unwrap();
        match kind {
            1 => stdout.extend_from_slice(&rest[..length]),
            2 => stderr.extend_from_slice(&rest[..length]),
            other => panic!("stream {other}"),
        }
        bytes = &rest[length..];
    }
    assert!(bytes.is_empty(), "{bytes:?}");
    (
        String::from_utf8(stdout).unwrap(),
        String::from_utf8(stderr).unwrap(),
    )
}

/// Reads until the text has come.
pub(crate) fn read_until(mut stream: &UnixStream, text: &str) -> String {
    let mut all = Vec::new();
    let mut part = [0; 4096];
    loop {
        let count = stream.read(&mut part).unwrap();
        assert!(count > 0, "ended with {:?}", String::from_utf8_lossy(&all));
        all.extend_from_slice(&part[..count]);
        if String::from_utf8_lossy(&all).contains(text) {
            return String::from_utf8_lossy(&all).into_owned();
        }
    }
}

/// Sends everything and ends the input.
pub(crate) fn send_input(mut stream: &UnixStream, text: &str) {
    stream.write_all(text.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
}

pub(crate) fn prepare_request(order: &RunOrder) -> Request {
    let path = order.order.spec.linux.cgroups_path.clone().unwrap();
    Request::Prepare(Prepare {
        cgroup_path: path.with_extension("warm"),
        new_pid: true,
        new_ipc: true,
        new_uts: true,
        join_pid: None,
        new_user: false,
        join_user: None,
        new_net: false,
    })
}

pub(crate) fn process(args: &[&str]) -> Process {
    let capabilities = [
        "CAP_KILL",
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_SETUID",
        "CAP_SETGID",
    ];
    let list: Vec<String> = capabilities.map(str::to_owned).to_vec();
    Process {
        user: User::default(),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        env: vec!["PATH=/bin".into(), "HOME=/".into(), "TERM=xterm".into()],
        cwd: "/".into(),
        capabilities: Some(Capabilities {
            bounding: list.clone(),
            effective: list.clone(),
            permitted: list,
            ..Capabilities::default()
        }),
        ..Process::default()
    }
}

fn launcher() -> &'static Launcher {
    static LAUNCHER: OnceLock<Launcher> = OnceLock::new();
    LAUNCHER.get_or_init(|| Launcher::new(Path::new(env!("CARGO_BIN_EXE_gorae-shim"))).unwrap())
}

fn order(folder: &Path, args: &[&str]) -> RunOrder {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let id = format!(
        "{:0>64x}",
        u64::from(std::process::id()) << 32 | u64::from(number)
    );
    let cgroup = format!("/gorae-shim-test-{}-{number}", std::process::id());
    let spec = spec(&folder.join("rootfs"), args, cgroup.into());
    fs::create_dir(folder.join("log")).unwrap();
    RunOrder {
        order: Order {
            own_devices: false,
            id: id.parse().unwrap(),
            rootfs: Rootfs::Path(spec.root.path.clone()),
            spec,
            init: false,
        },
        dir: folder.join("run"),
        open_stdin: false,
        stdin_once: false,
        log: log_sink(&folder.join("log/json.log"), None, 1),
        init: false,
        fds: Vec::new(),
    }
}

fn spec(rootfs: &Path, args: &[&str], cgroup: PathBuf) -> Spec {
    let kinds = [
        NamespaceKind::Pid,
        NamespaceKind::Mount,
        NamespaceKind::Ipc,
        NamespaceKind::Uts,
        NamespaceKind::Network,
    ];
    let mount = |destination: &str, kind: &str, options: &[&str]| Mount {
        destination: destination.into(),
        kind: Some(kind.into()),
        source: Some(kind.into()),
        options: options.iter().map(|option| (*option).to_owned()).collect(),
    };
    Spec {
        oci_version: oci::runtime::VERSION.into(),
        root: Root {
            path: rootfs.into(),
            readonly: false,
        },
        process: process(args),
        mounts: vec![
            mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
            mount(
                "/dev",
                "tmpfs",
                &["nosuid", "strictatime", "mode=755", "size=65536k"],
            ),
            mount(
                "/dev/pts",
                "devpts",
                &[
                    "nosuid",
                    "noexec",
                    "newinstance",
                    "ptmxmode=0666",
                    "mode=0620",
                    "gid=5",
                ],
            ),
        ],
        linux: Linux {
            namespaces: kinds.map(|kind| Namespace { kind, path: None }).to_vec(),
            cgroups_path: Some(cgroup),
            ..Linux::default()
        },
        ..Spec::default()
    }
}

/// A root file system of one static busybox and its names.
fn make_rootfs(root: &Path) {
    for dir in ["bin", "proc", "sys", "dev", "tmp", "etc", "sbin"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    let busybox = ["/bin/busybox", "/usr/bin/busybox"]
        .into_iter()
        .find(|path| Path::new(path).exists());
    fs::copy(
        busybox.expect("busybox-static is installed"),
        root.join("bin/busybox"),
    )
    .unwrap();
    for name in [
        "sh", "echo", "cat", "sleep", "true", "false", "stty", "dd", "yes", "head", "kill", "tty",
        "ps", "id", "seq",
    ] {
        symlink("busybox", root.join("bin").join(name)).unwrap();
    }
    fs::write(root.join("etc/plain"), "no program").unwrap();
}
