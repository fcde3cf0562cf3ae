//! The life of a container's first process, seen from its parent: prepared, created, started.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci::runtime::{NamespaceKind, Spec};
use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use rustix::thread::{ThreadNameSpaceType, UnshareFlags, move_into_thread_name_spaces};
use serde::{Deserialize, Serialize};
use sys::process::{CloneOptions, Cloned};

use crate::cgroup::{Cgroup, CgroupError, Hierarchies, default_device_rules};
use crate::channel;
use crate::init::{self, Envelope, stdio};
use crate::order::{Fds, Order};
use crate::report::{Failure, FailureKind, Report};
use crate::source;
use crate::userns::{self, Furniture, UserNamespace, UsernsError};

/// What can be made before it is known which container it will be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrepareOptions {
    /// A pid namespace of its own.
    pub new_pid: bool,
    /// An IPC namespace of its own.
    pub new_ipc: bool,
    /// A UTS namespace of its own.
    pub new_uts: bool,
    /// The file of a pid namespace to join, as `/proc/7/ns/pid`: nobody can join one for itself.
    #[serde(default)]
    pub join_pid: Option<PathBuf>,
    /// A user namespace of its own, which gets its mapping from [`Prepared::create`].
    #[serde(default)]
    pub new_user: bool,
    /// The file of a user namespace to be born in.
    #[serde(default)]
    pub join_user: Option<PathBuf>,
    /// A network namespace that belongs to the container's user namespace.
    #[serde(default)]
    pub new_net: bool,
    /// The cgroup to be born in; [`Prepared::create`] moves it to the container's own place.
    pub cgroup_path: PathBuf,
}

impl PrepareOptions {
    /// What a configuration needs.
    #[must_use]
    pub fn for_spec(spec: &Spec, cgroup_path: PathBuf) -> Self {
        let find = |kind| {
            let namespaces = &spec.linux.namespaces;
            namespaces.iter().find(|namespace| namespace.kind == kind)
        };
        let is_new = |kind| find(kind).is_some_and(|namespace| namespace.path.is_none());
        let path_of = |kind| find(kind).and_then(|namespace| namespace.path.clone());
        let in_user = find(NamespaceKind::User).is_some();
        Self {
            new_user: is_new(NamespaceKind::User),
            join_user: path_of(NamespaceKind::User),
            new_net: in_user && is_new(NamespaceKind::Network),
            new_pid: is_new(NamespaceKind::Pid),
            new_ipc: is_new(NamespaceKind::Ipc),
            new_uts: is_new(NamespaceKind::Uts),
            join_pid: path_of(NamespaceKind::Pid),
            cgroup_path,
        }
    }

    /// Whether the container's users are not the caller's.
    fn in_user(&self) -> bool {
        self.new_user || self.join_user.is_some()
    }
}

