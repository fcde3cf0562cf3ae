//! The layers of an image with a writable directory on top, as one overlay.

use std::fmt::Write as _;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, MountFlags};

use super::filesystem::{Filesystem, FilesystemError};

/// Longest text that fsconfig(2) takes, its NUL included.
const LONGEST_VALUE: usize = 256;

/// Directories that cannot be put together.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OverlayError {
    /// The overlay itself.
    #[error("mount the overlay on {upper:?}")]
    Mount {
        /// The writable directory.
        upper: PathBuf,
        /// The step.
        #[source]
        source: FilesystemError,
    },
    /// The overlay on a kernel that takes all layers as one text.
    #[error("mount the overlay of {layers} layers on {upper:?}")]
    Legacy {
        /// The writable directory.
        upper: PathBuf,
        /// Number of layers.
        layers: usize,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A directory.
    #[error("open {path:?} for the overlay")]
    Open {
        /// The directory.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

/// Mounts the overlay; the mount is detached, or attached at `/` where the kernel is old.
pub(crate) fn mount(
    lower: &[PathBuf],
    upper: &Path,
    work: &Path,
) -> Result<(OwnedFd, Place), OverlayError> {
    let names = Names::choose(lower, upper, work)?;
    match mount_by_parts(&names) {
        Ok(Some(fd)) => Ok((fd, Place::Detached)),
        Ok(None) => mount_legacy(lower, upper, work),
        Err(source) => Err(OverlayError::Mount {
            upper: upper.to_owned(),
            source,
        }),
    }
}

/// Where a new root is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Nowhere yet.
    Detached,
    /// Over the current root.
    OverRoot,
}

/// The directories as texts that fsconfig(2) takes: short ones as they are, others by descriptor.
struct Names {
    lower: Vec<String>,
    upper: String,
    work: String,
    /// Keeps the descriptors that the texts name.
    _opened: Vec<OwnedFd>,
}

impl Names {
    fn choose(lower: &[PathBuf], upper: &Path, work: &Path) -> Result<Self, OverlayError> {
        let mut opened = Vec::new();
        let mut name = |path: &Path| match path.to_str() {
            Some(text) if text.len() < LONGEST_VALUE => Ok(text.to_owned()),
            _ => name_by_fd(path, &mut opened),
        };
        Ok(Self {
            lower: lower
                .iter()
                .map(|path| name(path))
                .collect::<Result<_, _>>()?,
            upper: name(upper)?,
            work: name(work)?,
            _opened: opened,
        })
    }
}

fn name_by_fd(path: &Path, opened: &mut Vec<OwnedFd>) -> Result<String, OverlayError> {
    let fd = open_directory(path)?;
    let name = format!("/proc/self/fd/{}", fd.as_raw_fd());
    opened.push(fd);
    Ok(name)
}

fn open_directory(path: &Path) -> Result<OwnedFd, OverlayError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|error| OverlayError::Open {
        path: path.to_owned(),
        source: error.into(),
    })
}

/// Mounts layer by layer; `None` when the kernel is older than 6.7, which brought `lowerdir+`.
fn mount_by_parts(names: &Names) -> Result<Option<OwnedFd>, FilesystemError> {
    let overlay = Filesystem::open("overlay")?;
    for (at, lower) in names.lower.iter().enumerate() {
        match overlay.try_set("lowerdir+", Some(lower)) {
            Err(Errno::INVAL) if at == 0 => return Ok(None),
            Err(_) => overlay.set("lowerdir+", Some(lower))?,
            Ok(()) => {}
        }
    }
    overlay.set("upperdir", Some(&names.upper))?;
    overlay.set("workdir", Some(&names.work))?;
    overlay.mount(MountAttrFlags::empty()).map(Some)
}

/// Mounts with one text of options over `/`, each directory by descriptor to keep within its page.
fn mount_legacy(
    lower: &[PathBuf],
    upper: &Path,
    work: &Path,
) -> Result<(OwnedFd, Place), OverlayError> {
    let mut opened = Vec::new();
    let mut options = String::new();
    for (at, path) in lower.iter().enumerate() {
        let name = name_by_fd(path, &mut opened)?;
        let before = if at == 0 { "lowerdir=" } else { ":" };
        // writing to a String cannot fail
        let _done = write!(options, "{before}{name}");
    }
    let upper_name = name_by_fd(upper, &mut opened)?;
    let work_name = name_by_fd(work, &mut opened)?;
    let _done = write!(options, ",upperdir={upper_name},workdir={work_name}");
    let fail = |error: io::Error| OverlayError::Legacy {
        upper: upper.to_owned(),
        layers: lower.len(),
        source: error,
    };
    let options = std::ffi::CString::new(options).map_err(|error| fail(io::Error::other(error)))?;
    let flags = MountFlags::empty();
    rustix::mount::mount(
        c"overlay",
        c"/",
        c"overlay",
        flags,
        Some(options.as_c_str()),
    )
    .map_err(|error| fail(error.into()))?;
    let fd = open_over_root(CWD).map_err(fail)?;
    Ok((fd, Place::OverRoot))
}

/// Opens what was mounted over the process's root: `/..` crosses into the topmost mount there.
fn open_over_root(cwd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(cwd.as_fd(), c"/..", flags, Mode::empty())?;
    Ok(fd)
}
