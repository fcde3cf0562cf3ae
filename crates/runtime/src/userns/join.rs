//! A stage in a user namespace that is there already.
//!
//! Nobody comes back from a user namespace: a process goes there to make the stage, as a child of its
//! own parent, and ends.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};
use sys::process::{CloneOptions, Cloned};

/// Clones a process into new namespaces that belong to the user namespace of a file.
///
/// `pids` is the file of a pid namespace of it to be born in. `clone` must ask for a sibling.
pub(crate) fn clone_into(
    user: &Path,
    pids: Option<&Path>,
    clone: CloneOptions<'_>,
    stage: impl FnOnce() -> u8,
) -> io::Result<Cloned> {
    let user = open(user)?;
    let pids = pids.map(open).transpose()?;
    let (ours, theirs) = UnixStream::pair()?;
    let options = CloneOptions {
        namespaces: UnshareFlags::empty(),
        cgroup: None,
        sibling: false,
    };
    let middle = sys::process::clone(options, || {
        let made = enter(user.as_fd(), pids.as_ref()).and_then(|()| {
            let made = sys::process::clone(clone, stage)?;
            Ok(made.pid)
        });
        // the number in place of an id, and an error below zero
        let word = made.unwrap_or_else(|error| -error.raw_os_error().unwrap_or(1));
        u8::from((&theirs).write_all(&word.to_le_bytes()).is_err())
    })?;
    drop(theirs);
    let made = receive(&ours);
    rustix::io::retry_on_intr(|| {
        waitid(WaitId::PidFd(middle.pidfd.as_fd()), WaitIdOptions::EXITED)
    })?;
    let pid = made?;
    let gone = || io::Error::from(io::ErrorKind::NotFound);
    // nobody but this process can reap the child, so the number is still the child's
    let pidfd = pidfd_open(Pid::from_raw(pid).ok_or_else(gone)?, PidfdFlags::empty())?;
    Ok(Cloned { pid, pidfd })
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Enters the user namespace first: its rights are what the other takes.
fn enter(user: BorrowedFd<'_>, pids: Option<&OwnedFd>) -> io::Result<()> {
    move_into_link_name_space(user, Some(LinkNameSpaceType::User))?;
    if let Some(pids) = pids {
        move_into_link_name_space(pids.as_fd(), Some(LinkNameSpaceType::ProcessID))?;
    }
    Ok(())
}

fn receive(mut from: &UnixStream) -> io::Result<i32> {
    let mut word = [0; 4];
    from.read_exact(&mut word)?;
    match i32::from_le_bytes(word) {
        pid if pid > 0 => Ok(pid),
        error => Err(io::Error::from_raw_os_error(-error)),
    }
}
