//! The root file system of a user namespace: an overlay of mounts that show their files with the
//! container's owners.
//!
//! The writable directory is shown in this way too, so what the container writes has the owners on the
//! disk that it has inside, as without a user namespace. For that the overlay's own files, such as
//! copies on their way up, must be made by somebody whom the mapping knows: the container's root.

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use sys::mount::Depth;

use super::{UserNamespace, UsernsError};
use crate::order::{Order, Rootfs};
use crate::rootfs::{self, Layers, RootPlace, Sync};

/// Makes the root of an order, detached. A directory that is one as it stands keeps its owners, whoever
/// they are in the container.
///
/// The mount namespace is one that nobody else uses and that goes soon.
pub(super) fn make(namespace: &UserNamespace, order: &Order) -> Result<OwnedFd, UsernsError> {
    let (lower, upper, work, sync) = match &order.rootfs {
        Rootfs::Overlay { lower, upper, work } => (lower, upper, work, Sync::AtEnd),
        Rootfs::VolatileOverlay { lower, upper, work } => (lower, upper, work, Sync::Never),
        // here, because the container's root may not get through the folders above it
        Rootfs::Path(path) => return copy(open_directory(path)?.as_fd(), path, Depth::Tree),
    };
    let mut shown = Shown::new(namespace)?;
    let lower = lower.iter().map(|layer| shown.show(layer));
    let lower = lower.collect::<Result<Vec<_>, _>>()?;
    let (upper, work) = beside(&mut shown, upper, work)?;
    let layers = Layers {
        lower: &lower,
        upper: &upper,
        work: &work,
        own_devices: order.own_devices,
    };
    let mounted = namespace.as_owner(|| rootfs::mount_overlay(&layers, sync))?;
    let (root, place) = mounted.map_err(|error| UsernsError::Overlay(Box::new(error)))?;
    if place == RootPlace::Detached {
        return Ok(root);
    }
    copy(root.as_fd(), &upper, Depth::One)
}

/// Shows upper and work directory by one mount: overlayfs wants them on the same.
fn beside(
    shown: &mut Shown<'_>,
    upper: &Path,
    work: &Path,
) -> Result<(PathBuf, PathBuf), UsernsError> {
    let parts = || Some((upper.parent()?, upper.file_name()?, work.file_name()?));
    match parts() {
        Some((folder, upper, name)) if work.parent() == Some(folder) => {
            let folder = shown.show(folder)?;
            Ok((folder.join(upper), folder.join(name)))
        }
        _ => Err(UsernsError::Apartness {
            upper: upper.to_owned(),
            work: work.to_owned(),
        }),
    }
}

/// Mounts with the container's owners. Before Linux 6.15 overlayfs takes only what is attached, so
/// they are, one over the other at `/`, and are found by descriptor.
struct Shown<'a> {
    namespace: &'a UserNamespace,
    over: OwnedFd,
    mounts: Vec<OwnedFd>,
}

impl<'a> Shown<'a> {
    fn new(namespace: &'a UserNamespace) -> Result<Self, UsernsError> {
        let over = open_directory(Path::new("/"))?;
        Ok(Self {
            namespace,
            over,
            mounts: Vec::new(),
        })
    }

    /// Shows a directory; gives a path to it.
    fn show(&mut self, path: &Path) -> Result<PathBuf, UsernsError> {
        let directory = open_directory(path)?;
        let mount = copy(directory.as_fd(), path, Depth::One)?;
        super::idmap(mount.as_fd(), self.namespace, path, Depth::One)?;
        rootfs::attach(mount.as_fd(), self.over.as_fd()).map_err(|source| UsernsError::Attach {
            path: path.to_owned(),
            source,
        })?;
        let name = format!("/proc/self/fd/{}", mount.as_raw_fd());
        self.mounts.push(mount);
        Ok(name.into())
    }
}

fn copy(directory: BorrowedFd<'_>, path: &Path, depth: Depth) -> Result<OwnedFd, UsernsError> {
    rootfs::copy_tree(directory, depth).map_err(|source| UsernsError::Copy {
        path: path.to_owned(),
        source,
    })
}

fn open_directory(path: &Path) -> Result<OwnedFd, UsernsError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|error| UsernsError::Copy {
        path: path.to_owned(),
        source: error.into(),
    })
}
