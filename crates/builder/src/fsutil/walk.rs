//! What a folder of this machine holds, in the order of transfers.

use std::collections::HashMap;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::error::FsutilError;
use super::mode::to_go;
use super::{Entry, Index, entry};

/// Entries of one tree at most.
pub(super) const MAX_ENTRIES: usize = 4 << 20;
/// Directories in directories at most: each level holds a descriptor.
const MAX_DEPTH: usize = 4096;

/// What a walk looks at beside names and types.
#[derive(Debug, Clone, Copy, Default)]
pub struct Look {
    /// Also what tells a file from another that has its name, size and time.
    pub identity: bool,
    /// Which files are further names of one that came before.
    pub links: bool,
    /// Extended attributes that go with the content.
    pub xattrs: bool,
}

/// Whether an entry is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// It is.
    Yes,
    /// A directory is, if something in it is.
    IfHolds,
    /// Neither it nor what it holds.
    No,
}

/// Lists a folder; `wanted` is asked with the path and whether it is a directory.
///
/// # Errors
/// When a directory cannot be read, a name is not UTF-8, or it holds too much.
pub fn walk(
    folder: BorrowedFd<'_>,
    look: Look,
    wanted: impl FnMut(&str, bool) -> Wanted,
) -> Result<Index, FsutilError> {
    let walk = Walk {
        look,
        wanted,
        entries: Vec::new(),
        links: HashMap::new(),
        held_back: Vec::new(),
        device: None,
        spans_mounts: false,
    };
    walk.all(folder)
}

struct Walk<W> {
    look: Look,
    wanted: W,
    entries: Vec<Entry>,
    /// First paths of files with several names.
    links: HashMap<(u64, u64), String>,
    /// Directories that count only if something in them does, the outermost first.
    held_back: Vec<Entry>,
    /// The file system of what was found first.
    device: Option<u64>,
    spans_mounts: bool,
}

/// A directory that is being listed.
struct Level {
    directory: OwnedFd,
    path: String,
    /// Names still to go, in reverse, with their kinds as far as the directory tells them.
    names: Vec<(CString, FileType)>,
}

impl Level {
    fn new(directory: OwnedFd, path: String) -> Result<Self, FsutilError> {
        let list = storage::trees::list(directory.as_fd());
        let mut names = list.map_err(FsutilError::disk("list", &path))?;
        names.sort_unstable_by(|(left, _), (right, _)| right.cmp(left));
        Ok(Self {
            directory,
            path,
            names,
        })
    }

    fn join(&self, name: &str) -> String {
        if self.path.is_empty() {
            return name.to_owned();
        }
        [&self.path, "/", name].concat()
    }
}

impl<W: FnMut(&str, bool) -> Wanted> Walk<W> {
    fn all(mut self, folder: BorrowedFd<'_>) -> Result<Index, FsutilError> {
        let root = open(folder, c".").map_err(FsutilError::disk("open", "."))?;
        let mut levels = vec![Level::new(root, String::new())?];
        while let Some(level) = levels.last_mut() {
            let Some((name, listed)) = level.names.pop() else {
                let done = &level.path;
                self.held_back.pop_if(|held| held.path == *done);
                levels.pop();
                continue;
            };
            if let Some(below) = self.visit(level, &name, listed)? {
                if levels.len() >= MAX_DEPTH {
                    return Err(too_much("directories that are nested too deeply"));
                }
                levels.push(below);
            }
        }
        Ok(Index {
            entries: self.entries,
            generation: String::new(),
            spans_mounts: self.spans_mounts,
        })
    }

