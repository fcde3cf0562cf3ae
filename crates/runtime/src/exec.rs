//! One more process in a container that runs.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use oci::runtime::Process;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::Shutdown;
use rustix::thread::{ThreadNameSpaceType, UnshareFlags, move_into_thread_name_spaces};
use sys::process::{CloneOptions, Cloned};

use crate::cgroup::{Cgroup, CgroupError};
use crate::channel;
use crate::init::{self, OwnFds, StageError, identity, process, stdio};
use crate::order::Fds;
use crate::prepare::{end, in_pid_namespace, pair, receive_report};
use crate::report::{Failure, FailureKind, Report};
use crate::userns::{self, HostRoot};

/// The container to run in.
#[derive(Clone, Copy, Debug)]
pub struct ExecTarget<'a> {
    /// Its init process.
    pub pidfd: BorrowedFd<'a>,
    /// Its cgroup.
    pub cgroup: &'a Cgroup,
    /// Who its root is on the host, if it is in a user namespace that is not the caller's.
    pub user: Option<HostRoot>,
}

/// A process that was started in a container.
#[derive(Debug)]
pub struct ExecChild {
    /// Its id in the caller's pid namespace.
    pub pid: i32,
    /// Its handle.
    pub pidfd: OwnedFd,
    /// The terminal's master end, if it has a terminal.
    pub console: Option<OwnedFd>,
}

/// A process that cannot be started. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The container's init has ended.
    #[error("the container is not running")]
    NotRunning,
    /// The container's pid namespace.
    #[error("enter the container's pid namespace")]
    Namespace(#[source] io::Error),
    /// The socket to the process.
    #[error("talk to the new process")]
    Channel(#[source] io::Error),
    /// The process.
    #[error("clone a process into the container")]
    Clone(#[source] io::Error),
    /// The cgroup.
    #[error("add the process to the container's cgroup")]
    Cgroup(#[source] CgroupError),
    /// A step inside the process; texts are those that Docker's clients know.
    #[error("{0}")]
    Stage(Failure),
}

impl ExecError {
    /// The kind of the failure.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::NotRunning => FailureKind::NotRunning,
            Self::Stage(failure) => failure.kind,
            Self::Namespace(_) | Self::Channel(_) | Self::Clone(_) | Self::Cgroup(_) => {
                FailureKind::Other
            }
        }
    }
}

/// Takes back a process that did not become its program.
struct Guard(Option<Cloned>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(child) = self.0.take() {
            let _status = end(&child.pidfd);
        }
    }
}

/// Starts a process in a container; returns once its program runs.
///
/// The caller must have one thread only: its children's pid namespace changes for a moment.
///
/// # Errors
///
/// The step that failed.
pub fn exec(target: &ExecTarget<'_>, process: &Process, fds: Fds) -> Result<ExecChild, ExecError> {
    let (socket, child_socket) = pair().map_err(ExecError::Channel)?;
    let born_in = target.cgroup.v2_dir();
    let options = CloneOptions {
        namespaces: UnshareFlags::empty(),
        cgroup: born_in.as_ref().map(OwnedFd::as_fd),
        sibling: false,
    };
    let clone = || {
        sys::process::clone(options, || {
            // or else it would not see its parent go
            sys::process::close_copy(socket.as_fd());
            stage(target, process, fds, child_socket.as_fd())
        })
    };
    let child = in_pid_namespace(target.pidfd, clone).map_err(namespace_error)?;
    let child = child.map_err(clone_error)?;
    drop(child_socket);
    let pid = child.pid;
    let mut guard = Guard(Some(child));
    // on v1 this waits for a grace period of RCU, and the process sets itself up meanwhile
    let attached = match born_in {
        Some(_) => Ok(()),
        None => target.cgroup.attach(pid),
    };
    let told = match attached {
        Ok(()) => channel::tell(socket.as_fd(), channel::CGROUP_READY),
        Err(_) => rustix::net::shutdown(&socket, Shutdown::Write).map_err(io::Error::from),
    };
    // what the process has to say of its end comes before the words that could not be told to it
    let console = wait_until_running(socket.as_fd())?;
    attached.map_err(ExecError::Cgroup)?;
    told.map_err(ExecError::Channel)?;
    let child = guard.0.take().ok_or(ExecError::NotRunning)?;
    Ok(ExecChild {
        pid,
        pidfd: child.pidfd,
        console,
    })
}

fn namespace_error(error: io::Error) -> ExecError {
    match Errno::from_io_error(&error) {
        Some(Errno::SRCH) => ExecError::NotRunning,
        _ => ExecError::Namespace(error),
    }
}

