//! Standard streams.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Gid, Mode, OFlags, Uid, fstat};
use rustix::io::Errno;
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};

/// Where a process's standard streams come from.
#[derive(Debug)]
pub(crate) enum Source {
    /// One terminal for all.
    Terminal(OwnedFd),
    /// A file for each; absent is the null device.
    Files([Option<OwnedFd>; 3]),
}

/// Puts the null device in the place of the parent's standard streams.
pub(crate) fn cover(null: BorrowedFd<'_>) -> io::Result<()> {
    dup2_stdin(null)?;
    dup2_stdout(null)?;
    dup2_stderr(null)?;
    Ok(())
}

/// Opens the host's null device.
///
/// A stage inherits it from its parent: the container's own may be anything, and the rules of its
/// cgroup may be changing.
pub(crate) fn open_null() -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    above_stdio(rustix::fs::open(c"/dev/null", flags, Mode::empty())?)
}

/// Moves a descriptor out of the way of the standard ones.
pub(crate) fn above_stdio(fd: OwnedFd) -> io::Result<OwnedFd> {
    if fd.as_raw_fd() > 2 {
        return Ok(fd);
    }
    Ok(rustix::io::fcntl_dupfd_cloexec(&fd, 3)?)
}

/// Puts the streams in place, where [`cover`] has put the null device, and gives them to the user, so that `/dev/stdout` can be opened anew.
pub(super) fn place(source: Source, uid: u32) -> io::Result<()> {
    match source {
        Source::Terminal(slave) => {
            let slave = above_stdio(slave)?;
            dup2_stdin(&slave)?;
            dup2_stdout(&slave)?;
            dup2_stderr(&slave)?;
        }
        Source::Files(files) => {
            let mut fds = Vec::with_capacity(3);
            for file in files {
                fds.push(match file {
                    Some(file) => above_stdio(file)?,
                    None => rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?,
                });
            }
            dup2_stdin(&fds[0])?;
            dup2_stdout(&fds[1])?;
            dup2_stderr(&fds[2])?;
            for fd in &fds {
                give(std::os::fd::AsFd::as_fd(fd), uid)?;
            }
        }
    }
    Ok(())
}

/// Makes the user the owner of a stream, as runc does; devices and what cannot change stay as they are.
fn give(fd: BorrowedFd<'_>, uid: u32) -> io::Result<()> {
    let stat = fstat(fd)?;
    if stat.st_uid == uid || FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice {
        return Ok(());
    }
    let same_group: Option<Gid> = None;
    match rustix::fs::fchown(fd, Some(Uid::from_raw(uid)), same_group) {
        Ok(()) | Err(Errno::INVAL | Errno::PERM | Errno::ROFS | Errno::NOSYS) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
