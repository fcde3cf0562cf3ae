//! How much disk a tree takes, as `du` counts.

use std::collections::HashSet;
use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, Stat};
use rustix::io::Errno;

use super::dir_stack::DirStack;
use super::remove::list;

/// What a tree takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes allocated on the disk, directories included, a file with several links once.
    pub allocated: u64,
    /// Sum of the regular files' lengths, a file with several links once.
    pub apparent: u64,
    /// Number of inodes.
    pub inodes: u64,
}

impl Usage {
    fn add(&mut self, stat: &Stat, seen: &mut HashSet<(u64, u64)>) {
        let kind = FileType::from_raw_mode(stat.st_mode);
        let linked = kind != FileType::Directory && stat.st_nlink > 1;
        if linked && !seen.insert((stat.st_dev, stat.st_ino)) {
            return;
        }
        self.inodes += 1;
        self.allocated += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
        if kind == FileType::RegularFile {
            self.apparent += u64::try_from(stat.st_size).unwrap_or(0);
        }
    }
}

/// Measures the tree below an open directory, the directory included.
///
/// A tree that changes meanwhile is measured as far as it can be followed.
pub(crate) fn measure(top: OwnedFd) -> io::Result<Usage> {
    let mut usage = Usage::default();
    let mut seen = HashSet::new();
    usage.add(&rustix::fs::fstat(&top)?, &mut seen);
    let mut stack = DirStack::new(top)?;
    let mut pending = vec![scan(&stack, &mut usage, &mut seen)?];
    while let Some(dirs) = pending.last_mut() {
        let Some(child) = dirs.pop() else {
            pending.pop();
            stack.pop()?;
            continue;
        };
        match stack.enter(&child) {
            Ok(()) => pending.push(scan(&stack, &mut usage, &mut seen)?),
            Err(error) if super::is_missing(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(usage)
}

/// Counts the entries of the directory where the walk is; returns its subdirectories.
fn scan(
    stack: &DirStack,
    usage: &mut Usage,
    seen: &mut HashSet<(u64, u64)>,
) -> io::Result<Vec<CString>> {
    let dir = stack.top()?;
    let mut dirs = Vec::new();
    for (name, _) in list(dir)? {
        let stat = match rustix::fs::statat(dir, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => continue,
            other => other?,
        };
        usage.add(&stat, seen);
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            dirs.push(name);
        }
    }
    Ok(dirs)
}
