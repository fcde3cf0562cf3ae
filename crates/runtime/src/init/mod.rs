//! The init stage: the one process between a container's order and its program.
//!
//! It is cloned by [`crate::prepare()`] and runs in a copy of its parent's memory. Everything that
//! asks the host something comes first, then the container's root is entered for good, then the
//! container is furnished from inside, then privileges go away step by step.

mod command;
mod console;
mod error;
pub(crate) mod identity;
mod launch;
mod namespaces;
pub(crate) mod process;
mod reaper;
pub(crate) mod stdio;

use std::collections::VecDeque;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use oci::runtime::{NamespaceKind, Spec};
use rustix::mount::MountPropagationFlags;
use rustix::thread::UnshareFlags;
use serde::{Deserialize, Serialize};
use sys::mount::{Depth, MountChange};

use crate::channel;
use crate::order::Order;
use crate::report::Report;
use crate::rootfs;
use crate::userns::{self, Furniture};

pub(crate) use console::{OwnFds, open_in as open_console};
pub(crate) use error::StageError;
pub(crate) use launch::Launch;
use namespaces::Netns;

/// An order on its way to the init stage, with what its descriptors are, in their order.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Envelope<T> {
    pub(crate) order: T,
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
    pub(crate) netns: bool,
    pub(crate) seccomp: bool,
    /// Whether the stage is in a user namespace of the container.
    #[serde(default)]
    pub(crate) user: bool,
    /// Whether its network namespace was made along with it.
    #[serde(default)]
    pub(crate) own_net: bool,
    /// Whether its root is mounted already.
    #[serde(default)]
    pub(crate) root: bool,
    /// Whether its `/dev` is made already.
    #[serde(default)]
    pub(crate) dev: bool,
    /// How many device nodes come as mounts.
    #[serde(default)]
    pub(crate) nodes: usize,
}

/// The descriptors by their roles.
#[derive(Debug)]
struct Received {
    stdio: [Option<OwnedFd>; 3],
    netns: Option<OwnedFd>,
    seccomp: Option<OwnedFd>,
    /// What is there for a user namespace, if the stage is in one.
    user: Option<Furniture>,
    /// Whether its network namespace was made along with it.
    own_net: bool,
    sources: VecDeque<OwnedFd>,
}

/// Runs the stage; gives the process's exit code, for the case that it does not become a program.
///
/// `null` is the null device, opened by the parent.
pub(crate) fn stage(socket: BorrowedFd<'_>, null: BorrowedFd<'_>) -> u8 {
    match run(socket, null) {
        Ok(()) => 0,
        Err(error) => {
            report(socket, &Report::Failed(error.failure()), &[]);
            1
        }
    }
}

/// Tells the parent; when the parent is gone there is nobody left to tell.
pub(crate) fn report(socket: BorrowedFd<'_>, report: &Report, fds: &[BorrowedFd<'_>]) {
    if let Ok(bytes) = serde_json::to_vec(report) {
        let _gone = channel::send(socket, &bytes, fds);
    }
}

fn run(socket: BorrowedFd<'_>, null: BorrowedFd<'_>) -> Result<(), StageError> {
    be_alone(socket, null)?;
    let Some((bytes, fds)) = channel::receive(socket).map_err(StageError::Channel)? else {
        return Ok(());
    };
    let mut envelope: Envelope<Order> =
        serde_json::from_slice(&bytes).map_err(StageError::Parse)?;
    drop(bytes);
    let received = sort(&envelope, fds);
    let Some(ready) = set_up(&mut envelope.order, received, socket)? else {
        return Ok(());
    };
    let master = ready.master.as_ref().map(|fd| [fd.as_fd()]);
    let fds = master.as_ref().map_or(&[][..], |fds| &fds[..]);
    report(socket, &Report::Ready, fds);
    if !channel::wait_for(socket, channel::START).map_err(StageError::Channel)? {
        return Ok(());
    }
    drop(ready.master);
    if envelope.order.init {
        return reaper::run(&ready.launch, socket);
    }
    ready.launch.go()
}

