//! The write end of a process's standard input, or a terminal, behind a bounded buffer.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How many bytes wait at most.
const FULL: usize = 64 << 10;

/// A process's input.
#[derive(Debug)]
pub(crate) struct Stdin {
    fd: Option<OwnedFd>,
    waiting: Vec<u8>,
    sent: usize,
    ending: bool,
}

impl Stdin {
    /// Takes the write end.
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(Self {
            fd: Some(fd),
            waiting: Vec::new(),
            sent: 0,
            ending: false,
        })
    }

    /// The fd to poll, while there is something to write.
    pub(crate) fn wants_write(&self) -> Option<BorrowedFd<'_>> {
        self.fd
            .as_ref()
            .filter(|_| self.sent < self.waiting.len())
            .map(AsFd::as_fd)
    }

    /// Whether more can be taken; what comes after the end is taken and dropped.
    pub(crate) fn has_room(&self) -> bool {
        self.fd.is_none() || self.waiting.len() - self.sent < FULL
    }

    /// Takes input.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if self.fd.is_some() && !self.ending {
            self.waiting.extend_from_slice(bytes);
            self.write();
        }
    }

    /// Writes what the process takes now.
    pub(crate) fn write(&mut self) {
        while let Some(fd) = self.fd.as_ref().filter(|_| self.sent < self.waiting.len()) {
            match rustix::io::write(fd, &self.waiting[self.sent..]).map_err(io::Error::from) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // The process has closed its end; it will never read this.
                Err(_broken) => self.fd = None,
            }
        }
        self.waiting = Vec::new();
        self.sent = 0;
        if self.ending {
            self.fd = None;
        }
    }

    /// Ends the input after what waits.
    pub(crate) fn end(&mut self) {
        self.ending = true;
        self.write();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_a_full_pipe_refuses_and_ends_after_it() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let mut stdin = Stdin::new(writer).unwrap();
        let text = vec![b'x'; 100_000];
        stdin.push(&text);
        stdin.push(&text);
        stdin.end();
        assert!(!stdin.has_room());
        stdin.push(b"too late");
        let mut got = 0;
        let mut buffer = [0; 4096];
        loop {
            let count = rustix::io::read(&reader, &mut buffer[..]).unwrap();
            if count == 0 {
                break;
            }
            got += count;
            stdin.write();
        }
        assert_eq!(got, 200_000);
    }

    #[test]
    fn drops_input_that_nobody_will_read() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let mut stdin = Stdin::new(writer).unwrap();
        drop(reader);
        stdin.push(b"x");
        assert!(stdin.has_room() && stdin.wants_write().is_none());
    }
}
