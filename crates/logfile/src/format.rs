//! The two formats, and how records are told apart in each.

use std::path::{Path, PathBuf};

use crate::record::{Entry, Parsed};
use crate::timestamp::Stamper;
use crate::{json, local};

/// The longest record: a longer one is none of ours. A piece of a line is 16 KiB, and six times as
/// long where every byte of it needs an escape.
pub(crate) const LONGEST: usize = 1 << 20;

/// How records are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Format {
    /// Docker's json-file.
    Json,
    /// Docker's local.
    Local,
}

/// What lies at the start of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A record of this length.
    Whole(usize),
    /// Not all of one.
    Part,
    /// Nothing that could become one.
    Broken,
}

impl Format {
    pub(crate) fn encode(
        self,
        into: &mut Vec<u8>,
        entry: &Entry<'_>,
        attrs: &[u8],
        stamper: &mut Stamper,
    ) {
        match self {
            Self::Json => json::encode(into, entry, attrs, stamper),
            Self::Local => local::encode(into, entry),
        }
    }

    /// Looks for the first record.
    pub(crate) fn find(self, bytes: &[u8]) -> Found {
        let found = match self {
            Self::Json => memchr::memchr(b'\n', bytes).map(|at| at + 1),
            Self::Local => local::announced(bytes).map(|length| length + 2 * local::FRAME),
        };
        match found {
            Some(length) if length > LONGEST => Found::Broken,
            Some(length) if length <= bytes.len() => Found::Whole(length),
            _ if bytes.len() > LONGEST => Found::Broken,
            _ => Found::Part,
        }
    }

    /// Reads one record; one that was cut by a crash or a full disk is none.
    pub(crate) fn parse(self, raw: &[u8], scratch: &mut Vec<u8>) -> Option<Parsed> {
        match self {
            Self::Json => json::parse(raw.strip_suffix(b"\n").unwrap_or(raw), scratch),
            Self::Local => local::parse(raw),
        }
    }
}

/// The name of a rotated file.
pub(crate) fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

/// The name of a rotated file once it is compressed.
pub(crate) fn compressed(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}.gz"));
    name.into()
}

/// A name beside the log that no reader knows.
pub(crate) fn temporary(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// What a file is known by, wherever a rotation moves it and whether or not it is compressed: its
/// first record. No two records of a log have the same time and text.
pub(crate) fn fingerprint(first: &[u8]) -> u64 {
    // FNV-1a; nothing here is chosen by an enemy who would gain by a collision in his own log
    first.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