/// Cuts what ties the copy to its parent: descriptors, session, mounts.
fn be_alone(socket: BorrowedFd<'_>, null: BorrowedFd<'_>) -> Result<(), StageError> {
    process::hide().map_err(StageError::Detach)?;
    rustix::process::setsid().map_err(|error| StageError::Detach(error.into()))?;
    stdio::cover(null).map_err(StageError::Detach)?;
    sys::process::close_all_but(socket).map_err(StageError::Detach)?;
    rustix::process::umask(rustix::fs::Mode::empty());
    // mounts that the host makes from now on still arrive here, and none of ours leaves
    let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    rustix::mount::mount_change(c"/", slave).map_err(|error| StageError::Detach(error.into()))
}

fn sort(envelope: &Envelope<Order>, fds: Vec<OwnedFd>) -> Received {
    let mut fds = VecDeque::from(fds);
    let mut next = |is_there: bool| if is_there { fds.pop_front() } else { None };
    Received {
        stdio: [
            next(envelope.stdin),
            next(envelope.stdout),
            next(envelope.stderr),
        ],
        netns: next(envelope.netns),
        seccomp: next(envelope.seccomp),
        user: envelope.user.then(|| Furniture {
            root: next(envelope.root),
            dev: next(envelope.dev),
            nodes: (0..envelope.nodes).filter_map(|_| next(true)).collect(),
        }),
        own_net: envelope.own_net,
        sources: fds,
    }
}

/// A stage that has only to become its program.
struct Ready {
    launch: Launch,
    /// The terminal's end for the parent.
    master: Option<OwnedFd>,
}

/// Does everything up to execve(2); `None` when the parent has gone away.
fn set_up(
    order: &mut Order,
    mut received: Received,
    socket: BorrowedFd<'_>,
) -> Result<Option<Ready>, StageError> {
    let spec = &order.spec;
    let filter = process::read_filter(received.seccomp.take(), spec.linux.seccomp.as_ref())?;
    // while the host's procfs can be trusted to be one
    let early = process::prepare(&spec.process)?;
    let own = spec.process.terminal.then(OwnFds::open).transpose()?;
    let mut user = received.user.take();
    if user.is_some() {
        userns::become_root().map_err(StageError::BecomeRoot)?;
    }
    let netns = match (&received.netns, received.own_net) {
        (Some(netns), _) => Netns::Given(netns),
        (None, true) => Netns::Born,
        (None, false) => Netns::Listed,
    };
    namespaces::enter(&spec.linux.namespaces, &netns)?;
    namespaces::name(spec)?;
    let own_view = is_new(spec, NamespaceKind::Cgroup);
    if !own_view
        && !channel::wait_for(socket, channel::CGROUP_READY).map_err(StageError::Channel)?
    {
        return Ok(None);
    }
    let hierarchies = list_hierarchies(spec, own_view)?;
    let premade = match &mut user {
        Some(user) => premake(spec, user)?,
        None => rootfs::Premade::new(),
    };
    let made = user.as_mut().and_then(|user| user.root.take());
    let root = rootfs::enter(&order.rootfs, order.own_devices, made)
        .map_err(|error| StageError::Enter(Box::new(error)))?;
    // by the image's own files, before a mount covers them
    process::resolve_user(root.as_fd(), &mut order.spec.process.user)?;
    let spec = &order.spec;
    if own_view {
        // the namespace's root is the cgroup that its maker is in
        if !channel::wait_for(socket, channel::CGROUP_READY).map_err(StageError::Channel)? {
            return Ok(None);
        }
        sys::process::unshare(UnshareFlags::NEWCGROUP).map_err(|source| StageError::Namespace {
            kind: NamespaceKind::Cgroup,
            source,
        })?;
    }
    let mounted = rootfs::mount_all(
        root.as_fd(),
        &spec.mounts,
        &mut received.sources,
        &hierarchies,
        premade,
    );
    let mounted = mounted.map_err(|error| StageError::Mount(Box::new(error)))?;
    let dev = devices(spec, root.as_fd(), &mounted, user.as_ref())?;
    let terminal = furnish(spec, root.as_fd(), (&mounted, dev), own.as_ref())?;
    let (master, slave) = terminal.map_or((None, None), |pty| (Some(pty.master), Some(pty.slave)));
    let stdio = match slave {
        Some(slave) => stdio::Source::Terminal(slave),
        None => stdio::Source::Files(received.stdio),
    };
    let launch = process::become_user(&spec.process, &early, filter, stdio)?;
    Ok(Some(Ready { launch, master }))
}

