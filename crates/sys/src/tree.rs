//! Paths of a tree that somebody else wrote, opened by descriptor so that none leads out of it.
//!
//! Symbolic links are followed as if the tree's root were `/`, as the programs inside see them.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, openat2};
use rustix::io::Errno;

/// Links that one path may lead through, as path_resolution(7) has it.
const LINKS_AT_MOST: u32 = 40;

/// The mode of directories and files that are made to be mounted on.
const MADE_MODE: Mode = Mode::from_raw_mode(0o755);

/// What stands at the end of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaf {
    /// A directory.
    Directory,
    /// Anything that is no directory; made as an empty file.
    File,
}

/// Opens a path below `root`, following links inside of it.
///
/// # Errors
///
/// What openat2(2) says; ENOENT when it is not there.
pub fn open(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    retry(|| {
        openat2(
            root,
            dotted(path),
            flags | OFlags::CLOEXEC,
            Mode::empty(),
            resolve,
        )
    })
}

/// Opens a path below `directory` that has no symbolic link in it.
///
/// # Errors
///
/// What openat2(2) says; ELOOP for a link, EXDEV for a path that leads out.
pub fn open_beneath(directory: BorrowedFd<'_>, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    retry(|| {
        let flags = flags | OFlags::CLOEXEC;
        openat2(directory, dotted(path), flags, Mode::empty(), resolve)
    })
}

/// Opens a path below `root` for mounting on, and makes what is missing of it.
///
/// # Errors
///
/// What openat2(2) and mkdirat(2) say; ELOOP after too many links; ENOTDIR where a directory is needed.
pub fn open_or_make(root: BorrowedFd<'_>, path: &Path, leaf: Leaf) -> io::Result<OwnedFd> {
    let flags = match leaf {
        Leaf::Directory => OFlags::PATH | OFlags::DIRECTORY,
        Leaf::File => OFlags::PATH,
    };
    match open(root, path, flags) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => walk(root, path, leaf),
        other => other,
    }
}

/// Opens a path without links below `root` for mounting on, and makes the directories it misses.
///
/// For the places of the kernel's own file systems: an image that has a link there is refused.
///
/// # Errors
///
/// What openat2(2) and mkdirat(2) say; ELOOP for a link.
pub fn open_or_make_plain(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    let inside = path.strip_prefix("/").unwrap_or(path);
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    match open_beneath(root, inside, flags) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => return other,
    }
    let mut directory = root.try_clone_to_owned()?;
    for part in inside.components() {
        let Component::Normal(name) = part else {
            return Err(Errno::INVAL.into());
        };
        match mkdirat(&directory, name, MADE_MODE) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        directory = open_beneath(directory.as_fd(), Path::new(name), flags)?;
    }
    Ok(directory)
}

/// A walk of a path, one part at a time.
struct Walk<'root> {
    root: BorrowedFd<'root>,
    /// The directories from the root's child down to where the walk stands.
    below: Vec<OwnedFd>,
    /// The parts still to go.
    ahead: VecDeque<OsString>,
    links: u32,
}

impl Walk<'_> {
    fn here(&self) -> BorrowedFd<'_> {
        self.below.last().map_or(self.root, |fd| fd.as_fd())
    }

    /// Goes on by the text of the link that `link` is.
    fn follow(&mut self, link: &OwnedFd) -> io::Result<()> {
        self.links += 1;
        if self.links > LINKS_AT_MOST {
            return Err(Errno::LOOP.into());
        }
        let text = rustix::fs::readlinkat(link, c"", Vec::new())?;
        let target = Path::new(OsStr::from_bytes(text.to_bytes())).to_owned();
        if target.is_absolute() {
            self.below.clear();
        }
        for part in parts(&target).into_iter().rev() {
            self.ahead.push_front(part);
        }
        Ok(())
    }
}

/// Resolves a path in steps of one name, and makes the names that are missing.
///
/// `..` pops the list of directories that were really walked through, so it never gets above the
/// root, whatever is renamed meanwhile.
fn walk(root: BorrowedFd<'_>, path: &Path, leaf: Leaf) -> io::Result<OwnedFd> {
    let mut walk = Walk {
        root,
        below: Vec::new(),
        ahead: parts(path).into(),
        links: 0,
    };
    while let Some(name) = walk.ahead.pop_front() {
        if name == ".." {
            walk.below.pop();
            continue;
        }
        let kind = if walk.ahead.is_empty() {
            leaf
        } else {
            Leaf::Directory
        };
        let next = open_or_make_name(walk.here(), &name, kind)?;
        let found = FileType::from_raw_mode(fstat(&next)?.st_mode);
        if found == FileType::Symlink {
            walk.follow(&next)?;
        } else if kind == Leaf::Directory && found != FileType::Directory {
            return Err(Errno::NOTDIR.into());
        } else {
            walk.below.push(next);
        }
    }
    match walk.below.pop() {
        Some(fd) => Ok(fd),
        None => root.try_clone_to_owned(),
    }
}

