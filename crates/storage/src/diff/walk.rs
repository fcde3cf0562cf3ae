//! The walk through an upper tree beside what lies below it.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Stat};
use rustix::io::Errno;

use super::{ChangeKind, DiffError, Trees};
use crate::files::{Description, describe, read_xattrs};
use crate::fsutil::dir_stack::DirStack;
use crate::fsutil::remove::list;
use crate::tar_stream::Kind;

/// What is told of the changes, in the order of a layer's entries.
pub(super) trait Visitor {
    /// The root directory itself has another owner or mode.
    fn root(&mut self, header: &Description) -> Result<(), DiffError>;
    /// A directory that is new, or in which something is told next.
    fn directory(
        &mut self,
        path: &[u8],
        kind: ChangeKind,
        header: &Description,
    ) -> Result<(), DiffError>;
    /// Anything else, by its directory and name.
    fn leaf(
        &mut self,
        file: (BorrowedFd<'_>, &CStr),
        stat: &Stat,
        path: &[u8],
        kind: ChangeKind,
    ) -> Result<(), DiffError>;
    /// A name that is gone.
    fn deleted(&mut self, path: &[u8]) -> Result<(), DiffError>;
    /// A name that is gone because a directory above it hides all below.
    fn hidden(&mut self, path: &[u8]) -> Result<(), DiffError>;
    /// The directory hides all below.
    fn opaque(&mut self, path: &[u8]) -> Result<(), DiffError>;
}

/// Walks the upper tree and tells what it changes.
pub(super) fn walk(trees: Trees, visitor: &mut impl Visitor) -> Result<(), DiffError> {
    let mut walk = start(trees, visitor).map_err(|fault| fault.into_error(b"/"))?;
    walk.list()?;
    walk.run()
}

fn start<V: Visitor>(trees: Trees, visitor: &mut V) -> Result<Walk<'_, V>, Fault> {
    let above = rustix::fs::fstat(&trees.upper).map_err(io::Error::from)?;
    let below = rustix::fs::fstat(&trees.lower).map_err(io::Error::from)?;
    let header = header(trees.upper.as_fd(), &above)?;
    if owner_or_mode_differs(&above, &below) {
        visitor.root(&header)?;
    }
    let root = Level {
        names: Vec::new(),
        length: 0,
        header,
        kind: ChangeKind::Modified,
        told: true,
        wanted: false,
        place: false,
        hides: false,
        opaque: false,
    };
    Ok(Walk {
        upper: DirStack::new(trees.upper)?,
        lower: Lower {
            stack: DirStack::new(readable(&trees.lower)?)?,
            alone: 0,
        },
        places: trees.places,
        path: Vec::new(),
        levels: vec![root],
        visitor,
    })
}

/// A view may be a mount's root that was opened without the right to read.
fn readable(fd: &OwnedFd) -> io::Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(fd, c".", flags, Mode::empty())?)
}

struct Walk<'a, V> {
    upper: DirStack,
    lower: Lower,
    places: std::collections::HashSet<Vec<u8>>,
    /// The path to where the walk is.
    path: Vec<u8>,
    levels: Vec<Level>,
    visitor: &'a mut V,
}

