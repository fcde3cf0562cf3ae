//! How layers are packed for registries.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::io;
use std::str::FromStr;

use libdeflater::{CompressionLvl, Compressor, Crc};

use crate::Compression;

/// The level without one in the setting: what packs badly is packed quickly, for a few percent more bytes.
const GZIP_LEVEL: u32 = 5;
/// The level that zstd uses.
const ZSTD_LEVEL: i32 = 3;
/// Levels above need memory that grows with them.
const ZSTD_LEVEL_MAX: i32 = 19;

/// A method of packing and its level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// gzip, levels 1 to 9.
    Gzip(u32),
    /// Zstandard, levels 1 to 19.
    Zstd(i32),
}

impl Default for Packing {
    fn default() -> Self {
        Self::Gzip(GZIP_LEVEL)
    }
}

/// A text that names no packing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be \"gzip\" or \"zstd\", or with a level, \"gzip:1\" to \"gzip:9\" or \"zstd:1\" to \"zstd:19\""
)]
pub struct ParsePackingError;

impl FromStr for Packing {
    type Err = ParsePackingError;

    fn from_str(text: &str) -> Result<Self, ParsePackingError> {
        let (method, level) = match text.split_once(':') {
            Some((method, level)) => (method, Some(level)),
            None => (text, None),
        };
        let level: Option<u32> = level
            .map(str::parse)
            .transpose()
            .map_err(|_| ParsePackingError)?;
        match (method, level) {
            ("gzip", None) => Ok(Self::Gzip(GZIP_LEVEL)),
            ("gzip", Some(level @ 1..=9)) => Ok(Self::Gzip(level)),
            ("zstd", None) => Ok(Self::Zstd(ZSTD_LEVEL)),
            ("zstd", Some(level)) => i32::try_from(level)
                .ok()
                .filter(|level| (1..=ZSTD_LEVEL_MAX).contains(level))
                .map(Self::Zstd)
                .ok_or(ParsePackingError),
            _ => Err(ParsePackingError),
        }
    }
}

impl fmt::Display for Packing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gzip(level) => write!(f, "gzip:{level}"),
            Self::Zstd(level) => write!(f, "zstd:{level}"),
        }
    }
}

impl Packing {
    /// The compression that readers see.
    #[must_use]
    pub fn compression(self) -> Compression {
        match self {
            Self::Gzip(_) => Compression::Gzip,
            Self::Zstd(_) => Compression::Zstd,
        }
    }

    /// The input of one gzip member, or of one frame. Changing it changes the digests of what is packed
    /// from then on. Deflate looks back 32 KiB, so short members lose next to nothing; zstd looks back
    /// megabytes.
    pub(crate) fn piece(self) -> usize {
        match self {
            Self::Gzip(_) => 1 << 20,
            Self::Zstd(_) => 4 << 20,
        }
    }
}

/// What packs pieces, one after another: each becomes a gzip member or a frame of its own.
pub(crate) enum Packer {
    Gzip(Gzip),
    Zstd(i32),
}

impl Packer {
    pub(crate) fn new(packing: Packing) -> Self {
        match packing {
            Packing::Gzip(level) => Self::Gzip(Gzip {
                level,
                made: BTreeMap::new(),
                sample: Vec::new(),
            }),
            Packing::Zstd(level) => Self::Zstd(level),
        }
    }

    /// Packs a piece, using the memory of an earlier result.
    pub(crate) fn pack(&mut self, piece: &[u8], mut result: Vec<u8>) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip(gzip) => {
                match gzip.effort(piece, &mut result)? {
                    Some(effort) => gzip.pack(effort, piece, &mut result)?,
                    None => store(piece, &mut result),
                }
                Ok(result)
            }
            Self::Zstd(level) => zstd::bulk::compress(piece, *level),
        }
    }
}

/// A level of libdeflate. It finds what zlib finds in half of the time, so that results as long as zlib's
/// of level 6 come of a lower one: of [`EASY`] from most of what layers hold, and of [`CLOSE`] from what
/// packs well, where a search that ends early misses the longest matches.
type Effort = i32;

const QUICK: Effort = 1;
const EASY: Effort = 2;
const CLOSE: Effort = 5;
const HARD: Effort = 6;
const HARDEST: Effort = 9;

/// What tells how well a piece packs: so many stretches of it, evenly spread, of this length.
const STRETCHES: usize = 4;
const STRETCH: usize = 12 << 10;
/// A sample packs well that becomes so many percent of itself or less.
const PACKS_WELL: usize = 33;
/// One that becomes more than this packs badly: a longer search finds some percent more, and takes twice as long.
const PACKS_BADLY: usize = 40;
/// One that becomes this or more was packed before, as pictures and archives are: there is nothing to find.
const PACKS_NOT: usize = 99;

/// libdeflate with the levels that were needed so far.
pub(crate) struct Gzip {
    level: u32,
    made: BTreeMap<Effort, Compressor>,
    /// Memory for samples.
    sample: Vec<u8>,
}

impl Gzip {
    /// What a piece is worth, which depends on its content alone; nothing where it is best left as it is.
    fn effort(&mut self, piece: &[u8], memory: &mut Vec<u8>) -> io::Result<Option<Effort>> {
        let percent = self.sample(piece, memory)?;
        Ok(Some(match self.level {
            _ if percent >= PACKS_NOT => return Ok(None),
            ..=3 => QUICK,
            4..=6 if percent <= PACKS_WELL => CLOSE,
            4..=5 if percent > PACKS_BADLY => QUICK,
            4..=6 => EASY,
            7 => CLOSE,
            8 => HARD,
            _ => HARDEST,
        }))
    }

