//! Removal of whole trees by directory fds, without following a symbolic link.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, IFlags, Mode, OFlags};
use rustix::io::Errno;

use super::dir_stack::{DirStack, WALK};

/// Removes a file or a whole tree at a path of ours; nothing there is no error.
pub(crate) fn remove_path(path: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Errno::INVAL.into());
    };
    let parent = match super::open_dir(parent) {
        Err(error) if super::is_missing(&error) => return Ok(()),
        other => other?,
    };
    let name = CString::new(std::os::unix::ffi::OsStrExt::as_bytes(name))?;
    remove_at(parent.as_fd(), &name)
}

/// Removes an entry of a directory, with everything below it; nothing there is no error.
pub(crate) fn remove_at(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    match unlink(parent, name) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    let top = open_mutable(parent, name)?;
    let mut stack = DirStack::new(top)?;
    let mut pending = vec![Level::read(&stack, name)?];
    while let Some(level) = pending.last_mut() {
        if let Some(child) = level.dirs.pop() {
            let fd = open_mutable(stack.top()?, &child)?;
            stack.push(fd)?;
            let next = Level::read(&stack, &child)?;
            pending.push(next);
            continue;
        }
        let Some(done) = pending.pop() else { break };
        stack.pop()?;
        let outer = if pending.is_empty() {
            parent
        } else {
            stack.top()?
        };
        remove_dir(outer, &done.name)?;
    }
    Ok(())
}

/// Empties a directory and keeps it.
pub(crate) fn empty_dir(dir: BorrowedFd<'_>) -> io::Result<()> {
    for (name, _) in list(dir)? {
        remove_at(dir, &name)?;
    }
    Ok(())
}

/// The names in a directory, without `.` and `..`.
pub(crate) fn list(dir: BorrowedFd<'_>) -> io::Result<Vec<(CString, FileType)>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            names.push((name.to_owned(), entry.file_type()));
        }
    }
    Ok(names)
}

/// One directory of the walk: its files are gone, its subdirectories wait.
struct Level {
    name: CString,
    dirs: Vec<CString>,
}

impl Level {
    fn read(stack: &DirStack, name: &CStr) -> io::Result<Self> {
        let dir = stack.top()?;
        let mut dirs = Vec::new();
        for (child, kind) in list(dir)? {
            if kind == FileType::Directory {
                dirs.push(child);
                continue;
            }
            match unlink(dir, &child) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(Errno::ISDIR) => dirs.push(child),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Self {
            name: name.to_owned(),
            dirs,
        })
    }
}

/// Unlinks a file, taking away the immutable and append-only marks that would forbid it.
fn unlink(parent: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::PERM) => {
            clear_marks(parent);
            clear_marks_of_file(parent, name);
            rustix::fs::unlinkat(parent, name, AtFlags::empty())
        }
        other => other,
    }
}

fn remove_dir(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::PERM) => {
            clear_marks(parent);
            Ok(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
        }
        Err(error) => Err(error.into()),
    }
}

/// Opens a directory that will be emptied; its marks would forbid that, so they go first.
fn open_mutable(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<std::os::fd::OwnedFd> {
    let fd = rustix::fs::openat(parent, name, WALK, Mode::empty())?;
    clear_marks(fd.as_fd());
    Ok(fd)
}

/// Clears `chattr +i` and `+a` (ioctl_iflags(2)); file systems without such marks do not mind.
fn clear_marks(fd: BorrowedFd<'_>) {
    let marks = IFlags::IMMUTABLE | IFlags::APPEND;
    if let Ok(flags) = rustix::fs::ioctl_getflags(fd)
        && flags.intersects(marks)
        && let Err(error) = rustix::fs::ioctl_setflags(fd, flags - marks)
    {
        tracing::debug!(%error, "marks of a file to be removed stay");
    }
}

fn clear_marks_of_file(parent: BorrowedFd<'_>, name: &CStr) {
    // O_NONBLOCK: a FIFO must not block; devices are not opened at all.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(stat) = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) else {
        return;
    };
    if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
        && let Ok(fd) = rustix::fs::openat(parent, name, flags, Mode::empty())
    {
        clear_marks(fd.as_fd());
    }
}
