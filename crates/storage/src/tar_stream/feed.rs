//! The uncompressed bytes of a layer, decompressed on a thread of its own.
//!
//! Decompression is what takes the time of a pull; on a thread of its own it overlaps with
//! hashing and with the file system's work, which the reader of this feed does.

use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender};

use sha2::{Digest as _, Sha256};

use crate::compression::{Compression, Decoder};

/// Bytes of one piece: small enough that hashing and writing find it in the cache.
const PIECE: usize = 256 * 1024;
/// Pieces on their way at once.
const QUEUE: usize = 8;

/// A piece, of which the first `length` bytes are filled.
struct Piece {
    bytes: Vec<u8>,
    length: usize,
}

/// The reading end; counts and hashes everything that passes.
pub(crate) struct Feed {
    pieces: Receiver<io::Result<Piece>>,
    spent: Sender<Vec<u8>>,
    current: Piece,
    at: usize,
    hash: Sha256,
    total: u64,
    limit: u64,
}

/// The writing end, for the thread that decompresses.
pub(crate) struct Pump {
    pieces: SyncSender<io::Result<Piece>>,
    spent: Receiver<Vec<u8>>,
}

/// Makes both ends; the feed refuses to give more than `limit` bytes.
pub(crate) fn channel(limit: u64) -> (Pump, Feed) {
    let (pieces, received) = std::sync::mpsc::sync_channel(QUEUE);
    let (spent, reusable) = std::sync::mpsc::channel();
    let pump = Pump {
        pieces,
        spent: reusable,
    };
    let feed = Feed {
        pieces: received,
        spent,
        current: Piece {
            bytes: Vec::new(),
            length: 0,
        },
        at: 0,
        hash: Sha256::new(),
        total: 0,
        limit,
    };
    (pump, feed)
}

impl Pump {
    /// Decompresses a source to its end; stops early when the feed is gone.
    ///
    /// An error goes to the feed. What is returned is the compression that was found.
    pub(crate) fn run<R: Read>(self, source: R) -> Option<Compression> {
        match Decoder::new(source) {
            Ok(mut decoder) => {
                self.pump(&mut decoder);
                Some(decoder.compression())
            }
            Err(error) => {
                // The reader left already: nobody is there to hear of it.
                drop(self.pieces.send(Err(error)));
                None
            }
        }
    }

    fn pump<R: Read>(&self, decoder: &mut Decoder<R>) {
        loop {
            let mut bytes = self.spent.try_recv().unwrap_or_else(|_| vec![0; PIECE]);
            let (sent, last) = match fill(decoder, &mut bytes) {
                Ok(length) => (Ok(Piece { bytes, length }), length < PIECE),
                Err(error) => (Err(error), true),
            };
            if self.pieces.send(sent).is_err() || last {
                return;
            }
        }
    }
}

/// Reads until the buffer is full or the source is at its end.
fn fill<R: Read>(source: &mut R, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

impl Feed {
    /// Reads what is left, and returns the SHA-256 sum and the length of the whole stream.
    pub(crate) fn finish(mut self) -> io::Result<([u8; 32], u64)> {
        while !self.fill_buf()?.is_empty() {
            self.at = self.current.length;
        }
        Ok((self.hash.finalize().into(), self.total))
    }

    fn take_piece(&mut self) -> io::Result<()> {
        // The pump ends the channel behind its last piece.
        let Ok(piece) = self.pieces.recv() else {
            return Ok(());
        };
        let piece = piece?;
        self.hash.update(&piece.bytes[..piece.length]);
        self.total += piece.length as u64;
        if self.total > self.limit {
            let text = format!("the uncompressed layer is larger than {} bytes", self.limit);
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
        }
        let spent = std::mem::replace(&mut self.current, piece);
        self.at = 0;
        if !spent.bytes.is_empty() {
            // The pump may have ended; then the buffer is just freed.
            drop(self.spent.send(spent.bytes));
        }
        Ok(())
    }
}

impl Read for Feed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill_buf()?;
        let count = bytes.len().min(buffer.len());
        buffer[..count].copy_from_slice(&bytes[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Feed {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at >= self.current.length {
            self.take_piece()?;
        }
        Ok(&self.current.bytes[self.at..self.current.length])
    }

    fn consume(&mut self, count: usize) {
        self.at += count;
    }
}
