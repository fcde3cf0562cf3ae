//! The directories that an archive's entries go to, by fd.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::find;
use crate::unpack::path;

/// Directories that stay open. Archives list a directory's entries together, so few are enough.
const OPEN_AT_MOST: usize = 128;

/// The directory that an archive is extracted to, and those in it that are in use.
pub(super) struct Places {
    start: Rc<OwnedFd>,
    open: HashMap<Vec<u8>, Rc<OwnedFd>>,
}

impl Places {
    pub(super) fn new(start: OwnedFd) -> Self {
        Self {
            start: Rc::new(start),
            open: HashMap::new(),
        }
    }

    /// Opens a directory that must be there already. Links are followed as if the start were the
    /// root, so that no link of the archive leads out of it (CVE-2026-17106).
    pub(super) fn existing(&mut self, dir: &[u8]) -> io::Result<Rc<OwnedFd>> {
        if dir.is_empty() {
            return Ok(Rc::clone(&self.start));
        }
        if let Some(fd) = self.open.get(dir) {
            return Ok(Rc::clone(fd));
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = Rc::new(find::open(self.start.as_fd(), dir, flags)?);
        if self.open.len() >= OPEN_AT_MOST {
            self.open.clear();
        }
        self.open.insert(dir.to_vec(), Rc::clone(&fd));
        Ok(fd)
    }

    /// Opens the directory of an entry; what is missing of it is made, and given to `own`.
    pub(super) fn parent(
        &mut self,
        dir: &[u8],
        own: impl Fn(BorrowedFd<'_>) -> io::Result<()>,
    ) -> io::Result<Rc<OwnedFd>> {
        match self.existing(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        let ends = dir.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        let ends: Vec<usize> = ends.map(|(at, _)| at).chain([dir.len()]).collect();
        for end in ends {
            let Some((above, name)) = path::split(&dir[..end]) else {
                continue;
            };
            let above = self.existing(above)?;
            let name = path::c_name(name);
            match rustix::fs::mkdirat(&above, &name, Mode::from(0o755)) {
                Ok(()) => {
                    let made = open_dir(above.as_fd(), &name)?;
                    rustix::fs::fchmod(&made, Mode::from(0o755))?;
                    own(made.as_fd())?;
                }
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.existing(dir)
    }

    /// Forgets what is open, because something was replaced that may have led there.
    pub(super) fn forget(&mut self) {
        self.open.clear();
    }

    /// Opens a directory of an entry for its attributes; one that is a link by now is none.
    pub(super) fn reopen(&self, dir: &[u8]) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        find::open(self.start.as_fd(), dir, flags)
    }
}

/// Opens a directory by its own name.
pub(super) fn open_dir(parent: BorrowedFd<'_>, name: &std::ffi::CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}
