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
    for (name, value) in read_fd(from, wanted)? {
        match rustix::fs::fsetxattr(to, &CString::new(name)?, &value, XattrFlags::empty()) {
            Ok(()) | Err(Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Reads the attributes whose names are wanted.
pub(crate) fn read_fd(
    from: BorrowedFd<'_>,
    wanted: impl Fn(&[u8]) -> bool,
) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    // Most files have none, and then no buffer is needed.
    match rustix::fs::flistxattr_query(from) {
        Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Ok(_) => {}
        Err(error) => return Err(error.into()),
    }
    let mut names = vec![0; LONGEST];
    let length = rustix::fs::flistxattr(from, &mut names[..])?;
    let mut value = vec![0; LONGEST];
    let mut found = Vec::new();
    for name in names[..length].split(|byte| *byte == 0) {
        if name.is_empty() || !wanted(name) {
            continue;
        }
        match rustix::fs::fgetxattr(from, &CString::new(name)?, &mut value[..]) {
            Ok(length) => found.push((name.to_vec(), value[..length].to_vec())),
            Err(Errno::NODATA) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

/// What of a file goes with its copy: all but the host's labels and overlayfs' own marks.
pub(crate) fn is_content(name: &[u8]) -> bool {
    name == b"security.capability" || name.starts_with(b"user.") || name.starts_with(b"system.")
}
