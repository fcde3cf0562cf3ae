//! Standard input without a thread and without changing its mode for whoever else has it open.

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Standard input: waited for if it can be, else read at once (files, `/dev/null`).
#[derive(Debug)]
pub(crate) enum Input {
    Waited(AsyncFd<OwnedFd>),
    Direct(OwnedFd),
}

impl Input {
    #[expect(
        deprecated,
        reason = "unsound only for types whose as_raw_fd changes; an OwnedFd keeps its descriptor, and the successor is unsafe"
    )]
    pub(crate) fn open() -> io::Result<Self> {
        let stdin = io::stdin().as_fd().try_clone_to_owned()?;
        // epoll refuses files, which never block
        match AsyncFd::try_with_interest(stdin, Interest::READABLE) {
            Ok(waited) => Ok(Self::Waited(waited)),
            Err(error) => Ok(Self::Direct(error.into_parts().0)),
        }
    }

    /// Reads what is there; 0 is the end.
    pub(crate) async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let waited = match self {
            Self::Direct(fd) => return read(fd, buffer),
            Self::Waited(waited) => waited,
        };
        loop {
            let mut guard = waited.readable().await?;
            // the descriptor may block, so that the kernel is asked again before each read: another reader of the same
            // terminal may have been faster
            if is_readable(guard.get_inner())? {
                return read(guard.get_inner(), buffer);
            }
            guard.clear_ready();
        }
    }
}

fn is_readable(fd: &OwnedFd) -> io::Result<bool> {
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    match rustix::event::poll(&mut fds, Some(&now)) {
        Err(Errno::INTR) => Ok(false),
        result => Ok(result? > 0),
    }
}

fn read(fd: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match rustix::io::read(fd, &mut *buffer) {
            // a terminal that was hung up reads as its end
            Err(Errno::IO) => return Ok(0),
            Err(Errno::INTR) => {}
            result => return result.map_err(io::Error::from),
        }
    }
}
