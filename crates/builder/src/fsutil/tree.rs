//! A folder that a stranger's files go to, by descriptors only.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;

use super::{Entry, FsutilError, path};

/// The longest path that goes to the kernel at once; what is longer goes piece by piece.
const PIECE: usize = 4000;
const RESOLVE: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);

/// A folder that is being changed.
#[derive(Debug)]
pub(super) struct Tree {
    root: OwnedFd,
    /// The directory that was opened last, for neighbours come one after another.
    last: Option<(String, OwnedFd)>,
}

impl Tree {
    pub(super) fn new(root: OwnedFd) -> Self {
        Self { root, last: None }
    }

    /// Opens the directory of an entry, and gives the entry's own name.
    fn parent(&mut self, path: &str) -> Result<(BorrowedFd<'_>, CString), FsutilError> {
        let (above, name) = path::split(path);
        let name = CString::new(name).map_err(FsutilError::disk("name", path))?;
        if above.is_empty() {
            return Ok((self.root.as_fd(), name));
        }
        if self.last.as_ref().is_none_or(|(last, _)| last != above) {
            let opened = open_dir(self.root.as_fd(), above);
            let opened = opened.map_err(FsutilError::disk("open", above))?;
            self.last = Some((above.to_owned(), opened));
        }
        let directory = self
            .last
            .as_ref()
            .map_or(&self.root, |(_, directory)| directory);
        Ok((directory.as_fd(), name))
    }

    /// Removes an entry with all that it holds.
    pub(super) fn remove(&mut self, path: &str) -> Result<(), FsutilError> {
        if self
            .last
            .as_ref()
            .is_some_and(|(last, _)| last == path || path::is_below(last, path))
        {
            self.last = None;
        }
        let (directory, name) = self.parent(path)?;
        let removed = storage::trees::remove_at(directory, &name);
        removed.map_err(FsutilError::disk("remove", path))
    }

    /// Makes a directory, or takes the one that is there.
    pub(super) fn directory(&mut self, entry: &Entry) -> Result<(), FsutilError> {
        let (directory, name) = self.parent(&entry.path)?;
        match rustix::fs::mkdirat(directory, &name, Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(FsutilError::disk("make the directory", &entry.path)(error)),
        }
        let made = open_dir(self.root.as_fd(), &entry.path);
        let made = made.map_err(FsutilError::disk("open", &entry.path))?;
        dress(made.as_fd(), entry)
    }

    /// Sets the time of a directory, after all in it is done.
    pub(super) fn date(&self, entry: &Entry) -> Result<(), FsutilError> {
        let opened = open_dir(self.root.as_fd(), &entry.path);
        let times = times(entry.modified);
        opened
            .and_then(|directory| rustix::fs::futimens(&directory, &times))
            .map_err(FsutilError::disk("date", &entry.path))
    }

    /// Makes a file in place of what is there.
    pub(super) fn file(&mut self, entry: &Entry) -> Result<File, FsutilError> {
        let (directory, name) = self.parent(&entry.path)?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let make = || rustix::fs::openat(directory, &name, flags, Mode::from_raw_mode(0o600));
        let made = match make() {
            Err(Errno::EXIST) => {
                let removed = storage::trees::remove_at(directory, &name);
                removed.map_err(FsutilError::disk("replace", &entry.path))?;
                make()
            }
            other => other,
        };
        made.map(File::from)
            .map_err(FsutilError::disk("make", &entry.path))
    }

    /// Gives a file that is complete its owner, mode, attributes and time.
    pub(super) fn finish(file: &File, entry: &Entry) -> Result<(), FsutilError> {
        dress(file.as_fd(), entry)?;
        let dated = rustix::fs::futimens(file, &times(entry.modified));
        dated.map_err(FsutilError::disk("date", &entry.path))
    }

    /// Makes a symbolic link, a FIFO or a device in place of what is there.
    pub(super) fn special(&mut self, entry: &Entry) -> Result<(), FsutilError> {
        self.remove(&entry.path)?;
        let (directory, name) = self.parent(&entry.path)?;
        let kind = entry.kind();
        let made = if kind == FileType::Symlink {
            rustix::fs::symlinkat(entry.link.as_str(), directory, &name)
        } else {
            let device = rustix::fs::makedev(entry.device.0, entry.device.1);
            let mode = Mode::from_raw_mode(entry.permissions());
            rustix::fs::mknodat(directory, &name, kind, mode, device)
        };
        let failed = |error| FsutilError::disk("make", &entry.path)(error);
        made.map_err(failed)?;
        let (owner, group) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::chownat(directory, &name, Some(owner), Some(group), flags).map_err(failed)?;
        rustix::fs::utimensat(directory, &name, &times(entry.modified), flags).map_err(failed)
    }

    /// Gives a file a further name, in place of what is there.
    pub(super) fn link(&mut self, entry: &Entry) -> Result<(), FsutilError> {
        self.remove(&entry.path)?;
        let failed = |error| FsutilError::disk("link", &entry.path)(error);
        let (above, name) = path::split(&entry.link);
        let from = open_dir(self.root.as_fd(), above).map_err(failed)?;
        let (directory, new) = self.parent(&entry.path)?;
        // without AT_SYMLINK_FOLLOW, so that a link is never what it leads to
        rustix::fs::linkat(&from, name, directory, &new, AtFlags::empty()).map_err(failed)
    }
}

/// Opens a directory below another, by names only.
pub(super) fn open_dir(root: BorrowedFd<'_>, path: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    open_below(root, path, flags)
}

/// Opens what lies below a directory, by names only.
pub(super) fn open_below(
    root: BorrowedFd<'_>,
    path: &str,
    flags: OFlags,
) -> Result<OwnedFd, Errno> {
    let open = |directory: BorrowedFd<'_>, path: &str, flags| {
        let path = if path.is_empty() { "." } else { path };
        rustix::fs::openat2(directory, path, flags, Mode::empty(), RESOLVE)
    };
    let (mut here, mut rest) = (None::<OwnedFd>, path);
    while rest.len() > PIECE {
        let cut = rest.as_bytes()[..PIECE]
            .iter()
            .rposition(|byte| *byte == b'/');
        let (piece, behind) = cut
            .and_then(|cut| rest.split_at_checked(cut))
            .ok_or(Errno::NAMETOOLONG)?;
        let directory = here.as_ref().map_or(root, AsFd::as_fd);
        let through = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        here = Some(open(directory, piece, through)?);
        rest = behind.trim_start_matches('/');
    }
    open(here.as_ref().map_or(root, AsFd::as_fd), rest, flags)
}

/// Sets owner, mode and attributes; in this order, for a change of the owner takes setuid away.
fn dress(file: BorrowedFd<'_>, entry: &Entry) -> Result<(), FsutilError> {
    let (owner, group) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    let owned = rustix::fs::fchown(file, Some(owner), Some(group));
    owned.map_err(FsutilError::disk("give an owner to", &entry.path))?;
    let mode = Mode::from_raw_mode(entry.permissions());
    rustix::fs::fchmod(file, mode).map_err(FsutilError::disk("set the mode of", &entry.path))?;
    for (name, value) in &entry.xattrs {
        let set = rustix::fs::fsetxattr(file, name.as_str(), value, XattrFlags::empty());
        set.map_err(FsutilError::disk("set an attribute of", &entry.path))?;
    }
    Ok(())
}

fn times(modified: i64) -> Timestamps {
    let time = Timespec {
        tv_sec: modified.div_euclid(1_000_000_000),
        tv_nsec: modified.rem_euclid(1_000_000_000),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}
