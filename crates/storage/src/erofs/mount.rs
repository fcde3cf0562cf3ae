//! Images that are mounted: each once, so that all who need a layer share what is read of it.
//!
//! They lie in one folder, which is a mount of its own that passes mounts on: a process that has
//! its own mount namespace already, but no root yet, sees what is mounted later. A layer is mounted
//! when it is first needed. An overlay keeps its layers by itself, so nothing here must stay for a
//! container that runs; it stays for the page cache that the next one shares.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use oci::Digest;
use rustix::fs::{CWD, Mode, OFlags, StatxAttributes, StatxFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount_bind, mount_change, move_mount,
    unmount,
};

use crate::fsutil;

/// Longest text that fsconfig(2) takes, its NUL included.
const LONGEST_VALUE: usize = 256;

/// The mounted images of a store.
#[derive(Debug)]
pub(crate) struct Mounts {
    dir: PathBuf,
    /// Who mounts or unmounts holds it; what is said is whether the folder is a mount.
    ready: Mutex<bool>,
    mounted: RwLock<HashSet<Digest>>,
}

impl Mounts {
    /// Takes over what an earlier process has mounted of these images, by their files. What else it
    /// has left is unmounted.
    pub(crate) fn open(dir: PathBuf, images: &HashMap<Digest, PathBuf>) -> io::Result<Self> {
        let mounts = Self {
            dir,
            ready: Mutex::new(false),
            mounted: RwLock::default(),
        };
        if !is_mount(&mounts.dir)? {
            return Ok(mounts);
        }
        let (mut kept, mut others) = (HashSet::new(), Vec::new());
        for found in mounted_below(&mounts.dir)? {
            let image = images.iter().find(|(chain, image)| {
                mounts.place(chain) == found.place && **image == found.source
            });
            match image {
                Some((chain, _)) if kept.insert(chain.clone()) => {}
                _ => others.push(found.place),
            }
        }
        for place in others {
            unmount(&place, LAZILY)?;
        }
        *mounts.lock() = true;
        *mounts
            .mounted
            .write()
            .unwrap_or_else(PoisonError::into_inner) = kept;
        Ok(mounts)
    }