/// An init stage that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The cgroup.
    #[error("make the cgroup {path:?}")]
    Cgroup {
        /// Its path.
        path: PathBuf,
        /// The step.
        #[source]
        source: CgroupError,
    },
    /// The socket to the stage.
    #[error("make the socket pair to the init stage")]
    Socket(#[source] io::Error),
    /// The null device.
    #[error("open /dev/null")]
    Null(#[source] io::Error),
    /// A pid namespace to join.
    #[error("join the pid namespace {path:?}")]
    JoinPid {
        /// Its file.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The process.
    #[error("clone the init stage")]
    Clone(#[source] io::Error),
    /// The process, in user namespaces that may be forbidden.
    #[error(
        "clone the init stage into a user namespace (do /proc/sys/user/max_user_namespaces and the security modules permit one?)"
    )]
    CloneUser(#[source] io::Error),
    /// The process that is to make the stage.
    #[error("make the init stage in the user namespace {path:?}")]
    JoinUser {
        /// The namespace's file.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

/// A container that cannot be created. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The prepared namespaces are not those of the configuration.
    #[error(
        "the init stage was prepared with another {kind:?} namespace than the configuration asks for"
    )]
    Mismatch {
        /// Which.
        kind: NamespaceKind,
    },
    /// A bind mount's source.
    #[error("open the source {path:?} of the mount {destination:?}")]
    Source {
        /// The source.
        path: PathBuf,
        /// Where it goes.
        destination: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A bind mount's source in the root of another process.
    #[error("open {path:?} of the process {pid:?}, the source of the mount {destination:?}")]
    Foreign {
        /// The process, as given.
        pid: String,
        /// The source, in the root of that process.
        path: PathBuf,
        /// Where it goes.
        destination: PathBuf,
        /// The kernel's answer; EINVAL for what is no process id.
        #[source]
        source: io::Error,
    },
    /// The caller's own mount namespace, after a look into another: the caller cannot go on.
    #[error("come back to the own mount namespace")]
    Return(#[source] io::Error),
    /// The user namespace, or what takes the host's power for it.
    #[error("set up the user namespace")]
    User(#[source] UsernsError),
    /// The cgroup.
    #[error("set up the cgroup {path:?}")]
    Cgroup {
        /// Its path.
        path: PathBuf,
        /// The step.
        #[source]
        source: CgroupError,
    },
    /// The order as text.
    #[error("write the order down")]
    Encode(#[source] serde_json::Error),
    /// The socket to the stage.
    #[error("talk to the init stage")]
    Channel(#[source] io::Error),
    /// The stage ended without a word: killed by somebody, or out of memory.
    #[error("the init stage ended early: {status}; is its memory limit too low?")]
    Died {
        /// How.
        status: String,
    },
    /// A step inside the stage.
    #[error("{0}")]
    Stage(Failure),
}

/// A container that cannot be started. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The socket to the stage.
    #[error("talk to the init stage")]
    Channel(#[source] io::Error),
    /// The program cannot be run.
    #[error("{message}")]
    Exec {
        /// What it means for the exit code.
        kind: FailureKind,
        /// The text that Docker's clients know.
        message: String,
    },
    /// A step inside the stage.
    #[error("{0}")]
    Stage(Failure),
}

impl CreateError {
    /// The kind of the failure.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Stage(failure) => failure.kind,
            Self::Mismatch { .. } | Self::Source { .. } | Self::Foreign { .. } => {
                FailureKind::InvalidInput
            }
            Self::Return(_)
            | Self::User(_)
            | Self::Cgroup { .. }
            | Self::Encode(_)
            | Self::Channel(_)
            | Self::Died { .. } => FailureKind::Other,
        }
    }
}

impl StartError {
    /// The kind of the failure.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Exec { kind, .. } => *kind,
            Self::Stage(failure) => failure.kind,
            Self::Channel(_) => FailureKind::Other,
        }
    }
}

/// What is to be taken back unless the container lives.
#[derive(Debug)]
struct Guard {
    stage: Option<Cloned>,
    cgroup: Option<Cgroup>,
}

impl Guard {
    fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.stage.as_ref().map(|stage| stage.pidfd.as_fd())
    }

    fn pid(&self) -> i32 {
        self.stage.as_ref().map_or(-1, |stage| stage.pid)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(stage) = self.stage.take() {
            let _status = end(&stage.pidfd);
        }
        if let Some(cgroup) = self.cgroup.take() {
            // what else could be done about it here; the engine's next start looks for leftovers
            let _left = cgroup.delete();
        }
    }
}

/// Kills a child and waits for it; tells how it ended.
pub(crate) fn end(pidfd: &OwnedFd) -> String {
    let _gone = pidfd_send_signal(pidfd, Signal::KILL);
    let status = loop {
        match waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other,
        }
    };
    match status {
        Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => format!("exit code {code}"),
            (_, Some(signal)) => format!("signal {signal}"),
            _ => String::from("unknown"),
        },
        _ => String::from("unknown"),
    }
}

/// An init stage in its namespaces and its cgroup, that waits for its order.
#[derive(Debug)]
pub struct Prepared {
    guard: Guard,
    socket: OwnedFd,
    options: PrepareOptions,
    hierarchies: Hierarchies,
}

/// A container that is all set up and waits for its start.
#[derive(Debug)]
pub struct Created {
    /// The init process, in the caller's pid namespace.
    pub pid: i32,
    /// The terminal's master end, if the process has a terminal.
    pub console: Option<OwnedFd>,
    guard: Guard,
    socket: OwnedFd,
}

