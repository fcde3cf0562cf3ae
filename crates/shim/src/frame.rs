//! Frames on a unix stream socket: a length, a JSON value, and fds that travel with the first byte.
//!
//! The length is four bytes, little endian, and at most [`MAX`]. A reader takes exactly one frame's
//! bytes from the socket and not one more, so that a connection can turn into a plain byte stream
//! after any frame.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::protocol::{ErrorKind, Reply, Request, SOCKET_NAME};

/// The longest JSON text of a frame.
pub const MAX: usize = 4 << 20;
/// The most fds with a frame.
pub const MAX_FDS: usize = 32;

const HEADER: usize = 4;
/// What is reserved for a body before any of it has arrived.
const FIRST_PART: usize = 64 << 10;

/// Why a frame could not be made, sent or read.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The value has no JSON form.
    #[error("encode a frame")]
    Encode(#[source] serde_json::Error),
    /// The value is too long.
    #[error("send a frame of {length} bytes: at most {MAX} are allowed")]
    TooLong {
        /// Its length.
        length: usize,
    },
    /// The socket failed while writing.
    #[error("send a frame")]
    Send(#[source] io::Error),
    /// The socket failed while reading.
    #[error("receive a frame")]
    Receive(#[source] io::Error),
    /// The text is not what was expected.
    #[error("decode a frame")]
    Decode(#[source] serde_json::Error),
}

/// Why a shim did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The connection failed.
    #[error("talk to the shim")]
    Frame(#[source] FrameError),
    /// The shim closed the connection without an answer.
    #[error("talk to the shim: it closed the connection")]
    Closed,
    /// The shim refused.
    #[error("{message}")]
    Refused {
        /// What sort of failure.
        kind: ErrorKind,
        /// The step that failed.
        step: String,
        /// Text for the user.
        message: String,
    },
}

/// One frame as it came.
#[derive(Debug)]
pub struct Frame {
    /// The JSON text.
    pub text: Vec<u8>,
    /// The fds that came with it.
    pub fds: Vec<OwnedFd>,
}

impl Frame {
    /// Reads the JSON text as a value.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, FrameError> {
        serde_json::from_slice(&self.text).map_err(FrameError::Decode)
    }
}

/// Makes a frame's bytes.
pub fn encode(value: &impl Serialize) -> Result<Vec<u8>, FrameError> {
    let mut bytes = vec![0; HEADER];
    serde_json::to_writer(&mut bytes, value).map_err(FrameError::Encode)?;
    let length = bytes.len() - HEADER;
    let header = u32::try_from(length)
        .ok()
        .filter(|_| length <= MAX)
        .ok_or(FrameError::TooLong { length })?;
    bytes[..HEADER].copy_from_slice(&header.to_le_bytes());
    Ok(bytes)
}

/// Writes what the socket takes now of a frame's bytes, with the fds if this is its first part.
///
/// This is one `sendmsg`: a non-blocking socket yields `WouldBlock`. Once it has returned a number,
/// the rest is to be written without fds.
pub fn send_part(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "too many fds for a frame",
        ));
    }
    let parts = [IoSlice::new(bytes)];
    let sent = rustix::io::retry_on_intr(|| {
        rustix::net::sendmsg(&socket, &parts, &mut ancillary, SendFlags::NOSIGNAL)
    })?;
    Ok(sent)
}

/// Sends a value as one frame over a blocking socket.
pub fn send(
    socket: impl AsFd,
    value: &impl Serialize,
    fds: &[BorrowedFd<'_>],
) -> Result<(), FrameError> {
    let bytes = encode(value)?;
    let mut done = 0;
    while done < bytes.len() {
        let with = if done == 0 { fds } else { &[] };
        done += send_part(&socket, &bytes[done..], with).map_err(FrameError::Send)?;
    }
    Ok(())
}

/// Receives one frame from a blocking socket; `None` when it ended between frames.
pub fn receive(socket: impl AsFd) -> Result<Option<Frame>, FrameError> {
    FrameReader::default()
        .read(socket)
        .map_err(FrameError::Receive)
}

/// Takes frames from a socket that may not block.
#[derive(Debug, Default)]
pub struct FrameReader {
    header: [u8; HEADER],
    have: usize,
    body: Vec<u8>,
    fds: Vec<OwnedFd>,
}

impl FrameReader {
    /// Reads until a frame is whole: `None` when the peer ended the connection between frames.
    ///
    /// `WouldBlock` says that more has to come; the reader keeps what it has.
    pub fn read(&mut self, socket: impl AsFd) -> io::Result<Option<Frame>> {
        while self.have < HEADER {
            let mut part = self.header;
            let count = self.receive_part(&socket, &mut part[self.have..])?;
            if count == 0 {
                return if self.have == 0 {
                    Ok(None)
                } else {
                    Err(cut_off())
                };
            }
            self.header = part;
            self.have += count;
        }
        let length = self.length()?;
        self.read_body(&socket, length)?;
        self.have = 0;
        Ok(Some(Frame {
            text: std::mem::take(&mut self.body),
            fds: std::mem::take(&mut self.fds),
        }))
    }

    fn length(&self) -> io::Result<usize> {
        usize::try_from(u32::from_le_bytes(self.header))
            .ok()
            .filter(|length| *length <= MAX)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a frame is too long"))
    }

    /// The body grows with what arrives, so that a false length costs its sender, not the reader.
    fn read_body(&mut self, socket: impl AsFd, length: usize) -> io::Result<()> {
        while self.body.len() < length {
            let start = self.body.len();
            let step = (length - start).min(FIRST_PART.max(start));
            self.body.resize(start + step, 0);
            let mut body = std::mem::take(&mut self.body);
            let result = self.receive_part(&socket, &mut body[start..]);
            body.truncate(start + result.as_ref().copied().unwrap_or(0));
            self.body = body;
            if result? == 0 {
                return Err(cut_off());
            }
        }
        Ok(())
    }

    fn receive_part(&mut self, socket: impl AsFd, into: &mut [u8]) -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(into)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let message = rustix::io::retry_on_intr(|| {
            rustix::net::recvmsg(&socket, &mut parts, &mut ancillary, flags)
        })?;
        for part in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = part {
                self.fds.extend(fds);
            }
        }
        if self.fds.len() > MAX_FDS {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a frame has too many fds",
            ));
        }
        Ok(message.bytes)
    }
}

