//! The settings of a namespace that is just being made.
//!
//! `/proc/sys/net` is another folder in each namespace, but all have that name in one folder: the
//! kernel walks over those of all namespaces (`proc_sys_compare` at each of `__d_lookup`) until it
//! finds the caller's. With a thousand containers that is half a millisecond for each setting. So
//! they are made through a procfs of our own, which only some namespaces have looked into.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use super::{SysctlError, if_present, read_at, write_at};

/// So many users share one procfs: making one costs about as much as a walk over these.
const SHARERS: u32 = 32;

/// The folder `sys` of the procfs in use, and how many have had it.
static SHARED: Mutex<Option<(Arc<OwnedFd>, u32)>> = Mutex::new(None);

/// Settings of the namespace of the thread that uses them.
#[derive(Debug)]
pub(crate) struct Settings {
    folder: Arc<OwnedFd>,
}

impl Settings {
    /// Takes part in a procfs; to be called once for several settings.
    pub(crate) fn open() -> io::Result<Self> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((folder, sharers)) = &mut *shared
            && *sharers < SHARERS
        {
            *sharers += 1;
            let folder = Arc::clone(folder);
            return Ok(Self { folder });
        }
        let own = own().or_else(|error| {
            tracing::debug!(%error, "settings of namespaces are made through /proc/sys");
            folder_at(CWD, "/proc/sys")
        });
        let folder = Arc::new(own?);
        *shared = Some((Arc::clone(&folder), 1));
        Ok(Self { folder })
    }

    /// Writes a setting.
    pub(crate) fn write(&self, name: &str, value: &str) -> Result<(), SysctlError> {
        write_at(&*self.folder, &format!("net/{name}"), name, value)
    }

    /// Writes a setting that this kernel may lack.
    pub(crate) fn write_if_present(&self, name: &str, value: &str) -> Result<(), SysctlError> {
        if_present(self.write(name, value))
    }

    /// Writes a setting, unless it has the value already, that this kernel or link may lack.
    pub(crate) fn ensure_if_present(&self, name: &str, value: &str) -> Result<(), SysctlError> {
        let current = read_at(&*self.folder, &format!("net/{name}"));
        if current.is_ok_and(|current| current.trim() == value) {
            return Ok(());
        }
        self.write_if_present(name, value)
    }
}

/// Makes a procfs that is mounted nowhere.
fn own() -> io::Result<OwnedFd> {
    let context = rustix::mount::fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let mount = rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    folder_at(&mount, "sys")
}

fn folder_at(base: impl AsFd, path: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(base, path, flags, Mode::empty())?)
}
