//! Whole trees of the caller's own: measured, copied in their attributes, and removed.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::FileType;

use super::usage::{Cancel, Usage, measure};

/// Removes a file or a whole tree, with several threads where it is large; nothing there is no error.
///
/// # Errors
///
/// A disk that fails.
pub fn remove(path: &Path) -> io::Result<()> {
    super::remove::remove_quickly(path)
}

/// Removes an entry of a directory with all below it, and follows no link; nothing there is no error.
///
/// # Errors
///
/// A disk that fails.
pub fn remove_at(directory: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    super::remove::remove_at(directory, name)
}

/// Measures a tree.
///
/// # Errors
///
/// A directory that cannot be read, or a measurement that was cancelled.
pub fn usage(path: &Path, cancel: &Cancel) -> io::Result<Usage> {
    measure(super::open_dir(path)?, cancel)
}

/// The names in a directory that was opened for reading, without `.` and `..`.
///
/// # Errors
///
/// A directory that cannot be read.
pub fn list(directory: BorrowedFd<'_>) -> io::Result<Vec<(CString, FileType)>> {
    super::remove::list(directory)
}

/// The extended attributes of an open file that belong to its content.
///
/// # Errors
///
/// A file that cannot be read.
pub fn xattrs(file: BorrowedFd<'_>) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    crate::files::read_xattrs(file)
}