fn cut_off() -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the peer left in the middle of a frame",
    )
}

/// Asks a shim over a blocking connection and waits for its answer; a refusal is an error.
///
/// For connections that are not subscribed: an event would be taken for a wrong answer.
pub fn call(
    socket: impl AsFd,
    request: &Request,
    fds: &[BorrowedFd<'_>],
) -> Result<Reply, CallError> {
    send(&socket, request, fds).map_err(CallError::Frame)?;
    let frame = receive(&socket)
        .map_err(CallError::Frame)?
        .ok_or(CallError::Closed)?;
    match frame.parse().map_err(CallError::Frame)? {
        Reply::Error {
            kind,
            step,
            message,
        } => Err(CallError::Refused {
            kind,
            step,
            message,
        }),
        reply => Ok(reply),
    }
}

/// The path of a container's socket that fits a socket address, and the fd that keeps it valid.
///
/// A socket address has room for 107 bytes, which a long `--run` folder and a 64-digit id exceed.
pub fn socket_path(dir: &Path) -> io::Result<(PathBuf, OwnedFd)> {
    use std::os::fd::AsRawFd;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(dir, flags, Mode::empty())?;
    let path = format!("/proc/self/fd/{}/{SOCKET_NAME}", fd.as_raw_fd());
    Ok((path.into(), fd))
}

/// Connects to the shim of a container's run directory.
pub fn connect(dir: &Path) -> io::Result<UnixStream> {
    let (path, _dir) = socket_path(dir)?;
    UnixStream::connect(path)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn carries_values_and_fds_and_leaves_the_rest_alone() {
        let (left, mut right) = UnixStream::pair().unwrap();
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        send(&left, &Request::State, &[]).unwrap();
        send(&left, &Request::Subscribe, &[writer.as_fd()]).unwrap();
        (&left).write_all(b"raw").unwrap();
        drop(writer);

        let first = receive(&right).unwrap().unwrap();
        assert!(matches!(first.parse().unwrap(), Request::State));
        assert!(first.fds.is_empty());
        let second = receive(&right).unwrap().unwrap();
        assert!(matches!(second.parse().unwrap(), Request::Subscribe));
        std::fs::File::from(second.fds.into_iter().next().unwrap())
            .write_all(b"x")
            .unwrap();
        let mut byte = [0; 1];
        assert_eq!(rustix::io::read(&reader, &mut byte[..]).unwrap(), 1);

        drop(left);
        let mut rest = String::new();
        right.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "raw");
    }

    #[test]
    fn goes_on_where_a_slow_sender_stopped() {
        let (left, right) = UnixStream::pair().unwrap();
        right.set_nonblocking(true).unwrap();
        let bytes = encode(&vec!["x".repeat(200_000)]).unwrap();
        let mut reader = FrameReader::default();
        let mut frame = None;
        for part in bytes.chunks(70_001) {
            assert!(frame.is_none());
            let half = part.len() / 2;
            for piece in [&part[..half], &part[half..]] {
                (&left).write_all(piece).unwrap();
                match reader.read(&right) {
                    Ok(whole) => frame = whole,
                    Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
                }
            }
        }
        let text: Vec<String> = frame.unwrap().parse().unwrap();
        assert_eq!(text[0].len(), 200_000);
    }

    #[test]
    fn refuses_false_lengths_and_half_frames() {
        let (left, right) = UnixStream::pair().unwrap();
        (&left).write_all(&u32::MAX.to_le_bytes()).unwrap();
        assert!(receive(&right).is_err());

        let (left, right) = UnixStream::pair().unwrap();
        (&left).write_all(&100_u32.to_le_bytes()).unwrap();
        (&left).write_all(b"{").unwrap();
        drop(left);
        assert!(receive(&right).is_err());

        let (left, right) = UnixStream::pair().unwrap();
        drop(left);
        assert!(receive(&right).unwrap().is_none());
        assert!(matches!(
            encode(&"x".repeat(MAX)),
            Err(FrameError::TooLong { .. })
        ));
    }
}
