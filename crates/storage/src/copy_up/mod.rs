//! The first content of a volume: what the image has at the place where it is mounted.
//!
//! Source and target are walked by directory fds; the source is resolved inside the image, as a
//! chroot would (CVE-2022-23648 read the host's files through an image's `VOLUME` path).

mod tree;
pub(crate) mod xattrs;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::fsutil;
use crate::volume::Volume;
pub(crate) use tree::apply_to_fd;

/// Marks a volume whose copy is not complete, beside its data.
const UNFINISHED: &str = "copying";

/// What became of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyUp {
    /// The volume has the image's content now, and its directory's owner and mode.
    Copied,
    /// The volume has content of its own; it was left alone.
    NotEmpty,
    /// The image has nothing at the path.
    NoSource,
    /// The image has something else than a directory at the path.
    NotADirectory,
}

/// A volume's first content cannot be copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyUpError {
    /// A step on the volume failed.
    #[error("{step} volume {volume:?}")]
    Volume {
        /// What was done.
        step: &'static str,
        /// Name of the volume.
        volume: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The image's directory cannot be opened.
    #[error("open the image's {}", path.display())]
    Source {
        /// The path in the image.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A file cannot be copied.
    #[error("copy the image's {}", path.display())]
    Copy {
        /// The path in the image.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

/// Fills an empty volume with what an image has at a path, and gives its directory the owner,
/// mode and times of the image's, as Docker does.
///
/// A copy that a crash broke off is begun anew.
///
/// # Errors
///
/// The path cannot be opened, or the disk fails; the volume counts as empty then.
pub fn copy_up(
    image: BorrowedFd<'_>,
    path_in_image: &Path,
    volume: &Volume,
) -> Result<CopyUp, CopyUpError> {
    let failed = |step| {
        move |source| CopyUpError::Volume {
            step,
            volume: volume.name().to_owned(),
            source,
        }
    };
    let target = fsutil::open_dir(&volume.data()).map_err(failed("open"))?;
    // Two containers that start at once with the same volume: the second finds it filled.
    let lock = fsutil::open_dir(volume.folder()).map_err(failed("open"))?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive)
        .map_err(|error| failed("lock")(error.into()))?;
    let mark = volume.folder().join(UNFINISHED);
    if mark.exists() {
        fsutil::remove::empty_dir(target.as_fd()).map_err(failed("empty"))?;
    }
    let content = fsutil::remove::list(target.as_fd()).map_err(failed("list"))?;
    if !content.is_empty() {
        return Ok(CopyUp::NotEmpty);
    }
    let source = match open_source(image, path_in_image) {
        Ok(source) => source,
        Err(Errno::NOENT) => return Ok(CopyUp::NoSource),
        Err(Errno::NOTDIR) => return Ok(CopyUp::NotADirectory),
        Err(error) => {
            return Err(CopyUpError::Source {
                path: path_in_image.to_owned(),
                source: error.into(),
            });
        }
    };
    File::create(&mark).map_err(failed("mark"))?;
    tree::copy(source, target).map_err(|(path, source)| CopyUpError::Copy {
        path: path_in_image.join(path),
        source,
    })?;
    std::fs::remove_file(&mark).map_err(failed("unmark"))?;
    Ok(CopyUp::Copied)
}

fn open_source(image: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(image, path, flags, Mode::empty(), resolve)
}
