//! A container's bed: a root file system of busybox, a configuration like Docker's, and its run.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use oci::runtime::{
    Capabilities, Linux, Mount, Namespace, NamespaceKind, Process, Resources, Root, Spec,
};
use runtime::cgroup::{Cgroup, Hierarchies};
use runtime::{
    CreateError, Created, ExecChild, ExecError, ExecTarget, Fds, Order, PrepareOptions, Prepared,
    Rootfs, Running, prepare,
};
use rustix::process::{Signal, WaitId, WaitIdOptions, WaitOptions, pidfd_send_signal, waitid};

const BUSYBOX: [&str; 2] = ["/bin/busybox", "/usr/bin/busybox"];

const APPLETS: [&str; 33] = [
    "cat", "echo", "grep", "head", "hostname", "id", "kill", "ls", "mkdir", "mount", "ps", "pwd",
    "readlink", "rm", "sh", "sleep", "stat", "stty", "test", "touch", "true", "tty", "umount",
    "umask", "wc", "env", "sort", "setsid", "chmod", "nproc", "chown", "mknod", "dd",
];

/// Files of one test, and the place of its cgroup.
pub(crate) struct Bed {
    dir: tempfile::TempDir,
    pub(crate) cgroup: PathBuf,
}

/// How a container ended, and what it said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Output {
    pub(crate) code: i32,
    pub(crate) text: String,
}

impl Bed {
    pub(crate) fn new(name: &str) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("gorae-runtime-")
            .tempdir_in("/var/tmp");
        let bed = Self {
            dir: dir.unwrap(),
            cgroup: PathBuf::from(format!("/gorae-test-{}-{name}", std::process::id())),
        };
        for folder in ["lower/bin", "lower/etc", "lower/tmp", "upper", "work"] {
            fs::create_dir_all(bed.path(folder)).unwrap();
        }
        let busybox = BUSYBOX.iter().find(|path| Path::new(path).exists());
        let busybox = busybox.expect("no busybox here: apt-get install busybox-static");
        fs::copy(busybox, bed.path("lower/bin/busybox")).unwrap();
        for applet in APPLETS {
            symlink("busybox", bed.path("lower/bin").join(applet)).unwrap();
        }
        let passwd = "root:x:0:0::/root:/bin/sh\nweb:x:33:44::/var/www:/bin/sh\n";
        fs::write(bed.path("lower/etc/passwd"), passwd).unwrap();
        fs::write(
            bed.path("lower/etc/group"),
            "root:x:0:\nweb:x:44:\nadm:x:4:web\n",
        )
        .unwrap();
        bed
    }

    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        self.dir.path().join(inside)
    }

    /// A path in the image.
    pub(crate) fn image(&self, inside: &str) -> PathBuf {
        self.path("lower").join(inside)
    }

    pub(crate) fn order(&self, spec: Spec) -> Order {
        Order {
            own_devices: false,
            id: "a".repeat(64).parse().unwrap(),
            spec,
            rootfs: Rootfs::Overlay {
                lower: vec![self.path("lower")],
                upper: self.path("upper"),
                work: self.path("work"),
            },
            init: false,
        }
    }

    pub(crate) fn prepare(&self, spec: &Spec) -> Prepared {
        prepare(&PrepareOptions::for_spec(spec, self.cgroup.clone())).unwrap()
    }

    pub(crate) fn create(&self, spec: &Spec, fds: Fds) -> Result<Created, CreateError> {
        self.prepare(spec).create(&self.order(spec.clone()), fds)
    }

    /// Runs a shell command in a container like Docker's.
    pub(crate) fn shell(&self, command: &str) -> Output {
        self.run(&spec(&["/bin/sh", "-c", command]))
    }

    pub(crate) fn run(&self, spec: &Spec) -> Output {
        let (reader, fds) = streams();
        let container = self.start(spec, fds);
        container.output(reader)
    }

    pub(crate) fn start(&self, spec: &Spec, fds: Fds) -> Container {
        let created = self
            .create(spec, fds)
            .unwrap_or_else(|error| panic!("{error:?}"));
        Container(Some(created.start().unwrap()))
    }

    /// Starts a container that sleeps.
    pub(crate) fn sleeper(&self, spec: &Spec) -> Container {
        let mut spec = spec.clone();
        spec.process.args = args(&["/bin/sleep", "600"]);
        self.start(&spec, Fds::default())
    }

    /// Whether anything of the container is left in a cgroup hierarchy.
    pub(crate) fn leftovers(&self) -> Vec<PathBuf> {
        let hierarchies = Hierarchies::detect().unwrap();
        let name = self.cgroup.strip_prefix("/").unwrap();
        let of = |hierarchy: &runtime::cgroup::Hierarchy| hierarchy.root().join(name);
        hierarchies
            .iter()
            .map(of)
            .filter(|path| path.exists())
            .collect()
    }
}

/// A container that runs; killed and removed when the test is through, however it ends.
pub(crate) struct Container(Option<Running>);

impl Container {
    pub(crate) fn of(running: Running) -> Self {
        Self(Some(running))
    }

    pub(crate) fn running(&self) -> &Running {
        self.0.as_ref().unwrap()
    }

    pub(crate) fn take_console(&mut self) -> File {
        self.0.as_mut().unwrap().console.take().unwrap().into()
    }

