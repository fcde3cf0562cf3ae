//! Directories that a layer has only as parents of its entries.
//!
//! overlayfs shows the owner and mode of the topmost layer that has a directory. A layer that
//! holds `tmp/x` without an entry for `tmp` must not turn `tmp` into root's 0755, so these
//! directories take the attributes that the layers below show. Layers unpack without knowing
//! what is below them, so this is done when a layer is put on its parent.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::copy_up::{apply_to_fd, xattrs};

/// Gives the implicit directories of a layer the attributes that `lowers`, topmost first, show.
pub(crate) fn complete(layer: &OwnedFd, paths: &[Vec<u8>], lowers: &[OwnedFd]) -> io::Result<()> {
    for path in paths {
        if let Some(from) = lower_dir(path, lowers)?
            && let Some(to) = open(layer, path)?
        {
            copy(&from, &to)?;
        }
    }
    Ok(())
}

/// The directory that layers, the topmost first, show at a path.
pub(crate) fn lower_dir(path: &[u8], lowers: &[OwnedFd]) -> io::Result<Option<OwnedFd>> {
    for lower in lowers {
        match look(lower, path)? {
            Look::Dir(from) => return Ok(Some(from)),
            Look::Hidden => break,
            Look::Below => {}
        }
    }
    Ok(None)
}

/// What a layer has at a path.
enum Look {
    Dir(OwnedFd),
    /// Something that hides the layers below: a whiteout, a file, a link, an opaque parent.
    Hidden,
    /// Nothing: the layer below decides.
    Below,
}

const RESOLVE: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);

fn name(path: &[u8]) -> &[u8] {
    if path.is_empty() { b"." } else { path }
}

fn open(root: &OwnedFd, path: &[u8]) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::openat2(root, name(path), flags, Mode::empty(), RESOLVE) {
        Ok(dir) => Ok(Some(dir)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn look(lower: &OwnedFd, path: &[u8]) -> io::Result<Look> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::openat2(lower, name(path), flags, Mode::empty(), RESOLVE) {
        Ok(dir) => return Ok(Look::Dir(dir)),
        Err(Errno::NOENT) => {}
        Err(Errno::NOTDIR | Errno::LOOP) => return Ok(Look::Hidden),
        Err(error) => return Err(error.into()),
    }
    // Not there: an opaque parent in this layer hides the same path further down.
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    for (end, _) in slashes {
        let Some(parent) = open(lower, &path[..end])? else {
            break;
        };
        if is_opaque(&parent) {
            return Ok(Look::Hidden);
        }
    }
    Ok(Look::Below)
}

fn is_opaque(dir: &OwnedFd) -> bool {
    let mut value = [0_u8; 1];
    let read = rustix::fs::fgetxattr(dir, c"trusted.overlay.opaque", &mut value[..]);
    read == Ok(1) && value == *b"y"
}

fn copy(from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
    let (from, to) = (from.as_fd(), to.as_fd());
    xattrs::copy_fd(from, to, xattrs::is_content)?;
    apply_to_fd(to, &rustix::fs::fstat(from)?)
}