/// Opens one name as it stands, links not followed; makes it when it is missing.
fn open_or_make_name(directory: BorrowedFd<'_>, name: &OsStr, leaf: Leaf) -> io::Result<OwnedFd> {
    let look = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || openat2(directory, name, look, Mode::empty(), ResolveFlags::BENEATH);
    match retry(open) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => return other,
    }
    match leaf {
        Leaf::Directory => mkdirat(directory, name, MADE_MODE)?,
        Leaf::File => {
            let make = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            drop(rustix::fs::openat(directory, name, make, MADE_MODE)?);
        }
    }
    retry(open)
}

/// The names of a path, without `/` and `.`.
fn parts(path: &Path) -> Vec<OsString> {
    path.components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsString::from("..")),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}

/// openat2(2) takes no empty path; `.` means the same.
fn dotted(path: &Path) -> &Path {
    if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    }
}

/// openat2(2) says EAGAIN when something was renamed while it resolved, and asks to try again.
fn retry(open: impl Fn() -> rustix::io::Result<OwnedFd>) -> io::Result<OwnedFd> {
    for _ in 0..64 {
        match open() {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
    Err(Errno::AGAIN.into())
}

/// Reads a regular file below `root`, at most `limit` bytes of it.
///
/// # Errors
///
/// What openat2(2) and read(2) say; EINVAL for what is no regular file (a FIFO would block for
/// ever), EFBIG for a longer file.
pub fn read_bounded(root: BorrowedFd<'_>, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let file = open(
        root,
        path,
        OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY,
    )?;
    let stat = fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Errno::INVAL.into());
    }
    let mut bytes = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX);
    let mut file = io::Read::take(std::fs::File::from(file), most.saturating_add(1));
    io::Read::read_to_end(&mut file, &mut bytes)?;
    if bytes.len() > limit {
        return Err(Errno::FBIG.into());
    }
    Ok(bytes)
}

/// The type and permission bits of what a descriptor stands for, and its device number if it is a device.
///
/// # Errors
///
/// What fstat(2) says.
pub fn device_of(fd: BorrowedFd<'_>) -> io::Result<(FileType, u32, u32)> {
    let stat = rustix::fs::statat(fd, c"", AtFlags::EMPTY_PATH)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    let (major, minor) = (
        rustix::fs::major(stat.st_rdev),
        rustix::fs::minor(stat.st_rdev),
    );
    Ok((kind, major, minor))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn directory(path: &Path) -> OwnedFd {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty()).unwrap()
    }

    struct Scratch(std::path::PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("gorae-tree-{}-{name}", std::process::id()));
            std::fs::create_dir_all(path.join("root")).unwrap();
            Self(path)
        }

        fn root(&self) -> std::path::PathBuf {
            self.0.join("root")
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn makes_missing_directories_through_dangling_links_inside() {
        let scratch = Scratch::new("dangling");
        let root = scratch.root();
        std::fs::create_dir(root.join("etc")).unwrap();
        symlink("../run/here/resolv.conf", root.join("etc/resolv.conf")).unwrap();
        let fd = directory(&root);
        open_or_make(fd.as_fd(), Path::new("/etc/resolv.conf"), Leaf::File).unwrap();
        assert!(root.join("run/here/resolv.conf").is_file());
    }

    #[test]
    fn dots_and_absolute_links_end_at_the_root() {
        let scratch = Scratch::new("dots");
        let root = scratch.root();
        symlink("/../../../outside", root.join("a")).unwrap();
        symlink("../../../outside2", root.join("b")).unwrap();
        let fd = directory(&root);
        open_or_make(fd.as_fd(), Path::new("/a/x"), Leaf::Directory).unwrap();
        open_or_make(fd.as_fd(), Path::new("/b/x"), Leaf::File).unwrap();
        assert!(root.join("outside/x").is_dir());
        assert!(root.join("outside2/x").is_file());
        assert!(!scratch.0.join("outside").exists());
    }

    #[test]
    fn a_circle_of_links_is_refused() {
        let scratch = Scratch::new("circle");
        let root = scratch.root();
        symlink("b", root.join("a")).unwrap();
        symlink("a", root.join("b")).unwrap();
        let fd = directory(&root);
        let error = open_or_make(fd.as_fd(), Path::new("/a/x"), Leaf::Directory).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ELOOP));
    }

    #[test]
    fn plain_paths_refuse_links() {
        let scratch = Scratch::new("plain");
        let root = scratch.root();
        symlink("/etc", root.join("proc")).unwrap();
        let fd = directory(&root);
        let error = open_or_make_plain(fd.as_fd(), Path::new("/proc")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ELOOP));
        open_or_make_plain(fd.as_fd(), Path::new("/sys/fs/cgroup")).unwrap();
        assert!(root.join("sys/fs/cgroup").is_dir());
    }

    #[test]
    fn a_long_or_special_file_is_not_read() {
        let scratch = Scratch::new("bounded");
        let root = scratch.root();
        std::fs::write(root.join("long"), [b'a'; 100]).unwrap();
        let fd = directory(&root);
        assert!(read_bounded(fd.as_fd(), Path::new("long"), 99).is_err());
        assert_eq!(
            read_bounded(fd.as_fd(), Path::new("long"), 100)
                .unwrap()
                .len(),
            100
        );
        rustix::fs::mknodat(&fd, "fifo", FileType::Fifo, Mode::from(0o600), 0).unwrap();
        assert!(read_bounded(fd.as_fd(), Path::new("fifo"), 100).is_err());
    }
}
