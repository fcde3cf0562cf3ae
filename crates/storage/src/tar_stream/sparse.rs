//! Sparse files: GNU's old format, and the PAX formats 0.0, 0.1 and 1.0.

use std::io::BufRead;

use super::{Archive, ArchiveError, pax};

/// A piece of a sparse file that holds data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// More pieces than any real file has; each costs a system call.
const MAX_SEGMENTS: usize = 1 << 20;

/// Reads the four pieces of an old GNU header; returns whether map blocks follow.
pub(super) fn old_gnu_header(
    header: &tar::GnuHeader,
    map: &mut Vec<Segment>,
) -> Result<bool, &'static str> {
    old_gnu_pieces(&header.sparse, map)?;
    Ok(header.is_extended())
}

/// Reads a map block of an old GNU sparse file; returns whether another follows.
pub(super) fn old_gnu_block(
    block: &[u8; 512],
    map: &mut Vec<Segment>,
) -> Result<bool, &'static str> {
    let mut header = tar::GnuExtSparseHeader::new();
    header.as_mut_bytes().copy_from_slice(block);
    old_gnu_pieces(header.sparse(), map)?;
    Ok(header.is_extended())
}

fn old_gnu_pieces(
    pieces: &[tar::GnuSparseHeader],
    map: &mut Vec<Segment>,
) -> Result<(), &'static str> {
    for piece in pieces {
        if piece.offset[0] == 0 || piece.numbytes[0] == 0 {
            break;
        }
        let number = |field: &[u8]| {
            let value = super::number::field(field);
            let value = value.and_then(|value| u64::try_from(value).ok());
            value.ok_or("invalid sparse map")
        };
        push(map, number(&piece.offset)?, number(&piece.numbytes)?)?;
    }
    Ok(())
}

fn push(map: &mut Vec<Segment>, offset: u64, length: u64) -> Result<(), &'static str> {
    if map.len() >= MAX_SEGMENTS {
        return Err("a sparse map of too many pieces");
    }
    map.push(Segment { offset, length });
    Ok(())
}

/// Reads the map of format 1.0, which stands in front of the data: decimal lines, padded.
pub(super) fn read_map_in_data<R: BufRead>(
    archive: &mut Archive<R>,
) -> Result<Vec<Segment>, ArchiveError> {
    let mut lines = Lines { taken: 0 };
    let count = lines.number(archive)?;
    let mut map = Vec::new();
    for _ in 0..count {
        let (offset, length) = (lines.number(archive)?, lines.number(archive)?);
        push(&mut map, offset, length).map_err(|reason| archive.damaged(reason))?;
    }
    let rest = lines.taken.wrapping_neg() % super::BLOCK;
    lines.skip(archive, rest)?;
    Ok(map)
}

/// Decimal lines at the start of an entry's data.
struct Lines {
    taken: u64,
}

impl Lines {
    fn number<R: BufRead>(&mut self, archive: &mut Archive<R>) -> Result<u64, ArchiveError> {
        let mut text = Vec::new();
        loop {
            let Some(&byte) = archive.chunk()?.first() else {
                return Err(archive.damaged("a sparse map without an end"));
            };
            archive.consume(1);
            self.taken += 1;
            if byte == b'\n' {
                break;
            }
            text.push(byte);
            if text.len() > 20 {
                return Err(archive.damaged("invalid sparse map"));
            }
        }
        pax::decimal(&text).ok_or_else(|| archive.damaged("invalid sparse map"))
    }

    fn skip<R: BufRead>(
        &mut self,
        archive: &mut Archive<R>,
        mut count: u64,
    ) -> Result<(), ArchiveError> {
        while count > 0 {
            let have = archive.chunk()?.len();
            if have == 0 {
                return Err(archive.damaged("a sparse map without an end"));
            }
            let step = have.min(usize::try_from(count).unwrap_or(usize::MAX));
            archive.consume(step);
            self.taken += step as u64;
            count -= step as u64;
        }
        Ok(())
    }
}
