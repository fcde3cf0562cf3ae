//! Removal of whole trees by directory fds, without following a symbolic link.

use std::collections::VecDeque;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

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

/// Threads that delete one tree; more wait for the file system's journal only.
const THREADS_MAX: usize = 4;
/// Trees with fewer folders than this are not worth a second thread.
const WORTH: usize = 16;

/// Removes a whole tree as [`remove_path`] does, with several threads where it is large.
pub(crate) fn remove_quickly(path: &Path) -> io::Result<()> {
    let mut parts = VecDeque::new();
    // what is changed meanwhile is none of ours; the last pass names what cannot be removed
    if let Ok(top) = super::open_dir(path) {
        let top = Arc::new(top);
        drop(split(&top, &mut parts, SPLIT));
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = threads.min(THREADS_MAX);
    if parts.len() >= WORTH && threads > 1 {
        let parts = Mutex::new(parts);
        let next = || {
            let mut parts = parts.lock().unwrap_or_else(PoisonError::into_inner);
            parts.pop_front()
        };
        std::thread::scope(|scope| {
            for _ in 0..threads {
                let work = || {
                    while let Some((parent, name)) = next() {
                        drop(remove_at(parent.as_fd(), &name));
                    }
                };
                let thread = std::thread::Builder::new().name("remove".into());
                // without this thread the others, or the last pass, do its part
                drop(thread.spawn_scoped(scope, work));
            }
        });
    }
    remove_path(path)
}

/// How deep a tree is cut into parts that are removed apart from each other.
const SPLIT: usize = 4;
/// So many folders are enough to keep all threads at work.
const PARTS_MAX: usize = 512;

/// Lists the folders down to a depth, the deepest first; the folders above them stay open.
fn split(
    dir: &Arc<OwnedFd>,
    parts: &mut VecDeque<(Arc<OwnedFd>, CString)>,
    depth: usize,
) -> io::Result<()> {
    for (name, kind) in list(dir.as_fd())? {
        if kind != FileType::Directory || parts.len() >= PARTS_MAX {
            continue;
        }
        if depth > 1 {
            let below = Arc::new(rustix::fs::openat(dir, &name, WALK, Mode::empty())?);
            split(&below, parts, depth - 1)?;
        }
        parts.push_back((Arc::clone(dir), name));
    }
    Ok(())
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
