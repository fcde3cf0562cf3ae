//! A tar stream into a directory that others may change meanwhile.
//!
//! Nothing is set by a path: a file is made under its own name with `O_EXCL`, and its owner, mode,
//! attributes and times are set by its fd. What is at a name already is removed, never written
//! through; only a directory is kept.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek as _, SeekFrom, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid, XattrFlags};
use rustix::io::Errno;

use super::Owners;
use super::place::{Places, open_dir};
use crate::compression::unpacked;
use crate::copy_up::xattrs::is_content;
use crate::fsutil;
use crate::tar_stream::{Archive, ArchiveError, Entry, Kind, shown};
use crate::unpack::{Refusal, attributes, path};

/// Bytes read from the source at once.
const INPUT: usize = 256 * 1024;
/// What may stand behind the end of an archive: programs fill the last record up.
const TAIL: u64 = 16 << 20;
/// Bytes of directories that are remembered: a small packed archive can name millions of them.
const REMEMBERED: usize = 64 << 20;

/// Whose the files become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// Those that the archive names.
    Archive,
    /// Whoever extracts.
    Caller,
    /// These, all of them.
    Fixed {
        /// User id.
        uid: u32,
        /// Group id.
        gid: u32,
    },
}

/// How an archive is extracted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtractOptions {
    /// Whose the files become.
    pub ownership: Ownership,
    /// Whether a directory and something else may take each other's place.
    pub replace_kind: bool,
    /// The one name at the top of the archive, and what it becomes; nothing beside it is taken.
    pub rename: Option<Rename>,
    /// Who the archive's owners are in the tree.
    pub owners: Owners,
}

/// A name at the top of an archive, and what it becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rename {
    /// The name in the archive.
    pub from: Vec<u8>,
    /// The name on the disk.
    pub to: Vec<u8>,
}

impl Rename {
    /// The name on the disk of something in the archive.
    fn apply(&self, name: &[u8]) -> Option<Vec<u8>> {
        let rest = name.strip_prefix(self.from.as_slice())?;
        let rest = match (self.from.ends_with(b"/"), rest.strip_prefix(b"/")) {
            (false, None) if !rest.is_empty() => return None,
            (_, stripped) => stripped.unwrap_or(rest),
        };
        let to = self.to.as_slice();
        Some(if rest.is_empty() {
            to.to_vec()
        } else {
            [to, b"/", rest].concat()
        })
    }
}

