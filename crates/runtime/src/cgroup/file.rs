//! Reading and writing the files of a cgroup.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use super::error::CgroupError;

/// Longer than any file of a cgroup; `cgroup.procs` of a full machine has 4 million lines of at most 8 bytes.
const LONGEST: u64 = 32 << 20;

/// Reads a file.
pub(super) fn read(path: &Path) -> Result<String, CgroupError> {
    try_read(path).map_err(|source| CgroupError::Read {
        path: path.to_owned(),
        source,
    })
}

/// Reads a file; `None` where it does not exist.
pub(super) fn read_if_there(path: &Path) -> Result<Option<String>, CgroupError> {
    match try_read(path) {
        // ENODEV: the cgroup was removed while the file was open
        Err(Errno::NOENT | Errno::NODEV) => Ok(None),
        Err(source) => Err(CgroupError::Read {
            path: path.to_owned(),
            source,
        }),
        Ok(text) => Ok(Some(text)),
    }
}

fn try_read(path: &Path) -> Result<String, Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let fd = openat(CWD, path, flags, Mode::empty())?;
    let mut text = String::new();
    let read = File::from(fd).take(LONGEST).read_to_string(&mut text);
    match read {
        Ok(_) => Ok(text),
        Err(error) => Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
    }
}

/// Writes a value, which the kernel takes in one piece.
pub(super) fn write(path: &Path, value: &str) -> Result<(), CgroupError> {
    try_write(path, value).map_err(|source| failure(path, value, source))
}

/// Writes a value and tells the kernel's bare answer.
pub(super) fn try_write(path: &Path, value: &str) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let fd = openat(CWD, path, flags, Mode::empty())?;
    rustix::io::write(&fd, value.as_bytes())?;
    Ok(())
}

/// Writes several values one after another through one open file.
pub(super) fn write_all<'a>(
    path: &Path,
    values: impl IntoIterator<Item = &'a str>,
) -> Result<(), CgroupError> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let fd = openat(CWD, path, flags, Mode::empty()).map_err(|source| failure(path, "", source))?;
    for value in values {
        rustix::io::write(&fd, value.as_bytes()).map_err(|source| failure(path, value, source))?;
    }
    Ok(())
}

/// Tells whether a file is there.
pub(super) fn exists(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::EXISTS).is_ok()
}

pub(super) fn failure(path: &Path, value: &str, source: Errno) -> CgroupError {
    CgroupError::Write {
        path: path.to_owned(),
        value: value.to_owned(),
        source,
    }
}

/// Reads a file that holds one number; `None` for `max`.
pub(super) fn read_number(path: &Path) -> Result<Option<u64>, CgroupError> {
    parse_number(path, &read(path)?)
}

/// Reads a number or `max`.
pub(super) fn parse_number(path: &Path, text: &str) -> Result<Option<u64>, CgroupError> {
    let text = text.trim();
    if text == "max" {
        return Ok(None);
    }
    let number = text.parse().map_err(|_| CgroupError::format(path, text))?;
    Ok(Some(number))
}

/// Finds the number behind a word in a file of lines of `word number`.
pub(super) fn field(text: &str, word: &str) -> Option<u64> {
    pairs(text).find(|pair| pair.0 == word).map(|pair| pair.1)
}

/// The lines of a file of `word number`.
pub(super) fn pairs(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| {
        let (word, number) = line.split_once(' ')?;
        Some((word, number.trim().parse().ok()?))
    })
}
