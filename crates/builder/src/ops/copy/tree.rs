//! Copying what was found, with all below it.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use dockerfile::ignore::{Matcher, Verdict};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::attributes::{self, Stamp};
use super::path::{Found, Target};
use super::{Options, Source, failed};
use crate::error::Result;

/// Folders in folders; each holds two descriptors while it is copied.
const DEEPEST: usize = 1000;
/// Files up to this size are read and written; larger ones the kernel copies, or shares their blocks.
const SMALL: u64 = 64 * 1024;

/// Copies what was found to its place.
pub(super) fn copy(
    source: &Source,
    found: &Found,
    place: &Target,
    options: &Options,
) -> Result<()> {
    let mut copier = Copier {
        maker: Maker {
            options,
            of_client: source.of_client,
            linked: HashMap::new(),
            buffer: Vec::new(),
        },
        frames: Vec::new(),
    };
    let name = CString::new(place.name.as_str())
        .map_err(|error| failed("name", &place.path)(error.into()))?;
    if found.is_directory() {
        return copier.directory_tree(found, place, &name);
    }
    let by_fd = SourceName {
        directory: found.fd.as_fd(),
        name: c"",
    };
    let step = || failed("copy", &place.path);
    copier
        .maker
        .leaf(&by_fd, &found.stat, place.directory.as_fd(), &name)
        .map_err(step())
}

/// What is copied: a name in a directory, or a descriptor of the thing itself.
struct SourceName<'a> {
    directory: BorrowedFd<'a>,
    name: &'a CStr,
}

impl SourceName<'_> {
    fn open(&self) -> io::Result<OwnedFd> {
        // O_NONBLOCK: a FIFO may have come to the name meanwhile
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        if self.name.is_empty() {
            let path = format!("/proc/self/fd/{}", self.directory.as_raw_fd());
            return Ok(rustix::fs::open(path, flags, Mode::empty())?);
        }
        let flags = flags | OFlags::NOFOLLOW;
        Ok(rustix::fs::openat(
            self.directory,
            self.name,
            flags,
            Mode::empty(),
        )?)
    }
}

/// A directory that is being copied.
struct Frame {
    from: OwnedFd,
    stat: Stat,
    /// Absent while nothing of it is wanted yet.
    to: Option<OwnedFd>,
    /// Its name in the target's parent.
    name: CString,
    /// Whether its attributes are the source's in the end.
    stamped: bool,
    /// Names still to come, last first.
    names: Vec<(CString, FileType)>,
    /// Length of the path up to it.
    length: usize,
    include: Option<Verdict>,
    exclude: Option<Verdict>,
}

/// Makes single files and folders.
struct Maker<'a> {
    options: &'a Options,
    of_client: bool,
    /// Files with several links that were copied already: a descriptor of the copy.
    linked: HashMap<(u64, u64), OwnedFd>,
    buffer: Vec<u8>,
}

/// Walks the source's tree.
struct Copier<'a> {
    maker: Maker<'a>,
    frames: Vec<Frame>,
}

impl Maker<'_> {
    fn stamp(&self, stat: &Stat) -> Stamp {
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let own = if self.of_client {
            (0, 0)
        } else {
            (stat.st_uid, stat.st_gid)
        };
        let mode = stat.st_mode & 0o7777;
        let change = self.options.mode.as_ref();
        Stamp {
            owner: self.options.owner.unwrap_or(own),
            mode: change.map_or(mode, |change| change.apply(mode, is_directory)),
            times: self
                .options
                .time
                .map_or_else(|| attributes::times_of(stat), attributes::at),
        }
    }
}

