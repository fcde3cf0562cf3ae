//! Owner, mode, times and extended attributes of unpacked files.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};

use rustix::fs::{Gid, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::{Refusal, UnpackError, step};
use crate::tar_stream::{Entry, shown};

/// A user and a group of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Owner {
    /// The owner of an entry. An id of more than 32 bits must not wrap to root
    /// (CVE-2024-40635), and the last one means "no change" to chown(2).
    pub(crate) fn of(entry: &Entry) -> Result<Self, Refusal> {
        let id = |what, id: u64| match u32::try_from(id) {
            Ok(id) if id != u32::MAX => Ok(id),
            _ => Err(Refusal::Id { what, id }),
        };
        Ok(Self {
            uid: id("user", entry.uid)?,
            gid: id("group", entry.gid)?,
        })
    }

    /// Whether a new file has this owner already: the engine runs as root.
    pub(super) fn is_root(self) -> bool {
        self == Self { uid: 0, gid: 0 }
    }

    pub(super) fn ids(self) -> (Option<Uid>, Option<Gid>) {
        (Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)))
    }
}

/// Access and modification time of an entry, as Docker sets them.
pub(crate) fn times(mtime: (i64, u32)) -> Timestamps {
    let time = Timespec {
        tv_sec: mtime.0,
        tv_nsec: mtime.1.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

/// The mode bits that the kernel takes from new files; all when it cannot be told.
///
/// umask(2) can only be read by setting it, which races with other threads; proc(5) shows it.
pub(super) fn current_umask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    let value = line.and_then(|text| u32::from_str_radix(text.trim(), 8).ok());
    value.unwrap_or(0o777)
}

/// What an image's extended attribute may do.
enum Policy {
    Set,
    Skip,
    Refuse,
}

/// `trusted.overlay.*` would let a layer redirect lookups of overlayfs; labels of security
/// modules are the host's decision.
fn policy(name: &[u8]) -> Policy {
    match name {
        b"security.capability" => Policy::Set,
        b"system.posix_acl_access" | b"system.posix_acl_default" => Policy::Set,
        _ if name.starts_with(b"user.") => Policy::Set,
        _ if name.starts_with(b"security.") => Policy::Skip,
        _ => Policy::Refuse,
    }
}

/// Refuses attributes that an image may not set, before anything is made.
pub(super) fn check_xattrs(xattrs: &[(Vec<u8>, Vec<u8>)]) -> Result<(), Refusal> {
    for (name, _) in xattrs {
        if name.contains(&0) || matches!(policy(name), Policy::Refuse) {
            let name = shown(name);
            return Err(Refusal::Xattr { name });
        }
    }
    Ok(())
}

/// Sets an entry's extended attributes on an open file or directory.
pub(super) fn set_xattrs(fd: BorrowedFd<'_>, entry: &Entry) -> Result<(), UnpackError> {
    each_xattr(entry, |name, value| {
        rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty())
    })
}

/// Sets an entry's extended attributes on something that cannot be opened: a link or a device.
pub(super) fn set_xattrs_at(
    parent: impl AsFd,
    name: &std::ffi::CStr,
    entry: &Entry,
) -> Result<(), UnpackError> {
    if entry.xattrs.is_empty() {
        return Ok(());
    }
    // There is no lsetxattrat(2) before Linux 6.13; our own fd's magic link leads to the parent.
    let mut path = format!("/proc/self/fd/{}/", parent.as_fd().as_raw_fd()).into_bytes();
    path.extend_from_slice(name.to_bytes());
    each_xattr(entry, |name, value| {
        rustix::fs::lsetxattr(path.as_slice(), name, value, XattrFlags::empty())
    })
}

/// The attributes of an entry that are the image's to set.
pub(crate) fn wanted(entry: &Entry) -> impl Iterator<Item = (&[u8], &[u8])> {
    let set = |(name, _): &&(Vec<u8>, Vec<u8>)| matches!(policy(name), Policy::Set);
    let all = entry.xattrs.iter().filter(set);
    all.map(|(name, value)| (name.as_slice(), value.as_slice()))
}

fn each_xattr(
    entry: &Entry,
    set: impl Fn(&std::ffi::CStr, &[u8]) -> Result<(), Errno>,
) -> Result<(), UnpackError> {
    for (name, value) in wanted(entry) {
        let c_name: CString = super::path::c_name(name);
        match set(&c_name, value) {
            Ok(()) => {}
            // A file system without them, or `user.` on what is no file (xattr(7)): as Docker
            // does, the content counts more.
            Err(Errno::OPNOTSUPP) => tracing::debug!(
                entry = shown(&entry.name),
                name = shown(name),
                "extended attribute not supported"
            ),
            Err(Errno::PERM) if name.starts_with(b"user.") => {}
            Err(error) => return Err(step("set an extended attribute of", &entry.name)(error)),
        }
    }
    Ok(())
}