    /// Reads until all writers are gone, and waits for the end.
    pub(crate) fn output(&self, mut reader: File) -> Output {
        let mut text = String::new();
        // a terminal without a process gives EIO
        let _end = reader.read_to_string(&mut text);
        let code = wait(&self.running().pidfd);
        Output { code, text }
    }

    pub(crate) fn wait(&self) -> i32 {
        wait(&self.running().pidfd)
    }

    pub(crate) fn target(&self) -> ExecTarget<'_> {
        ExecTarget {
            pidfd: self.running().pidfd.as_fd(),
            cgroup: &self.running().cgroup,
            user: None,
        }
    }

    pub(crate) fn exec(&self, process: &Process) -> Result<Output, ExecError> {
        exec_in(&self.target(), process)
    }

    pub(crate) fn shell(&self, command: &str) -> Output {
        let mut process = spec(&["/bin/sh", "-c", command]).process;
        process.cwd = "/".to_owned();
        self.exec(&process).unwrap()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if let Some(running) = self.0.take() {
            let _gone = pidfd_send_signal(&running.pidfd, Signal::KILL);
            // the init of a pid namespace ends after all others in it are reaped, execs of ours too
            let init = running.pid;
            let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            let unreaped = waitid(WaitId::PidFd(running.pidfd.as_fd()), look).is_ok();
            while unreaped && let Ok(Some((pid, _))) = rustix::process::wait(WaitOptions::empty()) {
                if pid.as_raw_pid() == init {
                    break;
                }
            }
            remove(&running.cgroup);
        }
    }
}

fn remove(cgroup: &Cgroup) {
    let result = cgroup.delete();
    assert!(result.is_ok() || std::thread::panicking(), "{result:?}");
}

pub(crate) fn exec_in(target: &ExecTarget<'_>, process: &Process) -> Result<Output, ExecError> {
    let (mut reader, fds) = streams();
    let ExecChild { pidfd, .. } = runtime::exec(target, process, fds)?;
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    let code = wait(&pidfd);
    Ok(Output { code, text })
}

pub(crate) fn wait(pidfd: &OwnedFd) -> i32 {
    let status = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
    let status = status.unwrap().unwrap();
    let killed = || 128 + status.terminating_signal().unwrap();
    status.exit_status().unwrap_or_else(killed)
}

/// A pipe for output and errors.
pub(crate) fn streams() -> (File, Fds) {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let fds = Fds {
        stdout: Some(writer.try_clone().unwrap()),
        stderr: Some(writer),
        ..Fds::default()
    };
    (reader.into(), fds)
}

pub(crate) fn args(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

pub(crate) fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    Mount {
        destination: destination.into(),
        kind: Some(kind.to_owned()),
        source: Some(source.into()),
        options: args(options),
    }
}

pub(crate) fn namespace(kind: NamespaceKind) -> Namespace {
    Namespace { kind, path: None }
}

/// A configuration as Docker's engine writes it.
pub(crate) fn spec(words: &[&str]) -> Spec {
    use NamespaceKind::{Cgroup, Ipc, Mount, Network, Pid, Uts};
    let kinds = [Mount, Network, Uts, Pid, Ipc, Cgroup];
    Spec {
        oci_version: oci::runtime::VERSION.to_owned(),
        root: Root::default(),
        process: process(words),
        hostname: Some("whale".to_owned()),
        mounts: default_mounts(),
        linux: Linux {
            namespaces: kinds.into_iter().map(namespace).collect(),
            resources: Resources {
                devices: runtime::cgroup::default_device_rules(),
                ..Resources::default()
            },
            masked_paths: args(&[
                "/proc/asound",
                "/proc/acpi",
                "/proc/interrupts",
                "/proc/kcore",
                "/proc/keys",
                "/proc/latency_stats",
                "/proc/timer_list",
                "/proc/timer_stats",
                "/proc/sched_debug",
                "/proc/scsi",
                "/sys/firmware",
                "/sys/devices/virtual/powercap",
            ]),
            readonly_paths: args(&[
                "/proc/bus",
                "/proc/fs",
                "/proc/irq",
                "/proc/sys",
                "/proc/sysrq-trigger",
            ]),
            ..Linux::default()
        },
        ..Spec::default()
    }
}

pub(crate) fn process(words: &[&str]) -> Process {
    let set = runtime::capabilities::default_set();
    Process {
        args: args(words),
        env: args(&["PATH=/usr/local/bin:/bin:/sbin", "TERM=xterm"]),
        cwd: "/".to_owned(),
        capabilities: Some(Capabilities {
            bounding: set.clone(),
            effective: set.clone(),
            permitted: set,
            ..Capabilities::default()
        }),
        ..Process::default()
    }
}

fn default_mounts() -> Vec<Mount> {
    let safe = ["nosuid", "noexec", "nodev"];
    let dev = ["nosuid", "strictatime", "mode=755", "size=65536k"];
    let pts = [
        "nosuid",
        "noexec",
        "newinstance",
        "ptmxmode=0666",
        "mode=0620",
        "gid=5",
    ];
    let shm = ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"];
    let readonly = ["nosuid", "noexec", "nodev", "ro"];
    vec![
        mount("/proc", "proc", "proc", &safe),
        mount("/dev", "tmpfs", "tmpfs", &dev),
        mount("/dev/pts", "devpts", "devpts", &pts),
        mount("/sys", "sysfs", "sysfs", &readonly),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &readonly),
        mount("/dev/mqueue", "mqueue", "mqueue", &safe),
        mount("/dev/shm", "tmpfs", "shm", &shm),
    ]
}