/// clone(2) says ENOMEM for a pid namespace whose init has ended.
fn clone_error(error: io::Error) -> ExecError {
    match Errno::from_io_error(&error) {
        Some(Errno::NOMEM | Errno::SRCH) => ExecError::NotRunning,
        _ => ExecError::Clone(error),
    }
}

/// Waits until the socket's other end is closed by execve(2); gives the terminal that came before.
fn wait_until_running(socket: BorrowedFd<'_>) -> Result<Option<OwnedFd>, ExecError> {
    let mut console = None;
    while let Some((report, fds)) = receive_report(socket).map_err(ExecError::Channel)? {
        match report {
            Report::Failed(failure) if failure.kind == FailureKind::NotRunning => {
                return Err(ExecError::NotRunning);
            }
            Report::Failed(failure) => return Err(ExecError::Stage(failure)),
            Report::Ready => console = fds.into_iter().next(),
        }
    }
    Ok(console)
}

/// Runs in the new process.
fn stage(target: &ExecTarget<'_>, process: &Process, fds: Fds, socket: BorrowedFd<'_>) -> u8 {
    match run(target, process, fds, socket) {
        Ok(()) => 0,
        Err(error) => {
            init::report(socket, &Report::Failed(error.failure()), &[]);
            1
        }
    }
}

fn run(
    target: &ExecTarget<'_>,
    process: &Process,
    fds: Fds,
    socket: BorrowedFd<'_>,
) -> Result<(), StageError> {
    process::hide().map_err(StageError::Detach)?;
    rustix::process::setsid().map_err(|error| StageError::Detach(error.into()))?;
    let files = replace_stdio([fds.stdin, fds.stdout, fds.stderr]).map_err(StageError::Stdio)?;
    let filter = process::read_filter(fds.seccomp, None)?;
    if let Some(root) = target.user {
        prepare_for_user(root, &files, process)?;
    }
    // while the host's procfs can be trusted to be one
    let early = process::prepare(process)?;
    let own = process.terminal.then(OwnFds::open).transpose()?;
    join(target).map_err(StageError::Join)?;
    if target.user.is_some() {
        userns::become_root().map_err(StageError::BecomeRoot)?;
        // user_namespaces(7): who enters one has all capabilities there, in the bounding set too
        process::prepare_capabilities(&early)?;
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(c"/", flags, Mode::empty())
        .map_err(|error| StageError::Join(error.into()))?;
    let mut process = process.clone();
    process::resolve_user(root.as_fd(), &mut process.user)?;
    let streams = if let Some(own) = own {
        let pty = init::open_console(root.as_fd(), &own, &process)?;
        init::report(socket, &Report::Ready, &[pty.master.as_fd()]);
        stdio::Source::Terminal(pty.slave)
    } else {
        stdio::Source::Files(files)
    };
    let launch = process::become_user(&process, &early, filter, streams)?;
    if !channel::wait_for(socket, channel::CGROUP_READY).map_err(StageError::Channel)? {
        return Ok(());
    }
    launch.go()
}

/// Takes the parent's own streams away, after those of the process are out of their places.
fn replace_stdio(files: [Option<OwnedFd>; 3]) -> io::Result<[Option<OwnedFd>; 3]> {
    let [stdin, stdout, stderr] = files.map(|file| file.map(stdio::above_stdio).transpose());
    let files = [stdin?, stdout?, stderr?];
    stdio::cover(stdio::open_null()?.as_fd())?;
    Ok(files)
}

/// Does what takes the host's power, before it is left.
fn prepare_for_user(
    root: HostRoot,
    files: &[Option<OwnedFd>; 3],
    process: &Process,
) -> Result<(), StageError> {
    let streams = files.iter().flatten().map(OwnedFd::as_fd);
    userns::give_streams(streams, root).map_err(StageError::Stdio)?;
    let own = rustix::process::getpid().as_raw_nonzero().get();
    identity::raise(own, &process.rlimits)
        .map_err(|(name, source)| StageError::Rlimit { name, source })
}

/// Joins all namespaces of the container but that of pids, which the process was born in.
fn join(target: &ExecTarget<'_>) -> io::Result<()> {
    let mut all = ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::NETWORK
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
        | ThreadNameSpaceType::CONTROL_GROUP;
    // setns(2): the user namespace is entered first, and one's own is refused
    all.set(ThreadNameSpaceType::USER, target.user.is_some());
    Ok(move_into_thread_name_spaces(target.pidfd, all)?)
}
