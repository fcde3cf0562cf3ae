//! The start of the container, and of one more process in it.

use std::collections::VecDeque;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use oci::runtime::{NamespaceKind, Seccomp, Spec};
use runtime::{ExecTarget, HostRoot, PrepareOptions, Prepared};
use shim::protocol::{EXIT_NAME, SOCKET_NAME};
use shim::{AttachOrder, ExecOrder, FdRole, Reply, RunOrder};
use sys::memfd::{self, Purpose};

use super::connection::Kind;
use super::container::{Container, Phase};
use super::exec::Exec;
use super::log::Log;
use super::refusal::Refusal;
use super::stdio::{ChildEnds, InputEnd, Stdio};
use super::stream::{Standing, Stream};
use super::{Monitor, Owner, Stage};

/// Makes the init stage that waits for an order.
pub(super) fn prepare(options: &PrepareOptions) -> Result<Prepared, Refusal> {
    runtime::prepare(options).map_err(|error| Refusal::failed("prepare", &error))
}

/// The place of the reaper that an engine may bind into a container by itself.
const BOUND_REAPER: &str = "/sbin/docker-init";

/// What came with a start order, by role.
#[derive(Default)]
struct Handed {
    netns: Option<OwnedFd>,
    seccomp: Option<OwnedFd>,
    clients: Vec<Stream>,
}

impl Monitor {
    /// Starts the container; after a failure everything is undone and the shim ends.
    pub(super) fn start(
        &mut self,
        index: usize,
        mut order: RunOrder,
        fds: Vec<OwnedFd>,
    ) -> Result<(), Refusal> {
        if self.connections[index].kind() != Kind::Control {
            let message = "only the control connection can order a start";
            return Err(Refusal::invalid("run", message));
        }
        let prepared = match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Idle => None,
            Stage::Prepared(prepared) => Some(*prepared),
            stage @ (Stage::Container(_) | Stage::Over) => {
                self.stage = stage;
                return Err(Refusal::invalid("run", "the shim already has a container"));
            }
        };
        let bound = order
            .order
            .spec
            .process
            .args
            .first()
            .is_some_and(|arg| arg == BOUND_REAPER);
        order.order.init |= order.init && !bound;
        let container = start(prepared, &order, fds)?;
        let (pid, started_at) = (container.pid, container.started_at.clone());
        self.stage = Stage::Container(Box::new(container));
        let connection = &mut self.connections[index];
        connection.reply(&Reply::Started { pid, started_at });
        connection.subscribe();
        Ok(())
    }

    /// Runs one more process in the container.
    pub(super) fn exec(
        &mut self,
        index: usize,
        order: ExecOrder,
        fds: Vec<OwnedFd>,
    ) -> Result<(), Refusal> {
        let streams = order.streams;
        self.check_stream("exec", index, streams, &fds)?;
        let container = self.running("exec")?;
        let pid = container.exec(order)?;
        let owner = Owner::Exec(container.execs.len() - 1);
        self.hand_over(
            index,
            fds,
            streams,
            (owner, Standing::Owner),
            &Reply::Exec { pid },
        )
    }
}

fn start(
    prepared: Option<Prepared>,
    order: &RunOrder,
    fds: Vec<OwnedFd>,
) -> Result<Container, Refusal> {
    let spec = &order.order.spec;
    let user = host_root(spec)?;
    let mut handed = sort(&order.fds, fds)?;
    if let (None, Some(policy)) = (&handed.seccomp, &spec.linux.seccomp) {
        handed.seccomp = Some(compile(policy)?);
    }
    let log = Log::open(&order.log).map_err(|error| Refusal::failed("open the log", &error))?;
    let (mut stdio, ends) =
        main_stdio(order).map_err(|error| Refusal::failed("make pipes", &error))?;
    handed
        .clients
        .into_iter()
        .for_each(|client| stdio.add(client));
    let prepared = match prepared {
        Some(prepared) => prepared,
        None => prepare(&PrepareOptions::for_spec(spec, cgroup_path(spec)?))?,
    };
    let mut created = prepared
        .create(
            &order.order,
            ends.with(handed.netns, copy(handed.seccomp.as_ref())?),
        )
        .map_err(|error| Refusal::runtime("create", error.kind(), &error))?;
    if let Some(console) = created.console.take() {
        stdio
            .set_terminal(console)
            .map_err(|error| Refusal::failed("take the terminal", &error))?;
    }
    let (listener, name) = listen(&order.dir).map_err(|error| Refusal::failed("listen", &error))?;
    let running = created
        .start()
        .map_err(|error| Refusal::runtime("start", error.kind(), &error))?;
    name.keep();
    Ok(Container {
        dir: order.dir.clone(),
        listener: Some(listener),
        pid: running.pid,
        pidfd: running.pidfd,
        own_pids: makes_pids(spec),
        user,
        cgroup: running.cgroup,
        gauge: None,
        seccomp: handed.seccomp,
        stdio,
        log,
        execs: Vec::new(),
        codes: VecDeque::new(),
        started_at: shim::timestamp::now(),
        oom_kills: 0,
        phase: Phase::Running,
    })
}

