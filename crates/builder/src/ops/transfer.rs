//! Copies of single names from one open directory to another.

use std::ffi::CStr;
use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::Stat;

use super::copy::Single;

/// Copies names with all below them and all that belongs to them.
pub(crate) struct Transfer(Single);

impl Transfer {
    /// Whether the source is a client's, all of whose files count as root's.
    pub(crate) fn new(of_client: bool) -> Self {
        Self(Single::new(of_client))
    }

    /// Copies a name.
    pub(crate) fn copy(
        &mut self,
        from: BorrowedFd<'_>,
        name: &CStr,
        stat: &Stat,
        to: BorrowedFd<'_>,
    ) -> io::Result<()> {
        self.0.copy(from, name, stat, to)
    }

    /// Gives a directory what belongs to another.
    pub(crate) fn directory(
        &self,
        from: BorrowedFd<'_>,
        stat: &Stat,
        to: BorrowedFd<'_>,
    ) -> io::Result<()> {
        self.0.directory(from, stat, to)
    }
}
