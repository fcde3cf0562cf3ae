//! A tree copied by directory fds: owner, mode, times, links, holes and attributes kept.

use std::collections::HashMap;
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use super::xattrs;
use crate::fsutil::dir_stack::{DirStack, WALK};
use crate::fsutil::remove::list;

/// A path below the source, and why it could not be copied.
pub(super) type Failure = (PathBuf, io::Error);

/// Copies what is in one directory to another, and then the directory's attributes.
pub(super) fn copy(source: OwnedFd, target: OwnedFd) -> Result<(), Failure> {
    let fault = |error| (PathBuf::new(), error);
    let target_root = target.try_clone().map_err(fault)?;
    let mut copier = Copier {
        from: DirStack::new(source).map_err(fault)?,
        to: DirStack::new(target).map_err(fault)?,
        target_root,
        linked: HashMap::new(),
        path: Vec::new(),
    };
    let result = copier.run();
    let path = PathBuf::from(OsStr::from_bytes(&copier.path.join(&b'/')));
    result.map_err(|error| (path, error))
}

struct Copier {
    from: DirStack,
    to: DirStack,
    target_root: OwnedFd,
    /// Files with several links: by identity, their path below the target.
    linked: HashMap<(u64, u64), Vec<u8>>,
    /// Names from the start to where the walk is.
    path: Vec<Vec<u8>>,
}

impl Copier {
    fn run(&mut self) -> io::Result<()> {
        let mut pending = vec![self.level()?];
        while let Some(dirs) = pending.last_mut() {
            if let Some(name) = dirs.pop() {
                self.path.push(name.to_bytes().to_vec());
                self.enter(&name)?;
                pending.push(self.level()?);
                continue;
            }
            pending.pop();
            // Writing into a directory changed its times, so its attributes come last.
            let (from, to) = (self.from.top()?, self.to.top()?);
            xattrs::copy_fd(from, to, xattrs::is_content)?;
            apply_to_fd(to, &rustix::fs::fstat(from)?)?;
            if self.from.depth() > 1 {
                self.from.pop()?;
                self.to.pop()?;
                self.path.pop();
            }
        }
        Ok(())
    }

    fn enter(&mut self, name: &CStr) -> io::Result<()> {
        self.from.enter(name)?;
        rustix::fs::mkdirat(self.to.top()?, name, Mode::from(0o700))?;
        let made = rustix::fs::openat(self.to.top()?, name, WALK, Mode::empty())?;
        self.to.push(made)
    }

    /// Copies everything in the directory but its subdirectories, which it returns.
    fn level(&mut self) -> io::Result<Vec<CString>> {
        let mut dirs = Vec::new();
        for (name, _) in list(self.from.top()?)? {
            let stat = rustix::fs::statat(self.from.top()?, &name, AtFlags::SYMLINK_NOFOLLOW)?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                dirs.push(name);
                continue;
            }
            self.path.push(name.to_bytes().to_vec());
            self.leaf(&name, &stat)?;
            self.path.pop();
        }
        Ok(dirs)
    }

    fn leaf(&mut self, name: &CStr, stat: &Stat) -> io::Result<()> {
        let (from, to) = (self.from.top()?, self.to.top()?);
        let identity = (stat.st_dev, stat.st_ino);
        if let Some(first) = self.linked.get(&identity) {
            let flags = AtFlags::empty();
            return Ok(rustix::fs::linkat(
                &self.target_root,
                first.as_slice(),
                to,
                name,
                flags,
            )?);
        }
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => copy_file(from, to, name, stat)?,
            FileType::Symlink => {
                let link = rustix::fs::readlinkat(from, name, Vec::new())?;
                rustix::fs::symlinkat(&link, to, name)?;
                apply_at(to, name, stat)?;
            }
            // A whiteout: the folder of a single layer shows it, a merged view does not.
            FileType::CharacterDevice if stat.st_rdev == 0 => return Ok(()),
            kind => {
                rustix::fs::mknodat(to, name, kind, Mode::from(0o600), stat.st_rdev)?;
                apply_at(to, name, stat)?;
                let mode = Mode::from(stat.st_mode & 0o7777);
                rustix::fs::chmodat(to, name, mode, AtFlags::empty())?;
            }
        }
        if stat.st_nlink > 1 {
            self.linked.insert(identity, self.path.join(&b'/'));
        }
        Ok(())
    }
}

fn copy_file(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> io::Result<()> {
    let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let write = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut source = File::from(rustix::fs::openat(from, name, read, Mode::empty())?);
    let mut target = File::from(rustix::fs::openat(to, name, write, Mode::from(0o600))?);
    copy_data(&mut source, &mut target, stat)?;
    let (uid, gid) = owner(stat);
    rustix::fs::fchown(&target, uid, gid)?;
    rustix::fs::fchmod(&target, Mode::from(stat.st_mode & 0o7777))?;
    xattrs::copy_fd(source.as_fd(), target.as_fd(), xattrs::is_content)?;
    Ok(rustix::fs::futimens(&target, &times(stat)?)?)
}

/// Copies the pieces that hold data, so that holes stay holes.
fn copy_data(source: &mut File, target: &mut File, stat: &Stat) -> io::Result<()> {
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(&*source, rustix::fs::SeekFrom::Data(at)) {
            Ok(start) => start,
            // Nothing but a hole is left.
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL) => at,
            Err(error) => return Err(error.into()),
        };
        let end = rustix::fs::seek(&*source, rustix::fs::SeekFrom::Hole(start)).unwrap_or(size);
        source.seek(SeekFrom::Start(start))?;
        target.seek(SeekFrom::Start(start))?;
        io::copy(&mut source.by_ref().take(end - start), target)?;
        at = end.max(start + 1);
    }
    Ok(rustix::fs::ftruncate(&*target, size)?)
}

fn owner(stat: &Stat) -> (Option<Uid>, Option<Gid>) {
    (
        Some(Uid::from_raw(stat.st_uid)),
        Some(Gid::from_raw(stat.st_gid)),
    )
}

fn times(stat: &Stat) -> io::Result<Timestamps> {
    let time = |tv_sec, nanos: u64| {
        let tv_nsec = nanos.try_into().map_err(io::Error::other)?;
        io::Result::Ok(Timespec { tv_sec, tv_nsec })
    };
    Ok(Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec)?,
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec)?,
    })
}

/// Gives an open file or directory the owner, mode and times of another.
pub(crate) fn apply_to_fd(to: BorrowedFd<'_>, stat: &Stat) -> io::Result<()> {
    let (uid, gid) = owner(stat);
    rustix::fs::fchown(to, uid, gid)?;
    rustix::fs::fchmod(to, Mode::from(stat.st_mode & 0o7777))?;
    Ok(rustix::fs::futimens(to, &times(stat)?)?)
}

/// Gives something that cannot be opened the owner and times of another.
fn apply_at(to: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> io::Result<()> {
    let (uid, gid) = owner(stat);
    rustix::fs::chownat(to, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    Ok(rustix::fs::utimensat(to, name, &times(stat)?, flags)?)
}
