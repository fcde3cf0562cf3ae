//! A stack of open directories for walks of trees of any depth.
//!
//! A hostile tree can be deeper than the process may have files open, and longer than `PATH_MAX`,
//! so only the innermost directories stay open; an outer one is opened again through its child's
//! `..`, and its identity is checked, because a running container can move directories meanwhile.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};

/// How many directories stay open at once.
const OPEN_AT_MOST: usize = 48;

/// The flags of every directory that a walk opens: never through a symbolic link.
pub(crate) const WALK: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

#[derive(Debug)]
struct Frame {
    fd: Option<OwnedFd>,
    identity: (u64, u64),
}

/// The directories from the start of a walk to where it is now.
#[derive(Debug)]
pub(crate) struct DirStack {
    frames: Vec<Frame>,
}

impl DirStack {
    /// Starts a walk in a directory.
    pub(crate) fn new(start: OwnedFd) -> io::Result<Self> {
        let mut stack = Self { frames: Vec::new() };
        stack.push(start)?;
        Ok(stack)
    }

    /// Steps into a directory.
    pub(crate) fn push(&mut self, fd: OwnedFd) -> io::Result<()> {
        let identity = identity(fd.as_fd())?;
        self.frames.push(Frame {
            fd: Some(fd),
            identity,
        });
        if let Some(outer) = self.frames.len().checked_sub(OPEN_AT_MOST + 1) {
            self.frames[outer].fd = None;
        }
        Ok(())
    }

    /// Opens a subdirectory of where the walk is, and steps into it.
    pub(crate) fn enter(&mut self, name: &std::ffi::CStr) -> io::Result<()> {
        let child = rustix::fs::openat(self.top()?, name, WALK, Mode::empty())?;
        self.push(child)
    }

    /// Steps out; an error says that the outer directory is no longer the child's parent.
    pub(crate) fn pop(&mut self) -> io::Result<()> {
        let child = self.frames.pop();
        let Some(outer) = self.frames.last_mut() else {
            return Ok(());
        };
        if outer.fd.is_some() {
            return Ok(());
        }
        let Some(child) = child.and_then(|frame| frame.fd) else {
            return Err(moved());
        };
        let parent = rustix::fs::openat(&child, c"..", WALK, Mode::empty())?;
        if identity(parent.as_fd())? != outer.identity {
            return Err(moved());
        }
        outer.fd = Some(parent);
        Ok(())
    }

    /// Where the walk is.
    pub(crate) fn top(&self) -> io::Result<BorrowedFd<'_>> {
        let fd = self.frames.last().and_then(|frame| frame.fd.as_ref());
        fd.map(OwnedFd::as_fd).ok_or_else(moved)
    }

    /// How deep the walk is; 1 at its start.
    pub(crate) fn depth(&self) -> usize {
        self.frames.len()
    }
}

fn identity(fd: BorrowedFd<'_>) -> io::Result<(u64, u64)> {
    let stat = rustix::fs::fstat(fd)?;
    Ok((stat.st_dev, stat.st_ino))
}

fn moved() -> io::Error {
    io::Error::other("a directory was moved while it was read")
}
