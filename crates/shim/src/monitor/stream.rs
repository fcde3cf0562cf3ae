//! A client's byte stream: what it sends becomes standard input, what the process writes goes to it.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use shim::AttachOrder;
use shim::stdcopy::{self, Output};

/// From how many waiting bytes on a client holds up the process that feeds it.
const FULL: usize = 256 << 10;
/// How long a guest may hold up the process.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a client is to the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The one that the process was started for: it may take its time.
    Owner,
    /// One that came later: it must not hold up the process for long.
    Guest,
}

/// One client's stream.
#[derive(Debug)]
pub(crate) struct Stream {
    fd: OwnedFd,
    order: AttachOrder,
    standing: Standing,
    /// Whether output goes as it is (a terminal's), without stdcopy headers.
    raw: bool,
    waiting: Vec<u8>,
    sent: usize,
    full_since: Option<Instant>,
    input_open: bool,
    ending: bool,
    dead: bool,
}

impl Stream {
    /// Makes a stream whose first bytes are `first`, an answer that was not sent yet.
    pub(crate) fn new(
        fd: OwnedFd,
        order: AttachOrder,
        standing: Standing,
        first: Vec<u8>,
    ) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        let mut stream = Self {
            fd,
            order,
            standing,
            raw: false,
            waiting: first,
            sent: 0,
            full_since: None,
            input_open: order.stdin,
            ending: false,
            dead: false,
        };
        stream.write();
        Ok(stream)
    }

    /// Says that the process has a terminal.
    pub(crate) fn set_raw(&mut self, raw: bool) {
        self.raw = raw;
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead
    }

    /// Whether the process must wait for this client before it may write more to `output`.
    pub(crate) fn holds_up(&self, output: Output) -> bool {
        !self.dead && self.wants(output) && self.pending() >= FULL
    }

    /// What to poll for; `input_room` says whether standard input can take more.
    pub(crate) fn interest(&self, input_room: bool) -> PollFlags {
        let mut flags = PollFlags::empty();
        if self.pending() > 0 {
            flags |= PollFlags::OUT;
        }
        if self.input_open && input_room {
            flags |= PollFlags::IN;
        }
        flags
    }

    /// Takes a piece of output.
    pub(crate) fn push(&mut self, output: Output, bytes: &[u8]) {
        if self.dead || self.ending || !self.wants(output) {
            return;
        }
        if !self.raw {
            // A piece is at most one read's buffer long.
            let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            self.waiting
                .extend_from_slice(&stdcopy::header(output, length));
        }
        self.waiting.extend_from_slice(bytes);
        self.write();
    }

    /// Writes what the client takes now.
    pub(crate) fn write(&mut self) {
        while !self.dead && self.pending() > 0 {
            match rustix::io::write(&self.fd, &self.waiting[self.sent..]).map_err(io::Error::from) {
                Ok(count) => {
                    self.sent += count;
                    self.full_since = None;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_gone) => self.dead = true,
            }
        }
        self.tidy();
    }

    /// Reads what the client sent; `Some(0)` is the end of its input, `None` is nothing now.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Option<usize> {
        match rustix::io::read(&self.fd, buffer).map_err(io::Error::from) {
            Ok(0) => self.input_open = false,
            Ok(count) => return Some(count),
            Err(error) if error.kind() == ErrorKind::Interrupted => return None,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
            Err(_gone) => {
                self.dead = true;
                self.input_open = false;
            }
        }
        Some(0)
    }

    /// Whether the client may still send input.
    pub(crate) fn input_open(&self) -> bool {
        self.input_open
    }

    /// The client has left.
    pub(crate) fn hang_up(&mut self) {
        self.dead = true;
    }

    /// The process has ended: the stream closes when its last byte is delivered.
    pub(crate) fn end(&mut self) {
        self.ending = true;
        self.input_open = false;
        self.tidy();
    }

    /// Drops a guest whose patience is over; gives the time until that, for the poll.
    pub(crate) fn check_patience(&mut self, now: Instant) -> Option<Duration> {
        if self.dead || self.standing == Standing::Owner {
            return None;
        }
        let waited = now.duration_since(self.full_since?);
        if waited >= PATIENCE {
            self.dead = true;
            return None;
        }
        Some(PATIENCE.saturating_sub(waited))
    }

    fn wants(&self, output: Output) -> bool {
        match output {
            Output::Stdout => self.order.stdout,
            Output::Stderr => self.order.stderr,
        }
    }

    fn pending(&self) -> usize {
        self.waiting.len() - self.sent
    }

    fn tidy(&mut self) {
        if self.pending() == 0 {
            self.waiting = Vec::new();
            self.sent = 0;
            self.dead |= self.ending;
        } else if self.sent >= FULL {
            self.waiting.drain(..self.sent);
            self.sent = 0;
        }
        if self.pending() < FULL {
            self.full_since = None;
        } else if self.full_since.is_none() {
            self.full_since = Some(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use super::*;

    const OUT: AttachOrder = AttachOrder {
        stdin: false,
        stdout: true,
        stderr: false,
    };

    fn stream(standing: Standing) -> (Stream, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let stream = Stream::new(ours.into(), OUT, standing, Vec::new()).unwrap();
        (stream, theirs)
    }

    fn fill(stream: &mut Stream) -> usize {
        let mut pushed = 0;
        while !stream.holds_up(Output::Stdout) {
            stream.push(Output::Stdout, &[b'x'; 10_000]);
            pushed += 10_000 + stdcopy::HEADER;
            assert!(pushed < 4 << 20);
        }
        pushed
    }

    #[test]
    fn holds_up_its_process_and_loses_nothing() {
        let (mut stream, mut client) = stream(Standing::Owner);
        let pushed = fill(&mut stream);
        assert!(!stream.holds_up(Output::Stderr));
        assert_eq!(stream.interest(true), PollFlags::OUT);
        stream.end();
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            client.read_to_end(&mut all).unwrap();
            all.len()
        });
        while !stream.is_dead() {
            stream.write();
            std::thread::yield_now();
        }
        drop(stream);
        assert_eq!(reader.join().unwrap(), pushed);
    }

    #[test]
    fn a_guest_may_not_do_so_for_long() {
        let (mut stream, mut client) = stream(Standing::Guest);
        assert_eq!(stream.check_patience(Instant::now()), None);
        fill(&mut stream);
        let soon = Instant::now() + PATIENCE / 2;
        assert!(
            stream
                .check_patience(soon)
                .is_some_and(|left| left <= PATIENCE)
        );
        client.read_exact(&mut [0; 50_000]).unwrap();
        stream.write();
        let late = Instant::now() + PATIENCE;
        assert_eq!(stream.check_patience(late), None);
        assert!(!stream.is_dead());
        fill(&mut stream);
        assert_eq!(stream.check_patience(late + PATIENCE), None);
        assert!(stream.is_dead());
    }

    #[test]
    fn an_owner_may_take_its_time_and_is_forgotten_when_it_leaves() {
        let (mut stream, client) = stream(Standing::Owner);
        fill(&mut stream);
        assert_eq!(stream.check_patience(Instant::now() + 100 * PATIENCE), None);
        assert!(!stream.is_dead());
        drop(client);
        stream.push(Output::Stdout, b"x");
        assert!(stream.is_dead() && !stream.holds_up(Output::Stdout));
    }
}
