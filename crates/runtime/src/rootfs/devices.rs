//! Device nodes and the links beside them in `/dev`.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci::runtime::{Device, IdMapping, Linux};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Uid, chownat, makedev, mknodat, statat, symlinkat,
    unlinkat,
};
use rustix::io::Errno;
use sys::tree::Leaf;

/// What every container has: name, major and minor number of a character device, mode 0666.
const DEFAULT: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// Links that programs expect.
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
];

/// A node or link that cannot be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DevicesError {
    /// The directory.
    #[error("open {path:?} for device nodes")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The kernel's answer; ELOOP where `/dev` is a symbolic link.
        #[source]
        source: io::Error,
    },
    /// A node.
    #[error("make the device node {path:?}")]
    Node {
        /// Its path.
        path: PathBuf,
        /// The kernel's answer; EEXIST when something else stands there.
        #[source]
        source: io::Error,
    },
    /// A kind that is none of a device.
    #[error("device {path:?} has the unknown type {kind:?}")]
    Kind {
        /// Its path.
        path: PathBuf,
        /// The type as given.
        kind: String,
    },
    /// A link.
    #[error("link /dev/{name}")]
    Link {
        /// Its name.
        name: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

/// Makes the default and the ordered nodes, and the links; gives `/dev`.
pub(crate) fn make(root: BorrowedFd<'_>, ordered: &[Device]) -> Result<OwnedFd, DevicesError> {
    let path = Path::new("/dev");
    let dev =
        sys::tree::open_or_make_plain(root, path).map_err(|source| DevicesError::Directory {
            path: path.to_owned(),
            source,
        })?;
    make_default(dev.as_fd())?;
    for device in ordered {
        make_ordered(root, &device.path, device, None)?;
    }
    make_links(dev.as_fd())?;
    Ok(dev)
}

fn make_default(dev: BorrowedFd<'_>) -> Result<(), DevicesError> {
    for (name, major, minor) in DEFAULT {
        let mode = Mode::from(0o666);
        let node = (FileType::CharacterDevice, mode, makedev(major, minor));
        make_node(dev, Path::new(name), node).map_err(|source| DevicesError::Node {
            path: Path::new("/dev").join(name),
            source,
        })?;
    }
    Ok(())
}

/// Makes the default and the ordered nodes of a user namespace in what will be its `/dev`.
pub(crate) fn make_nodes<'a>(
    dev: BorrowedFd<'_>,
    ordered: impl Iterator<Item = &'a Device>,
    linux: &Linux,
) -> Result<(), DevicesError> {
    make_default(dev)?;
    for device in ordered {
        let path = device.path.strip_prefix("/dev").unwrap_or(&device.path);
        make_ordered(dev, path, device, Some(linux))?;
    }
    Ok(())
}

/// Makes one node of a user namespace.
pub(crate) fn make_one(
    directory: BorrowedFd<'_>,
    name: &Path,
    device: &Device,
    linux: &Linux,
) -> Result<(), DevicesError> {
    make_ordered(directory, name, device, Some(linux))
}

/// Makes the links in a `/dev` whose nodes are there, and gives it.
pub(crate) fn link(root: BorrowedFd<'_>) -> Result<OwnedFd, DevicesError> {
    let path = Path::new("/dev");
    let dev =
        sys::tree::open_or_make_plain(root, path).map_err(|source| DevicesError::Directory {
            path: path.to_owned(),
            source,
        })?;
    make_links(dev.as_fd())?;
    Ok(dev)
}

/// Mounts a node, given as a mount of its own, at its device's path.
pub(crate) fn place(
    root: BorrowedFd<'_>,
    device: &Device,
    node: BorrowedFd<'_>,
) -> Result<(), DevicesError> {
    let place = sys::tree::open_or_make(root, &device.path, Leaf::File);
    let placed = place.and_then(|place| super::attach(node, place.as_fd()));
    placed.map_err(|source| DevicesError::Node {
        path: device.path.clone(),
        source,
    })
}

/// Makes a node of the configuration at a path below `root`; with `mapped`, its owners are the
/// container's ids.
fn make_ordered(
    root: BorrowedFd<'_>,
    path: &Path,
    device: &Device,
    mapped: Option<&Linux>,
) -> Result<(), DevicesError> {
    let kind = match device.kind.as_str() {
        "c" | "u" => FileType::CharacterDevice,
        "b" => FileType::BlockDevice,
        "p" => FileType::Fifo,
        _ => {
            return Err(DevicesError::Kind {
                path: device.path.clone(),
                kind: device.kind.clone(),
            });
        }
    };
    let node = (
        kind,
        Mode::from_raw_mode(device.file_mode.unwrap_or(0o666) & 0o7777),
        makedev(device.major, device.minor),
    );
    let fail = |source| DevicesError::Node {
        path: device.path.clone(),
        source,
    };
    let parent = path.parent().unwrap_or(Path::new("/"));
    let name = path.file_name().ok_or_else(|| fail(Errno::INVAL.into()))?;
    let parent = sys::tree::open_or_make(root, parent, Leaf::Directory).map_err(fail)?;
    make_node(parent.as_fd(), Path::new(name), node).map_err(fail)?;
    if device.uid.is_none() && device.gid.is_none() {
        return Ok(());
    }
    let host = |id: u32, mappings: fn(&Linux) -> &[IdMapping]| match mapped {
        None => Ok(id),
        Some(linux) => crate::userns::to_host(mappings(linux), id).ok_or(Errno::OVERFLOW),
    };
    let uid = host(device.uid.unwrap_or(0), |linux| &linux.uid_mappings);
    let gid = host(device.gid.unwrap_or(0), |linux| &linux.gid_mappings);
    let uid = Some(Uid::from_raw(uid.map_err(|error| fail(error.into()))?));
    let gid = Some(Gid::from_raw(gid.map_err(|error| fail(error.into()))?));
    chownat(&parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW).map_err(|e| fail(e.into()))
}

/// Makes a node; the very same one is taken as it is.
fn make_node(
    directory: BorrowedFd<'_>,
    name: &Path,
    (kind, mode, number): (FileType, Mode, u64),
) -> io::Result<()> {
    match mknodat(directory, name, kind, mode, number) {
        Err(Errno::EXIST) => {}
        other => return Ok(other?),
    }
    let found = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let same_number = kind == FileType::Fifo || found.st_rdev == number;
    if FileType::from_raw_mode(found.st_mode) == kind && same_number {
        Ok(())
    } else {
        Err(Errno::EXIST.into())
    }
}

fn make_links(dev: BorrowedFd<'_>) -> Result<(), DevicesError> {
    for (name, target) in LINKS {
        match symlinkat(target, dev, name) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => {
                let source = error.into();
                return Err(DevicesError::Link { name, source });
            }
        }
    }
    // an image's own node would be that of the host's devpts
    let name = "ptmx";
    let link = || {
        match unlinkat(dev, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error),
        }
        symlinkat("pts/ptmx", dev, name)
    };
    link().map_err(|error: Errno| DevicesError::Link {
        name,
        source: error.into(),
    })
}

/// Opens a name of `/dev` for mounting a terminal on it; made as an empty file when missing.
pub(crate) fn open_or_make_console(dev: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let look = OFlags::PATH | OFlags::NOFOLLOW;
    let path = Path::new("console");
    match sys::tree::open_beneath(dev, path, look) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => return other,
    }
    let make = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    drop(rustix::fs::openat(dev, "console", make, Mode::from(0o600))?);
    sys::tree::open_beneath(dev, path, look)
}
