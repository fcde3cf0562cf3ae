//! Packing layers: gzip whose bytes depend on the content alone, made by all processors.
//!
//! The input is cut into pieces of one size, and each becomes a gzip member of its own (RFC 1952,
//! 2.2: members in a row are one file). So the result does not depend on how many threads there
//! were, a layer that is packed twice has one digest, and every reader of gzip takes it.

use std::io::{self, Read, Write};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::{self, Scope};

use crate::packing::Packing;

/// The input of one member. Changing it changes the digests of what is packed from then on.
const PIECE: usize = 4 << 20;
/// More threads than this bring nothing that a disk could follow.
const THREADS_MAX: usize = 8;

/// A piece on its way: where its packed form will come from.
type Packed = Receiver<io::Result<Vec<u8>>>;

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
    // as many pieces wait as are worked on, so memory is bounded
    let (order, packed) = mpsc::sync_channel::<Packed>(threads);
    thread::scope(|scope| {
        let reader = scope.spawn(move || cut(scope, packing, source, &order));
        let written = write_in_order(&packed, target);
        // a reader that waits for a place must see that nobody takes pieces any more
        drop(packed);
        let read = reader
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the packing thread failed")));
        written.and(read)
    })
}

/// Cuts the source and starts a thread a piece; an empty source is one empty member.
fn cut<'scope>(
    scope: &'scope Scope<'scope, '_>,
    packing: Packing,
    mut source: impl Read,
    order: &SyncSender<Packed>,
) -> io::Result<()> {
    let mut first = true;
    loop {
        let mut piece = Vec::new();
        source.by_ref().take(PIECE as u64).read_to_end(&mut piece)?;
        let last = piece.len() < PIECE;
        if piece.is_empty() && !first {
            return Ok(());
        }
        first = false;
        let (sender, packed) = mpsc::sync_channel(1);
        // nobody takes it: the target has failed, and says why
        if order.send(packed).is_err() {
            return Ok(());
        }
        scope.spawn(move || drop(sender.send(packing.piece(&piece))));
        if last {
            return Ok(());
        }
    }
}

fn write_in_order(packed: &Receiver<Packed>, target: &mut impl Write) -> io::Result<()> {
    for piece in packed {
        let bytes = piece
            .recv()
            .unwrap_or_else(|_| Err(io::Error::other("a packing thread failed")))?;
        target.write_all(&bytes)?;
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
        for length in [0, 1, 1000, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 5] {
            check(length);
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
