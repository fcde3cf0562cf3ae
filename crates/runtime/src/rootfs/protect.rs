//! Paths that a container must not read or write.
//!
//! Each path is resolved once inside the root and covered by descriptor; what covers a masked file is
//! checked to be the null device, because an image or a racing neighbour may put a link in its place
//! (CVE-2025-31133).

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use sys::mount::{Depth, MountChange};

use super::filesystem::{Filesystem, FilesystemError};

/// A path that stays open to the container.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProtectError {
    /// A masked path.
    #[error("mask {path:?}")]
    Mask {
        /// The path.
        path: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A read-only path.
    #[error("make {path:?} read-only")]
    Readonly {
        /// The path.
        path: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The empty directory that covers others.
    #[error("make the empty directory for masks")]
    Empty(#[source] FilesystemError),
    /// The null device that covers files.
    #[error("/dev/null of the container is not the null device")]
    Null,
}

/// Makes `readonly` paths read-only, and covers the `masked` ones; those that are not there are skipped.
pub(crate) fn protect(
    root: BorrowedFd<'_>,
    masked: &[String],
    readonly: &[String],
) -> Result<(), ProtectError> {
    for path in readonly {
        make_readonly(root, path).map_err(|source| ProtectError::Readonly {
            path: path.clone(),
            source,
        })?;
    }
    let mut covers = Covers::default();
    for path in masked {
        let fail = |source| ProtectError::Mask {
            path: path.clone(),
            source,
        };
        if let Some(place) = open(root, path).map_err(fail)? {
            let cover = covers.choose(root, place.as_fd(), path)?;
            super::attach(cover.as_fd(), place.as_fd()).map_err(fail)?;
        }
    }
    Ok(())
}

fn make_readonly(root: BorrowedFd<'_>, path: &str) -> io::Result<()> {
    let Some(place) = open(root, path)? else {
        return Ok(());
    };
    let copy = super::copy_tree(place.as_fd(), Depth::Tree)?;
    let readonly = MountChange::setting(MountAttrFlags::MOUNT_ATTR_RDONLY);
    sys::mount::set_attributes(copy.as_fd(), &readonly, Depth::Tree)?;
    super::attach(copy.as_fd(), place.as_fd())
}

/// Opens a path of the container, if it is there.
fn open(root: BorrowedFd<'_>, path: &str) -> io::Result<Option<OwnedFd>> {
    match sys::tree::open(root, Path::new(path), OFlags::PATH) {
        Ok(fd) => Ok(Some(fd)),
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            _ => Err(error),
        },
    }
}

/// What masked paths are covered with.
#[derive(Default)]
struct Covers {
    /// The container's null device.
    null: Option<OwnedFd>,
    /// An empty read-only file system, attached where it was first needed.
    empty: Option<OwnedFd>,
}

impl Covers {
    /// A detached mount to cover `place` with.
    fn choose(
        &mut self,
        root: BorrowedFd<'_>,
        place: BorrowedFd<'_>,
        path: &str,
    ) -> Result<OwnedFd, ProtectError> {
        let fail = |source| ProtectError::Mask {
            path: path.to_owned(),
            source,
        };
        let (kind, _, _) = sys::tree::device_of(place).map_err(fail)?;
        if kind == FileType::Directory {
            return self.cover_directory(path);
        }
        let null = match self.null.take() {
            Some(null) => self.null.insert(null),
            None => self.null.insert(open_null(root)?),
        };
        super::copy_tree(null.as_fd(), Depth::One).map_err(fail)
    }

    /// The first directory gets the file system itself, further ones get copies of its mount: a mount
    /// that is nowhere cannot be copied before Linux 6.15.
    fn cover_directory(&mut self, path: &str) -> Result<OwnedFd, ProtectError> {
        let fail = |source| ProtectError::Mask {
            path: path.to_owned(),
            source,
        };
        if let Some(empty) = &self.empty {
            return super::copy_tree(empty.as_fd(), Depth::One).map_err(fail);
        }
        let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
            | MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let make = || Filesystem::open("tmpfs")?.mount(attributes);
        let made = make().map_err(ProtectError::Empty)?;
        let kept = made.try_clone().map_err(fail)?;
        self.empty = Some(kept);
        Ok(made)
    }
}

/// Opens the container's null device, and nothing else that may stand at its path.
fn open_null(root: BorrowedFd<'_>) -> Result<OwnedFd, ProtectError> {
    let path = Path::new("dev/null");
    let null = sys::tree::open_beneath(root, path, OFlags::PATH | OFlags::NOFOLLOW);
    let null = null.map_err(|_| ProtectError::Null)?;
    match sys::tree::device_of(null.as_fd()) {
        Ok((FileType::CharacterDevice, 1, 3)) => Ok(null),
        _ => Err(ProtectError::Null),
    }
}
