//! The folder that a layer is unpacked into: its directories by fd.

use std::collections::HashMap;
use std::ffi::CStr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::{Refusal, UnpackError, attributes, path, refuse, step};
use crate::fsutil;
use crate::tar_stream::shown;

/// Directories that stay open. Archives list a directory's entries together, so few are enough.
const OPEN_AT_MOST: usize = 128;
/// Never leave the folder, whatever symbolic links the layer itself has made.
const RESOLVE: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

/// A layer's folder.
pub(super) struct Tree {
    root: Arc<OwnedFd>,
    open: HashMap<Vec<u8>, Arc<OwnedFd>>,
    /// Modification times, set at the end because every new entry changes its directory's.
    times: Vec<(Vec<u8>, (i64, u32))>,
    implicit: Vec<Vec<u8>>,
    root_seen: bool,
    /// A directory has the bit by which what is made in it takes its group, and directories the bit
    /// too (inode(7), S_ISGID).
    pub(super) inherits: bool,
    opaque_root: bool,
}

impl Tree {
    pub(super) fn new(root: OwnedFd) -> Self {
        Self {
            root: Arc::new(root),
            open: HashMap::new(),
            times: Vec::new(),
            implicit: Vec::new(),
            root_seen: false,
            inherits: false,
            opaque_root: false,
        }
    }

    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Opens the directory of an entry; one that the archive did not list is made.
    pub(super) fn parent(&mut self, dir: &[u8], entry: &[u8]) -> Result<Arc<OwnedFd>, UnpackError> {
        if let Some(fd) = self.cached(dir) {
            return Ok(fd);
        }
        let fd = match self.open_dir(dir) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => {
                self.make_parents(dir, entry)?;
                self.open_dir(dir)
                    .map_err(|error| not_a_dir(error, dir, entry))?
            }
            Err(error) => return Err(not_a_dir(error, dir, entry)),
        };
        Ok(self.keep(dir, fd))
    }

    /// Opens a directory that must be there already.
    pub(super) fn existing(&mut self, dir: &[u8]) -> Result<Arc<OwnedFd>, Errno> {
        if let Some(fd) = self.cached(dir) {
            return Ok(fd);
        }
        let fd = self.open_dir(dir)?;
        Ok(self.keep(dir, fd))
    }

    fn cached(&self, dir: &[u8]) -> Option<Arc<OwnedFd>> {
        if dir.is_empty() {
            return Some(Arc::clone(&self.root));
        }
        self.open.get(dir).cloned()
    }

    fn keep(&mut self, dir: &[u8], fd: OwnedFd) -> Arc<OwnedFd> {
        if self.open.len() >= OPEN_AT_MOST {
            self.open.clear();
        }
        let fd = Arc::new(fd);
        self.open.insert(dir.to_vec(), Arc::clone(&fd));
        fd
    }

    fn open_dir(&self, dir: &[u8]) -> Result<OwnedFd, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat2(&self.root, dir, flags, Mode::empty(), RESOLVE)
    }

    /// Makes the missing directories of a path: 0755 and root's until the layer, or the layers
    /// below it, say otherwise.
    fn make_parents(&mut self, dir: &[u8], entry: &[u8]) -> Result<(), UnpackError> {
        let ends = dir.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        let ends: Vec<usize> = ends.map(|(at, _)| at).chain([dir.len()]).collect();
        for end in ends {
            let prefix = &dir[..end];
            let Some((above, name)) = path::split(prefix) else {
                continue;
            };
            let above = self
                .existing(above)
                .map_err(|error| not_a_dir(error, above, entry))?;
            match rustix::fs::mkdirat(&above, path::c_name(name), Mode::from(0o755)) {
                Ok(()) => {
                    rustix::fs::chmodat(
                        &above,
                        path::c_name(name),
                        Mode::from(0o755),
                        rustix::fs::AtFlags::empty(),
                    )
                    .map_err(step("set the mode of the parent of", entry))?;
                    if self.inherits {
                        let root = super::Owner { uid: 0, gid: 0 }.ids();
                        let flags = rustix::fs::AtFlags::empty();
                        rustix::fs::chownat(&above, path::c_name(name), root.0, root.1, flags)
                            .map_err(step("set the owner of the parent of", entry))?;
                    }
                    self.implicit.push(prefix.to_vec());
                }
                Err(Errno::EXIST) => {}
                Err(error) => return Err(step("make the parent directory of", entry)(error)),
            }
        }
        Ok(())
    }

    /// Removes what an entry replaces, with everything below it.
    pub(super) fn clear(
        &mut self,
        parent: &OwnedFd,
        name: &CStr,
        path: &[u8],
    ) -> std::io::Result<()> {
        fsutil::remove::remove_at(parent.as_fd(), name)?;
        // The removed thing may be a symbolic link that cached directories were found through.
        self.open.clear();
        let gone = |other: &[u8]| {
            other
                .strip_prefix(path)
                .is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
        };
        self.times.retain(|(other, _)| !gone(other));
        self.implicit.retain(|other| !gone(other));
        Ok(())
    }

    /// Notes that the layer itself describes a directory.
    pub(super) fn described(&mut self, path: &[u8], mtime: (i64, u32)) {
        self.times.push((path.to_vec(), mtime));
        if path.is_empty() {
            self.root_seen = true;
        } else if !self.implicit.is_empty() {
            self.implicit.retain(|other| other != path);
        }
    }

    /// Notes the mode of a directory.
    pub(super) fn note_mode(&mut self, mode: u32) {
        self.inherits |= mode & 0o2000 != 0;
    }

    pub(super) fn set_opaque_root(&mut self) {
        self.opaque_root = true;
    }

    /// Sets the directories' modification times, after the last entry.
    pub(super) fn set_dir_times(&mut self) -> Result<(), UnpackError> {
        self.open.clear();
        for (path, mtime) in std::mem::take(&mut self.times) {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let name: &[u8] = if path.is_empty() { b"." } else { &path };
            let dir = match rustix::fs::openat2(&self.root, name, flags, Mode::empty(), RESOLVE) {
                Ok(dir) => dir,
                // Replaced under another name since.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                Err(error) => return Err(step("open directory", &path)(error)),
            };
            rustix::fs::futimens(&dir, &attributes::times(mtime))
                .map_err(step("set the times of directory", &path))?;
        }
        Ok(())
    }

    /// The folder, the directories that only lower layers describe, and whether the root is opaque.
    pub(super) fn into_report(self) -> (Arc<OwnedFd>, Vec<Vec<u8>>, bool) {
        let mut implicit = self.implicit;
        if !self.root_seen {
            implicit.insert(0, Vec::new());
        }
        (self.root, implicit, self.opaque_root)
    }
}

/// What a parent that cannot be opened means.
fn not_a_dir(error: Errno, dir: &[u8], entry: &[u8]) -> UnpackError {
    match error {
        // A dangling symbolic link, a file, or a loop of symbolic links.
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP => {
            let parent = shown(dir);
            refuse(entry, Refusal::Parent { parent })
        }
        error => step("open the parent directory of", entry)(error),
    }
}
