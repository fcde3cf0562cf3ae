//! The uncompressed bytes of a layer: decompressed, hashed and read on three threads.
//!
//! Decompression is what takes the time of a pull; on a thread of its own it overlaps with the
//! file system's work, which the reader of this feed does, and with hashing.

use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};

use sha2::{Digest as _, Sha256};

use crate::compression::{Compression, Decoder};

/// Bytes of one piece: small enough that hashing and writing find it in the cache.
const PIECE: usize = 256 * 1024;
/// Pieces on their way at once.
const QUEUE: usize = 8;

/// How much a feed gives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// At most so many bytes.
    pub(crate) bytes: u64,
    /// At most so many times the bytes of the source,
    pub(crate) ratio: u64,
    /// beyond so many bytes.
    pub(crate) free: u64,
}

/// A piece, of which the first `length` bytes are filled.
struct Piece {
    bytes: Vec<u8>,
    length: usize,
}

/// The reading end; counts everything that passes.
pub(crate) struct Feed {
    pieces: Receiver<io::Result<Arc<Piece>>>,
    spent: Sender<Vec<u8>>,
    current: Arc<Piece>,
    at: usize,
    total: u64,
    limits: Limits,
    packed: Arc<AtomicU64>,
    sum: Receiver<[u8; 32]>,
}

/// The writing end, for the thread that decompresses.
pub(crate) struct Pump {
    pieces: SyncSender<io::Result<Arc<Piece>>>,
    hashed: SyncSender<Arc<Piece>>,
    spent: Receiver<Vec<u8>>,
    packed: Arc<AtomicU64>,
}

/// For the thread that hashes.
pub(crate) struct Hasher {
    pieces: Receiver<Arc<Piece>>,
    spent: Sender<Vec<u8>>,
    sum: SyncSender<[u8; 32]>,
}

/// Makes the ends; the feed refuses to give more than the limits say.
pub(crate) fn channel(limits: Limits) -> (Pump, Hasher, Feed) {
    let (pieces, received) = mpsc::sync_channel(QUEUE);
    let (hashed, to_hash) = mpsc::sync_channel(QUEUE);
    let (spent, reusable) = mpsc::channel();
    let (sum, result) = mpsc::sync_channel(1);
    let packed = Arc::new(AtomicU64::new(0));
    let pump = Pump {
        pieces,
        hashed,
        spent: reusable,
        packed: Arc::clone(&packed),
    };
    let hasher = Hasher {
        pieces: to_hash,
        spent: spent.clone(),
        sum,
    };
    let feed = Feed {
        pieces: received,
        spent,
        current: Arc::new(Piece {
            bytes: Vec::new(),
            length: 0,
        }),
        at: 0,
        total: 0,
        limits,
        packed,
        sum: result,
    };
    (pump, hasher, feed)
}

/// Gives a piece's buffer back, if nobody else reads it any more.
fn give_back(piece: Arc<Piece>, spent: &Sender<Vec<u8>>) {
    if let Some(piece) = Arc::into_inner(piece)
        && !piece.bytes.is_empty()
    {
        // The pump may have ended; then the buffer is just freed.
        drop(spent.send(piece.bytes));
    }
}

/// A source whose bytes are counted.
struct Counted<R> {
    source: R,
    count: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.count.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

impl Pump {
    /// Decompresses a source to its end; stops early when the feed is gone.
    ///
    /// An error goes to the feed. What is returned is the compression that was found.
    pub(crate) fn run<R: Read>(self, source: R) -> Option<Compression> {
        let source = Counted {
            source,
            count: Arc::clone(&self.packed),
        };
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
                Ok(length) => (Ok(Arc::new(Piece { bytes, length })), length < PIECE),
                Err(error) => (Err(error), true),
            };
            if let Ok(piece) = &sent
                && self.hashed.send(Arc::clone(piece)).is_err()
            {
                return;
            }
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

impl Hasher {
    /// Hashes all pieces.
    pub(crate) fn run(self) {
        let mut hash = Sha256::new();
        for piece in &self.pieces {
            hash.update(&piece.bytes[..piece.length]);
            give_back(piece, &self.spent);
        }
        // The reader left already.
        let _gone = self.sum.send(hash.finalize().into());
    }
}

impl Feed {
    /// Reads what is left, and returns the SHA-256 sum and the length of the whole stream.
    pub(crate) fn finish(mut self) -> io::Result<([u8; 32], u64)> {
        while !self.fill_buf()?.is_empty() {
            self.at = self.current.length;
        }
        let broken = |_| io::Error::other("the hashing thread broke off");
        Ok((self.sum.recv().map_err(broken)?, self.total))
    }

    fn take_piece(&mut self) -> io::Result<()> {
        // The pump ends the channel behind its last piece.
        let Ok(piece) = self.pieces.recv() else {
            return Ok(());
        };
        let piece = piece?;
        self.total += piece.length as u64;
        self.check()?;
        let spent = std::mem::replace(&mut self.current, piece);
        self.at = 0;
        give_back(spent, &self.spent);
        Ok(())
    }

    fn check(&self) -> io::Result<()> {
        let too_large = |text| Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
        let Limits { bytes, ratio, free } = self.limits;
        if self.total > bytes {
            return too_large(format!(
                "the uncompressed layer is larger than {bytes} bytes"
            ));
        }
        let packed = self.packed.load(Ordering::Relaxed);
        if self.total > free.saturating_add(packed.saturating_mul(ratio)) {
            return too_large(format!(
                "the uncompressed layer is more than {ratio} times as large as the packed one"
            ));
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds so many zeros, packed; gives what came out, or why nothing did.
    fn feed(zeros: usize, limits: Limits) -> io::Result<u64> {
        let packed = zstd::encode_all(&vec![0; zeros][..], 1).unwrap();
        let (pump, hasher, feed) = channel(limits);
        std::thread::scope(|scope| {
            scope.spawn(move || pump.run(&packed[..]));
            scope.spawn(move || hasher.run());
            let (sum, length) = feed.finish()?;
            let expected: [u8; 32] = Sha256::digest(vec![0; zeros]).into();
            assert_eq!(sum, expected);
            Ok(length)
        })
    }

    #[test]
    fn bombs_do_not_go_off() {
        let limits = Limits {
            bytes: 10 << 20,
            ratio: 100,
            free: 1 << 20,
        };
        for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 1 << 20] {
            assert_eq!(feed(length, limits).unwrap(), length as u64);
        }
        let error = feed(9 << 20, limits).unwrap_err().to_string();
        let ratio = "the uncompressed layer is more than 100 times as large as the packed one";
        assert_eq!(error, ratio);
        let large = Limits {
            free: u64::MAX,
            ..limits
        };
        assert_eq!(feed(10 << 20, large).unwrap(), 10 << 20);
        let error = feed((10 << 20) + 1, large).unwrap_err().to_string();
        assert_eq!(
            error,
            "the uncompressed layer is larger than 10485760 bytes"
        );
    }
}