/// Compiles the filter here, so that execs get the same one.
fn compile(policy: &Seccomp) -> Result<OwnedFd, Refusal> {
    let program = runtime::seccomp::compile(policy)
        .map_err(|error| Refusal::failed("compile the system call filter", &error))?;
    memfd::sealed("seccomp", Purpose::Data, &mut &program.to_bytes()[..])
        .map_err(|error| Refusal::failed("keep the system call filter", &error))
}

fn copy(fd: Option<&OwnedFd>) -> Result<Option<OwnedFd>, Refusal> {
    let copied = fd.map(OwnedFd::try_clone).transpose();
    copied.map_err(|error| Refusal::failed("copy the system call filter", &error))
}

/// Gives each fd its role.
fn sort(roles: &[FdRole], fds: Vec<OwnedFd>) -> Result<Handed, Refusal> {
    if roles.len() != fds.len() {
        let message = format!("{} fds came with {} roles", fds.len(), roles.len());
        return Err(Refusal::invalid("run", message));
    }
    let mut handed = Handed::default();
    for (role, fd) in roles.iter().zip(fds) {
        match role {
            FdRole::Netns => handed.netns = Some(fd),
            FdRole::Seccomp => handed.seccomp = Some(fd),
            FdRole::Attach(order) => {
                let stream = Stream::new(fd, *order, Standing::Owner, Vec::new());
                handed
                    .clients
                    .push(stream.map_err(|e| Refusal::failed("take a stream", &e))?);
            }
        }
    }
    Ok(handed)
}

fn main_stdio(order: &RunOrder) -> io::Result<(Stdio, ChildEnds)> {
    let input_end = if order.stdin_once {
        InputEnd::Close
    } else {
        InputEnd::Keep
    };
    if order.order.spec.process.terminal {
        return Ok((Stdio::empty(input_end), ChildEnds::default()));
    }
    let wanted = AttachOrder {
        stdin: order.open_stdin,
        stdout: true,
        stderr: true,
    };
    Stdio::pipes(wanted, input_end)
}

fn makes_pids(spec: &Spec) -> bool {
    let namespaces = &spec.linux.namespaces;
    namespaces
        .iter()
        .any(|namespace| namespace.kind == NamespaceKind::Pid && namespace.path.is_none())
}

/// Who the container's root is on the host, if it is in a user namespace.
fn host_root(spec: &Spec) -> Result<Option<HostRoot>, Refusal> {
    let mut namespaces = spec.linux.namespaces.iter();
    if !namespaces.any(|namespace| namespace.kind == NamespaceKind::User) {
        return Ok(None);
    }
    let root = HostRoot::of(&spec.linux);
    root.map(Some)
        .map_err(|error| Refusal::failed("find the container's root", &error))
}

fn cgroup_path(spec: &Spec) -> Result<PathBuf, Refusal> {
    let missing = || Refusal::invalid("run", "the configuration names no cgroup");
    spec.linux.cgroups_path.clone().ok_or_else(missing)
}

/// A name in the file system that goes with a failed start.
struct Name(Option<PathBuf>);

impl Name {
    /// The start has succeeded: the name stays.
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _removed = fs::remove_file(path);
        }
    }
}

/// Makes the run directory and the socket in it, in place of what an earlier shim left.
fn listen(dir: &Path) -> io::Result<(UnixListener, Name)> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    remove_if_present(&dir.join(SOCKET_NAME))?;
    remove_if_present(&dir.join(EXIT_NAME))?;
    let (address, _dir) = shim::frame::socket_path(dir)?;
    let listener = UnixListener::bind(&address)?;
    let name = Name(Some(dir.join(SOCKET_NAME)));
    fs::set_permissions(&address, Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok((listener, name))
}

fn remove_if_present(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl Container {
    fn exec(&mut self, order: ExecOrder) -> Result<i32, Refusal> {
        self.check_exec(&order.id)?;
        let (mut stdio, ends) = if order.process.terminal {
            (Stdio::empty(InputEnd::Close), ChildEnds::default())
        } else {
            Stdio::pipes(order.streams, InputEnd::Close)
                .map_err(|error| Refusal::failed("make pipes", &error))?
        };
        let target = ExecTarget {
            pidfd: self.pidfd.as_fd(),
            cgroup: &self.cgroup,
            user: self.user,
        };
        let fds = ends.with(None, copy(self.seccomp.as_ref())?);
        let child = runtime::exec(&target, &order.process, fds)
            .map_err(|error| Refusal::runtime("exec", error.kind(), &error))?;
        if let Some(console) = child.console {
            // Without its terminal the process would never be heard: it gets SIGHUP at the close.
            stdio
                .set_terminal(console)
                .map_err(|error| Refusal::failed("take the terminal", &error))?;
        }
        self.execs
            .push(Exec::new(order.id, child.pid, child.pidfd, stdio));
        Ok(child.pid)
    }

    /// Refuses an exec that would hang, or that nobody could name.
    fn check_exec(&self, id: &str) -> Result<(), Refusal> {
        if self.execs.iter().any(|exec| exec.id == id) {
            return Err(Refusal::invalid("exec", format!("exec {id} runs already")));
        }
        if self.cgroup.is_frozen().unwrap_or(false) {
            // The new process would freeze on its way in, and this one wait for it for ever.
            return Err(Refusal::invalid("exec", "the container is paused"));
        }
        Ok(())
    }
}
