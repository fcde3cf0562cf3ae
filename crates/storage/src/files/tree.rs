//! A tree as a tar stream: names in order, hard links kept, nothing followed.

use std::collections::HashMap;
use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::writer::{Description, TarWriter};
use super::{Found, Identity, Owners, xattrs};
use crate::fsutil::dir_stack::DirStack;
use crate::fsutil::remove::list;
use crate::tar_stream::{Kind, shown};

/// How a tree becomes an archive.
#[derive(Clone, Debug, Default)]
pub struct TreeOptions {
    /// The name of the start in the archive; with an empty one only what is in it gets entries.
    pub name: Vec<u8>,
    /// Directories whose content is left out: the kernel's own file systems of a container.
    pub hidden: HashSet<Identity>,
    /// Who the tree's owners are in the archive.
    pub owners: Owners,
}

/// A tree that cannot be written as an archive.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// A file cannot be read.
    #[error("read {path:?}")]
    Read {
        /// The file's name in the archive.
        path: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The archive is not taken.
    #[error("write the archive")]
    Write(#[source] io::Error),
}

impl TreeError {
    fn read<E: Into<io::Error>>(path: &[u8]) -> impl FnOnce(E) -> Self {
        move |source| Self::Read {
            path: shown(path),
            source: source.into(),
        }
    }
}

/// Writes what was found, and all below it, as an archive.
///
/// What vanishes while it is read is left out.
///
/// # Errors
///
/// A file that cannot be read, or an output that takes no more.
pub fn write_entry(
    found: &Found,
    options: TreeOptions,
    output: impl Write,
) -> Result<(), TreeError> {
    let name = options.name.clone();
    if FileType::from_raw_mode(found.stat.st_mode) == FileType::Directory {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let start = rustix::fs::openat(&found.fd, c".", flags, Mode::empty())
            .map_err(TreeError::read(&name))?;
        return write_tree(start, options, output);
    }
    let mut walker = Walker::new(output, options);
    walker.single(found, &name)?;
    walker.finish().map(drop)
}

/// Writes a directory and all below it as an archive.
///
/// # Errors
///
/// As [`write_entry`].
pub fn write_tree(
    start: OwnedFd,
    options: TreeOptions,
    output: impl Write,
) -> Result<(), TreeError> {
    let mut walker = Walker::new(output, options);
    walker.tree(start)?;
    walker.finish().map(drop)
}

/// A walk that writes an archive.
#[derive(Debug)]
pub(crate) struct Walker<W> {
    tar: TarWriter<W>,
    options: TreeOptions,
    /// Files with several links: their first name in the archive, and how many are still to come.
    linked: HashMap<Identity, (Vec<u8>, u64)>,
}

/// A directory of the walk: the names still to come, last first.
struct Level {
    names: Vec<CString>,
    /// Length of the path up to the directory.
    path: usize,
}

impl<W: Write> Walker<W> {
    pub(crate) fn new(output: W, options: TreeOptions) -> Self {
        Self {
            tar: TarWriter::new(output),
            options,
            linked: HashMap::new(),
        }
    }

    /// From now on, files that are younger get this second as theirs.
    pub(crate) fn clamp(&mut self, latest: i64) {
        self.tar.clamp(latest);
    }

    pub(crate) fn finish(self) -> Result<W, TreeError> {
        self.tar.finish().map_err(TreeError::Write)
    }

    /// Writes a directory, and everything in it, by the name in the options.
    pub(crate) fn tree(&mut self, start: OwnedFd) -> Result<(), TreeError> {
        let mut path = self.options.name.clone();
        if !path.is_empty() {
            self.directory(start.as_fd(), &path)?;
        }
        if !path.is_empty() && !path.ends_with(b"/") {
            path.push(b'/');
        }
        let mut stack = DirStack::new(start).map_err(TreeError::read(&path))?;
        let mut pending = vec![level(&stack, &path)?];
        while let Some(current) = pending.last_mut() {
            path.truncate(current.path);
            let Some(name) = current.names.pop() else {
                pending.pop();
                stack.pop().map_err(TreeError::read(&path))?;
                continue;
            };
            path.extend_from_slice(name.to_bytes());
            if self.child(&mut stack, &name, &path)? {
                path.push(b'/');
                pending.push(level(&stack, &path)?);
            }
        }
        Ok(())
    }

    /// Writes one name of the directory where the walk is; says whether the walk has stepped in.
    fn child(&mut self, stack: &mut DirStack, name: &CStr, path: &[u8]) -> Result<bool, TreeError> {
        let dir = stack.top().map_err(TreeError::read(path))?;
        let stat = match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(false),
            other => other.map_err(TreeError::read(path))?,
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            self.leaf(dir, name, &stat, path)?;
            return Ok(false);
        }
        match stack.enter(name) {
            Ok(()) => {}
            // It was removed, or something else put in its place.
            Err(error) if is_gone(&error) => return Ok(false),
            Err(error) => return Err(TreeError::read(path)(error)),
        }
        let opened = stack.top().map_err(TreeError::read(path))?;
        self.directory(opened, path)?;
        if self.options.hidden.contains(&(stat.st_dev, stat.st_ino)) {
            stack.pop().map_err(TreeError::read(path))?;
            return Ok(false);
        }
        Ok(true)
    }

    pub(crate) fn directory(&mut self, dir: BorrowedFd<'_>, path: &[u8]) -> Result<(), TreeError> {
        let stat = rustix::fs::fstat(dir).map_err(TreeError::read(path))?;
        let mut file = self.describe(&stat, Kind::Dir);
        file.xattrs = self.attributes(dir).map_err(TreeError::read(path))?;
        let mut name = path.to_vec();
        if !name.ends_with(b"/") {
            name.push(b'/');
        }
        self.tar.header(&name, &file).map_err(TreeError::Write)
    }

    /// Writes a name that is no directory.
    pub(crate) fn leaf(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &CStr,
        stat: &Stat,
        path: &[u8],
    ) -> Result<(), TreeError> {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                // O_NONBLOCK: a FIFO may have come to the name meanwhile.
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                match rustix::fs::openat(dir, name, flags, Mode::empty()) {
                    Ok(file) => self.file(File::from(file), path),
                    Err(error) if is_gone(&error.into()) => Ok(()),
                    Err(error) => Err(TreeError::read(path)(error)),
                }
            }
            FileType::Symlink => match rustix::fs::readlinkat(dir, name, Vec::new()) {
                Ok(link) => self.symlink(stat, link.into_bytes(), path),
                Err(Errno::NOENT | Errno::INVAL) => Ok(()),
                Err(error) => Err(TreeError::read(path)(error)),
            },
            _ => self.node(stat, path),
        }
    }

    /// Writes one file that is no directory.
    fn single(&mut self, found: &Found, path: &[u8]) -> Result<(), TreeError> {
        match FileType::from_raw_mode(found.stat.st_mode) {
            FileType::RegularFile => {
                // What is opened is the file itself, whatever its name stands for by now.
                let name = format!("/proc/self/fd/{}", found.fd.as_raw_fd());
                let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let file =
                    rustix::fs::open(name, flags, Mode::empty()).map_err(TreeError::read(path))?;
                self.file(File::from(file), path)
            }
            FileType::Symlink => {
                let link = rustix::fs::readlinkat(&found.fd, c"", Vec::new())
                    .map_err(TreeError::read(path))?;
                self.symlink(&found.stat, link.into_bytes(), path)
            }
            _ => self.node(&found.stat, path),
        }
    }

    fn file(&mut self, mut file: File, path: &[u8]) -> Result<(), TreeError> {
        let stat = rustix::fs::fstat(&file).map_err(TreeError::read(path))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(());
        }
        if self.link(&stat, path)? {
            return Ok(());
        }
        let mut header = self.describe(&stat, Kind::File);
        header.size = u64::try_from(stat.st_size).unwrap_or(0);
        header.xattrs = self
            .attributes(file.as_fd())
            .map_err(TreeError::read(path))?;
        self.tar.header(path, &header).map_err(TreeError::Write)?;
        let mut source = Source {
            file: &mut file,
            failed: None,
        };
        match (self.tar.data(&mut source, header.size), source.failed) {
            (_, Some(error)) => Err(TreeError::read(path)(error)),
            (result, None) => result.map_err(TreeError::Write),
        }
    }

    fn symlink(&mut self, stat: &Stat, link: Vec<u8>, path: &[u8]) -> Result<(), TreeError> {
        if self.link(stat, path)? {
            return Ok(());
        }
        let mut header = self.describe(stat, Kind::Symlink);
        header.link = link;
        self.tar.header(path, &header).map_err(TreeError::Write)
    }

    /// Writes a device or a FIFO; tar has no word for a socket.
    fn node(&mut self, stat: &Stat, path: &[u8]) -> Result<(), TreeError> {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::CharacterDevice => Kind::CharDevice,
            FileType::BlockDevice => Kind::BlockDevice,
            FileType::Fifo => Kind::Fifo,
            _ => return Ok(()),
        };
        if self.link(stat, path)? {
            return Ok(());
        }
        let mut header = self.describe(stat, kind);
        header.device = (
            rustix::fs::major(stat.st_rdev),
            rustix::fs::minor(stat.st_rdev),
        );
        self.tar.header(path, &header).map_err(TreeError::Write)
    }

    /// Writes a file that the archive has already as a link to it; says whether it was one.
    fn link(&mut self, stat: &Stat, path: &[u8]) -> Result<bool, TreeError> {
        if stat.st_nlink < 2 {
            return Ok(false);
        }
        let identity = (stat.st_dev, stat.st_ino);
        let mut header = self.describe(stat, Kind::HardLink);
        let Some((first, left)) = self.linked.get_mut(&identity) else {
            let left = stat.st_nlink - 1;
            self.linked.insert(identity, (path.to_vec(), left));
            return Ok(false);
        };
        header.link.clone_from(first);
        *left -= 1;
        if *left == 0 {
            self.linked.remove(&identity);
        }
        self.tar.header(path, &header).map_err(TreeError::Write)?;
        Ok(true)
    }

    /// What a header says of a file, with its owners in the archive.
    fn describe(&self, stat: &Stat, kind: Kind) -> Description {
        let mut file = describe(stat, kind);
        (file.uid, file.gid) = self.options.owners.in_archive((file.uid, file.gid));
        file
    }

    fn attributes(&self, fd: BorrowedFd<'_>) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut found = xattrs::read(fd)?;
        self.options.owners.attributes(&mut found);
        Ok(found)
    }

    /// Writes the header of a directory that was described before.
    pub(crate) fn described(&mut self, path: &[u8], file: &Description) -> Result<(), TreeError> {
        self.tar.header(path, file).map_err(TreeError::Write)
    }

    /// Writes an empty file: a whiteout.
    pub(crate) fn mark(&mut self, path: &[u8]) -> Result<(), TreeError> {
        let file = Description {
            kind: Kind::File,
            mode: 0o600,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: (0, 0),
            link: Vec::new(),
            device: (0, 0),
            xattrs: Vec::new(),
        };
        self.tar.header(path, &file).map_err(TreeError::Write)
    }
}

