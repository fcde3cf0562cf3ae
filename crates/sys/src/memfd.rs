//! Sealed memory files: content that nobody can change any more, not even through `/proc`.

use std::io::{self, Read, Seek};
use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, SealFlags};

/// What a sealed memory file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Data: cannot be executed where the kernel knows the difference (Linux 6.3).
    Data,
    /// A program to execute.
    Program,
}

const SEAL_ATTEMPTS: u32 = 50;
const SEAL_PAUSE: std::time::Duration = std::time::Duration::from_millis(10);

/// Copies a reader's content into a close-on-exec memory file that can never change again.
///
/// A container that reaches its starter's executable through `/proc/self/exe` finds this copy and
/// can overwrite neither it nor the installed file (CVE-2019-5736). The file's offset is 0.
pub fn sealed(name: &str, purpose: Purpose, content: &mut impl Read) -> io::Result<OwnedFd> {
    let mut file = std::fs::File::from(create(name, purpose)?);
    io::copy(content, &mut file)?;
    file.rewind()?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    // while somebody else, as a page migration, holds one of the pages, the kernel cannot know that
    // nobody writes to it (memfd_wait_for_pins), and answers EBUSY after a short wait of its own
    for _ in 0..SEAL_ATTEMPTS {
        match rustix::fs::fcntl_add_seals(&file, seals) {
            Err(rustix::io::Errno::BUSY) => std::thread::sleep(SEAL_PAUSE),
            other => return Ok(other.map(|()| file.into())?),
        }
    }
    Err(rustix::io::Errno::BUSY.into())
}

fn create(name: &str, purpose: Purpose) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let kind = match purpose {
        Purpose::Data => MemfdFlags::NOEXEC_SEAL,
        Purpose::Program => MemfdFlags::EXEC,
    };
    // Kernels before 6.3 know neither flag; later ones may demand one (sysctl vm.memfd_noexec).
    match rustix::fs::memfd_create(name, flags | kind) {
        Err(rustix::io::Errno::INVAL) => Ok(rustix::fs::memfd_create(name, flags)?),
        made => Ok(made?),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn refuses_every_later_change() {
        let fd = sealed("test", Purpose::Data, &mut &b"text"[..]).unwrap();
        let mut file = std::fs::File::from(fd);
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "text");
        file.rewind().unwrap();
        assert!(file.write_all(b"x").is_err());
        assert!(file.set_len(0).is_err());
    }

    #[test]
    fn runs_a_program() {
        let mut program = std::fs::File::open("/bin/true").unwrap();
        let fd = sealed("true", Purpose::Program, &mut program).unwrap();
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd));
        assert!(std::process::Command::new(path).status().unwrap().success());
    }
}