/// An archive that cannot be extracted.
#[derive(Debug, thiserror::Error)]
pub enum ExtractError {
    /// The stream cannot be read.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The compression cannot be undone.
    #[error("read the start of the archive")]
    Start(#[source] io::Error),
    /// An entry does what it may not.
    #[error("refused entry {entry:?}: {reason}")]
    Refused {
        /// The entry's name.
        entry: String,
        /// Why it is refused.
        reason: Refusal,
    },
    /// A directory would take the place of something else.
    #[error("cannot overwrite non-directory {entry:?} with directory")]
    DirectoryOver {
        /// The entry's name.
        entry: String,
    },
    /// Something else would take the place of a directory.
    #[error("cannot overwrite directory {entry:?} with non-directory")]
    OverDirectory {
        /// The entry's name.
        entry: String,
    },
    /// A name that was not asked for.
    #[error("refused entry {entry:?}: it is not below {top:?}, which was asked for")]
    Beside {
        /// The entry's name.
        entry: String,
        /// The name that was asked for.
        top: String,
    },
    /// The directory is one of the kernel's.
    #[error("the directory is on a file system of the kernel, which takes no files")]
    Kernels,
    /// The file system does not take an entry.
    #[error("{step} {entry:?}")]
    Step {
        /// What was done.
        step: &'static str,
        /// For which entry.
        entry: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

/// Whether something is an archive, packed in any known way, that has an entry.
#[must_use]
pub fn is_archive(source: impl Read) -> bool {
    let Ok(plain) = unpacked(source) else {
        return false;
    };
    let mut archive = Archive::new(BufReader::new(plain));
    matches!(archive.next(), Ok(Some(_)))
}

/// Extracts an archive, packed in any known way, into an open directory.
///
/// # Errors
///
/// The first entry that is refused or fails; what was extracted before it stays.
pub fn extract(
    start: OwnedFd,
    source: impl Read,
    options: &ExtractOptions,
) -> Result<(), ExtractError> {
    if is_kernels(start.as_fd()) {
        return Err(ExtractError::Kernels);
    }
    let plain = unpacked(source).map_err(ExtractError::Start)?;
    let mut archive = Archive::new(BufReader::with_capacity(INPUT, plain));
    let mut extractor = Extractor {
        places: Places::new(start),
        options: options.clone(),
        directories: Vec::new(),
        remembered: 0,
    };
    while let Some(mut entry) = archive.next()? {
        if let Some(rename) = &options.rename {
            renamed(&mut entry, rename)?;
        }
        extractor.entry(&entry, &mut archive)?;
    }
    extractor.set_directories()?;
    // Whoever sends the archive waits until all of it is taken.
    let mut rest = archive.into_inner().take(TAIL);
    if let Err(error) = io::copy(&mut rest, &mut io::sink()) {
        tracing::debug!(%error, "what stands behind an archive cannot be read");
    }
    Ok(())
}

struct Extractor {
    places: Places,
    options: ExtractOptions,
    /// Mode and time of directories, set at the end because every new entry changes the time.
    directories: Vec<(Vec<u8>, u32, (i64, u32))>,
    /// What they take, bytes.
    remembered: usize,
}

/// Where an entry goes.
struct Place<'a> {
    entry: &'a Entry,
    path: Vec<u8>,
    parent: Rc<OwnedFd>,
    name: CString,
}

impl Place<'_> {
    fn step<E: Into<io::Error>>(&self, step: &'static str) -> impl FnOnce(E) -> ExtractError {
        failed(step, &self.entry.name)
    }

    fn refuse(&self, reason: Refusal) -> ExtractError {
        refused(&self.entry.name, reason)
    }

    /// What is at the name now.
    fn found(&self) -> Result<FileType, ExtractError> {
        let stat = rustix::fs::statat(&self.parent, &self.name, AtFlags::SYMLINK_NOFOLLOW);
        let stat = stat.map_err(self.step("look at"))?;
        Ok(FileType::from_raw_mode(stat.st_mode))
    }
}

impl Extractor {
    fn entry<R: BufRead>(
        &mut self,
        entry: &Entry,
        archive: &mut Archive<R>,
    ) -> Result<(), ExtractError> {
        let refuse = |reason| refused(&entry.name, reason);
        let target = path::normalise(&entry.name).map_err(refuse)?;
        let Some((dir, name)) = path::split(&target) else {
            // The directory that is extracted to stays as it is.
            return Ok(());
        };
        let owner = self.owner(entry)?;
        let parent = self.places.parent(dir, |made| own(made, owner));
        let parent = parent.map_err(|error| not_a_dir(error, dir, entry))?;
        let place = Place {
            entry,
            parent,
            name: path::c_name(name),
            path: target.clone(),
        };
        match entry.kind {
            Kind::File => self.file(&place, archive, owner),
            Kind::Dir => self.dir(&place, owner),
            Kind::Symlink => self.symlink(&place, owner),
            Kind::HardLink => self.hard_link(&place),
            Kind::CharDevice | Kind::BlockDevice | Kind::Fifo => self.node(&place, owner),
        }
    }

    fn owner(&self, entry: &Entry) -> Result<Option<(u32, u32)>, ExtractError> {
        let given = match self.options.ownership {
            Ownership::Caller => return Ok(None),
            Ownership::Fixed { uid, gid } => (uid, gid),
            Ownership::Archive => {
                let owner = attributes::Owner::of(entry);
                let owner = owner.map_err(|reason| refused(&entry.name, reason))?;
                (owner.uid, owner.gid)
            }
        };
        let own = self.options.owners.in_tree(given);
        own.map(Some).ok_or_else(|| ExtractError::Step {
            step: "find the owner in the container's user namespace of",
            entry: shown(&entry.name),
            source: Errno::OVERFLOW.into(),
        })
    }

    fn file<R: BufRead>(
        &mut self,
        at: &Place<'_>,
        archive: &mut Archive<R>,
        owner: Option<(u32, u32)>,
    ) -> Result<(), ExtractError> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let create = || rustix::fs::openat(&at.parent, &at.name, flags, Mode::from(0o600));
        let made = match self.replacing(at, create, "create file") {
            Err(ExtractError::Step { source, .. }) if is_busy(&source) => {
                // A file that is mounted on (`/etc/hosts`) cannot be replaced, only filled anew.
                let mut file = overwrite(at)?;
                return copy(archive, &mut file, at);
            }
            other => other?,
        };
        let mut file = File::from(made);
        copy(archive, &mut file, at)?;
        // chown(2) and write(2) clear setuid, setgid and capabilities, so these come last.
        own(file.as_fd(), owner).map_err(at.step("set the owner of"))?;
        rustix::fs::fchmod(&file, Mode::from(at.entry.mode)).map_err(at.step("set the mode of"))?;
        set_xattrs(file.as_fd(), at)?;
        rustix::fs::futimens(&file, &attributes::times(at.entry.mtime))
            .map_err(at.step("set the times of"))
    }

