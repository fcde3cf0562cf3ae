//! Packing layers: gzip whose bytes depend on the content alone, made by all processors.
//!
//! The input is cut into pieces of one size, and each becomes a gzip member of its own (RFC 1952,
//! 2.2: members in a row are one file). So the result does not depend on how many threads there
//! were, a layer that is packed twice has one digest, and every reader of gzip takes it.

use std::io::{self, Read, Write};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, Scope};

use crate::packing::{Packer, Packing};

/// More threads than this bring nothing that a disk could follow.
const THREADS_MAX: usize = 8;

/// A piece on its way: where its packed form will come from.
type Packed = Receiver<io::Result<Vec<u8>>>;

/// A piece, and where its packed form is wanted.
type Order = (Vec<u8>, SyncSender<io::Result<Vec<u8>>>);

/// Memory that was used and will be again: no page of it is asked of the kernel twice.
#[derive(Default)]
struct Spare {
    pieces: Mutex<Vec<Vec<u8>>>,
    results: Mutex<Vec<Vec<u8>>>,
}

fn take(spare: &Mutex<Vec<Vec<u8>>>) -> Vec<u8> {
    let mut spare = spare.lock().unwrap_or_else(PoisonError::into_inner);
    spare.pop().unwrap_or_default()
}

fn keep(spare: &Mutex<Vec<Vec<u8>>>, memory: Vec<u8>) {
    let mut spare = spare.lock().unwrap_or_else(PoisonError::into_inner);
    spare.push(memory);
}

/// Packs a source into a target by gzip.
///
/// # Errors
///
/// The source or the target fails.
pub fn pack(source: impl Read + Send, target: &mut impl Write) -> io::Result<()> {
    pack_as(Packing::default(), source, target)
}

/// Packs a source into a target. Frames of zstd in a row are one file as gzip's members are (RFC 8878, 3).
///
/// # Errors
///
/// The source or the target fails.
pub fn pack_as(
    packing: Packing,
    source: impl Read + Send,
    target: &mut impl Write,
) -> io::Result<()> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    pack_by(threads.min(THREADS_MAX), packing, source, target)
}

fn pack_by(
    threads: usize,
    packing: Packing,
    source: impl Read + Send,
    target: &mut impl Write,
) -> io::Result<()> {
    let threads = threads.max(1);
    let spare = Spare::default();
    // as many pieces wait as are worked on, so memory is bounded
    let (announce, packed) = mpsc::sync_channel::<Packed>(threads * 2);
    let (order, orders) = mpsc::sync_channel::<Order>(threads);
    let orders = Mutex::new(orders);
    let workshop = Workshop {
        packing,
        threads,
        orders: &orders,
        spare: &spare,
    };
    thread::scope(|scope| {
        let reader = scope.spawn(move || workshop.cut(scope, source, &announce, &order));
        let written = write_in_order(&packed, target, &spare);
        // a reader that waits for a place must see that nobody takes pieces any more
        drop(packed);
        let read = reader
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the packing thread failed")));
        written.and(read)
    })
}

/// What the threads of one packing share.
#[derive(Clone, Copy)]
struct Workshop<'env> {
    packing: Packing,
    threads: usize,
    orders: &'env Mutex<Receiver<Order>>,
    spare: &'env Spare,
}

