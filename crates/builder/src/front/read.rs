//! Files of a result, for front ends.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags, Stat};

/// Opens a path below a root as its processes would see it; links lead nowhere else, and nothing is waited for.
fn open(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> io::Result<File> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let path = if path.is_empty() { "." } else { path };
    let opened = rustix::fs::openat2(root, path, flags, Mode::empty(), resolve)?;
    Ok(File::from(opened))
}

/// Reads a regular file of at most `max` bytes below a root.
///
/// # Errors
/// When there is none, it is no regular file, or it is longer.
pub fn read_file(root: impl AsFd, path: &str, max: u64) -> io::Result<Vec<u8>> {
    let file = open(root.as_fd(), path, OFlags::RDONLY)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("longer than {max} bytes"),
        ));
    }
    Ok(bytes)
}

/// The first bytes of a regular file below a root.
pub(super) fn read_head(root: impl AsFd, path: &str, length: u64) -> io::Result<Vec<u8>> {
    let file = open(root.as_fd(), path, OFlags::RDONLY)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What is known of a path below a root without its content; the last link is not followed.
///
/// # Errors
/// When there is nothing.
pub fn stat_file(root: impl AsFd, path: &str) -> io::Result<Stat> {
    let file = open(root.as_fd(), path, OFlags::PATH | OFlags::NOFOLLOW)?;
    Ok(rustix::fs::fstat(file)?)
}
