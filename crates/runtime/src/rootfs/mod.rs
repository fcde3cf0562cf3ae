//! The container's root file system: put together by descriptors, entered, then filled.
//!
//! The root is mounted and entered *first*, with `pivot_root(2)`; all further mounts are made from
//! inside. From then on no path of the image, however its links are laid, leads to the host.

mod cgroupfs;
mod devices;
mod enter;
mod filesystem;
mod mounts;
pub(crate) mod options;
mod overlay;
mod protect;
mod sysctl;

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::mount::MoveMountFlags;

pub(crate) use cgroupfs::{CgroupfsError, Hierarchy, View, hierarchies};
pub(crate) use devices::{
    DevicesError, link as link_devices, make as make_devices, make_nodes, make_one,
    open_or_make_console, place as place_devices,
};
pub(crate) use enter::{EnterError, enter};
pub(crate) use mounts::{
    MountError, Mounted, Premade, is_bind, make_dev, make_hidden, mount_all, premake,
};
pub(crate) use overlay::{Layers, Place as RootPlace, Sync, mount as mount_overlay};
pub(crate) use protect::{ProtectError, protect};
pub(crate) use sysctl::{SysctlError, write as write_sysctls};

/// Attaches a detached mount on top of what `place` stands for.
pub(crate) fn attach(mount: BorrowedFd<'_>, place: BorrowedFd<'_>) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(rustix::mount::move_mount(mount, c"", place, c"", flags)?)
}

/// Makes a detached copy of the mount at what `fd` stands for, of which it becomes the root.
pub(crate) fn copy_tree(fd: BorrowedFd<'_>, depth: sys::mount::Depth) -> io::Result<OwnedFd> {
    use rustix::mount::OpenTreeFlags;
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    if depth == sys::mount::Depth::Tree {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    Ok(rustix::mount::open_tree(fd, c"", flags)?)
}