impl Copier<'_> {
    /// Copies a directory; with the empty name its content goes into the place itself.
    fn directory_tree(&mut self, found: &Found, place: &Target, name: &CStr) -> Result<()> {
        let step = || failed("copy", &place.path);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let from = rustix::fs::openat(&found.fd, c".", flags, Mode::empty())
            .map_err(|error| step()(error.into()))?;
        let (to, made) = if name.is_empty() {
            let to = rustix::fs::openat(&place.directory, c".", flags, Mode::empty());
            (to.map_err(|error| step()(error.into()))?, false)
        } else {
            self.maker
                .enter(place.directory.as_fd(), name)
                .map_err(step())?
        };
        let names = listed(&from).map_err(step())?;
        self.frames.push(Frame {
            from,
            stat: found.stat,
            to: Some(to),
            name: name.to_owned(),
            // a directory that was there keeps what it is like, and one that was made for the
            // content alone is an ordinary one
            stamped: made,
            names,
            length: 0,
            include: None,
            exclude: None,
        });
        let mut path = String::new();
        self.walk(&mut path)
            .map_err(|error| failed("copy", &path)(error))
    }

    fn walk(&mut self, path: &mut String) -> io::Result<()> {
        while let Some(frame) = self.frames.last_mut() {
            path.truncate(frame.length);
            let Some((name, _)) = frame.names.pop() else {
                if let Some(done) = self.frames.pop() {
                    self.maker.leave(&done)?;
                }
                continue;
            };
            let Ok(text) = name.to_str() else {
                // neither a pattern nor an archive of a client can name it
                return Err(Errno::ILSEQ.into());
            };
            if !path.is_empty() {
                path.push('/');
            }
            path.push_str(text);
            self.child(&name, path)?;
        }
        Ok(())
    }

    /// Copies one name of the directory on top, or steps into it.
    fn child(&mut self, name: &CStr, path: &str) -> io::Result<()> {
        let Some(frame) = self.frames.last() else {
            return Ok(());
        };
        let verdict = |matcher: &Option<Matcher>, above: &Option<Verdict>| {
            matcher.as_ref().map(|m| m.below(path, above.as_ref()))
        };
        let include = verdict(&self.maker.options.include, &frame.include);
        let exclude = verdict(&self.maker.options.exclude, &frame.exclude);
        let wanted = include.as_ref().is_none_or(|v| v.matched)
            && !exclude.as_ref().is_some_and(|v| v.matched);
        let stat = rustix::fs::statat(&frame.from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            if !wanted {
                return Ok(());
            }
            self.make_target()?;
            let Some(Frame {
                from, to: Some(to), ..
            }) = self.frames.last()
            else {
                return Ok(());
            };
            let source = SourceName {
                directory: from.as_fd(),
                name,
            };
            return self.maker.leaf(&source, &stat, to.as_fd(), name);
        }
        let skip = |matcher: &Option<Matcher>, verdict: &Option<Verdict>| match (matcher, verdict) {
            (Some(matcher), Some(verdict)) => matcher.can_skip(path, verdict),
            _ => false,
        };
        if !wanted
            && exclude.as_ref().is_some_and(|v| v.matched)
            && skip(&self.maker.options.exclude, &exclude)
        {
            return Ok(());
        }
        self.step_in(name, &stat, path, wanted, (include, exclude))
    }

    fn step_in(
        &mut self,
        name: &CStr,
        stat: &Stat,
        path: &str,
        wanted: bool,
        (include, exclude): (Option<Verdict>, Option<Verdict>),
    ) -> io::Result<()> {
        if self.frames.len() >= DEEPEST {
            return Err(Errno::NAMETOOLONG.into());
        }
        let Some(frame) = self.frames.last() else {
            return Ok(());
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let from = rustix::fs::openat(&frame.from, name, flags, Mode::empty())?;
        let names = listed(&from)?;
        self.frames.push(Frame {
            from,
            stat: *stat,
            to: None,
            name: name.to_owned(),
            stamped: true,
            names,
            length: path.len(),
            include,
            exclude,
        });
        if wanted {
            self.make_target()?;
        }
        Ok(())
    }

    /// Makes the target of the directory on top, with all above it, when it is first needed.
    fn make_target(&mut self) -> io::Result<()> {
        let made = self.frames.iter().rposition(|frame| frame.to.is_some());
        for at in made.map_or(0, |at| at + 1)..self.frames.len() {
            let (above, below) = self.frames.split_at_mut(at);
            let (
                Some(Frame {
                    to: Some(above), ..
                }),
                Some(frame),
            ) = (above.last(), below.first_mut())
            else {
                return Err(Errno::NOENT.into());
            };
            let (to, made) = self.maker.enter(above.as_fd(), &frame.name)?;
            // with patterns a directory that was there keeps what it is like
            frame.stamped = made || self.maker.options.include.is_none();
            frame.to = Some(to);
        }
        Ok(())
    }
}