impl<'env> Workshop<'env> {
    /// Cuts the source, with one thread more for each piece until there are enough; an empty source is one
    /// empty member.
    fn cut<'scope>(
        self,
        scope: &'scope Scope<'scope, 'env>,
        mut source: impl Read,
        announce: &SyncSender<Packed>,
        order: &SyncSender<Order>,
    ) -> io::Result<()> {
        let length = self.packing.piece();
        for number in 0.. {
            let mut piece = take(&self.spare.pieces);
            piece.clear();
            piece.reserve_exact(length);
            source
                .by_ref()
                .take(length as u64)
                .read_to_end(&mut piece)?;
            let last = piece.len() < length;
            if piece.is_empty() && number > 0 {
                return Ok(());
            }
            if number < self.threads {
                let packer = Packer::new(self.packing);
                scope.spawn(move || self.work(packer));
            }
            let (sender, packed) = mpsc::sync_channel(1);
            // nobody takes it: the target has failed, and says why
            if announce.send(packed).is_err() || order.send((piece, sender)).is_err() || last {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Packs pieces until there are no more.
    fn work(self, mut packer: Packer) {
        loop {
            let next = self
                .orders
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .recv();
            let Ok((piece, sender)) = next else { return };
            let result = take(&self.spare.results);
            drop(sender.send(packer.pack(&piece, result)));
            keep(&self.spare.pieces, piece);
        }
    }
}

fn write_in_order(
    packed: &Receiver<Packed>,
    target: &mut impl Write,
    spare: &Spare,
) -> io::Result<()> {
    for piece in packed {
        let bytes = piece
            .recv()
            .unwrap_or_else(|_| Err(io::Error::other("a packing thread failed")))?;
        target.write_all(&bytes)?;
        keep(&spare.results, bytes);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(length: usize) {
        let content: Vec<u8> = (0..length)
            .map(|n| u8::try_from((n * n / 7) % 251).unwrap())
            .collect();
        let mut packed = Vec::new();
        pack(content.as_slice(), &mut packed).unwrap();
        let mut again = Vec::new();
        pack(content.as_slice(), &mut again).unwrap();
        assert_eq!(packed, again, "{length}");
        let mut unpacked = Vec::new();
        flate2::read::MultiGzDecoder::new(packed.as_slice())
            .read_to_end(&mut unpacked)
            .unwrap();
        assert!(unpacked == content, "{length}");
        let mut packed = Vec::new();
        pack_as(Packing::Zstd(3), content.as_slice(), &mut packed).unwrap();
        for packing in [Packing::default(), Packing::Zstd(3)] {
            let mut by_any = [Vec::new(), Vec::new()];
            for (threads, packed) in [0, 8].into_iter().zip(&mut by_any) {
                pack_by(threads, packing, content.as_slice(), packed).unwrap();
            }
            assert!(by_any[0] == by_any[1], "{length}");
        }
        let unpacked = zstd::stream::decode_all(packed.as_slice()).unwrap();
        assert!(unpacked == content, "{length}");
    }

    #[test]
    fn the_same_content_is_packed_the_same() {
        let piece = Packing::default().piece();
        for length in [0, 1, 1000, piece - 1, piece, piece + 1, 9 * piece + 5] {
            check(length);
        }
    }

    /// Numbers below a limit as text, with some noise between, the same on every machine.
    fn content(length: usize, limit: u64, noise: u64) -> Vec<u8> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut content = Vec::with_capacity(length);
        while content.len() < length {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            match state % noise {
                0 => content.extend(state.to_le_bytes().repeat(2)),
                _ => {
                    let number = (state >> 32) % limit;
                    content.extend(format!("the line of the number {number}\n").bytes());
                }
            }
        }
        content
    }

    #[test]
    fn results_are_about_as_short_as_those_of_zlib() {
        for (limit, noise) in [(100, 20), (100_000, 5), (u64::MAX, 2)] {
            let content = content(3 << 20, limit, noise);
            for level in [1, 6, 9] {
                let mut packed = Vec::new();
                pack_as(Packing::Gzip(level), content.as_slice(), &mut packed).unwrap();
                let zlib = flate2::Compression::new(level);
                let mut other = flate2::write::GzEncoder::new(Vec::new(), zlib);
                other.write_all(&content).unwrap();
                let other = other.finish().unwrap();
                let (packed, other) = (packed.len(), other.len());
                assert!(
                    packed <= other * 110 / 100,
                    "{limit} {noise} {level}: {packed}, zlib {other}"
                );
            }
        }
    }

    #[test]
    fn failures_are_told() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("broken"))
            }
        }
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::Error::other("full"))
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let error = pack(Broken, &mut Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), "broken");
        let error = pack(io::repeat(1).take(64 << 20), &mut Broken).unwrap_err();
        assert_eq!(error.to_string(), "full");
    }
}
