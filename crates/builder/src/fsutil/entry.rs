//! One entry of a tree.

use std::collections::BTreeMap;

use bollard_buildkit_proto::fsutil::types::Stat;
use rustix::fs::FileType;

use super::mode::from_go;

/// Attributes of one entry at most.
const MAX_XATTRS: usize = 128;
/// Bytes of all of them.
const MAX_XATTR_BYTES: usize = 64 << 10;
/// The longest text of a symbolic link, as the kernel has it.
const MAX_LINK: usize = 4095;

/// What is known of a file without its content.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entry {
    /// Path from the tree's root, without a slash in front.
    pub path: String,
    /// Type and permissions as Go's `os.FileMode`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes of a regular file.
    pub size: u64,
    /// Time of the last change, in nanoseconds of Unix time.
    pub modified: i64,
    /// Text of a symbolic link, or the first path of a file that has several.
    pub link: String,
    /// Numbers of a device.
    pub device: (u32, u32),
    /// Extended attributes that go with the content.
    pub xattrs: BTreeMap<String, Vec<u8>>,
    /// Where the tree was walked on this machine: the time of the last change of anything, in nanoseconds, and
    /// the number of the inode. Zero where it was received.
    pub identity: (i64, u64),
}

impl Entry {
    /// Takes what a sender says; the path is checked by the caller.
    pub(super) fn of_stat(stat: Stat) -> Result<Self, &'static str> {
        let size = u64::try_from(stat.size).map_err(|_| "a negative size")?;
        let number = |number: i64| u32::try_from(number).map_err(|_| "an impossible device");
        let device = (number(stat.devmajor)?, number(stat.devminor)?);
        if stat.linkname.len() > MAX_LINK || stat.linkname.contains('\0') {
            return Err("an impossible link");
        }
        let bytes: usize = stat
            .xattrs
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        if stat.xattrs.len() > MAX_XATTRS || bytes > MAX_XATTR_BYTES {
            return Err("too many extended attributes");
        }
        let xattrs = stat.xattrs.into_iter().filter(|(name, _)| is_kept(name));
        Ok(Self {
            path: stat.path,
            mode: stat.mode,
            uid: stat.uid,
            gid: stat.gid,
            size,
            modified: stat.mod_time,
            link: stat.linkname,
            device,
            xattrs: xattrs.collect(),
            identity: (0, 0),
        })
    }

    /// The type of the file.
    #[must_use]
    pub fn kind(&self) -> FileType {
        from_go(self.mode).0
    }

    /// The twelve bits of chmod(2).
    #[must_use]
    pub fn permissions(&self) -> u32 {
        from_go(self.mode).1
    }

    pub(super) fn is_dir(&self) -> bool {
        self.kind() == FileType::Directory
    }

    /// Tells whether it is a further name of a file that came before.
    pub(super) fn is_hard_link(&self) -> bool {
        self.kind() == FileType::RegularFile && !self.link.is_empty()
    }

    /// Tells whether two say the same of a file. Times and sizes of directories change with what
    /// they hold, and say nothing of their own.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let content = self.is_dir() || (self.size, self.modified) == (other.size, other.modified);
        content
            && (self.mode, self.uid, self.gid, self.device, self.identity)
                == (
                    other.mode,
                    other.uid,
                    other.gid,
                    other.device,
                    other.identity,
                )
            && self.link == other.link
            && self.xattrs == other.xattrs
    }
}

/// Tells whether an attribute may be taken over from a stranger. What overlayfs reads of a layer
/// (`trusted.overlay.`, `user.overlay.`) would let a folder say that it is something else.
pub(super) fn is_kept(name: &str) -> bool {
    name == "security.capability" || name.starts_with("user.") && !name.starts_with("user.overlay.")
}
