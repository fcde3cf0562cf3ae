//! How layers are packed for registries.

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;

use flate2::GzBuilder;

use crate::Compression;

/// RFC 1952, 2.3.1: the operating system is unknown.
const UNKNOWN_SYSTEM: u8 = 255;
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

    /// Packs a piece into a gzip member or a frame of its own.
    pub(crate) fn piece(self, piece: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip(level) => {
                let mut packer = GzBuilder::new()
                    .mtime(0)
                    .operating_system(UNKNOWN_SYSTEM)
                    .write(Vec::new(), flate2::Compression::new(level));
                packer.write_all(piece)?;
                packer.finish()
            }
            Self::Zstd(level) => zstd::bulk::compress(piece, level),
        }
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
