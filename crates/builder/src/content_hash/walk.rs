//! The entries of a tree in the order of their names.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use dockerfile::ignore::{Matcher, Verdict};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::{field, stat_of};

/// Folders in folders.
const DEEPEST: usize = 1000;
/// Entries of one tree.
const MOST: usize = 5_000_000;

/// What of a tree counts.
#[derive(Debug, Default)]
pub(super) struct Filter {
    pub(super) include: Option<Matcher>,
    pub(super) exclude: Option<Matcher>,
}

/// Something that counts.
pub(super) struct Entry {
    /// Its path below the start, and all but its content.
    pub(super) head: [u8; 32],
    /// Where its content is, if it is a file with any.
    pub(super) file: Option<FileEntry>,
}

/// A file whose content counts.
pub(super) struct FileEntry {
    pub(super) directory: Arc<OwnedFd>,
    /// Empty for the descriptor itself.
    pub(super) name: CString,
    pub(super) stat: Stat,
}

struct Level {
    directory: Arc<OwnedFd>,
    names: Vec<CString>,
    length: usize,
    include: Option<Verdict>,
    exclude: Option<Verdict>,
    /// The head of the directory itself, until something in it counts.
    head: Option<[u8; 32]>,
}

/// Everything at an O_PATH descriptor that counts.
pub(super) fn entries(start: &OwnedFd, of_client: bool, filter: &Filter) -> io::Result<Vec<Entry>> {
    let stat = stat_of(start)?;
    let start = Arc::new(start.try_clone()?);
    let kind = FileType::from_raw_mode(stat.st_mode);
    if kind != FileType::Directory {
        return Ok(vec![entry(&start, c"", &stat, "", of_client)?]);
    }
    let mut walk = Walk {
        of_client,
        filter,
        found: vec![Entry {
            head: head(&stat, "", of_client, &[], &[]),
            file: None,
        }],
        levels: Vec::new(),
    };
    let open = open_directory(&start, c".")?;
    walk.levels.push(Level {
        names: listed(&open)?,
        directory: Arc::new(open),
        length: 0,
        include: None,
        exclude: None,
        head: None,
    });
    walk.run()?;
    Ok(walk.found)
}

struct Walk<'a> {
    of_client: bool,
    filter: &'a Filter,
    found: Vec<Entry>,
    levels: Vec<Level>,
}

impl Walk<'_> {
    fn run(&mut self) -> io::Result<()> {
        let mut path = String::new();
        while let Some(level) = self.levels.last_mut() {
            path.truncate(level.length);
            let Some(name) = level.names.pop() else {
                self.levels.pop();
                continue;
            };
            let Ok(text) = name.to_str() else {
                return Err(Errno::ILSEQ.into());
            };
            if !path.is_empty() {
                path.push('/');
            }
            path.push_str(text);
            self.child(&name, &path)?;
            if self.found.len() > MOST {
                return Err(Errno::TOOBIG.into());
            }
        }
        Ok(())
    }

    fn child(&mut self, name: &CStr, path: &str) -> io::Result<()> {
        let Some(level) = self.levels.last() else {
            return Ok(());
        };
        let verdict = |matcher: &Option<Matcher>, above: &Option<Verdict>| {
            matcher.as_ref().map(|m| m.below(path, above.as_ref()))
        };
        let include = verdict(&self.filter.include, &level.include);
        let exclude = verdict(&self.filter.exclude, &level.exclude);
        let wanted = include.as_ref().is_none_or(|v| v.matched)
            && !exclude.as_ref().is_some_and(|v| v.matched);
        let directory = Arc::clone(&level.directory);
        let stat = rustix::fs::statat(&*directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {}
            FileType::Socket => return Ok(()),
            _ if !wanted => return Ok(()),
            _ => {
                self.reach();
                let entry = entry(&directory, name, &stat, path, self.of_client)?;
                self.found.push(entry);
                return Ok(());
            }
        }
        let left_out = match (&self.filter.exclude, &exclude) {
            (Some(matcher), Some(verdict)) => matcher.can_skip(path, verdict),
            _ => false,
        };
        if left_out {
            return Ok(());
        }
        if self.levels.len() >= DEEPEST {
            return Err(Errno::NAMETOOLONG.into());
        }
        let open = open_directory(&directory, name)?;
        let xattrs = storage::trees::xattrs(open.as_fd())?;
        self.levels.push(Level {
            names: listed(&open)?,
            directory: Arc::new(open),
            length: path.len(),
            include,
            exclude,
            head: Some(head(&stat, path, self.of_client, &[], &xattrs)),
        });
        if wanted {
            self.reach();
        }
        Ok(())
    }

    /// Counts the directories on the way to something that counts.
    fn reach(&mut self) {
        for level in &mut self.levels {
            if let Some(head) = level.head.take() {
                self.found.push(Entry { head, file: None });
            }
        }
    }
}

fn entry(
    directory: &Arc<OwnedFd>,
    name: &CStr,
    stat: &Stat,
    path: &str,
    of_client: bool,
) -> io::Result<Entry> {
    let link = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Symlink => rustix::fs::readlinkat(&**directory, name, Vec::new())?.into_bytes(),
        _ => Vec::new(),
    };
    let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    Ok(Entry {
        head: head(stat, path, of_client, &link, &[]),
        file: is_file.then(|| FileEntry {
            directory: Arc::clone(directory),
            name: name.to_owned(),
            stat: *stat,
        }),
    })
}

/// All of an entry but a file's content and attributes.
fn head(
    stat: &Stat,
    path: &str,
    of_client: bool,
    link: &[u8],
    xattrs: &[(Vec<u8>, Vec<u8>)],
) -> [u8; 32] {
    let (uid, gid) = if of_client {
        (0, 0)
    } else {
        (stat.st_uid, stat.st_gid)
    };
    let is_device = matches!(
        FileType::from_raw_mode(stat.st_mode),
        FileType::CharacterDevice | FileType::BlockDevice
    );
    let device = if is_device { stat.st_rdev } else { 0 };
    let mut sum = Sha256::new();
    field(&mut sum, path.as_bytes());
    for number in [stat.st_mode, uid, gid] {
        sum.update(number.to_le_bytes());
    }
    sum.update(device.to_le_bytes());
    field(&mut sum, link);
    for (name, value) in xattrs {
        field(&mut sum, name);
        field(&mut sum, value);
    }
    sum.finalize().into()
}

fn open_directory(directory: &OwnedFd, name: &CStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(directory, name, flags, Mode::empty())?)
}

/// The names of a directory, last first.
fn listed(directory: &OwnedFd) -> io::Result<Vec<CString>> {
    let names = storage::trees::list(directory.as_fd())?;
    let mut names: Vec<CString> = names.into_iter().map(|(name, _)| name).collect();
    names.sort_unstable_by(|a, b| b.cmp(a));
    Ok(names)
}
