//! Whether this kernel takes images as layers: tried with a small one.
//!
//! It must mount an image from a file on this file system (6.12, `CONFIG_EROFS_FS_BACKED_BY_FILE`),
//! show the attributes that overlayfs and programs need, and take it below an overlay, which may
//! fail where the file system is itself in a stack.

use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::mount::Mounts;
use super::{Erofs, IMAGE};
use crate::fsutil::temp::TempDir;
use crate::overlay;
use crate::unpack::{self, ApplyOptions};

/// Why images cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
#[error("this system does not take EROFS images as layers: {why}")]
pub(crate) struct Unusable {
    why: String,
}

const OPAQUE: &std::ffi::CStr = c"trusted.overlay.opaque";
const CAPABILITY: &std::ffi::CStr = c"security.capability";
/// `struct vfs_cap_data` without any.
const NONE: [u8; 20] = [0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Makes an image, mounts it, and looks at it.
pub(crate) fn probe(temporary: &Path, mounts: &Mounts) -> Result<(), Unusable> {
    attempt(temporary, mounts).map_err(|error| Unusable {
        why: error.to_string(),
    })
}

fn attempt(temporary: &Path, mounts: &Mounts) -> io::Result<()> {
    let folder = TempDir::new(temporary, "probe")?;
    let tar = tar()?;
    let made = unpack::apply(&Erofs, folder.path(), &tar[..], &ApplyOptions::default());
    let (_, image) = made.map_err(io::Error::other)?;
    image.finish(&[])?;
    mounts.with(&folder.path().join(IMAGE), "probe", |place| {
        let view = [place.to_owned(), folder.path().to_owned()];
        let view = overlay::mount_view(&view).map_err(io::Error::other)?;
        // an overlay does not show its own marks
        let root = crate::fsutil::open_dir(place)?;
        expect(root.as_fd(), c"d", OPAQUE, b"y")?;
        expect(view.as_fd(), c"f", CAPABILITY, &NONE)
    })
}

fn expect(
    root: std::os::fd::BorrowedFd<'_>,
    name: &std::ffi::CStr,
    attribute: &std::ffi::CStr,
    value: &[u8],
) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(root, name, flags, Mode::empty())?;
    let mut found = [0; 32];
    let length = rustix::fs::fgetxattr(file, attribute, &mut found[..])?;
    if found[..length] == *value {
        Ok(())
    } else {
        Err(Errno::NODATA.into())
    }
}

/// A directory that hides what is below it, and a file with a capability.
fn tar() -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    entry(&mut out, "d/", b'5', b"")?;
    entry(&mut out, "d/.wh..wh..opq", b'0', b"")?;
    // the length of the record, in front of it, counts itself
    let mut record = b"55 SCHILY.xattr.security.capability=".to_vec();
    record.extend_from_slice(&NONE);
    record.push(b'\n');
    let length = record.len().to_string();
    record[..2].copy_from_slice(length.as_bytes().get(..2).unwrap_or(b"57"));
    entry(&mut out, "x", b'x', &record)?;
    entry(&mut out, "f", b'0', b"content")?;
    out.write_all(&[0; 1024])?;
    Ok(out)
}

fn entry(out: &mut Vec<u8>, name: &str, kind: u8, data: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_path(name)?;
    header.set_mode(0o700);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(data.len() as u64);
    header.as_mut_bytes()[156] = kind;
    header.set_cksum();
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(data);
    out.resize(out.len().next_multiple_of(512), 0);
    Ok(())
}