/// A container whose program runs.
#[derive(Debug)]
pub struct Running {
    /// The init process, in the caller's pid namespace.
    pub pid: i32,
    /// Its handle.
    pub pidfd: OwnedFd,
    /// The terminal's master end, if the process has a terminal.
    pub console: Option<OwnedFd>,
    /// The container's cgroup.
    pub cgroup: Cgroup,
}

/// Makes a cgroup and clones the init stage into it and into new namespaces.
///
/// The caller must have one thread only. A [`Prepared`] that is dropped leaves nothing behind.
///
/// # Errors
///
/// The step that failed; nothing of it is left.
pub fn prepare(options: &PrepareOptions) -> Result<Prepared, PrepareError> {
    let path = &options.cgroup_path;
    let fail = |source| PrepareError::Cgroup {
        path: path.clone(),
        source,
    };
    let hierarchies = Hierarchies::detect().map_err(fail)?;
    let mut cgroup = Cgroup::create(&hierarchies, path).map_err(fail)?;
    // Most containers have these, and for them nothing is left to do later. On v1 all devices are
    // denied for a moment, so it must be done before the stage, which opens one, comes in.
    let ruled = cgroup.apply_devices(&default_device_rules());
    let mut guard = Guard {
        stage: None,
        cgroup: Some(cgroup),
    };
    ruled.map_err(fail)?;
    let born_in = guard.cgroup.as_ref().and_then(Cgroup::v2_dir);
    let (socket, child_socket) = pair().map_err(PrepareError::Socket)?;
    let clone = CloneOptions {
        namespaces: namespaces(options),
        cgroup: born_in.as_ref().map(OwnedFd::as_fd),
        sibling: options.join_user.is_some(),
    };
    let null = stdio::open_null().map_err(PrepareError::Null)?;
    let stage = clone_stage(options, clone, || {
        init::stage(child_socket.as_fd(), null.as_fd())
    })?;
    drop(child_socket);
    let pid = stage.pid;
    guard.stage = Some(stage);
    if let (None, Some(cgroup)) = (&born_in, &guard.cgroup) {
        cgroup.attach(pid).map_err(fail)?;
    }
    Ok(Prepared {
        guard,
        socket,
        options: options.clone(),
        hierarchies,
    })
}

fn clone_stage(
    options: &PrepareOptions,
    clone: CloneOptions<'_>,
    stage: impl FnOnce() -> u8,
) -> Result<Cloned, PrepareError> {
    if let Some(path) = &options.join_user {
        let made = userns::clone_into(path, options.join_pid.as_deref(), clone, stage);
        return made.map_err(|source| PrepareError::JoinUser {
            path: path.clone(),
            source,
        });
    }
    let error = if options.new_user {
        PrepareError::CloneUser
    } else {
        PrepareError::Clone
    };
    let cloned = || sys::process::clone(clone, stage).map_err(error);
    let Some(path) = &options.join_pid else {
        return cloned();
    };
    let fail = |source| PrepareError::JoinPid {
        path: path.clone(),
        source,
    };
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let file = file.map_err(|error| fail(error.into()))?;
    in_pid_namespace(file.as_fd(), cloned).map_err(fail)?
}

fn namespaces(options: &PrepareOptions) -> UnshareFlags {
    let mut flags = UnshareFlags::NEWNS;
    flags.set(UnshareFlags::NEWPID, options.new_pid);
    flags.set(UnshareFlags::NEWIPC, options.new_ipc);
    flags.set(UnshareFlags::NEWUTS, options.new_uts);
    flags.set(UnshareFlags::NEWUSER, options.new_user);
    flags.set(UnshareFlags::NEWNET, options.new_net);
    flags
}

/// Makes a socket pair whose ends no program inherits.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (family, kind) = (AddressFamily::UNIX, SocketType::STREAM);
    Ok(socketpair(family, kind, SocketFlags::CLOEXEC, None)?)
}

/// Does something while the caller's children are born in another pid namespace.
///
/// `namespace` is a pid namespace's file or a pidfd of a process in it.
pub(crate) fn in_pid_namespace<T>(
    namespace: BorrowedFd<'_>,
    work: impl FnOnce() -> T,
) -> io::Result<T> {
    let own = rustix::process::getpid();
    let own = rustix::process::pidfd_open(own, rustix::process::PidfdFlags::empty())?;
    move_into_thread_name_spaces(namespace, ThreadNameSpaceType::PROCESS_ID)?;
    let done = work();
    move_into_thread_name_spaces(own.as_fd(), ThreadNameSpaceType::PROCESS_ID)?;
    Ok(done)
}

