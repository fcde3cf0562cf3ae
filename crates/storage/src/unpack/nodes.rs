//! The entries of a layer, each made relative to its parent's fd.

use std::ffi::CString;
use std::fs::File;
use std::io::{BufRead, Seek as _, SeekFrom, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, XattrFlags};
use rustix::io::Errno;

use super::attributes::{self, Owner};
use super::{Refusal, UnpackError, Unpacker, path, refuse, step};
use crate::tar_stream::{Archive, Entry, Kind, shown};

/// The attribute by which overlayfs hides what lower layers have in a directory.
const OPAQUE: &std::ffi::CStr = c"trusted.overlay.opaque";

/// Where an entry goes.
pub(super) struct Place<'a> {
    /// The whole path, normalised.
    pub(super) path: &'a [u8],
    pub(super) parent: Arc<OwnedFd>,
    pub(super) name: CString,
}

impl Unpacker {
    /// The layer's own root directory.
    pub(super) fn describe_root(&mut self, entry: &Entry, owner: Owner) -> Result<(), UnpackError> {
        let (uid, gid) = owner.ids();
        let root = self.tree.root();
        rustix::fs::fchown(root, uid, gid).map_err(step("set the owner of", &entry.name))?;
        rustix::fs::fchmod(root, Mode::from(entry.mode))
            .map_err(step("set the mode of", &entry.name))?;
        attributes::set_xattrs(root, entry)?;
        self.tree.note_mode(entry.mode);
        self.tree.described(b"", entry.mtime);
        Ok(())
    }

    pub(super) fn file<R: BufRead>(
        &mut self,
        entry: &Entry,
        archive: &mut Archive<R>,
        at: &Place<'_>,
        owner: Owner,
    ) -> Result<(), UnpackError> {
        let mut file = self.create_file(entry, at)?;
        match &entry.sparse {
            None => copy(archive, &mut file, entry, u64::MAX)?,
            Some(map) => {
                for piece in map {
                    file.seek(SeekFrom::Start(piece.offset))
                        .map_err(step("seek in", &entry.name))?;
                    copy(archive, &mut file, entry, piece.length)?;
                }
                rustix::fs::ftruncate(&file, entry.size)
                    .map_err(step("set the length of", &entry.name))?;
            }
        }
        self.size = self.size.saturating_add(entry.size);
        // chown(2) and write(2) clear setuid, setgid and capabilities, so these come last.
        if self.owner_differs(owner) {
            let (uid, gid) = owner.ids();
            rustix::fs::fchown(&file, uid, gid).map_err(step("set the owner of", &entry.name))?;
        }
        if self.mode_differs(entry.mode) {
            rustix::fs::fchmod(&file, Mode::from(entry.mode))
                .map_err(step("set the mode of", &entry.name))?;
        }
        attributes::set_xattrs(file.as_fd(), entry)?;
        rustix::fs::futimens(&file, &attributes::times(entry.mtime))
            .map_err(step("set the times of", &entry.name))
    }

    fn create_file(&mut self, entry: &Entry, at: &Place<'_>) -> Result<File, UnpackError> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from(entry.mode & 0o777);
        let create = || rustix::fs::openat(&at.parent, &at.name, flags, mode);
        let file = self.replacing(entry, at, create, "create file")?;
        Ok(File::from(file))
    }

    /// Makes something; what is at its place already is removed, as a later entry of the same
    /// name replaces an earlier one.
    fn replacing<T>(
        &mut self,
        entry: &Entry,
        at: &Place<'_>,
        make: impl Fn() -> Result<T, Errno>,
        what: &'static str,
    ) -> Result<T, UnpackError> {
        match make() {
            Err(Errno::EXIST) => {
                self.tree
                    .clear(&at.parent, &at.name, at.path)
                    .map_err(step("replace", &entry.name))?;
                make().map_err(step(what, &entry.name))
            }
            other => other.map_err(step(what, &entry.name)),
        }
    }

