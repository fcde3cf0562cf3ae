//! A connection that brings requests and takes answers and events.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::PollFlags;
use shim::frame::{self, Frame, FrameReader};
use shim::{Event, Reply};

/// How much may wait for a peer that does not read.
const FULL: usize = 8 << 20;

/// What a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The one that the shim was started with.
    Control,
    /// One that came over the socket.
    Visitor,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    /// `None` once the connection has become a stream.
    fd: Option<OwnedFd>,
    kind: Kind,
    reader: FrameReader,
    waiting: Vec<u8>,
    subscribed: bool,
}

impl Connection {
    pub(crate) fn new(fd: OwnedFd, kind: Kind) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(Self {
            fd: Some(fd),
            kind,
            reader: FrameReader::default(),
            waiting: Vec::new(),
            subscribed: false,
        })
    }

    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().map(AsFd::as_fd)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.fd.is_some()
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// What to poll for.
    pub(crate) fn interest(&self) -> PollFlags {
        if self.waiting.is_empty() {
            PollFlags::IN
        } else {
            PollFlags::IN | PollFlags::OUT
        }
    }

    /// The next frame, if one is whole.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        let result = self.reader.read(self.fd.as_ref()?);
        match result {
            Ok(Some(frame)) => return Some(frame),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Ok(None) | Err(_) => self.close(),
        }
        None
    }

    /// Answers.
    pub(crate) fn reply(&mut self, reply: &Reply) {
        self.send_frame(reply);
    }

    fn send_frame(&mut self, value: &impl serde::Serialize) {
        match frame::encode(value) {
            Ok(bytes) => self.send(&bytes),
            // Only a reply of more than a frame's length, which no peer could take.
            Err(_too_long) => self.close(),
        }
    }

    /// Asks for events from now on.
    pub(crate) fn subscribe(&mut self) {
        self.subscribed = true;
    }

    /// Tells an event to a subscriber.
    pub(crate) fn tell(&mut self, event: &Event) {
        if self.subscribed {
            self.send_frame(event);
        }
    }

    /// Writes what the peer takes now.
    pub(crate) fn write(&mut self) {
        while let Some(fd) = self.fd.as_ref().filter(|_| !self.waiting.is_empty()) {
            match frame::send_part(fd, &self.waiting, &[]) {
                Ok(count) => {
                    self.waiting.drain(..count);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_gone) => self.close(),
            }
        }
        self.waiting = Vec::new();
    }

    /// Whether everything was taken.
    pub(crate) fn is_flushed(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Gives up the connection for a stream, with the bytes that go before it.
    pub(crate) fn take_over(&mut self, reply: &Reply) -> Option<(OwnedFd, Vec<u8>)> {
        let mut first = std::mem::take(&mut self.waiting);
        first.extend(frame::encode(reply).ok()?);
        self.fd.take().map(|fd| (fd, first))
    }

    pub(crate) fn close(&mut self) {
        self.fd = None;
        self.waiting = Vec::new();
    }

    fn send(&mut self, bytes: &[u8]) {
        if self.waiting.len() > FULL {
            self.close();
            return;
        }
        self.waiting.extend_from_slice(bytes);
        self.write();
    }
}