fn is_new(spec: &Spec, kind: NamespaceKind) -> bool {
    let namespaces = &spec.linux.namespaces;
    namespaces
        .iter()
        .any(|namespace| namespace.kind == kind && namespace.path.is_none())
}

/// Lists the v1 hierarchies if a mount wants to show them.
fn list_hierarchies(spec: &Spec, own_view: bool) -> Result<Vec<rootfs::Hierarchy>, StageError> {
    let is_cgroup = |kind: Option<&str>| matches!(kind, Some("cgroup" | "cgroup2"));
    if !spec
        .mounts
        .iter()
        .any(|mount| is_cgroup(mount.kind.as_deref()))
    {
        return Ok(Vec::new());
    }
    let view = if own_view {
        rootfs::View::Namespace
    } else {
        rootfs::View::Host
    };
    rootfs::hierarchies(view).map_err(StageError::Hierarchies)
}

/// Makes the file systems of a user namespace that need the host's mounts, beside those that the parent
/// has made.
fn premake(spec: &Spec, user: &mut Furniture) -> Result<rootfs::Premade, StageError> {
    let premade = rootfs::premake(&spec.mounts);
    let mut premade = premade.map_err(|error| StageError::Mount(Box::new(error)))?;
    let dev = spec.mounts.iter().position(userns::is_dev);
    premade.extend(dev.zip(user.dev.take()));
    Ok(premade)
}

/// Makes the device nodes, or what is left to do where the parent has made them; gives `/dev`, unless it
/// is from outside.
fn devices(
    spec: &Spec,
    root: BorrowedFd<'_>,
    mounted: &rootfs::Mounted,
    user: Option<&Furniture>,
) -> Result<Option<OwnedFd>, StageError> {
    if mounted.foreign_dev {
        return Ok(None);
    }
    let Some(user) = user else {
        let made = rootfs::make_devices(root, &spec.linux.devices);
        return made.map(Some).map_err(StageError::Devices);
    };
    for (device, node) in userns::outside(spec).zip(&user.nodes) {
        rootfs::place_devices(root, device, node.as_fd()).map_err(StageError::Devices)?;
    }
    rootfs::link_devices(root)
        .map(Some)
        .map_err(StageError::Devices)
}

/// Makes and covers everything inside the new root, once its mounts are there.
fn furnish(
    spec: &Spec,
    root: BorrowedFd<'_>,
    (mounted, dev): (&rootfs::Mounted, Option<OwnedFd>),
    own: Option<&OwnFds>,
) -> Result<Option<console::Pty>, StageError> {
    let open = |own| console::open(root, mounted.devpts.as_ref(), own, &spec.process);
    let terminal = own.map(open).transpose()?;
    if let (Some(pty), Some(dev)) = (&terminal, &dev) {
        console::mount(pty, dev.as_fd())?;
    }
    let proc = mounted.proc.as_ref().map(OwnedFd::as_fd);
    rootfs::write_sysctls(proc, &spec.linux.sysctl).map_err(StageError::Sysctl)?;
    process::make_cwd(root, &spec.process.cwd)?;
    seal(spec, root, mounted.readonly_dev.as_ref())?;
    rootfs::protect(root, &spec.linux.masked_paths, &spec.linux.readonly_paths)
        .map_err(StageError::Protect)?;
    Ok(terminal)
}

/// Makes read-only what is to be so, and sets how the root's mounts spread.
fn seal(spec: &Spec, root: BorrowedFd<'_>, dev: Option<&OwnedFd>) -> Result<(), StageError> {
    let readonly = MountChange::setting(rustix::mount::MountAttrFlags::MOUNT_ATTR_RDONLY);
    if let Some(dev) = dev {
        sys::mount::set_attributes(dev.as_fd(), &readonly, Depth::One).map_err(StageError::Seal)?;
    }
    if spec.root.readonly {
        sys::mount::set_attributes(root, &readonly, Depth::One).map_err(StageError::Seal)?;
    }
    let Some(name) = spec.linux.rootfs_propagation.as_deref() else {
        return Ok(());
    };
    let (flags, depth) = rootfs::options::propagation(name)
        .ok_or_else(|| StageError::Propagation(name.to_owned()))?;
    // the mounts made here are private already
    if flags == MountPropagationFlags::PRIVATE {
        return Ok(());
    }
    let change = MountChange::propagating(flags);
    sys::mount::set_attributes(root, &change, depth).map_err(StageError::Seal)
}