    pub(super) fn dir(
        &mut self,
        entry: &Entry,
        at: &Place<'_>,
        owner: Owner,
    ) -> Result<(), UnpackError> {
        let make = || rustix::fs::mkdirat(&at.parent, &at.name, Mode::from(entry.mode & 0o777));
        let mut fresh = true;
        match make() {
            Ok(()) => {}
            Err(Errno::EXIST) => match found(at).map_err(step("look at", &entry.name))? {
                Found::Dir => fresh = false,
                other => {
                    self.tree
                        .clear(&at.parent, &at.name, at.path)
                        .map_err(step("replace", &entry.name))?;
                    make().map_err(step("make directory", &entry.name))?;
                    // The layer removes what lower layers have here, and then begins anew.
                    if matches!(other, Found::Whiteout) {
                        set_opaque(at, entry)?;
                    }
                }
            },
            Err(error) => return Err(step("make directory", &entry.name)(error)),
        }
        if !fresh || self.owner_differs(owner) {
            self.chown(entry, at, owner)?;
        }
        if !fresh || self.mode_differs(entry.mode) {
            chmod(entry, at)?;
        }
        if !entry.xattrs.is_empty() {
            let dir = open_dir(at).map_err(step("open directory", &entry.name))?;
            attributes::set_xattrs(dir.as_fd(), entry)?;
        }
        self.tree.note_mode(entry.mode);
        self.tree.described(at.path, entry.mtime);
        Ok(())
    }

    pub(super) fn symlink(
        &mut self,
        entry: &Entry,
        at: &Place<'_>,
        owner: Owner,
    ) -> Result<(), UnpackError> {
        if entry.link.contains(&0) {
            return Err(refuse(&entry.name, Refusal::Nul));
        }
        // Any target is fine: it is content, resolved by the container inside its own root.
        let make = || rustix::fs::symlinkat(entry.link.as_slice(), &at.parent, &at.name);
        self.replacing(entry, at, make, "make symbolic link")?;
        if self.owner_differs(owner) {
            self.chown(entry, at, owner)?;
        }
        attributes::set_xattrs_at(&at.parent, &at.name, entry)?;
        touch(entry, at)
    }

    pub(super) fn hard_link(&mut self, entry: &Entry, at: &Place<'_>) -> Result<(), UnpackError> {
        let target = || shown(&entry.link);
        let bad = || refuse(&entry.name, Refusal::LinkPath { target: target() });
        let missing = || refuse(&entry.name, Refusal::LinkMissing { target: target() });
        let link = path::normalise(&entry.link).map_err(|_| bad())?;
        let (dir, name) = path::split(&link).ok_or_else(bad)?;
        if link == at.path {
            return Err(bad());
        }
        let from = match self.tree.existing(dir) {
            Ok(from) => from,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Err(missing()),
            Err(error) => return Err(step("open the target of hard link", &entry.name)(error)),
        };
        let name = path::c_name(name);
        // Without AT_SYMLINK_FOLLOW a symbolic link itself is linked, and never what it names.
        let make = || match rustix::fs::linkat(&from, &name, &at.parent, &at.name, AtFlags::empty())
        {
            Err(Errno::EXIST) if same_file(&from, &name, at) => Ok(()),
            other => other,
        };
        let there = rustix::fs::statat(&from, &name, AtFlags::SYMLINK_NOFOLLOW);
        if matches!(there, Err(Errno::NOENT)) {
            return Err(missing());
        }
        self.replacing(entry, at, make, "make hard link")
    }

    /// Devices and FIFOs.
    pub(super) fn node(
        &mut self,
        entry: &Entry,
        at: &Place<'_>,
        owner: Owner,
    ) -> Result<(), UnpackError> {
        let kind = match entry.kind {
            Kind::CharDevice => FileType::CharacterDevice,
            Kind::BlockDevice => FileType::BlockDevice,
            _ => FileType::Fifo,
        };
        let device = rustix::fs::makedev(entry.device.0, entry.device.1);
        let mode = Mode::from(entry.mode & 0o777);
        let make = || rustix::fs::mknodat(&at.parent, &at.name, kind, mode, device);
        self.replacing(entry, at, make, "make device node")?;
        if self.owner_differs(owner) {
            self.chown(entry, at, owner)?;
        }
        if self.mode_differs(entry.mode) {
            chmod(entry, at)?;
        }
        attributes::set_xattrs_at(&at.parent, &at.name, entry)?;
        touch(entry, at)
    }

    pub(super) fn make_opaque(&mut self, entry: &Entry, dir: &[u8]) -> Result<(), UnpackError> {
        let parent = self.tree.parent(dir, &entry.name)?;
        opaque(&parent, c".", entry)
    }

