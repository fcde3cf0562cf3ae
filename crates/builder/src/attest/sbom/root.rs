//! The files of an image, read by descriptors below its root only.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags};

/// Names that a walk looks at, and how deep it goes.
const NAMES_MAX: usize = 4_000_000;
const DEPTH_MAX: usize = 128;

/// The root of an image.
#[derive(Debug)]
pub(super) struct Root(OwnedFd);

/// A file that the walk has come to.
#[derive(Debug)]
pub(super) struct Entry<'r> {
    dir: BorrowedFd<'r>,
    name: &'r CStr,
    /// From the root, without a slash in front.
    pub(super) path: &'r str,
}

impl Entry<'_> {
    /// The last part of the path.
    pub(super) fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// The directory that the file is in.
    pub(super) fn parent(&self) -> &str {
        let parts = self.path.rsplit_once('/');
        parts.map_or("", |(parent, _)| parent)
    }

    /// Opens the file, if it is a regular one.
    pub(super) fn open(&self) -> Option<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(self.dir, self.name, flags, Mode::empty()).ok()?;
        let stat = rustix::fs::fstat(&file).ok()?;
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        is_file.then(|| File::from(file))
    }

    /// Whether somebody may run the file.
    pub(super) fn is_program(&self) -> bool {
        let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::statat(self.dir, self.name, flags).is_ok_and(|stat| {
            FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
                && stat.st_mode & 0o111 != 0
        })
    }

    /// The text of the file, if it is not longer than `max`.
    pub(super) fn text(&self, max: u64) -> Option<String> {
        text(self.open()?, max)
    }
}

fn text(file: File, max: u64) -> Option<String> {
    bytes(file, max).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn bytes(file: File, max: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= max).then_some(bytes)
}

impl Root {
    /// Opens a root for reading, which may be that of a mount.
    pub(super) fn open(fd: &OwnedFd) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::openat(fd, c".", flags, Mode::empty())?))
    }

    fn at(&self, path: &str, flags: OFlags) -> Option<OwnedFd> {
        let flags = flags | OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(&self.0, path, flags, Mode::empty(), resolve).ok()
    }

    /// Opens a regular file.
    pub(super) fn file(&self, path: &str) -> Option<File> {
        let file = self.at(path, OFlags::empty())?;
        let stat = rustix::fs::fstat(&file).ok()?;
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        is_file.then(|| File::from(file))
    }

    /// The text of a file, if it is not longer than `max`.
    pub(super) fn text(&self, path: &str, max: u64) -> Option<String> {
        text(self.file(path)?, max)
    }

    /// The bytes of a file, if there are no more than `max`.
    pub(super) fn bytes(&self, path: &str, max: u64) -> Option<Vec<u8>> {
        bytes(self.file(path)?, max)
    }

    /// The names in a directory, sorted.
    pub(super) fn names(&self, path: &str, max: usize) -> Vec<String> {
        let dir = self.at(path, OFlags::DIRECTORY);
        let entries = dir.and_then(|dir| Dir::new(dir).ok());
        let names = entries.into_iter().flatten().filter_map(Result::ok);
        let names = names.filter_map(|entry| entry.file_name().to_str().ok().map(str::to_owned));
        let mut names: Vec<String> = names
            .filter(|name| !name.starts_with('.'))
            .take(max)
            .collect();
        names.sort();
        names
    }

    /// Looks at every file that is no directory and no link; the kernel's own file systems are none of it.
    pub(super) fn walk(&self, look: &mut dyn FnMut(&Entry<'_>)) {
        let Ok(start) = self.0.try_clone() else {
            return;
        };
        let mut left = NAMES_MAX;
        walk(&start, &mut String::new(), DEPTH_MAX, &mut left, look);
    }
}

fn walk(
    dir: &OwnedFd,
    path: &mut String,
    depth: usize,
    left: &mut usize,
    look: &mut dyn FnMut(&Entry<'_>),
) {
    let Some(depth) = depth.checked_sub(1) else {
        return;
    };
    let Ok(entries) = Dir::read_from(dir) else {
        return;
    };
    for entry in entries.filter_map(Result::ok) {
        let name = entry.file_name();
        let Ok(text) = name.to_str() else { continue };
        if matches!(text, "." | "..") {
            continue;
        }
        let Some(rest) = left.checked_sub(1) else {
            return;
        };
        *left = rest;
        let length = path.len();
        if length > 0 {
            path.push('/');
        }
        path.push_str(text);
        match entry.file_type() {
            FileType::Directory if !matches!(path.as_str(), "proc" | "sys" | "dev") => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                if let Ok(inner) = rustix::fs::openat(dir, name, flags, Mode::empty()) {
                    walk(&inner, path, depth, left, look);
                }
            }
            FileType::RegularFile => look(&Entry {
                dir: dir.as_fd(),
                name,
                path,
            }),
            _ => {}
        }
        path.truncate(length);
    }
}
