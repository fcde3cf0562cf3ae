//! A place on the host where the mounts of one step wait until the step has taken them.
//!
//! It is a file system in memory of its own, so that secrets never reach a disk, and it goes with all
//! that is mounted in it once the step has its own copies. A source of a mount is attached here by its
//! descriptor, so that nothing of it can be changed between its check and its use (CVE-2024-23651).

use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, OFlags};
use rustix::mount::{
    MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
    mount, move_mount, open_tree, unmount,
};
use sys::mount::{Depth, MountChange};

use crate::error::{Result, Step};

/// The place of one step; dropped, it goes.
#[derive(Debug)]
pub(super) struct Stage {
    path: PathBuf,
    count: usize,
}

impl Stage {
    /// Makes the place in a folder of the engine's.
    pub(super) fn new(folder: &Path) -> Result<Self> {
        let path = folder.join(crate::id::new());
        let step = || format!("make a place for mounts at {}", path.display());
        let mut builder = std::fs::DirBuilder::new();
        builder
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .step(step)?;
        let stage = Self {
            path: path.clone(),
            count: 0,
        };
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        mount(c"tmpfs", &path, c"tmpfs", flags, c"mode=0700").step(step)?;
        // what is mounted here is nobody else's
        rustix::mount::mount_change(&path, MountPropagationFlags::PRIVATE).step(step)?;
        Ok(stage)
    }

    /// A name that nothing has yet.
    pub(super) fn name(&mut self) -> PathBuf {
        self.count += 1;
        self.path.join(self.count.to_string())
    }

    /// Attaches a detached mount, with the rights that a program expects of it.
    pub(super) fn attach(&mut self, mount: BorrowedFd<'_>) -> Result<PathBuf> {
        let place = self.name();
        let step = || format!("attach a mount at {}", place.display());
        let free = MountChange {
            clear: MountAttrFlags::MOUNT_ATTR_NOSUID
                | MountAttrFlags::MOUNT_ATTR_NODEV
                | MountAttrFlags::MOUNT_ATTR_NOEXEC,
            propagation: Some(MountPropagationFlags::PRIVATE),
            ..MountChange::NONE
        };
        sys::mount::set_attributes(mount, &free, Depth::One).step(step)?;
        make_place(mount, &place).step(step)?;
        move_to(mount, &place).step(step)?;
        Ok(place)
    }

    /// Attaches what is at a path below a directory; links lead nowhere out of that.
    pub(super) fn attach_below(&mut self, root: BorrowedFd<'_>, path: &str) -> io::Result<PathBuf> {
        let found = sys::tree::open(root, Path::new(path), OFlags::PATH)?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH;
        let copy = open_tree(&found, c"", flags)?;
        let private = MountChange::propagating(MountPropagationFlags::PRIVATE);
        sys::mount::set_attributes(copy.as_fd(), &private, Depth::One)?;
        let place = self.name();
        make_place(copy.as_fd(), &place)?;
        move_to(copy.as_fd(), &place)?;
        Ok(place)
    }

    /// Writes a file that exists in memory only.
    pub(super) fn file(&mut self, data: &[u8], owner: (u32, u32), mode: u32) -> Result<PathBuf> {
        let place = self.name();
        let step = || format!("write {}", place.display());
        let mut options = std::fs::OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&place)
            .step(step)?;
        file.write_all(data).step(step)?;
        std::os::unix::fs::fchown(&file, Some(owner.0), Some(owner.1)).step(step)?;
        let mode = std::fs::Permissions::from_mode(mode & 0o777);
        file.set_permissions(mode).step(step)?;
        Ok(place)
    }
}

fn make_place(mount: BorrowedFd<'_>, place: &Path) -> io::Result<()> {
    let stat = rustix::fs::fstat(mount)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        std::fs::create_dir(place)
    } else {
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true).open(place).map(drop)
    }
}

fn move_to(mount: BorrowedFd<'_>, place: &Path) -> io::Result<()> {
    Ok(move_mount(
        mount,
        c"",
        CWD,
        place,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )?)
}

/// Opens a directory of ours, whatever is mounted there.
pub(crate) fn open_folder(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, rustix::fs::Mode::empty())?)
}

impl Drop for Stage {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

fn remove(path: &Path) {
    match unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
        Err(error) => tracing::warn!(path = %path.display(), %error, "mounts of a step stay"),
    }
    match std::fs::remove_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "the place of a step's mounts stays");
        }
        _ => {}
    }
}

/// Removes what a killed engine has left.
pub(crate) fn sweep(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        remove(&entry.path());
    }
}