    pub(super) fn make_whiteout(
        &mut self,
        entry: &Entry,
        dir: &[u8],
        hidden: &[u8],
    ) -> Result<(), UnpackError> {
        let parent = self.tree.parent(dir, &entry.name)?;
        let at = Place {
            path: dir,
            parent,
            name: path::c_name(hidden),
        };
        let char_device = FileType::CharacterDevice;
        match rustix::fs::mknodat(&at.parent, &at.name, char_device, Mode::empty(), 0) {
            Ok(()) => Ok(()),
            // The layer has the name itself: only lower layers are meant.
            Err(Errno::EXIST) => match found(&at).map_err(step("look at", &entry.name))? {
                Found::Dir => set_opaque(&at, entry),
                Found::Whiteout | Found::Other => Ok(()),
            },
            Err(error) => Err(step("make whiteout", &entry.name)(error)),
        }
    }

    fn chown(&self, entry: &Entry, at: &Place<'_>, owner: Owner) -> Result<(), UnpackError> {
        let (uid, gid) = owner.ids();
        rustix::fs::chownat(&at.parent, &at.name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(step("set the owner of", &entry.name))
    }

    /// Whether creation with a mode gives another one: special bits, or the umask's.
    fn mode_differs(&self, mode: u32) -> bool {
        self.tree.inherits || mode & (self.umask | 0o7000) != 0
    }

    /// Whether something new has another owner: it has ours, the engine runs as root.
    fn owner_differs(&self, owner: Owner) -> bool {
        self.tree.inherits || !owner.is_root()
    }
}

/// What is at a place.
enum Found {
    Dir,
    Whiteout,
    Other,
}

fn found(at: &Place<'_>) -> Result<Found, Errno> {
    let stat = rustix::fs::statat(&at.parent, &at.name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Found::Dir,
        FileType::CharacterDevice if stat.st_rdev == 0 => Found::Whiteout,
        _ => Found::Other,
    })
}

fn same_file(from: &OwnedFd, name: &CString, at: &Place<'_>) -> bool {
    let identity = |dir: &OwnedFd, name: &CString| {
        let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW);
        stat.map(|stat| (stat.st_dev, stat.st_ino))
    };
    match (identity(from, name), identity(&at.parent, &at.name)) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    }
}

/// Sets a mode. chmod(2) would follow a symbolic link, but what was just made is none, and
/// nobody else can reach the folder.
fn chmod(entry: &Entry, at: &Place<'_>) -> Result<(), UnpackError> {
    rustix::fs::chmodat(
        &at.parent,
        &at.name,
        Mode::from(entry.mode),
        AtFlags::empty(),
    )
    .map_err(step("set the mode of", &entry.name))
}

fn touch(entry: &Entry, at: &Place<'_>) -> Result<(), UnpackError> {
    let times = attributes::times(entry.mtime);
    rustix::fs::utimensat(&at.parent, &at.name, &times, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(step("set the times of", &entry.name))
}

fn open_dir(at: &Place<'_>) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(&at.parent, &at.name, flags, Mode::empty())
}

fn set_opaque(at: &Place<'_>, entry: &Entry) -> Result<(), UnpackError> {
    opaque(&at.parent, &at.name, entry)
}

fn opaque(parent: &OwnedFd, name: &std::ffi::CStr, entry: &Entry) -> Result<(), UnpackError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
        .and_then(|dir| rustix::fs::fsetxattr(dir, OPAQUE, b"y", XattrFlags::empty()))
        .map_err(step("mark as opaque for", &entry.name))
}

/// Copies data of the archive into a file, from the decompressor's buffers without another copy.
fn copy<R: BufRead>(
    archive: &mut Archive<R>,
    file: &mut File,
    entry: &Entry,
    mut length: u64,
) -> Result<(), UnpackError> {
    while length > 0 {
        let bytes = archive.chunk()?;
        if bytes.is_empty() {
            break;
        }
        let count = bytes
            .len()
            .min(usize::try_from(length).unwrap_or(usize::MAX));
        file.write_all(&bytes[..count])
            .map_err(step("write", &entry.name))?;
        archive.consume(count);
        length -= count as u64;
    }
    Ok(())
}