impl Maker<'_> {
    /// Opens a directory of the target, and makes it when it is not there.
    fn enter(&self, directory: BorrowedFd<'_>, name: &CStr) -> io::Result<(OwnedFd, bool)> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut made = false;
        match rustix::fs::mkdirat(directory, name, Mode::from_raw_mode(0o700)) {
            Ok(()) => made = true,
            Err(Errno::EXIST) => {
                let there = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
                if FileType::from_raw_mode(there.st_mode) != FileType::Directory {
                    if !self.options.replace {
                        return Err(io::Error::new(
                            io::ErrorKind::NotADirectory,
                            "cannot copy to non-directory",
                        ));
                    }
                    storage::trees::remove_at(directory, name)?;
                    rustix::fs::mkdirat(directory, name, Mode::from_raw_mode(0o700))?;
                    made = true;
                }
            }
            Err(error) => return Err(error.into()),
        }
        Ok((
            rustix::fs::openat(directory, name, flags, Mode::empty())?,
            made,
        ))
    }

    /// Gives a directory its attributes, after all in it was written.
    fn leave(&self, frame: &Frame) -> io::Result<()> {
        let (Some(to), true) = (&frame.to, frame.stamped) else {
            return Ok(());
        };
        attributes::copy_xattrs(frame.from.as_fd(), to.as_fd())?;
        attributes::finish(to.as_fd(), &self.stamp(&frame.stat))
    }

    /// Copies what is no directory.
    fn leaf(
        &mut self,
        source: &SourceName<'_>,
        stat: &Stat,
        to: BorrowedFd<'_>,
        name: &CStr,
    ) -> io::Result<()> {
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Socket {
            return Ok(());
        }
        let linked = (stat.st_nlink > 1).then_some((stat.st_dev, stat.st_ino));
        if let Some(first) = linked.and_then(|identity| self.linked.get(&identity)) {
            let path = format!("/proc/self/fd/{}", first.as_raw_fd());
            return self.fresh(to, name, || {
                Ok(rustix::fs::linkat(
                    rustix::fs::CWD,
                    &path,
                    to,
                    name,
                    AtFlags::SYMLINK_FOLLOW,
                )?)
            });
        }
        match kind {
            FileType::RegularFile => self.file(source, to, name)?,
            FileType::Symlink => {
                let link = rustix::fs::readlinkat(source.directory, source.name, Vec::new())?;
                self.fresh(to, name, || {
                    Ok(rustix::fs::symlinkat(link.as_c_str(), to, name)?)
                })?;
                attributes::finish_name(to, name, &self.stamp(stat), true)?;
            }
            _ => {
                let device = stat.st_rdev;
                let mode = Mode::from_raw_mode(0o600);
                self.fresh(to, name, || {
                    Ok(rustix::fs::mknodat(to, name, kind, mode, device)?)
                })?;
                attributes::finish_name(to, name, &self.stamp(stat), false)?;
            }
        }
        if let Some(identity) = linked {
            self.remember(identity, to, name)?;
        }
        Ok(())
    }

    /// Keeps the first copy of a file with several links at hand.
    fn remember(
        &mut self,
        identity: (u64, u64),
        to: BorrowedFd<'_>,
        name: &CStr,
    ) -> io::Result<()> {
        /// Each is a descriptor; a hostile tree can have any number.
        const AT_MOST: usize = 512;
        if self.linked.len() >= AT_MOST {
            self.linked.clear();
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let first = rustix::fs::openat(to, name, flags, Mode::empty())?;
        self.linked.insert(identity, first);
        Ok(())
    }

    /// Makes a name that may be taken by something else, which goes.
    fn fresh<T>(
        &self,
        to: BorrowedFd<'_>,
        name: &CStr,
        make: impl Fn() -> io::Result<T>,
    ) -> io::Result<T> {
        match make() {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => return other,
        }
        let there = rustix::fs::statat(to, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(there.st_mode) == FileType::Directory && !self.options.replace {
            return Err(io::Error::new(
                io::ErrorKind::IsADirectory,
                "cannot replace to directory with file",
            ));
        }
        storage::trees::remove_at(to, name)?;
        make()
    }

    fn file(&mut self, source: &SourceName<'_>, to: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
        let mut from = File::from(source.open()?);
        let stat = rustix::fs::fstat(&from)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Errno::INVAL.into());
        }
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let stamp = self.stamp(&stat);
        let mode = Mode::from_raw_mode(stamp.mode & 0o777);
        let create = || Ok(rustix::fs::openat(to, name, flags, mode)?);
        let mut file = File::from(self.fresh(to, name, create)?);
        self.content(&mut from, &mut file, &stat)?;
        attributes::copy_xattrs(from.as_fd(), file.as_fd())?;
        attributes::finish(file.as_fd(), &stamp)
    }

    /// Copies the bytes; what is no data in the source is none in the copy.
    fn content(&mut self, from: &mut File, to: &mut File, stat: &Stat) -> io::Result<()> {
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        if size == 0 {
            return Ok(());
        }
        if size <= SMALL {
            self.buffer.clear();
            from.take(SMALL + 1).read_to_end(&mut self.buffer)?;
            return to.write_all(&self.buffer);
        }
        let allocated = u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
        if allocated >= size {
            copy_range(from, to, 0, size)?;
            return Ok(());
        }
        let mut at = 0;
        while at < size {
            let data = match rustix::fs::seek(&*from, rustix::fs::SeekFrom::Data(at)) {
                Ok(data) => data,
                // nothing but a hole up to the end
                Err(Errno::NXIO) => break,
                Err(error) => return Err(error.into()),
            };
            let hole = rustix::fs::seek(&*from, rustix::fs::SeekFrom::Hole(data))?;
            let end = hole.min(size);
            copy_range(from, to, data, end)?;
            at = end.max(data + 1);
        }
        to.set_len(size)
    }
}