impl Prepared {
    /// The init process, in the caller's pid namespace.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.guard.pid()
    }

    /// The init process's handle; readable when it has ended.
    #[must_use]
    pub fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.guard.pidfd()
    }

    /// Makes the container that `order` describes, up to the moment before its program runs.
    ///
    /// # Errors
    ///
    /// The step that failed; then the stage and the cgroup are gone.
    pub fn create(mut self, order: &Order, fds: Fds) -> Result<Created, CreateError> {
        self.check(&order.spec)?;
        let user = self.user_namespace(&order.spec, &fds)?;
        let furniture = match &user {
            Some(user) => Some(user.furnish(order).map_err(CreateError::User)?),
            None => None,
        };
        self.send(order, fds, user.as_ref(), furniture)?;
        // the stage is busy with its root file system meanwhile
        self.place_cgroup(&order.spec)?;
        let done = channel::tell(self.socket.as_fd(), channel::CGROUP_READY);
        let console = match (done, self.receive()?) {
            (_, Some((Report::Failed(failure), _))) => return Err(CreateError::Stage(failure)),
            (_, None) => return Err(self.died()),
            (Err(error), _) => return Err(CreateError::Channel(error)),
            (Ok(()), Some((Report::Ready, fds))) => fds.into_iter().next(),
        };
        Ok(Created {
            pid: self.guard.pid(),
            console,
            guard: self.guard,
            socket: self.socket,
        })
    }

    /// Refuses a configuration whose namespaces the stage cannot come to any more.
    fn check(&self, spec: &Spec) -> Result<(), CreateError> {
        let asked = PrepareOptions::for_spec(spec, PathBuf::new());
        let own = &self.options;
        let same = [
            (
                NamespaceKind::Pid,
                asked.new_pid == own.new_pid && asked.join_pid == own.join_pid,
            ),
            (
                NamespaceKind::User,
                asked.new_user == own.new_user && asked.join_user == own.join_user,
            ),
            (NamespaceKind::Ipc, asked.new_ipc == own.new_ipc),
            (NamespaceKind::Uts, asked.new_uts == own.new_uts),
        ];
        match same.into_iter().find(|(_, same)| !same) {
            Some((kind, _)) => Err(CreateError::Mismatch { kind }),
            None => Ok(()),
        }
    }

    /// Gives the stage's user namespace its mapping, and the stage what it may not take for itself;
    /// none where it is the caller's own.
    fn user_namespace(&self, spec: &Spec, fds: &Fds) -> Result<Option<UserNamespace>, CreateError> {
        if !self.options.in_user() {
            return Ok(None);
        }
        let pid = self.guard.pid();
        let set_up = || {
            if self.options.new_user {
                UserNamespace::map(pid, &spec.linux)?;
            }
            let user = UserNamespace::open(pid, &spec.linux)?;
            userns::privilege(pid, &spec.process)?;
            let streams = [&fds.stdin, &fds.stdout, &fds.stderr];
            let streams = streams.into_iter().flatten().map(OwnedFd::as_fd);
            userns::give_streams(streams, user.root).map_err(UsernsError::Stdio)?;
            Ok(user)
        };
        set_up().map(Some).map_err(CreateError::User)
    }

    fn send(
        &self,
        order: &Order,
        fds: Fds,
        user: Option<&UserNamespace>,
        furniture: Option<Furniture>,
    ) -> Result<(), CreateError> {
        let made = furniture.unwrap_or_default();
        let envelope = Envelope {
            user: user.is_some(),
            own_net: self.options.new_net,
            root: made.root.is_some(),
            dev: made.dev.is_some(),
            nodes: made.nodes.len(),
            order,
            stdin: fds.stdin.is_some(),
            stdout: fds.stdout.is_some(),
            stderr: fds.stderr.is_some(),
            netns: fds.netns.is_some(),
            seccomp: fds.seccomp.is_some(),
        };
        let bytes = serde_json::to_vec(&envelope).map_err(CreateError::Encode)?;
        let sources = source::open_all(&order.spec, user)?;
        let own = [fds.stdin, fds.stdout, fds.stderr, fds.netns, fds.seccomp];
        let made_too = [made.root, made.dev];
        let own = own.iter().chain(&made_too).flatten();
        let all = own.chain(&made.nodes).chain(&sources);
        let all: Vec<_> = all.map(OwnedFd::as_fd).collect();
        match channel::send(self.socket.as_fd(), &bytes, &all) {
            // its last words are still to be read
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other.map_err(CreateError::Channel),
        }
    }

    /// Brings the cgroup to the container's own place and sets its limits.
    fn place_cgroup(&mut self, spec: &Spec) -> Result<(), CreateError> {
        let path = spec.linux.cgroups_path.as_deref();
        let path = path.unwrap_or(&self.options.cgroup_path);
        let fail = |source| CreateError::Cgroup {
            path: path.to_owned(),
            source,
        };
        let Some(mut cgroup) = self.guard.cgroup.take() else {
            return Ok(());
        };
        if path != self.options.cgroup_path {
            let moved = self.move_cgroup(&mut cgroup, path);
            if let Err(source) = moved {
                self.guard.cgroup = Some(cgroup);
                return Err(fail(source));
            }
        }
        let applied = cgroup.apply(&spec.linux.resources);
        self.guard.cgroup = Some(cgroup);
        applied.map_err(fail)
    }

    /// Renames a cgroup; where it cannot be renamed (cgroup v2, another parent), the stage moves into a new one.
    fn move_cgroup(&self, cgroup: &mut Cgroup, path: &Path) -> Result<(), CgroupError> {
        match cgroup.rename(path) {
            Err(CgroupError::Unsupported { .. }) => {}
            other => return other,
        }
        let new = Cgroup::create(&self.hierarchies, path)?;
        if let Err(error) = new.attach(self.guard.pid()) {
            let _left = new.delete();
            return Err(error);
        }
        let old = std::mem::replace(cgroup, new);
        old.delete()
    }

    fn receive(&self) -> Result<Option<(Report, Vec<OwnedFd>)>, CreateError> {
        receive_report(self.socket.as_fd()).map_err(CreateError::Channel)
    }

    fn died(&mut self) -> CreateError {
        let status = match self.guard.stage.take() {
            Some(stage) => end(&stage.pidfd),
            None => String::from("unknown"),
        };
        CreateError::Died { status }
    }
}