    /// Where a layer's files are, once it is mounted.
    pub(crate) fn place(&self, chain: &Digest) -> PathBuf {
        self.dir.join(chain.hex())
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has(&self, chain: &Digest) -> bool {
        let mounted = self.mounted.read();
        mounted
            .unwrap_or_else(PoisonError::into_inner)
            .contains(chain)
    }

    fn note(&self, change: impl FnOnce(&mut HashSet<Digest>)) {
        change(&mut self.mounted.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// Makes the folder ready, so that mounts in it reach processes that are started from now on.
    pub(crate) fn prepare(&self) -> io::Result<()> {
        self.make_ready(&mut self.lock())
    }

    fn make_ready(&self, ready: &mut bool) -> io::Result<()> {
        if *ready {
            return Ok(());
        }
        // setuid programs of images must not be reached through it
        fsutil::ensure_dir(&self.dir, 0o700)?;
        mount_bind(&self.dir, &self.dir)?;
        *ready = true;
        // first out of the group of the folder above, then into one of its own
        mount_change(&self.dir, MountPropagationFlags::PRIVATE)?;
        Ok(mount_change(&self.dir, MountPropagationFlags::SHARED)?)
    }

    /// Mounts a layer unless it is mounted, and gives its place.
    pub(crate) fn ensure(&self, chain: &Digest, image: &Path) -> io::Result<PathBuf> {
        let place = self.place(chain);
        if self.has(chain) {
            return Ok(place);
        }
        let mut ready = self.lock();
        if self.has(chain) {
            return Ok(place);
        }
        self.make_ready(&mut ready)?;
        attach(image, &place)?;
        self.note(|mounted| {
            mounted.insert(chain.clone());
        });
        Ok(place)
    }

    /// Unmounts a layer if it is mounted.
    pub(crate) fn release(&self, chain: &Digest) -> io::Result<()> {
        let _ready = self.lock();
        if !self.has(chain) {
            return Ok(());
        }
        detach(&self.place(chain))?;
        self.note(|mounted| {
            mounted.remove(chain);
        });
        Ok(())
    }

    /// Mounts something for a moment.
    pub(crate) fn with<T>(
        &self,
        image: &Path,
        name: &str,
        work: impl FnOnce(&Path) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut ready = self.lock();
        self.make_ready(&mut ready)?;
        let place = self.dir.join(name);
        attach(image, &place)?;
        let done = work(&place);
        detach(&place)?;
        done
    }

    /// Unmounts all; an overlay that stands on a layer keeps it.
    pub(crate) fn close(&self) -> io::Result<()> {
        let mut ready = self.lock();
        if !std::mem::replace(&mut ready, false) {
            return Ok(());
        }
        unmount(&self.dir, LAZILY)?;
        let mut mounted = self.mounted.write().unwrap_or_else(PoisonError::into_inner);
        for chain in mounted.drain() {
            let _stays = std::fs::remove_dir(self.place(&chain));
        }
        let _stays = std::fs::remove_dir(&self.dir);
        Ok(())
    }
}

const LAZILY: UnmountFlags = UnmountFlags::DETACH.union(UnmountFlags::NOFOLLOW);

fn attach(image: &Path, place: &Path) -> io::Result<()> {
    fsutil::ensure_dir(place, 0o700)?;
    let mount = mount_image(image)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    Ok(move_mount(mount.as_fd(), c"", CWD, place, flags)?)
}

fn detach(place: &Path) -> io::Result<()> {
    unmount(place, LAZILY)?;
    std::fs::remove_dir(place)
}

/// Mounts an image nowhere.
fn mount_image(image: &Path) -> io::Result<OwnedFd> {
    let context = fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let by_fd;
    if image.as_os_str().len() < LONGEST_VALUE {
        fsconfig_set_string(&context, "source", image)?;
    } else {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        by_fd = rustix::fs::open(image, flags, Mode::empty())?;
        let name = format!("/proc/self/fd/{}", by_fd.as_raw_fd());
        fsconfig_set_string(&context, "source", name)?;
    }
    fsconfig_create(&context)?;
    // a container's overlay has rules of its own about devices and setuid
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NODEV;
    Ok(fsmount(
        &context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        attributes,
    )?)
}

fn is_mount(dir: &Path) -> io::Result<bool> {
    let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    match rustix::fs::statx(CWD, dir, flags, StatxFlags::empty()) {
        Ok(found) => Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)),
        Err(rustix::io::Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Something that is mounted in the folder.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    place: PathBuf,
    source: PathBuf,
}

fn mounted_below(dir: &Path) -> io::Result<Vec<Found>> {
    let table = std::fs::read("/proc/thread-self/mountinfo")?;
    let lines = table.split(|byte| *byte == b'\n').filter_map(parse);
    let below = |found: &Found| found.place.parent() == Some(dir);
    Ok(lines.filter(below).collect())
}

/// `36 35 98:0 /root /mount/point options [tags] - type source super-options`, proc_pid_mountinfo(5).
fn parse(line: &[u8]) -> Option<Found> {
    let mut words = line.split(|byte| *byte == b' ');
    let place = unescape(words.nth(4)?);
    let mut words = words.skip_while(|word| *word != b"-").skip(2);
    let source = unescape(words.next()?);
    Some(Found { place, source })
}

/// Undoes what the kernel does to blanks, line feeds and backslashes: three octal digits each.
fn unescape(text: &[u8]) -> PathBuf {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, others)) = rest.split_first() {
        let code = others.get(..3).filter(|_| *first == b'\\');
        let code = code.and_then(|code| std::str::from_utf8(code).ok());
        match code.and_then(|code| u8::from_str_radix(code, 8).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = &others[3..];
            }
            None => {
                out.push(*first);
                rest = others;
            }
        }
    }
    std::ffi::OsString::from_vec(out).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_table() {
        let line =
            br"36 35 0:50 / /run/a\040b/ff ro,nodev shared:7 - erofs /var/x\134y/layer.erofs ro";
        let found = Found {
            place: "/run/a b/ff".into(),
            source: r"/var/x\y/layer.erofs".into(),
        };
        assert_eq!(parse(line), Some(found));
        assert_eq!(parse(b""), None);
    }
}
