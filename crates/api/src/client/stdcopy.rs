//! Docker's framing of stdout and stderr in one stream: a header of 8 bytes (stream, three zeros, length in
//! big endian) and the payload.

use bytes::{Buf, Bytes, BytesMut};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt};

/// The most of a frame that is not output: it is kept whole.
const CONTROL: usize = 1 << 20;
const READ: usize = 32 << 10;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    /// Standard input, echoed; Docker's engines never send it.
    Stdin,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// The engine's own error, at the end of the stream.
    SystemError,
    /// A JSON message of Gorae's private endpoints.
    Control,
}

/// A frame, or a piece of a long one of the output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it carries.
    pub kind: StreamKind,
    /// The payload.
    pub data: Bytes,
}

/// Reads frames from a stream.
#[derive(Debug)]
pub struct Frames<R> {
    reader: R,
    buffer: BytesMut,
    pending: Option<(StreamKind, usize)>,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    /// Reads frames from `reader`.
    pub fn new(reader: R) -> Self {
        Self {
            reader,
            buffer: BytesMut::new(),
            pending: None,
        }
    }

    /// The next frame, or nothing at the end of the stream.
    ///
    /// It is safe to drop the future between two polls: what was read is kept.
    ///
    /// # Errors
    /// When the stream breaks, ends within a frame, or holds no such frames.
    pub async fn next(&mut self) -> io::Result<Option<Frame>> {
        loop {
            if let Some(frame) = self.buffered()? {
                return Ok(Some(frame));
            }
            self.buffer.reserve(READ);
            if self.reader.read_buf(&mut self.buffer).await? == 0 {
                if self.buffer.is_empty() && self.pending.is_none() {
                    return Ok(None);
                }
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn buffered(&mut self) -> io::Result<Option<Frame>> {
        loop {
            let (kind, length) = match self.pending {
                Some(pending) => pending,
                None if self.buffer.len() < 8 => return Ok(None),
                None => header(&mut self.buffer)?,
            };
            self.pending = (length > 0).then_some((kind, length));
            if length == 0 {
                continue;
            }
            let output = matches!(
                kind,
                StreamKind::Stdin | StreamKind::Stdout | StreamKind::Stderr
            );
            let take = if output {
                length.min(self.buffer.len())
            } else {
                length
            };
            if take == 0 || take > self.buffer.len() {
                return Ok(None);
            }
            let data = self.buffer.split_to(take).freeze();
            self.pending = (length > take).then_some((kind, length - take));
            return Ok(Some(Frame { kind, data }));
        }
    }
}

fn header(buffer: &mut BytesMut) -> io::Result<(StreamKind, usize)> {
    let kind = match buffer[0] {
        0 => StreamKind::Stdin,
        1 => StreamKind::Stdout,
        2 => StreamKind::Stderr,
        3 => StreamKind::SystemError,
        4 => StreamKind::Control,
        other => return Err(io::Error::other(format!("unrecognized stream: {other}"))),
    };
    buffer.advance(4);
    let length = buffer.get_u32() as usize;
    if matches!(kind, StreamKind::SystemError | StreamKind::Control) && length > CONTROL {
        return Err(io::Error::other(format!(
            "a control frame of {length} bytes"
        )));
    }
    Ok((kind, length))
}
