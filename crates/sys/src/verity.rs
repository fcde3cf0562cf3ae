//! fs-verity: files that the kernel lets nobody change, and checks when they are read.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::ptr;

/// `struct fsverity_enable_arg` (`linux/fsverity.h`).
#[repr(C)]
struct Enable {
    version: u32,
    hash: u32,
    block: u32,
    salt_length: u32,
    salt: u64,
    signature_length: u32,
    reserved: u32,
    signature: u64,
    more: [u64; 11],
}

const SHA256: u32 = 1;
const BLOCK: u32 = 4096;
/// `_IOW('f', 133, struct fsverity_enable_arg)`.
const ENABLE: u32 = 1 << 30 | 128 << 16 | 0x66 << 8 | 133;
const _: () = assert!(size_of::<Enable>() == 128);

/// Makes a file unchangeable, after all of it was read once. It must be open for reading only, and
/// by nobody for writing.
///
/// # Errors
///
/// What Documentation/filesystems/fsverity.rst says: `EOPNOTSUPP` or `ENOTTY` where the file system or
/// the kernel has none of it, `ETXTBSY` when somebody writes, `EEXIST` when it is done already.
pub fn enable(file: BorrowedFd<'_>) -> io::Result<()> {
    let argument = Enable {
        version: 1,
        hash: SHA256,
        block: BLOCK,
        salt_length: 0,
        salt: 0,
        signature_length: 0,
        reserved: 0,
        signature: 0,
        more: [0; 11],
    };
    // SAFETY: the kernel only reads `argument`, which has the size that the number says and outlives
    // the call; it names no other memory, for both lengths are zero.
    let done = unsafe { libc::ioctl(file.as_raw_fd(), ENABLE.into(), ptr::from_ref(&argument)) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn a_file_is_sealed_or_the_system_says_that_it_cannot() {
        let path = std::env::temp_dir().join(format!("gorae-verity-{}", std::process::id()));
        std::fs::write(&path, [7; 10_000]).unwrap();
        let file = std::fs::File::open(&path).unwrap();
        let known = [libc::EOPNOTSUPP, libc::ENOTTY, libc::EINVAL];
        match enable(file.as_fd()) {
            Ok(()) => assert!(std::fs::write(&path, b"other").is_err()),
            Err(error) => assert!(known.contains(&error.raw_os_error().unwrap()), "{error}"),
        }
        std::fs::remove_file(&path).unwrap();
    }
}
