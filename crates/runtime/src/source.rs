//! The sources of bind mounts: detached copies of mounts, made by the parent of the init stage.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use oci::runtime::{Mount, Spec};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::process::{chroot, fchdir};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use sys::mount::Depth;

use crate::prepare::CreateError;
use crate::rootfs;
use crate::userns::{self, UserNamespace};

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Copies the sources of all bind mounts, from the caller's mounts: those of the stage were copied
/// when it was prepared, and the host may have mounted more since.
///
/// The caller must have one thread only.
pub(crate) fn open_all(
    spec: &Spec,
    user: Option<&UserNamespace>,
) -> Result<Vec<OwnedFd>, CreateError> {
    let mut sources = Vec::new();
    for mount in &spec.mounts {
        let options = rootfs::options::parse(&mount.options);
        if !rootfs::is_bind(mount, &options) {
            continue;
        }
        let depth = options.bind.unwrap_or(Depth::One);
        let copy = match options.root_of() {
            Some(pid) => foreign(mount, pid, depth)?,
            None => own(mount, depth)?,
        };
        if let (Some(user), Some(depth)) = (user, options.idmap) {
            userns::idmap(copy.as_fd(), user, path_of(mount), depth).map_err(CreateError::User)?;
        }
        sources.push(copy);
    }
    Ok(sources)
}

fn path_of(mount: &Mount) -> &Path {
    mount.source.as_deref().unwrap_or(Path::new(""))
}

fn own(mount: &Mount, depth: Depth) -> Result<OwnedFd, CreateError> {
    let path = path_of(mount);
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if depth == Depth::Tree {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(CWD, path, flags).map_err(|error| CreateError::Source {
        path: path.to_owned(),
        destination: mount.destination.clone(),
        source: error.into(),
    })
}

/// Copies a mount of another process.
///
/// `/proc/PID/root/PATH` would not do: open_tree(2) copies only mounts of the caller's own mount
/// namespace, and links of that root would lead through the caller's.
fn foreign(mount: &Mount, pid: &str, depth: Depth) -> Result<OwnedFd, CreateError> {
    let fail = |source| CreateError::Foreign {
        pid: pid.to_owned(),
        path: path_of(mount).to_owned(),
        destination: mount.destination.clone(),
        source,
    };
    let found = Donor::open(pid).and_then(|donor| {
        let found = sys::tree::open(donor.root.as_fd(), path_of(mount), OFlags::PATH)?;
        Ok((donor, found, Place::current()?))
    });
    let (donor, found, here) = found.map_err(fail)?;
    enter(donor.mounts.as_fd()).map_err(fail)?;
    let copy = rootfs::copy_tree(found.as_fd(), depth);
    here.come_back().map_err(CreateError::Return)?;
    copy.map_err(fail)
}

/// Another process's view of the files.
struct Donor {
    root: OwnedFd,
    mounts: OwnedFd,
}

impl Donor {
    /// Opens both by one directory of procfs, which never becomes that of another process.
    fn open(pid: &str) -> io::Result<Self> {
        if pid.is_empty() || !pid.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Errno::INVAL.into());
        }
        let process = openat(CWD, format!("/proc/{pid}"), DIRECTORY, Mode::empty())?;
        Ok(Self {
            root: openat(&process, c"root", DIRECTORY, Mode::empty())?,
            mounts: open_namespace(process.as_fd(), c"ns/mnt")?,
        })
    }
}

fn open_namespace(directory: BorrowedFd<'_>, path: &std::ffi::CStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    Ok(openat(directory, path, flags, Mode::empty())?)
}

fn enter(mounts: BorrowedFd<'_>) -> io::Result<()> {
    Ok(move_into_link_name_space(
        mounts,
        Some(LinkNameSpaceType::Mount),
    )?)
}

/// The caller's mount namespace, root and working directory, all of which setns(2) replaces.
pub(crate) struct Place {
    mounts: OwnedFd,
    root: OwnedFd,
    directory: OwnedFd,
}

impl Place {
    pub(crate) fn current() -> io::Result<Self> {
        Ok(Self {
            mounts: open_namespace(CWD, c"/proc/self/ns/mnt")?,
            root: openat(CWD, c"/", DIRECTORY, Mode::empty())?,
            directory: openat(CWD, c".", DIRECTORY, Mode::empty())?,
        })
    }

    pub(crate) fn come_back(&self) -> io::Result<()> {
        enter(self.mounts.as_fd())?;
        // the namespace's root need not be the caller's, which may live in a chroot(2)
        fchdir(&self.root)?;
        chroot(c".")?;
        Ok(fchdir(&self.directory)?)
    }
}