    fn dir(&mut self, at: &Place<'_>, owner: Option<(u32, u32)>) -> Result<(), ExtractError> {
        let make = || rustix::fs::mkdirat(&at.parent, &at.name, Mode::from(0o700));
        match make() {
            Ok(()) => {}
            Err(Errno::EXIST) if at.found()? == FileType::Directory => {}
            Err(Errno::EXIST) => {
                if !self.options.replace_kind {
                    let entry = shown(&at.path);
                    return Err(ExtractError::DirectoryOver { entry });
                }
                self.clear(at)?;
                make().map_err(at.step("make directory"))?;
            }
            Err(error) => return Err(at.step("make directory")(error)),
        }
        let dir = open_dir(at.parent.as_fd(), &at.name).map_err(at.step("open directory"))?;
        if is_kernels(dir.as_fd()) {
            return Ok(());
        }
        own(dir.as_fd(), owner).map_err(at.step("set the owner of"))?;
        set_xattrs(dir.as_fd(), at)?;
        let set_mode =
            |mode| rustix::fs::fchmod(&dir, Mode::from(mode)).map_err(at.step("set the mode of"));
        self.remembered += at.path.len() + 64;
        if self.remembered > REMEMBERED {
            set_mode(at.entry.mode)?;
            return rustix::fs::futimens(&dir, &attributes::times(at.entry.mtime))
                .map_err(at.step("set the times of"));
        }
        // Until its entries are made, whoever extracts must be able to write in it.
        set_mode(at.entry.mode | 0o700)?;
        self.directories
            .push((at.path.clone(), at.entry.mode, at.entry.mtime));
        Ok(())
    }

    fn symlink(&mut self, at: &Place<'_>, owner: Option<(u32, u32)>) -> Result<(), ExtractError> {
        if at.entry.link.contains(&0) {
            return Err(at.refuse(Refusal::Nul));
        }
        // Any target is fine: it is content, and not followed out of the directory.
        let make = || rustix::fs::symlinkat(at.entry.link.as_slice(), &at.parent, &at.name);
        self.replacing(at, make, "make symbolic link")?;
        own_name(at, owner)?;
        touch(at)
    }

    fn hard_link(&mut self, at: &Place<'_>) -> Result<(), ExtractError> {
        let target = shown(&at.entry.link);
        let bad = |_| {
            at.refuse(Refusal::LinkPath {
                target: target.clone(),
            })
        };
        let link = path::normalise(&at.entry.link).map_err(bad)?;
        let Some((dir, name)) = path::split(&link).filter(|_| link != at.path) else {
            return Err(bad(Refusal::NoName));
        };
        let missing = || {
            at.refuse(Refusal::LinkMissing {
                target: target.clone(),
            })
        };
        let from = match self.places.existing(dir) {
            Err(error) if super::tree::is_gone(&error) => return Err(missing()),
            other => other.map_err(at.step("open the target of hard link"))?,
        };
        let name = path::c_name(name);
        let Ok(there) = rustix::fs::statat(&from, &name, AtFlags::SYMLINK_NOFOLLOW) else {
            return Err(missing());
        };
        // Without AT_SYMLINK_FOLLOW a symbolic link itself is linked, and never what it names.
        let make = || rustix::fs::linkat(&from, &name, &at.parent, &at.name, AtFlags::empty());
        let here = rustix::fs::statat(&at.parent, &at.name, AtFlags::SYMLINK_NOFOLLOW);
        if here.is_ok_and(|here| (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)) {
            return Ok(());
        }
        self.replacing(at, make, "make hard link")
    }

    /// Devices and FIFOs.
    fn node(&mut self, at: &Place<'_>, owner: Option<(u32, u32)>) -> Result<(), ExtractError> {
        let kind = match at.entry.kind {
            Kind::CharDevice => FileType::CharacterDevice,
            Kind::BlockDevice => FileType::BlockDevice,
            _ => FileType::Fifo,
        };
        let device = rustix::fs::makedev(at.entry.device.0, at.entry.device.1);
        let mode = Mode::from(0o600);
        let make = || rustix::fs::mknodat(&at.parent, &at.name, kind, mode, device);
        self.replacing(at, make, "make device node")?;
        own_name(at, owner)?;
        set_mode_of_node(at, kind)?;
        touch(at)
    }

