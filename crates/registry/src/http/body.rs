//! Bodies of answers: bytes in memory, pieces of files, and what a task makes as it goes.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use rustix::io::{Errno, ReadWriteFlags};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// How much of a file is read at once.
pub(crate) const CHUNK: usize = 128 << 10;

/// The body of an answer.
#[derive(Debug)]
pub(crate) enum Body {
    Empty,
    Whole(Option<Bytes>),
    File(Box<FileBody>),
    Stream {
        pieces: mpsc::Receiver<io::Result<Bytes>>,
        left: u64,
    },
}

impl Body {
    pub(crate) fn whole(bytes: impl Into<Bytes>) -> Self {
        Self::Whole(Some(bytes.into()))
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let next = match self {
            Self::Empty => None,
            Self::Whole(bytes) => bytes.take().filter(|bytes| !bytes.is_empty()).map(Ok),
            Self::File(file) => ready!(file.poll(cx)),
            Self::Stream { pieces, left } => {
                let next = ready!(pieces.poll_recv(cx));
                if let Some(Ok(piece)) = &next {
                    *left = left.saturating_sub(piece.len() as u64);
                }
                next
            }
        };
        Poll::Ready(next.map(|piece| piece.map(Frame::data)))
    }

    pub(crate) fn size(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::Empty => 0,
            Self::Whole(bytes) => bytes.as_ref().map_or(0, |bytes| bytes.len() as u64),
            Self::File(file) => file.left,
            Self::Stream { left, .. } => *left,
        })
    }
}

/// A part of a body.
#[derive(Debug)]
pub(crate) enum Segment {
    Bytes(Bytes),
    /// Where it begins in the file, and how long it is.
    File(u64, u64),
}

/// Pieces of a file, with what stands between them.
///
/// What the page cache has is read at once; what it has not is read by a thread that may wait. The
/// buffer of a piece that was sent is used again for the next.
#[derive(Debug)]
pub(crate) struct FileBody {
    file: Arc<File>,
    segments: VecDeque<Segment>,
    left: u64,
    reading: Option<JoinHandle<io::Result<(BytesMut, usize)>>>,
    sent: Option<Bytes>,
}

impl FileBody {
    pub(crate) fn new(file: File, segments: VecDeque<Segment>) -> Self {
        let length = |segment: &Segment| match segment {
            Segment::Bytes(bytes) => bytes.len() as u64,
            Segment::File(_, length) => *length,
        };
        Self {
            file: Arc::new(file),
            left: segments.iter().map(length).sum(),
            segments,
            reading: None,
            sent: None,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.reading.is_none() {
            match self.segments.front_mut() {
                None => return Poll::Ready(None),
                Some(Segment::Bytes(bytes)) => {
                    let bytes = std::mem::take(bytes);
                    self.segments.pop_front();
                    self.left = self.left.saturating_sub(bytes.len() as u64);
                    return Poll::Ready(Some(Ok(bytes)));
                }
                Some(Segment::File(at, length)) => {
                    let (at, length) = (*at, *length);
                    match self.read_cached(at, length) {
                        Ok(piece) => return Poll::Ready(Some(piece)),
                        Err(reading) => self.reading = Some(reading),
                    }
                }
            }
        }
        let Some(reading) = &mut self.reading else {
            return Poll::Ready(None);
        };
        let done = ready!(Pin::new(reading).poll(cx));
        self.reading = None;
        let done = done.map_err(io::Error::other).flatten();
        Poll::Ready(Some(
            done.and_then(|(buffer, count)| self.take(buffer, count)),
        ))
    }

    /// Reads without waiting; else gives a thread that does.
    fn read_cached(
        &mut self,
        at: u64,
        length: u64,
    ) -> Result<io::Result<Bytes>, JoinHandle<io::Result<(BytesMut, usize)>>> {
        let want = usize::try_from(length).map_or(CHUNK, |length| length.min(CHUNK));
        let mut buffer = self.buffer(want);
        let slice = buffer.get_mut(..want).unwrap_or_default();
        let slices = &mut [IoSliceMut::new(slice)];
        let read = rustix::io::preadv2(&*self.file, slices, at, ReadWriteFlags::NOWAIT);
        match read {
            Ok(count) => Ok(self.take(buffer, count)),
            // not in the page cache, or a file system that cannot tell
            Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                let file = Arc::clone(&self.file);
                Err(tokio::task::spawn_blocking(move || {
                    let slice = buffer.get_mut(..want).unwrap_or_default();
                    let count = rustix::io::pread(&*file, slice, at)?;
                    Ok((buffer, count))
                }))
            }
            Err(error) => Ok(Err(error.into())),
        }
    }

    /// The buffer of the piece before, if its receiver is done with it, or a new one.
    fn buffer(&mut self, want: usize) -> BytesMut {
        let sent = self.sent.take().and_then(|sent| sent.try_into_mut().ok());
        match sent {
            Some(buffer) if buffer.len() >= want => buffer,
            _ => BytesMut::zeroed(want),
        }
    }

    fn take(&mut self, buffer: BytesMut, count: usize) -> io::Result<Bytes> {
        if count == 0 {
            let text = "the file of a blob is shorter than the database says";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        }
        let whole = buffer.freeze();
        let piece = whole.slice(..count);
        self.sent = Some(whole);
        let taken = count as u64;
        self.left = self.left.saturating_sub(taken);
        let done = match self.segments.front_mut() {
            Some(Segment::File(at, length)) => {
                *at += taken;
                *length = length.saturating_sub(taken);
                *length == 0
            }
            _ => false,
        };
        if done {
            self.segments.pop_front();
        }
        Ok(piece)
    }
}
