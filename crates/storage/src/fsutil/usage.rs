//! How much disk a tree takes, as `du` counts.

use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, Dir, FileType, Statx, StatxFlags};
use rustix::io::Errno;

use super::dir_stack::DirStack;

/// How many files with several links are remembered by name; a hostile tree can hold any number of
/// them, so beyond this each link is counted as its part of the file.
const LINKED_AT_MOST: usize = 1 << 20;

/// What a tree takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes allocated on the disk, directories included, a file with several links once.
    pub allocated: u64,
    /// The part of `allocated` that is not for directories.
    pub files: u64,
    /// Sum of the regular files' lengths, a file with several links once.
    pub apparent: u64,
    /// Number of inodes.
    pub inodes: u64,
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.allocated += other.allocated;
        self.files += other.files;
        self.apparent += other.apparent;
        self.inodes += other.inodes;
    }
}

/// Ends a measurement before its time: whoever waited for it has gone.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Ends the measurements that were given this or a clone of it.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn check(&self) -> io::Result<()> {
        if self.0.load(Ordering::Relaxed) {
            return Err(io::Error::other(
                "nobody waits for the measurement any more",
            ));
        }
        Ok(())
    }
}

/// Measures trees of one file system, each inode once.
#[derive(Debug)]
pub(crate) struct Measurer {
    cancel: Cancel,
    seen: HashSet<(u64, u64)>,
}

/// An inode as it counts.
struct Entry {
    stat: Statx,
    kind: FileType,
}

impl Entry {
    fn of(dir: BorrowedFd<'_>, name: &CStr) -> Result<Self, Errno> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::EMPTY_PATH;
        let wanted = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
        let stat = rustix::fs::statx(dir, name, flags, wanted)?;
        let kind = FileType::from_raw_mode(stat.stx_mode.into());
        Ok(Self { stat, kind })
    }

    /// Which mount it is in; before Linux 5.8 only its device is known.
    fn mount(&self) -> (u32, u32, u64) {
        let knows = self.stat.stx_mask & StatxFlags::MNT_ID.bits() != 0;
        let id = if knows { self.stat.stx_mnt_id } else { 0 };
        (self.stat.stx_dev_major, self.stat.stx_dev_minor, id)
    }

    fn device(&self) -> u64 {
        u64::from(self.stat.stx_dev_major) << 32 | u64::from(self.stat.stx_dev_minor)
    }
}

impl Measurer {
    pub(crate) fn new(cancel: Cancel) -> Self {
        Self {
            cancel,
            seen: HashSet::new(),
        }
    }

    /// Measures the tree below an open directory, the directory included; what is mounted in it is
    /// not of the same disk and stays out.
    ///
    /// A tree that changes meanwhile is measured as far as it can be followed.
    pub(crate) fn tree(&mut self, top: OwnedFd) -> io::Result<Usage> {
        let mut usage = Usage::default();
        let first = Entry::of(top.as_fd(), c"")?;
        let mount = first.mount();
        self.add(&first, &mut usage);
        let mut stack = DirStack::new(top)?;
        let mut pending = vec![self.scan(&stack, mount, &mut usage)?];
        while let Some(dirs) = pending.last_mut() {
            let Some(child) = dirs.pop() else {
                pending.pop();
                stack.pop()?;
                continue;
            };
            match stack.enter(&child) {
                Ok(()) => pending.push(self.scan(&stack, mount, &mut usage)?),
                Err(error) if super::is_missing(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(usage)
    }

    /// Measures one entry of a directory with everything below it; nothing there takes nothing.
    pub(crate) fn entry(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> io::Result<Usage> {
        let entry = match Entry::of(dir, name) {
            Err(Errno::NOENT) => return Ok(Usage::default()),
            other => other?,
        };
        if entry.mount() != Entry::of(dir, c"")?.mount() {
            return Ok(Usage::default());
        }
        if entry.kind == FileType::Directory {
            return match rustix::fs::openat(
                dir,
                name,
                super::dir_stack::WALK,
                rustix::fs::Mode::empty(),
            ) {
                Ok(fd) => self.tree(fd),
                Err(Errno::NOENT) => Ok(Usage::default()),
                Err(error) => Err(error.into()),
            };
        }
        let mut usage = Usage::default();
        self.add(&entry, &mut usage);
        Ok(usage)
    }

    /// Measures a directory alone, without what is in it.
    pub(crate) fn alone(&mut self, dir: BorrowedFd<'_>) -> io::Result<Usage> {
        let mut usage = Usage::default();
        self.add(&Entry::of(dir, c"")?, &mut usage);
        Ok(usage)
    }

    /// Counts the entries of the directory where the walk is; returns its subdirectories.
    fn scan(
        &mut self,
        stack: &DirStack,
        mount: (u32, u32, u64),
        usage: &mut Usage,
    ) -> io::Result<Vec<CString>> {
        let dir = stack.top()?;
        let mut dirs = Vec::new();
        for name in Dir::read_from(dir)? {
            self.cancel.check()?;
            let name = name?;
            let name = name.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let entry = match Entry::of(dir, name) {
                Err(Errno::NOENT) => continue,
                other => other?,
            };
            if entry.mount() != mount {
                continue;
            }
            self.add(&entry, usage);
            if entry.kind == FileType::Directory {
                dirs.push(name.to_owned());
            }
        }
        Ok(dirs)
    }

    fn add(&mut self, entry: &Entry, usage: &mut Usage) {
        let links = u64::from(entry.stat.stx_nlink);
        let mut part = 1;
        if entry.kind != FileType::Directory && links > 1 {
            if self.seen.len() >= LINKED_AT_MOST {
                part = links;
            } else if !self.seen.insert((entry.device(), entry.stat.stx_ino)) {
                return;
            }
        }
        let allocated = entry.stat.stx_blocks * 512 / part;
        usage.inodes += 1;
        usage.allocated += allocated;
        if entry.kind != FileType::Directory {
            usage.files += allocated;
        }
        if entry.kind == FileType::RegularFile {
            usage.apparent += entry.stat.stx_size / part;
        }
    }
}

/// Measures the tree below an open directory, the directory included.
pub(crate) fn measure(top: OwnedFd, cancel: &Cancel) -> io::Result<Usage> {
    Measurer::new(cancel.clone()).tree(top)
}