    /// Makes something; what is at its place already is removed.
    fn replacing<T>(
        &mut self,
        at: &Place<'_>,
        make: impl Fn() -> Result<T, Errno>,
        what: &'static str,
    ) -> Result<T, ExtractError> {
        match make() {
            Err(Errno::EXIST) => {
                if at.found()? == FileType::Directory && !self.options.replace_kind {
                    let entry = shown(&at.path);
                    return Err(ExtractError::OverDirectory { entry });
                }
                self.clear(at)?;
                make().map_err(at.step(what))
            }
            other => other.map_err(at.step(what)),
        }
    }

    /// Removes what an entry replaces, with everything below it.
    fn clear(&mut self, at: &Place<'_>) -> Result<(), ExtractError> {
        fsutil::remove::remove_at(at.parent.as_fd(), &at.name).map_err(at.step("replace"))?;
        // What was removed may be a link that directories were found through.
        self.places.forget();
        Ok(())
    }

    fn set_directories(&mut self) -> Result<(), ExtractError> {
        for (path, mode, mtime) in std::mem::take(&mut self.directories) {
            let dir = match self.places.reopen(&path) {
                // Replaced since.
                Err(error) if super::tree::is_gone(&error) => continue,
                other => other.map_err(failed("open directory", &path))?,
            };
            rustix::fs::fchmod(&dir, Mode::from(mode)).map_err(failed("set the mode of", &path))?;
            rustix::fs::futimens(&dir, &attributes::times(mtime))
                .map_err(failed("set the times of", &path))?;
        }
        Ok(())
    }
}

/// Gives an entry, and the target of a hard link, its name on the disk.
fn renamed(entry: &mut Entry, rename: &Rename) -> Result<(), ExtractError> {
    let beside = |name: &[u8]| ExtractError::Beside {
        entry: shown(name),
        top: shown(&rename.from),
    };
    entry.name = rename
        .apply(&entry.name)
        .ok_or_else(|| beside(&entry.name))?;
    if entry.kind == Kind::HardLink {
        entry.link = rename
            .apply(&entry.link)
            .ok_or_else(|| beside(&entry.link))?;
    }
    Ok(())
}

fn refused(name: &[u8], reason: Refusal) -> ExtractError {
    let entry = shown(name);
    ExtractError::Refused { entry, reason }
}

/// Names the step and the entry of a failed system call.
fn failed<E: Into<io::Error>>(step: &'static str, name: &[u8]) -> impl FnOnce(E) -> ExtractError {
    move |source| ExtractError::Step {
        step,
        entry: shown(name),
        source: source.into(),
    }
}

/// What a parent that cannot be opened means.
fn not_a_dir(error: io::Error, dir: &[u8], entry: &Entry) -> ExtractError {
    if super::tree::is_gone(&error) {
        let parent = shown(dir);
        return refused(&entry.name, Refusal::Parent { parent });
    }
    failed("open the parent directory of", &entry.name)(error)
}

fn is_busy(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::BUSY.raw_os_error())
}

fn ids((uid, gid): (u32, u32)) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
}

fn own(fd: BorrowedFd<'_>, owner: Option<(u32, u32)>) -> io::Result<()> {
    let Some(owner) = owner else {
        return Ok(());
    };
    let (uid, gid) = ids(owner);
    Ok(rustix::fs::fchown(fd, uid, gid)?)
}

/// Sets the owner of something that cannot be opened.
fn own_name(at: &Place<'_>, owner: Option<(u32, u32)>) -> Result<(), ExtractError> {
    let Some(owner) = owner else {
        return Ok(());
    };
    let (uid, gid) = ids(owner);
    rustix::fs::chownat(&at.parent, &at.name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(at.step("set the owner of"))
}

/// Sets the times of something that cannot be opened.
fn touch(at: &Place<'_>) -> Result<(), ExtractError> {
    let times = attributes::times(at.entry.mtime);
    rustix::fs::utimensat(&at.parent, &at.name, &times, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(at.step("set the times of"))
}

/// Sets the mode of a device or a FIFO without opening it. chmod(2) of its name would follow a
/// link that has come to the name; our fd's magic link leads to the file itself.
fn set_mode_of_node(at: &Place<'_>, kind: FileType) -> Result<(), ExtractError> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let node = rustix::fs::openat(&at.parent, &at.name, flags, Mode::empty())
        .map_err(at.step("open device node"))?;
    let stat = rustix::fs::fstat(&node).map_err(at.step("look at"))?;
    if FileType::from_raw_mode(stat.st_mode) != kind {
        return Ok(());
    }
    let name = format!("/proc/self/fd/{}", node.as_raw_fd());
    rustix::fs::chmod(name, Mode::from(at.entry.mode)).map_err(at.step("set the mode of"))
}

/// Sets an entry's attributes. As Docker does, one that the file system does not take, or that
/// takes more privilege, is left out: the content counts more.
fn set_xattrs(fd: BorrowedFd<'_>, at: &Place<'_>) -> Result<(), ExtractError> {
    for (name, value) in &at.entry.xattrs {
        let Some(c_name) = is_content(name).then(|| CString::new(name.as_slice())) else {
            continue;
        };
        let Ok(c_name) = c_name else { continue };
        match rustix::fs::fsetxattr(fd, &c_name, value, XattrFlags::empty()) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::PERM) => {}
            Err(error) => return Err(at.step("set an extended attribute of")(error)),
        }
    }
    Ok(())
}

