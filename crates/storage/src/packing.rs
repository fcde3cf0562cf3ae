//! How layers are packed for registries.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::io;
use std::str::FromStr;

use libdeflater::{CompressionLvl, Compressor};

use crate::Compression;

/// The level that gzip and Docker use.
const GZIP_LEVEL: u32 = 6;
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
            }),
            Packing::Zstd(level) => Self::Zstd(level),
        }
    }

    /// Packs a piece, using the memory of an earlier result.
    pub(crate) fn pack(&mut self, piece: &[u8], mut result: Vec<u8>) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip(gzip) => {
                let effort = gzip.effort(piece, &mut result)?;
                gzip.pack(effort, piece, &mut result)?;
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

/// How much of a piece, from its middle, tells how well it packs.
const SAMPLE: usize = 64 << 10;
/// A sample packs well that becomes so many percent of itself or less.
const PACKS_WELL: usize = 33;

/// libdeflate with the levels that were needed so far.
pub(crate) struct Gzip {
    level: u32,
    made: BTreeMap<Effort, Compressor>,
}

impl Gzip {
    /// What a piece is worth, which depends on its content alone.
    fn effort(&mut self, piece: &[u8], memory: &mut Vec<u8>) -> io::Result<Effort> {
        Ok(match self.level {
            ..=3 => QUICK,
            4..=6 => {
                let begin = (piece.len() / 2).saturating_sub(SAMPLE / 2);
                let sample = piece.get(begin..).unwrap_or_default();
                let sample = sample.get(..SAMPLE).unwrap_or(sample);
                self.pack(QUICK, sample, memory)?;
                match memory.len() * 100 <= sample.len() * PACKS_WELL {
                    true => CLOSE,
                    false => EASY,
                }
            }
            7 => CLOSE,
            8 => HARD,
            _ => HARDEST,
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        for (text, expect) in [
            ("gzip", Some(Packing::Gzip(6))),
            ("gzip:1", Some(Packing::Gzip(1))),
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