/// Copies a part of a file within the kernel.
fn copy_range(from: &File, to: &File, start: u64, end: u64) -> io::Result<()> {
    let (mut read, mut written) = (start, start);
    while read < end {
        let length = usize::try_from(end - read)
            .unwrap_or(usize::MAX)
            .min(1 << 30);
        let copied =
            rustix::fs::copy_file_range(from, Some(&mut read), to, Some(&mut written), length);
        match copied {
            // it has become shorter
            Ok(0) => return Ok(()),
            Ok(_) => {}
            // another file system, or one that cannot
            Err(Errno::XDEV | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => {
                return copy_plainly(from, to, read, end);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn copy_plainly(from: &File, to: &File, mut at: u64, end: u64) -> io::Result<()> {
    use std::os::unix::fs::FileExt as _;
    let mut buffer = vec![0; 256 * 1024];
    while at < end {
        let most = usize::try_from(end - at)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let count = from.read_at(&mut buffer[..most], at)?;
        if count == 0 {
            break;
        }
        to.write_all_at(&buffer[..count], at)?;
        at += count as u64;
    }
    Ok(())
}

/// The names of a directory, last first.
fn listed(directory: &OwnedFd) -> io::Result<Vec<(CString, FileType)>> {
    let mut names = storage::trees::list(directory.as_fd())?;
    names.sort_unstable_by(|a, b| b.0.cmp(&a.0));
    Ok(names)
}

/// A copy of everything as it is.
static PLAIN: Options = Options {
    owner: None,
    mode: None,
    time: None,
    contents_only: false,
    follow: false,
    replace: false,
    include: None,
    exclude: None,
};

/// Copies names one by one, with all below them.
pub(in crate::ops) struct Single {
    copier: Copier<'static>,
}

impl Single {
    pub(in crate::ops) fn new(of_client: bool) -> Self {
        Self {
            copier: Copier {
                maker: Maker {
                    options: &PLAIN,
                    of_client,
                    linked: HashMap::new(),
                    buffer: Vec::new(),
                },
                frames: Vec::new(),
            },
        }
    }

    pub(in crate::ops) fn copy(
        &mut self,
        from: BorrowedFd<'_>,
        name: &CStr,
        stat: &Stat,
        to: BorrowedFd<'_>,
    ) -> io::Result<()> {
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            let source = SourceName {
                directory: from,
                name,
            };
            return self.copier.maker.leaf(&source, stat, to, name);
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let from = rustix::fs::openat(from, name, flags, Mode::empty())?;
        let (to, _) = self.copier.maker.enter(to, name)?;
        let names = listed(&from)?;
        self.copier.frames.push(Frame {
            from,
            stat: *stat,
            to: Some(to),
            name: name.to_owned(),
            stamped: true,
            names,
            length: 0,
            include: None,
            exclude: None,
        });
        self.copier.walk(&mut String::new())
    }

    pub(in crate::ops) fn directory(
        &self,
        from: BorrowedFd<'_>,
        stat: &Stat,
        to: BorrowedFd<'_>,
    ) -> io::Result<()> {
        attributes::copy_xattrs(from, to)?;
        attributes::finish(to, &self.copier.maker.stamp(stat))
    }
}
