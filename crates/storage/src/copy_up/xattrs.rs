//! Extended attributes from one file to another.

use std::ffi::CString;
use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

/// The longest list of names, and the longest value, that the kernel gives (xattr(7)).
const LONGEST: usize = 64 * 1024;

/// Copies the attributes whose names are wanted; a file system without them gets none.
pub(crate) fn copy_fd(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    wanted: impl Fn(&[u8]) -> bool,
) -> io::Result<()> {
    // Most files have none, and then no buffer is needed.
    match rustix::fs::flistxattr_query(from) {
        Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(()),
        Ok(_) => {}
        Err(error) => return Err(error.into()),
    }
    let mut names = vec![0; LONGEST];
    let length = rustix::fs::flistxattr(from, &mut names[..])?;
    let mut value = vec![0; LONGEST];
    for name in names[..length].split(|byte| *byte == 0) {
        if name.is_empty() || !wanted(name) {
            continue;
        }
        let name = CString::new(name)?;
        let length = match rustix::fs::fgetxattr(from, &name, &mut value[..]) {
            Ok(length) => length,
            Err(Errno::NODATA) => continue,
            Err(error) => return Err(error.into()),
        };
        match rustix::fs::fsetxattr(to, &name, &value[..length], XattrFlags::empty()) {
            Ok(()) | Err(Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// What of a file goes with its copy: all but the host's labels and overlayfs' own marks.
pub(crate) fn is_content(name: &[u8]) -> bool {
    name == b"security.capability" || name.starts_with(b"user.") || name.starts_with(b"system.")
}