/// Receives a report; `None` when the stage is gone, or has become its program.
pub(crate) fn receive_report(socket: BorrowedFd<'_>) -> io::Result<Option<(Report, Vec<OwnedFd>)>> {
    match channel::receive(socket)? {
        Some((bytes, fds)) => Ok(Some((serde_json::from_slice(&bytes)?, fds))),
        None => Ok(None),
    }
}

impl Created {
    /// The init process's handle; readable when it has ended.
    #[must_use]
    pub fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.guard.pidfd()
    }

    /// The container's cgroup.
    #[must_use]
    pub fn cgroup(&self) -> Option<&Cgroup> {
        self.guard.cgroup.as_ref()
    }

    /// Lets the container's program run.
    ///
    /// # Errors
    ///
    /// The step that failed; then the process and the cgroup are gone.
    pub fn start(mut self) -> Result<Running, StartError> {
        channel::tell(self.socket.as_fd(), channel::START).map_err(StartError::Channel)?;
        // execve(2) closes the stage's end, and so does death: then the process's end is seen as
        // that of any other program
        match receive_report(self.socket.as_fd()).map_err(StartError::Channel)? {
            Some((Report::Failed(failure), _)) => return Err(start_error(failure)),
            Some((Report::Ready, _)) | None => {}
        }
        let gone = || StartError::Channel(io::ErrorKind::NotFound.into());
        let stage = self.guard.stage.take().ok_or_else(gone)?;
        let cgroup = self.guard.cgroup.take().ok_or_else(gone)?;
        Ok(Running {
            pid: stage.pid,
            pidfd: stage.pidfd,
            console: self.console.take(),
            cgroup,
        })
    }
}

fn start_error(failure: Failure) -> StartError {
    if failure.step == "exec" {
        StartError::Exec {
            kind: failure.kind,
            message: failure.message,
        }
    } else {
        StartError::Stage(failure)
    }
}
