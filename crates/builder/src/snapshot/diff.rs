//! What one snapshot has over another, as a layer.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::error::{Result, SnapshotError};
use super::{LayerFacts, Snapshot, Snapshots};
use crate::ops::transfer::Transfer;

/// Folders in folders; each holds three descriptors while it is compared.
const DEEPEST: usize = 500;

/// What `upper` has over `lower`: its own layers where it stands on that, otherwise a layer that is
/// made by comparing both. It blocks; both must be ready.
///
/// # Errors
///
/// A file that cannot be read.
pub fn diff(snapshots: &Snapshots, lower: &Snapshot, upper: &Snapshot) -> Result<Snapshot> {
    let (below, above) = (lower.layers(), upper.layers());
    let same = |(a, b): (&Arc<_>, &Arc<_>)| Arc::ptr_eq(a, b);
    let stands_on = lower.folder().is_none()
        && upper.folder().is_none()
        && above.len() >= below.len()
        && below.iter().zip(above).all(same);
    if stands_on {
        return Ok(Snapshot::of_layers(above[below.len()..].to_vec()));
    }
    let writable = snapshots.prepare(&Snapshot::scratch())?;
    let place = writable.upper();
    let step = || SnapshotError::io("compare with", &place);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = |fd: OwnedFd| rustix::fs::openat(fd, c".", flags, Mode::empty());
    let compared = Compared {
        below: open(lower.open()?).map_err(SnapshotError::io("open", &place))?,
        above: open(upper.open()?).map_err(SnapshotError::io("open", &place))?,
        out: rustix::fs::open(Path::new(&place), flags, Mode::empty())
            .map_err(SnapshotError::io("open", &place))?,
    };
    let mut transfer = Transfer::new(upper.folder().is_some());
    compare(&compared, &mut transfer, 0).map_err(step())?;
    writable.commit(LayerFacts::new("a difference"))
}

struct Compared {
    below: OwnedFd,
    above: OwnedFd,
    out: OwnedFd,
}

/// Writes into `out` what differs, with a device 0/0 for what is gone (overlayfs.rst, "whiteouts and
/// opaque directories").
fn compare(trees: &Compared, transfer: &mut Transfer, depth: usize) -> io::Result<()> {
    if depth > DEEPEST {
        return Err(Errno::NAMETOOLONG.into());
    }
    let names = |fd: &OwnedFd| -> io::Result<Vec<CString>> {
        let list = storage::trees::list(fd.as_fd())?;
        Ok(list.into_iter().map(|(name, _)| name).collect())
    };
    let above = names(&trees.above)?;
    for name in names(&trees.below)? {
        if !above.contains(&name) {
            let kind = FileType::CharacterDevice;
            rustix::fs::mknodat(&trees.out, &name, kind, Mode::empty(), 0)?;
        }
    }
    for name in &above {
        compare_name(trees, name, transfer, depth)?;
    }
    Ok(())
}

fn look(directory: BorrowedFd<'_>, name: &CStr) -> io::Result<Option<Stat>> {
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

fn compare_name(
    trees: &Compared,
    name: &CStr,
    transfer: &mut Transfer,
    depth: usize,
) -> io::Result<()> {
    let Some(above) = look(trees.above.as_fd(), name)? else {
        return Ok(());
    };
    let below = look(trees.below.as_fd(), name)?;
    match below {
        Some(below) if is_directory(&below) && is_directory(&above) => {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let open = |fd: &OwnedFd| rustix::fs::openat(fd, name, flags, Mode::empty());
            rustix::fs::mkdirat(&trees.out, name, Mode::from_raw_mode(0o700))?;
            let next = Compared {
                below: open(&trees.below)?,
                above: open(&trees.above)?,
                out: open(&trees.out)?,
            };
            compare(&next, transfer, depth + 1)?;
            transfer.directory(next.above.as_fd(), &above, next.out.as_fd())?;
            let empty = storage::trees::list(next.out.as_fd())?.is_empty();
            if empty && is_same(trees, name, &below, &above)? {
                rustix::fs::unlinkat(&trees.out, name, AtFlags::REMOVEDIR)?;
            }
            Ok(())
        }
        Some(below) if is_same(trees, name, &below, &above)? => Ok(()),
        _ => transfer.copy(trees.above.as_fd(), name, &above, trees.out.as_fd()),
    }
}

/// Whether two files are the same as far as their description tells, as BuildKit decides it.
fn is_same(trees: &Compared, name: &CStr, below: &Stat, above: &Stat) -> io::Result<bool> {
    let head = |stat: &Stat| (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_rdev);
    if head(below) != head(above) {
        return Ok(false);
    }
    if is_directory(above) {
        return Ok(true);
    }
    let body = |stat: &Stat| (stat.st_size, stat.st_mtime, stat.st_mtime_nsec);
    if body(below) != body(above) {
        return Ok(false);
    }
    if FileType::from_raw_mode(above.st_mode) == FileType::Symlink {
        let link = |fd: &OwnedFd| rustix::fs::readlinkat(fd, name, Vec::new());
        return Ok(link(&trees.below)? == link(&trees.above)?);
    }
    Ok(true)
}
