//! The extended attributes that go with a file's copy.

use std::ffi::CString;
use std::io;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use crate::copy_up::xattrs::is_content;

/// The longest value that the kernel gives (xattr(7)).
const LONGEST: usize = 64 * 1024;

/// Reads the attributes of an open file or directory; a file system without them gives none.
pub(crate) fn read(fd: BorrowedFd<'_>) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let length = match rustix::fs::flistxattr_query(fd) {
        Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        other => other?,
    };
    // Somebody may add one meanwhile.
    let mut names = vec![0; (length * 2).min(LONGEST)];
    let length = match rustix::fs::flistxattr(fd, &mut names[..]) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut names: Vec<&[u8]> = names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty() && is_content(name))
        .collect();
    names.sort_unstable();
    let mut found = Vec::new();
    let mut value = vec![0; if names.is_empty() { 0 } else { LONGEST }];
    for name in names {
        match rustix::fs::fgetxattr(fd, CString::new(name)?, &mut value[..]) {
            Ok(length) => found.push((name.to_vec(), value[..length].to_vec())),
            Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}
