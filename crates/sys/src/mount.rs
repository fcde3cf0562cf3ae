//! Mount calls that `rustix` lacks.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd as _, BorrowedFd, RawFd};
use std::ptr;

use linux_raw_sys::general::{AT_EMPTY_PATH, AT_RECURSIVE, MOUNT_ATTR_IDMAP, mount_attr};
use rustix::mount::{MountAttrFlags, MountPropagationFlags};

/// A change of a mount's attributes.
#[derive(Clone, Copy, Debug)]
pub struct MountChange {
    /// Attributes to set.
    pub set: MountAttrFlags,
    /// Attributes to clear; a new kind of access time needs `MOUNT_ATTR__ATIME` here.
    pub clear: MountAttrFlags,
    /// The new propagation, if any.
    pub propagation: Option<MountPropagationFlags>,
}

impl MountChange {
    /// The change that changes nothing.
    pub const NONE: Self = Self {
        set: MountAttrFlags::empty(),
        clear: MountAttrFlags::empty(),
        propagation: None,
    };

    /// Sets attributes.
    #[must_use]
    pub const fn setting(set: MountAttrFlags) -> Self {
        Self { set, ..Self::NONE }
    }

    /// Changes the propagation.
    #[must_use]
    pub const fn propagating(propagation: MountPropagationFlags) -> Self {
        Self {
            propagation: Some(propagation),
            ..Self::NONE
        }
    }
}

/// How far a change of a mount goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// The mount alone.
    One,
    /// The mount and all that are mounted below it.
    Tree,
}

/// Changes the attributes of the mount that `mount` is the root of.
///
/// # Errors
///
/// What mount_setattr(2) says: ENOSYS before Linux 5.12, EINVAL when the descriptor is not a mount's root.
pub fn set_attributes(mount: BorrowedFd<'_>, change: &MountChange, depth: Depth) -> io::Result<()> {
    let attributes = mount_attr {
        attr_set: u64::from(change.set.bits()),
        attr_clr: u64::from(change.clear.bits()),
        propagation: change.propagation.map_or(0, |p| u64::from(p.bits())),
        userns_fd: 0,
    };
    mount_setattr(mount.as_raw_fd(), &attributes, depth)
}

/// Shows the files of a detached mount with other owners: an id of the user namespace `mapping` on the
/// disk is seen as the host's id that it stands for there.
///
/// # Errors
///
/// What mount_setattr(2) says: EINVAL for a file system that cannot do it, for a mount that is attached
/// already and before Linux 5.12; EPERM for a namespace without a mapping or a mount that has one.
pub fn idmap(mount: BorrowedFd<'_>, mapping: BorrowedFd<'_>, depth: Depth) -> io::Result<()> {
    let attributes = mount_attr {
        attr_set: u64::from(MOUNT_ATTR_IDMAP),
        attr_clr: 0,
        propagation: 0,
        userns_fd: u64::try_from(mapping.as_raw_fd()).map_err(io::Error::other)?,
    };
    mount_setattr(mount.as_raw_fd(), &attributes, depth)
}

fn mount_setattr(mount: RawFd, attributes: &mount_attr, depth: Depth) -> io::Result<()> {
    let flags = match depth {
        Depth::One => AT_EMPTY_PATH,
        Depth::Tree => AT_EMPTY_PATH | AT_RECURSIVE,
    };
    // SAFETY: `attributes` and the empty path outlive the call, and the size is that of the
    // structure; the kernel only reads them.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount,
            c"".as_ptr(),
            flags,
            ptr::from_ref(attributes),
            size_of::<mount_attr>(),
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