    fn visit(
        &mut self,
        level: &Level,
        name: &CString,
        listed: FileType,
    ) -> Result<Option<Level>, FsutilError> {
        let Ok(text) = name.to_str() else {
            return Err(FsutilError::Path {
                path: level.join(&name.to_string_lossy()),
                why: "it is not UTF-8",
            });
        };
        let path = level.join(text);
        // most of a large folder may not be wanted: its names and kinds are enough to tell
        let mut wanted = Wanted::Yes;
        if listed != FileType::Unknown {
            wanted = (self.wanted)(&path, listed == FileType::Directory);
            if wanted == Wanted::No {
                return Ok(None);
            }
        }
        let stat = rustix::fs::statat(&level.directory, name, AtFlags::SYMLINK_NOFOLLOW);
        let stat = match stat {
            // gone since the directory was listed
            Err(Errno::NOENT) => return Ok(None),
            other => other.map_err(FsutilError::disk("look at", &path))?,
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        let is_dir = kind == FileType::Directory;
        if kind != listed {
            wanted = (self.wanted)(&path, is_dir);
        }
        // a socket has no content that could be sent
        if wanted == Wanted::No || kind == FileType::Socket {
            return Ok(None);
        }
        self.spans_mounts |= *self.device.get_or_insert(stat.st_dev) != stat.st_dev;
        let opened = is_dir
            .then(|| open(level.directory.as_fd(), name))
            .transpose();
        let opened = opened.map_err(FsutilError::disk("open", &path))?;
        let entry = self.entry(level, name, path.clone(), &stat)?;
        if wanted == Wanted::IfHolds && is_dir {
            self.held_back.push(entry);
        } else {
            self.entries.append(&mut self.held_back);
            self.entries.push(entry);
        }
        if self.entries.len() + self.held_back.len() > MAX_ENTRIES {
            return Err(too_much("more entries than one tree may have"));
        }
        opened
            .map(|directory| Level::new(directory, path))
            .transpose()
    }

    fn entry(
        &mut self,
        level: &Level,
        name: &CString,
        path: String,
        stat: &Stat,
    ) -> Result<Entry, FsutilError> {
        let kind = FileType::from_raw_mode(stat.st_mode);
        let mut entry = Entry {
            mode: to_go(stat.st_mode),
            uid: stat.st_uid,
            gid: stat.st_gid,
            modified: nanoseconds(stat.st_mtime, stat.st_mtime_nsec),
            path,
            ..Entry::default()
        };
        if self.look.identity {
            entry.identity = (nanoseconds(stat.st_ctime, stat.st_ctime_nsec), stat.st_ino);
        }
        match kind {
            FileType::RegularFile => self.regular(&mut entry, stat),
            FileType::Symlink => {
                let text = rustix::fs::readlinkat(&level.directory, name, Vec::new());
                let text = text.map_err(FsutilError::disk("read the link", &entry.path))?;
                entry.link = text.to_string_lossy().into_owned();
                entry.size = stat.st_size.unsigned_abs();
            }
            FileType::CharacterDevice | FileType::BlockDevice => {
                let device = stat.st_rdev;
                entry.device = (rustix::fs::major(device), rustix::fs::minor(device));
            }
            _ => {}
        }
        if kind == FileType::RegularFile && self.look.xattrs {
            entry.xattrs = xattrs(level, name, &entry.path)?;
        }
        Ok(entry)
    }

    fn regular(&mut self, entry: &mut Entry, stat: &Stat) {
        entry.size = stat.st_size.unsigned_abs();
        if stat.st_nlink < 2 || !self.look.links {
            return;
        }
        let first = self.links.entry((stat.st_dev, stat.st_ino));
        let first = first.or_insert_with(|| entry.path.clone());
        if *first != entry.path {
            entry.link.clone_from(first);
        }
    }
}

fn too_much(what: &'static str) -> FsutilError {
    FsutilError::Protocol { what }
}

fn open(directory: BorrowedFd<'_>, name: &std::ffi::CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(directory, name, flags, Mode::empty())
}

fn nanoseconds(seconds: i64, rest: u64) -> i64 {
    let rest = i64::try_from(rest).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
}

/// The attributes that go with a file's content.
fn xattrs(
    level: &Level,
    name: &CString,
    path: &str,
) -> Result<std::collections::BTreeMap<String, Vec<u8>>, FsutilError> {
    // a descriptor that was opened with O_PATH gives no attributes (open(2)); files alone are asked
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&level.directory, name, flags, Mode::empty());
    let file = file.map_err(FsutilError::disk("open", path))?;
    let found = storage::trees::xattrs(file.as_fd());
    let found: Vec<(Vec<u8>, Vec<u8>)> =
        found.map_err(FsutilError::disk("read the attributes of", path))?;
    let texts = found
        .into_iter()
        .filter_map(|(name, value)| Some((String::from_utf8(name).ok()?, value)));
    Ok(texts.filter(|(name, _)| entry::is_kept(name)).collect())
}
