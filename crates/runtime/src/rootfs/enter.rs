//! Mounting the container's root and making it the root of the namespace.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountPropagationFlags, UnmountFlags};
use sys::mount::{Depth, MountChange};

use super::overlay::{self, OverlayError, Place, Sync};
use crate::order::Rootfs;

/// A root that cannot be entered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnterError {
    /// The layers.
    #[error("put the root file system together")]
    Overlay(#[source] OverlayError),
    /// The directory that is the root.
    #[error("open the root file system {path:?}")]
    Open {
        /// The directory.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Putting it in place.
    #[error("{step} the root file system")]
    Enter {
        /// `attach`, `change to`, `pivot to`, `detach the old root from`, `open`.
        step: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

/// Mounts the root, makes it `/`, and takes the host's mounts away; gives the new root.
///
/// Only the calling process is to be in this mount namespace. `made` is a root that is mounted already.
pub(crate) fn enter(
    rootfs: &Rootfs,
    own_devices: bool,
    made: Option<OwnedFd>,
) -> Result<OwnedFd, EnterError> {
    let fail = |step| move |source: io::Error| EnterError::Enter { step, source };
    let (root, place) = match made {
        Some(root) => (root, Place::Detached),
        None => mount_root(rootfs, own_devices)?,
    };
    // any directory would do as its place for a moment, and `/` is the one that surely exists
    if place == Place::Detached {
        let over = open_directory(c"/").map_err(fail("find a place for"))?;
        super::attach(root.as_fd(), over.as_fd()).map_err(fail("attach"))?;
    }
    rustix::process::fchdir(&root).map_err(|e| fail("change to")(e.into()))?;
    // pivot_root(2), "pivot_root(".", ".")": the old root comes to lie over the new one
    rustix::process::pivot_root(c".", c".").map_err(|e| fail("pivot to")(e.into()))?;
    rustix::mount::unmount(c".", UnmountFlags::DETACH)
        .map_err(|e| fail("detach the old root from")(e.into()))?;
    rustix::process::chdir(c"/").map_err(|e| fail("change to")(e.into()))?;
    open_directory(c"/").map_err(fail("open"))
}

fn mount_root(rootfs: &Rootfs, own_devices: bool) -> Result<(OwnedFd, Place), EnterError> {
    match rootfs {
        Rootfs::Overlay { lower, upper, work } => {
            let layers = overlay::Layers {
                lower,
                upper,
                work,
                own_devices,
            };
            overlay::mount(&layers, Sync::AtEnd).map_err(EnterError::Overlay)
        }
        Rootfs::VolatileOverlay { lower, upper, work } => {
            let layers = overlay::Layers {
                lower,
                upper,
                work,
                own_devices,
            };
            overlay::mount(&layers, Sync::Never).map_err(EnterError::Overlay)
        }
        Rootfs::Path(path) => {
            let root = copy_directory(path).map_err(|source| EnterError::Open {
                path: path.clone(),
                source,
            })?;
            Ok((root, Place::Detached))
        }
    }
}

/// Makes a detached, private mount of a directory and all that is mounted below it.
fn copy_directory(path: &std::path::Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(path, flags, Mode::empty())?;
    let copy = super::copy_tree(directory.as_fd(), Depth::Tree)?;
    let private = MountChange::propagating(MountPropagationFlags::PRIVATE);
    sys::mount::set_attributes(copy.as_fd(), &private, Depth::Tree)?;
    Ok(copy)
}

fn open_directory(path: &std::ffi::CStr) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}
