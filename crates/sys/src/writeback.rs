//! Telling the kernel to begin to write what a file has in memory.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// Begins to write a range of a file to the disk, without waiting for it, and without its metadata: what is
/// to last still needs fdatasync(2), which then has less to do (sync_file_range(2)).
///
/// # Errors
///
/// The disk has no room, or fails.
pub fn begin(file: BorrowedFd<'_>, offset: u64, length: u64) -> io::Result<()> {
    let too_far = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let offset = i64::try_from(offset).map_err(too_far)?;
    let length = i64::try_from(length).map_err(too_far)?;
    let flags = libc::SYNC_FILE_RANGE_WRITE;
    // SAFETY: the call names no memory, and the descriptor is open as long as it is borrowed.
    let done = unsafe { libc::sync_file_range(file.as_raw_fd(), offset, length, flags) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write as _;
    use std::os::fd::AsFd as _;

    #[test]
    fn files_only() {
        let path = std::env::temp_dir().join(format!("gorae-writeback-{}", std::process::id()));
        let mut file = File::create(&path).unwrap();
        file.write_all(&[1; 10_000]).unwrap();
        super::begin(file.as_fd(), 0, 10_000).unwrap();
        super::begin(file.as_fd(), 1 << 40, 1).unwrap();
        super::begin(file.as_fd(), u64::MAX, 1).unwrap_err();
        std::fs::remove_file(path).unwrap();
        let (_reader, writer) = std::io::pipe().unwrap();
        super::begin(writer.as_fd(), 0, 1).unwrap_err();
    }
}
