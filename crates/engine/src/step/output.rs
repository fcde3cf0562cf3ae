//! A step's output as its shim frames it.

use std::io;

use shim::stdcopy::HEADER;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::OwnedReadHalf;

use super::{StepOutput, StepStream};

/// The longest piece that is handed on at once.
const PIECE: usize = 32 * 1024;

/// The streams of a step.
#[derive(Debug)]
pub(super) struct Output {
    socket: OwnedReadHalf,
    /// Whether it comes as it is, from a terminal.
    raw: bool,
    header: Vec<u8>,
    stream: StepStream,
    left: usize,
}

impl Output {
    pub(super) fn new(socket: OwnedReadHalf, raw: bool) -> Self {
        Self {
            socket,
            raw,
            header: Vec::with_capacity(HEADER),
            stream: StepStream::Stdout,
            left: 0,
        }
    }

    /// The next piece; none at the end. A call that is given up loses nothing.
    pub(super) async fn next(&mut self) -> io::Result<Option<StepOutput>> {
        while self.left == 0 && !self.raw {
            let mut part = [0_u8; HEADER];
            let wanted = HEADER - self.header.len();
            let got = self.socket.read(&mut part[..wanted]).await?;
            if got == 0 {
                return Ok(None);
            }
            self.header.extend_from_slice(&part[..got]);
            if let [kind, _, _, _, a, b, c, d] = *self.header.as_slice() {
                self.stream = if kind == 2 {
                    StepStream::Stderr
                } else {
                    StepStream::Stdout
                };
                let length = u32::from_be_bytes([a, b, c, d]);
                self.left = usize::try_from(length).unwrap_or(usize::MAX);
                self.header.clear();
            }
        }
        let most = if self.raw {
            PIECE
        } else {
            self.left.min(PIECE)
        };
        let mut bytes = vec![0; most];
        let got = self.socket.read(&mut bytes).await?;
        if got == 0 {
            return Ok(None);
        }
        bytes.truncate(got);
        self.left = self.left.saturating_sub(got);
        Ok(Some(StepOutput {
            stream: self.stream,
            bytes,
        }))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::UnixStream;

    use super::*;

    #[tokio::test]
    async fn pieces_come_as_they_were_framed() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (ours, _input) = ours.into_split();
        let mut output = Output::new(ours, false);
        let write = async {
            for byte in b"\x01\0\0\0\0\0\0\x03out\x02\0\0\0\0\0\0\x00\x02\0\0\0\0\0\0\x02er" {
                theirs.write_all(&[*byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
            drop(theirs);
        };
        let read = async {
            let (mut out, mut err) = (Vec::new(), Vec::new());
            while let Some(piece) = output.next().await.unwrap() {
                match piece.stream {
                    StepStream::Stdout => out.extend(piece.bytes),
                    StepStream::Stderr => err.extend(piece.bytes),
                }
            }
            (out, err)
        };
        let ((), (out, err)) = tokio::join!(write, read);
        assert_eq!((out.as_slice(), err.as_slice()), (&b"out"[..], &b"er"[..]));
    }

    #[tokio::test]
    async fn a_terminal_has_no_frames() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (ours, _input) = ours.into_split();
        let mut output = Output::new(ours, true);
        theirs.write_all(b"\x02\0\0\0 raw").await.unwrap();
        drop(theirs);
        let mut all = Vec::new();
        while let Some(piece) = output.next().await.unwrap() {
            assert_eq!(piece.stream, StepStream::Stdout);
            all.extend(piece.bytes);
        }
        assert_eq!(all, b"\x02\0\0\0 raw");
    }
}