/// A file whose failure to be read can be told from the output's failure to be written.
struct Source<'a> {
    file: &'a mut File,
    failed: Option<io::Error>,
}

impl io::Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.file.read(buffer) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                let kind = error.kind();
                self.failed = Some(error);
                Err(kind.into())
            }
            other => other,
        }
    }
}

/// What a header says of a file, but for its link, data and attributes.
pub(crate) fn describe(stat: &Stat, kind: Kind) -> Description {
    Description {
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        size: 0,
        mtime: (
            stat.st_mtime,
            u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
        ),
        link: Vec::new(),
        device: (0, 0),
        xattrs: Vec::new(),
    }
}

/// Lists the directory where the walk is.
fn level(stack: &DirStack, path: &[u8]) -> Result<Level, TreeError> {
    let dir = stack.top().map_err(TreeError::read(path))?;
    let mut names: Vec<CString> = list(dir)
        .map_err(TreeError::read(path))?
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    names.sort_unstable_by(|a, b| b.cmp(a));
    Ok(Level {
        names,
        path: path.len(),
    })
}

/// Whether a name vanished, or something of another kind came to it, between two looks.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    let number = error.raw_os_error();
    [Errno::NOENT, Errno::NOTDIR, Errno::LOOP, Errno::NXIO]
        .iter()
        .any(|errno| number == Some(errno.raw_os_error()))
}