/// A directory of the walk.
struct Level {
    /// Names still to come, last first; those that only lie below are marked.
    names: Vec<(CString, Origin)>,
    /// Length of its path.
    length: usize,
    header: Description,
    kind: ChangeKind,
    /// Whether the visitor knows it already.
    told: bool,
    /// Whether it is a change by itself.
    wanted: bool,
    /// Whether something in it was made to mount on.
    place: bool,
    /// Whether what lies below is not seen through it.
    hides: bool,
    /// Whether it carries the mark itself.
    opaque: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Origin {
    Upper,
    Below,
}

/// The tree below, as long as it has the same directories.
struct Lower {
    stack: DirStack,
    /// How many directories the walk is beyond what this tree has.
    alone: usize,
}

impl Lower {
    fn look(&self, name: &CStr) -> io::Result<Option<Stat>> {
        if self.alone > 0 {
            return Ok(None);
        }
        match rustix::fs::statat(self.stack.top()?, name, AtFlags::SYMLINK_NOFOLLOW) {
            // The folder of a single layer shows its whiteouts.
            Ok(stat) if is_whiteout(&stat) => Ok(None),
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn enter(&mut self, name: &CStr, found: Option<&Stat>) -> io::Result<()> {
        if self.alone == 0 && found.is_some_and(is_dir) {
            return self.stack.enter(name);
        }
        self.alone += 1;
        Ok(())
    }

    fn leave(&mut self) -> io::Result<()> {
        match self.alone.checked_sub(1) {
            Some(alone) => self.alone = alone,
            None => self.stack.pop()?,
        }
        Ok(())
    }

    fn names(&self) -> io::Result<Vec<CString>> {
        if self.alone > 0 {
            return Ok(Vec::new());
        }
        let all = list(self.stack.top()?)?;
        Ok(all.into_iter().map(|(name, _)| name).collect())
    }
}

impl<V: Visitor> Walk<'_, V> {
    fn run(&mut self) -> Result<(), DiffError> {
        while let Some(level) = self.levels.last_mut() {
            self.path.truncate(level.length);
            let Some((name, origin)) = level.names.pop() else {
                self.leave()?;
                continue;
            };
            if !self.path.is_empty() {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(name.to_bytes());
            self.name(&name, origin)
                .map_err(|fault| fault.into_error(&self.path))?;
        }
        Ok(())
    }

    /// Lists the directory where the walk is.
    fn list(&mut self) -> Result<(), DiffError> {
        let hides = self.levels.last().is_some_and(|level| level.hides);
        let names = || -> io::Result<Vec<(CString, Origin)>> {
            let upper = list(self.upper.top()?)?.into_iter();
            let mut names: BTreeSet<(CString, Origin)> =
                upper.map(|(name, _)| (name, Origin::Upper)).collect();
            if hides {
                for name in self.lower.names()? {
                    if !names.contains(&(name.clone(), Origin::Upper)) {
                        names.insert((name, Origin::Below));
                    }
                }
            }
            Ok(names.into_iter().rev().collect())
        };
        let names = names().map_err(DiffError::compare(&self.path))?;
        if let Some(level) = self.levels.last_mut() {
            level.names = names;
        }
        Ok(())
    }

    fn name(&mut self, name: &CStr, origin: Origin) -> Result<(), Fault> {
        let below = self.lower.look(name)?;
        if origin == Origin::Below {
            if below.is_some() {
                self.tell_parents()?;
                self.visitor.hidden(&self.path)?;
            }
            return Ok(());
        }
        let stat = match rustix::fs::statat(self.upper.top()?, name, AtFlags::SYMLINK_NOFOLLOW) {
            // A container that runs may remove it meanwhile.
            Err(Errno::NOENT) => return Ok(()),
            other => other.map_err(io::Error::from)?,
        };
        if is_whiteout(&stat) {
            return self.whiteout(below.is_some());
        }
        if is_dir(&stat) {
            return self.enter(name, below.as_ref());
        }
        if below.is_none() && self.is_place(&stat) {
            return Ok(());
        }
        let kind = kind_over(below.as_ref());
        self.tell_parents()?;
        let dir = self.upper.top()?;
        Ok(self.visitor.leaf((dir, name), &stat, &self.path, kind)?)
    }

    fn whiteout(&mut self, hides_something: bool) -> Result<(), Fault> {
        if !hides_something {
            return Ok(());
        }
        self.tell_parents()?;
        if self.levels.last().is_some_and(|level| level.hides) {
            return Ok(self.visitor.hidden(&self.path)?);
        }
        Ok(self.visitor.deleted(&self.path)?)
    }

    /// Whether it is an empty file that was made to mount on.
    fn is_place(&mut self, stat: &Stat) -> bool {
        let empty =
            FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_size == 0;
        let place = empty && self.places.contains(&self.path);
        if place && let Some(level) = self.levels.last_mut() {
            level.place = true;
        }
        place
    }

    fn enter(&mut self, name: &CStr, below: Option<&Stat>) -> Result<(), Fault> {
        match self.upper.enter(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        }
        self.lower.enter(name, below)?;
        let dir = self.upper.top()?;
        let stat = rustix::fs::fstat(dir).map_err(io::Error::from)?;
        let same = below.is_some_and(|below| is_dir(below) && !owner_or_mode_differs(&stat, below));
        let opaque = below.is_some_and(is_dir) && is_opaque(dir);
        let inherited = self.levels.last().is_some_and(|level| level.hides);
        self.levels.push(Level {
            names: Vec::new(),
            length: self.path.len(),
            header: header(dir, &stat)?,
            kind: kind_over(below),
            told: false,
            wanted: !same || opaque,
            place: below.is_none() && self.places.contains(&self.path),
            hides: inherited || opaque,
            opaque,
        });
        Ok(self.list()?)
    }

    fn leave(&mut self) -> Result<(), DiffError> {
        let places_only =
            |level: &Level| level.place && !level.told && level.kind == ChangeKind::Added;
        if let Some(level) = self.levels.last()
            && level.wanted
            && !places_only(level)
        {
            self.tell_parents()?;
        }
        let Some(left) = self.levels.pop() else {
            return Ok(());
        };
        if self.levels.is_empty() {
            return Ok(());
        }
        if places_only(&left)
            && let Some(level) = self.levels.last_mut()
        {
            level.place = true;
        }
        let popped = self.upper.pop().and_then(|()| self.lower.leave());
        popped.map_err(DiffError::compare(&self.path))
    }

    /// Tells of the directories on the way that were not told of before.
    fn tell_parents(&mut self) -> Result<(), DiffError> {
        for level in &mut self.levels {
            if level.told {
                continue;
            }
            level.told = true;
            let path = &self.path[..level.length];
            self.visitor.directory(path, level.kind, &level.header)?;
            if level.opaque {
                self.visitor.opaque(path)?;
            }
        }
        Ok(())
    }
}

/// A failure whose path is known to the caller.
enum Fault {
    Io(io::Error),
    Other(DiffError),
}

impl Fault {
    fn into_error(self, path: &[u8]) -> DiffError {
        match self {
            Self::Io(error) => DiffError::compare(path)(error),
            Self::Other(error) => error,
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<DiffError> for Fault {
    fn from(error: DiffError) -> Self {
        Self::Other(error)
    }
}

fn header(dir: BorrowedFd<'_>, stat: &Stat) -> io::Result<Description> {
    let mut header = describe(stat, Kind::Dir);
    header.xattrs = read_xattrs(dir)?;
    Ok(header)
}

fn kind_over(below: Option<&Stat>) -> ChangeKind {
    match below {
        Some(_) => ChangeKind::Modified,
        None => ChangeKind::Added,
    }
}

/// A directory's times and size change with what is in it, and are no measure.
fn owner_or_mode_differs(a: &Stat, b: &Stat) -> bool {
    (a.st_mode, a.st_uid, a.st_gid) != (b.st_mode, b.st_uid, b.st_gid)
}

fn is_dir(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

fn is_opaque(dir: BorrowedFd<'_>) -> bool {
    let mut value = [0_u8; 1];
    let read = rustix::fs::fgetxattr(dir, c"trusted.overlay.opaque", &mut value[..]);
    read == Ok(1) && value == *b"y"
}