    /// How many percent of itself a piece is likely to become.
    fn sample(&mut self, piece: &[u8], memory: &mut Vec<u8>) -> io::Result<usize> {
        let mut sample = std::mem::take(&mut self.sample);
        sample.clear();
        if piece.len() <= STRETCHES * STRETCH {
            sample.extend_from_slice(piece);
        } else {
            let each = piece.chunks_exact(piece.len() / STRETCHES).take(STRETCHES);
            for part in each {
                let begin = (part.len() - STRETCH) / 2;
                sample.extend_from_slice(&part[begin..begin + STRETCH]);
            }
        }
        self.pack(QUICK, &sample, memory)?;
        let percent = (memory.len() * 100).checked_div(sample.len());
        self.sample = sample;
        Ok(percent.unwrap_or_default())
    }

    fn pack(&mut self, effort: Effort, piece: &[u8], result: &mut Vec<u8>) -> io::Result<()> {
        let packer = match self.made.entry(effort) {
            Entry::Occupied(made) => made.into_mut(),
            Entry::Vacant(place) => {
                let level = CompressionLvl::new(effort);
                let level = level.map_err(|_| io::Error::other("libdeflate lacks a level"))?;
                place.insert(Compressor::new(level))
            }
        };
        result.resize(packer.gzip_compress_bound(piece.len()), 0);
        // not for lack of room: that is the bound
        let failed = |_| io::Error::other("a piece could not be packed");
        let length = packer.gzip_compress(piece, result).map_err(failed)?;
        result.truncate(length);
        Ok(())
    }
}

/// The longest block that is left as it is (RFC 1951, 3.2.4).
const BLOCK: usize = 0xffff;

/// Makes a gzip member of a piece without packing it (RFC 1952, 2.3).
fn store(piece: &[u8], result: &mut Vec<u8>) {
    const DEFLATE: u8 = 8;
    const UNKNOWN_SYSTEM: u8 = 255;
    result.clear();
    result.reserve(piece.len() + piece.len() / BLOCK * 5 + 32);
    result.extend([0x1f, 0x8b, DEFLATE, 0, 0, 0, 0, 0, 0, UNKNOWN_SYSTEM]);
    let mut blocks = piece.chunks(BLOCK).peekable();
    if blocks.peek().is_none() {
        result.extend([1, 0, 0, 0xff, 0xff]);
    }
    while let Some(block) = blocks.next() {
        let length = u16::try_from(block.len()).unwrap_or(u16::MAX);
        result.push(u8::from(blocks.peek().is_none()));
        result.extend(length.to_le_bytes());
        result.extend((!length).to_le_bytes());
        result.extend_from_slice(block);
    }
    let mut sum = Crc::new();
    sum.update(piece);
    result.extend(sum.sum().to_le_bytes());
    // modulo 2^32; a piece is far shorter
    let length = u32::try_from(piece.len()).unwrap_or(u32::MAX);
    result.extend(length.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    /// Bytes that nothing makes shorter.
    fn noise(length: usize) -> Vec<u8> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        };
        let mut noise: Vec<u8> = std::iter::repeat_with(&mut next)
            .take(length / 8 + 1)
            .flatten()
            .collect();
        noise.truncate(length);
        noise
    }

    fn pack(level: u32, piece: &[u8]) -> Vec<u8> {
        let mut packer = Packer::new(Packing::Gzip(level));
        // what an earlier piece has left in the memory is of no matter
        let packed = packer.pack(piece, vec![7; 99]).unwrap();
        let mut unpacked = Vec::new();
        let mut source = flate2::read::MultiGzDecoder::new(packed.as_slice());
        source.read_to_end(&mut unpacked).unwrap();
        assert!(unpacked == piece);
        packed
    }

    #[test]
    fn what_was_packed_before_is_left_as_it_is() {
        let piece = Packing::default().piece();
        for length in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, piece] {
            let noise = noise(length);
            pack(5, &noise);
            let mut stored = Vec::new();
            store(&noise, &mut stored);
            assert!(
                stored.len() <= length + 5 * (length / BLOCK) + 32,
                "{length}"
            );
            let mut unpacked = Vec::new();
            let mut source = flate2::read::GzDecoder::new(stored.as_slice());
            source.read_to_end(&mut unpacked).unwrap();
            assert!(unpacked == noise, "{length}");
        }
        let (long, packed) = (noise(piece), pack(5, &noise(piece)));
        assert!(packed.len() <= long.len() + 200, "{}", packed.len());
        // a part that packs is found wherever it lies
        for part in 0..4 {
            let mut mixed = noise(piece);
            mixed[part * piece / 4..(part + 1) * piece / 4].fill(b'x');
            for level in 1..=9 {
                let packed = pack(level, &mixed).len();
                assert!(packed < piece / 100 * 77, "{part} {level}: {packed}");
            }
        }
    }

    #[test]
    fn texts() {
        for (text, expect) in [
            ("gzip", Some(Packing::Gzip(5))),
            ("gzip:1", Some(Packing::Gzip(1))),
            ("gzip:6", Some(Packing::Gzip(6))),
            ("gzip:9", Some(Packing::Gzip(9))),
            ("zstd", Some(Packing::Zstd(3))),
            ("zstd:19", Some(Packing::Zstd(19))),
            ("gzip:0", None),
            ("gzip:10", None),
            ("zstd:20", None),
            ("zstd:-1", None),
            ("zstd:", None),
            ("xz", None),
            ("", None),
        ] {
            assert_eq!(text.parse().ok(), expect, "{text}");
            if let Some(packing) = expect {
                assert_eq!(packing.to_string().parse(), Ok(packing));
            }
        }
    }
}