/// Opens a file that cannot be replaced to fill it anew.
fn overwrite(at: &Place<'_>) -> Result<File, ExtractError> {
    let busy = || at.step::<io::Error>("replace")(Errno::BUSY.into());
    if at.found()? != FileType::RegularFile {
        return Err(busy());
    }
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&at.parent, &at.name, flags, Mode::empty())
        .map_err(at.step("open file"))?;
    let stat = rustix::fs::fstat(&file).map_err(at.step("look at"))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || is_kernels(file.as_fd()) {
        return Err(busy());
    }
    rustix::fs::ftruncate(&file, 0).map_err(at.step("empty file"))?;
    Ok(File::from(file))
}

/// Copies the data of an entry into a file.
fn copy<R: BufRead>(
    archive: &mut Archive<R>,
    file: &mut File,
    at: &Place<'_>,
) -> Result<(), ExtractError> {
    let Some(map) = &at.entry.sparse else {
        return copy_piece(archive, file, at, u64::MAX);
    };
    for piece in map {
        file.seek(SeekFrom::Start(piece.offset))
            .map_err(at.step("seek in"))?;
        copy_piece(archive, file, at, piece.length)?;
    }
    rustix::fs::ftruncate(&*file, at.entry.size).map_err(at.step("set the length of"))
}

fn copy_piece<R: BufRead>(
    archive: &mut Archive<R>,
    file: &mut File,
    at: &Place<'_>,
    mut length: u64,
) -> Result<(), ExtractError> {
    while length > 0 {
        let bytes = archive.chunk()?;
        if bytes.is_empty() {
            break;
        }
        let most = usize::try_from(length).unwrap_or(usize::MAX);
        let count = bytes.len().min(most);
        file.write_all(&bytes[..count]).map_err(at.step("write"))?;
        archive.consume(count);
        length -= count as u64;
    }
    Ok(())
}

/// Whether a file is on one of the kernel's own file systems, where attributes are not content
/// (statfs(2) has the numbers).
pub(super) fn is_kernels(fd: BorrowedFd<'_>) -> bool {
    const KERNELS: [u32; 10] = [
        0x9fa0,      // proc
        0x6265_6572, // sysfs
        0x0027_e0eb, // cgroup
        0x6367_7270, // cgroup2
        0x1cd1,      // devpts
        0x6462_6720, // debugfs
        0x7472_6163, // tracefs
        0x7363_6673, // securityfs
        0xcafe_4a11, // bpf
        0x1980_0202, // mqueue
    ];
    let Ok(found) = rustix::fs::fstatfs(fd) else {
        return false;
    };
    KERNELS
        .iter()
        .any(|kind| i128::from(found.f_type) == i128::from(*kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_at_the_top_are_renamed() {
        let check = |from: &str, to: &str, name: &str, expect: Option<&str>| {
            let rename = Rename {
                from: from.into(),
                to: to.into(),
            };
            let found = rename.apply(name.as_bytes());
            let found = found.map(|name| String::from_utf8(name).unwrap());
            assert_eq!(found.as_deref(), expect, "{from} {to} {name}");
        };
        check("in", "out", "in/", Some("out"));
        check("in", "out", "in/a/b", Some("out/a/b"));
        check("in", "out", "inner", None);
        check("in", "out", "other", None);
        check(".", "out", "./a", Some("out/a"));
        check(".", "out", "./", Some("out"));
        check("/", "out", "/", Some("out"));
        check("/", "out", "/bin/sh", Some("out/bin/sh"));
        check("/", ".", "/bin/sh", Some("./bin/sh"));
    }
}
