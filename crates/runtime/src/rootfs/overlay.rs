//! The layers of an image with a writable directory on top, as one overlay.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
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

/// The directories of an overlay.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layers<'a> {
    /// Read-only ones, the topmost first.
    pub(crate) lower: &'a [PathBuf],
    /// The one for writes.
    pub(crate) upper: &'a Path,
    /// The kernel's own.
    pub(crate) work: &'a Path,
    /// Whether layers lie on file systems of their own.
    pub(crate) own_devices: bool,
}

/// Whether what was written is brought to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sync {
    /// When it is asked for, and when the overlay goes.
    AtEnd,
    /// Never.
    Never,
}

/// Where a new root is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Nowhere yet.
    Detached,
    /// Over the current root.
    OverRoot,
}

/// Mounts the overlay; the mount is detached, or attached at `/` where the kernel is old.
pub(crate) fn mount(layers: &Layers<'_>, sync: Sync) -> Result<(OwnedFd, Place), OverlayError> {
    if sync == Sync::Never {
        // Documentation/filesystems/overlayfs.rst, "Volatile mount": left by the last run, and
        // nothing may be mounted until it is taken away
        let mark = layers.work.join("work/incompat/volatile");
        let _none = rustix::fs::unlinkat(CWD, mark.join("dirty"), AtFlags::empty());
        let _none = rustix::fs::unlinkat(CWD, mark, AtFlags::REMOVEDIR);
    }
    let names = Names::choose(layers)?;
    match mount_by_parts(&names, sync, layers.own_devices) {
        Ok(Some(fd)) => Ok((fd, Place::Detached)),
        Ok(None) => mount_legacy(layers, sync),
        Err(source) => {
            // Before 6.5 any parameter is taken, and looked at when the file system is made. The
            // first answer is the one to tell, for only it has the kernel's words.
            let by_text = source.is_invalid().then(|| mount_legacy(layers, sync).ok());
            by_text.flatten().ok_or_else(|| OverlayError::Mount {
                upper: layers.upper.to_owned(),
                source,
            })
        }
    }
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
    fn choose(layers: &Layers<'_>) -> Result<Self, OverlayError> {
        let mut opened = Vec::new();
        let mut name = |path: &Path| match path.to_str() {
            Some(text) if text.len() < LONGEST_VALUE => Ok(text.to_owned()),
            _ => name_by_fd(path, &mut opened),
        };
        let lower = layers.lower.iter().map(|path| name(path));
        Ok(Self {
            lower: lower.collect::<Result<_, _>>()?,
            upper: name(layers.upper)?,
            work: name(layers.work)?,
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

/// Mounts layer by layer; `None` when the kernel says at once that it is older than 6.7, which
/// brought `lowerdir+`.
fn mount_by_parts(
    names: &Names,
    sync: Sync,
    own_devices: bool,
) -> Result<Option<OwnedFd>, FilesystemError> {
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
    // a kernel that has it on by default refuses layers that were used with other ones before
    overlay.set("index", Some("off"))?;
    // what a container changes is read from its upper directory alone (`diff`, `commit`)
    overlay.set("redirect_dir", Some("off"))?;
    overlay.set("metacopy", Some("off"))?;
    if own_devices {
        // else files have other devices than their directories (overlayfs.rst, "Inode properties"),
        // and what stays on one file system, as `tar --one-file-system` does, leaves them out
        overlay.set("xino", Some("on"))?;
    }
    if sync == Sync::Never {
        overlay.set("volatile", None)?;
    }
    overlay.mount(MountAttrFlags::empty()).map(Some)
}

/// Mounts with one text of options over `/`, each directory by descriptor to keep within its page.
fn mount_legacy(layers: &Layers<'_>, sync: Sync) -> Result<(OwnedFd, Place), OverlayError> {
    let fail = |error: io::Error| OverlayError::Legacy {
        upper: layers.upper.to_owned(),
        layers: layers.lower.len(),
        source: error,
    };
    let mut opened = Vec::new();
    let options = legacy_options(layers, sync, &mut opened)?;
    let options = CString::new(options).map_err(|error| fail(io::Error::other(error)))?;
    let kind = c"overlay";
    let flags = MountFlags::empty();
    rustix::mount::mount(kind, c"/", kind, flags, Some(options.as_c_str()))
        .map_err(|error| fail(error.into()))?;
    let fd = open_over_root().map_err(fail)?;
    Ok((fd, Place::OverRoot))
}

fn legacy_options(
    layers: &Layers<'_>,
    sync: Sync,
    opened: &mut Vec<OwnedFd>,
) -> Result<String, OverlayError> {
    let mut lower = String::new();
    for path in layers.lower {
        if !lower.is_empty() {
            lower.push(':');
        }
        lower.push_str(&name_by_fd(path, opened)?);
    }
    let upper = name_by_fd(layers.upper, opened)?;
    let work = name_by_fd(layers.work, opened)?;
    let volatile = match sync {
        Sync::AtEnd => "",
        Sync::Never => ",volatile",
    };
    Ok(format!(
        "index=off,redirect_dir=off,metacopy=off,lowerdir={lower},upperdir={upper},workdir={work}{volatile}"
    ))
}

/// Opens what was mounted over the process's root: `/..` crosses into the topmost mount there.
fn open_over_root() -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(c"/..", flags, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsFd as _;

    use rustix::mount::{MountPropagationFlags, UnmountFlags};
    use rustix::thread::UnshareFlags;

    use super::*;

    /// Mounts as on an old kernel, in a thread with a mount namespace of its own.
    #[test]
    fn one_text_of_many_layers() {
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        let names: Vec<PathBuf> = (0..60)
            .map(|at| dir.path().join(format!("{}:{at},", "l".repeat(200))))
            .collect();
        for (at, name) in names.iter().enumerate() {
            fs::create_dir(name).unwrap();
            fs::write(name.join("same"), at.to_string()).unwrap();
            fs::write(name.join(format!("own{at}")), "").unwrap();
        }
        let (upper, work) = (dir.path().join("upper"), dir.path().join("work"));
        fs::create_dir(&upper).unwrap();
        fs::create_dir(&work).unwrap();
        let thread = std::thread::spawn(move || {
            sys::process::unshare(UnshareFlags::NEWNS).unwrap();
            let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
            rustix::mount::mount_change("/", private).unwrap();
            let layers = Layers {
                lower: &names,
                upper: &upper,
                work: &work,
                own_devices: false,
            };
            for sync in [Sync::AtEnd, Sync::Never] {
                let (root, place) = mount_legacy(&layers, sync).unwrap();
                assert_eq!(place, Place::OverRoot);
                let same = sys::tree::read_bounded(root.as_fd(), Path::new("same"), 9).unwrap();
                assert_eq!(same, b"0");
                let path = OFlags::PATH;
                sys::tree::open(root.as_fd(), Path::new("own59"), path).unwrap();
                drop(root);
                rustix::mount::unmount("/..", UnmountFlags::DETACH).unwrap();
            }
        });
        thread.join().unwrap();
    }
}
