//! Paths of a live tree, resolved inside of it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

/// Links that one path may lead through (path_resolution(7)).
const LINKS_AT_MOST: u32 = 40;

/// What is at a path.
#[derive(Debug)]
pub struct Found {
    /// The file, opened by `O_PATH`.
    pub fd: OwnedFd,
    /// Its attributes.
    pub stat: Stat,
}

/// Looks a path up in a tree, as lstat(2) would with the tree as its root: the last name is not
/// followed, unless a slash or `/.` stands behind it.
///
/// # Errors
///
/// What openat2(2) says.
pub fn find(root: BorrowedFd<'_>, path: &[u8]) -> io::Result<Found> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = open(root, path, flags)?;
    let stat = rustix::fs::fstat(&fd)?;
    Ok(Found { fd, stat })
}

/// Looks a path up in a tree, as stat(2) would with the tree as its root.
///
/// # Errors
///
/// What openat2(2) says.
pub fn find_target(root: BorrowedFd<'_>, path: &[u8]) -> io::Result<Found> {
    let fd = open(root, path, OFlags::PATH | OFlags::CLOEXEC)?;
    let stat = rustix::fs::fstat(&fd)?;
    Ok(Found { fd, stat })
}

pub(super) fn open(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let path = if path.is_empty() { b"." } else { path };
    // openat2(2) says EAGAIN when something was renamed meanwhile.
    for _ in 0..64 {
        match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
    Err(Errno::AGAIN.into())
}

/// The path without links that a path means, its last name followed too. Names that are not there
/// stand for themselves, so that the target of a dangling link can be told.
///
/// It is for messages and for comparison with places of mounts: nothing is opened by it.
///
/// # Errors
///
/// Too many links, or a directory that cannot be read.
pub fn resolve(root: BorrowedFd<'_>, path: &[u8]) -> io::Result<Vec<u8>> {
    let mut walk = Walk {
        root,
        below: Vec::new(),
        ahead: parts(path).into(),
        links: 0,
    };
    while let Some(name) = walk.ahead.pop_front() {
        if name == b".." {
            walk.below.pop();
        } else {
            walk.step(name)?;
        }
    }
    let names: Vec<&[u8]> = walk.below.iter().map(|(name, _)| name.as_slice()).collect();
    Ok([b"/", names.join(&b'/').as_slice()].concat())
}

struct Walk<'root> {
    root: BorrowedFd<'root>,
    /// The names from the root down to where the walk is; one that is not there has no fd.
    below: Vec<(Vec<u8>, Option<OwnedFd>)>,
    ahead: VecDeque<Vec<u8>>,
    links: u32,
}

impl Walk<'_> {
    fn step(&mut self, name: Vec<u8>) -> io::Result<()> {
        let here = match self.below.last() {
            None => Some(self.root),
            Some((_, fd)) => fd.as_ref().map(OwnedFd::as_fd),
        };
        let Some(here) = here else {
            self.below.push((name, None));
            return Ok(());
        };
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = match rustix::fs::openat(here, name.as_slice(), flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR) => {
                self.below.push((name, None));
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        if FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) != FileType::Symlink {
            self.below.push((name, Some(fd)));
            return Ok(());
        }
        self.links += 1;
        if self.links > LINKS_AT_MOST {
            return Err(Errno::LOOP.into());
        }
        let target = rustix::fs::readlinkat(&fd, c"", Vec::new())?.into_bytes();
        if target.starts_with(b"/") {
            self.below.clear();
        }
        for part in parts(&target).into_iter().rev() {
            self.ahead.push_front(part);
        }
        Ok(())
    }
}

fn parts(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
        .map(<[u8]>::to_vec)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_are_followed_inside() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("data/sub")).unwrap();
        std::fs::write(at("data/file"), "x").unwrap();
        symlink("file", at("data/link")).unwrap();
        symlink("/data/sub", at("data/absolute")).unwrap();
        symlink("nowhere/../else", at("data/dangling")).unwrap();
        symlink("../../../../data/absolute", at("climbing")).unwrap();
        symlink("loop", at("loop")).unwrap();
        let root = crate::fsutil::open_dir(dir.path()).unwrap();
        let check = |path: &str, expect: &str| {
            let found = resolve(root.as_fd(), path.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(found).unwrap(), expect, "{path}");
        };
        check("/", "/");
        check("data/link", "/data/file");
        check("/data/absolute/.", "/data/sub");
        check("/data/dangling", "/data/else");
        check("/climbing", "/data/sub");
        check("/data/absolute/../../..", "/");
        check("/data/file/x/y", "/data/file/x/y");
        assert!(resolve(root.as_fd(), b"/loop").is_err());
        let kind = |path: &str| {
            let found = find(root.as_fd(), path.as_bytes());
            found.map(|found| FileType::from_raw_mode(found.stat.st_mode))
        };
        assert_eq!(kind("/data/absolute").unwrap(), FileType::Symlink);
        assert_eq!(kind("/data/absolute/").unwrap(), FileType::Directory);
        assert_eq!(kind("/climbing/.").unwrap(), FileType::Directory);
        let errno = |path: &str| kind(path).unwrap_err().raw_os_error();
        assert_eq!(errno("/data/file/"), Some(Errno::NOTDIR.raw_os_error()));
        assert_eq!(errno("/data/dangling/"), Some(Errno::NOENT.raw_os_error()));
        assert_eq!(errno("/loop/"), Some(Errno::LOOP.raw_os_error()));
    }
}
