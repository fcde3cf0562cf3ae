//! A reader of tar streams as registries serve them: ustar, PAX and GNU.
//!
//! The `tar` crate reads the header's names; the walk is ours, because it must be bounded, must
//! keep binary PAX values (a file capability may hold a line feed) and must agree with Go's
//! `archive/tar`, by which Docker reads the same bytes: two readers that disagree about where an
//! entry ends see two different images (CVE-2025-62518 of other readers).

mod entry;
pub(crate) mod feed;
mod number;
mod pax;
mod sparse;

use std::io::{self, BufRead, Read as _};

use tar::Header;

pub(crate) use entry::{Entry, Kind};
use pax::Records;
pub(crate) use sparse::Segment;

/// The unit of a tar stream.
const BLOCK: u64 = 512;
/// The longest PAX, long-name or global header that is read; Go's limit too.
const MAX_EXTENSION: u64 = 1024 * 1024;

/// A tar stream that cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The source failed: network, decompression, length limit.
    #[error("read the archive after entry {after:?}")]
    Read {
        /// The last entry that was read whole, empty at the start.
        after: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The stream ends inside an entry.
    #[error("unexpected EOF: the archive ends in the middle of entry {entry:?}")]
    Truncated {
        /// The entry.
        entry: String,
    },
    /// A header is damaged.
    #[error("invalid tar header after entry {after:?}: {reason}")]
    Header {
        /// The last entry that was read whole, empty at the start.
        after: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// An entry says what cannot be.
    #[error("invalid tar entry {entry:?}: {reason}")]
    Entry {
        /// The entry.
        entry: String,
        /// What is wrong.
        reason: &'static str,
    },
}

/// A tar stream, one entry after another.
pub(crate) struct Archive<R> {
    input: R,
    /// Bytes of the entry's data that were not taken yet.
    data: u64,
    /// Bytes from the end of the data to the next header.
    padding: u64,
    /// The entry's name, for messages.
    current: String,
}

impl<R: BufRead> Archive<R> {
    pub(crate) fn new(input: R) -> Self {
        Self {
            input,
            data: 0,
            padding: 0,
            current: String::new(),
        }
    }

    /// The source, after the last entry.
    pub(crate) fn into_inner(self) -> R {
        self.input
    }

    /// Steps over what is left of the entry, and reads the next one; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, ArchiveError> {
        let mut records = Records::default();
        loop {
            self.skip(self.data.saturating_add(self.padding))?;
            (self.data, self.padding) = (0, 0);
            let Some(header) = self.header()? else {
                if records.is_empty() {
                    return Ok(None);
                }
                return Err(self.damaged("an extension without an entry at the end"));
            };
            match header.as_bytes()[156] {
                b'x' | b'X' => {
                    let bytes = self.extension(&header)?;
                    // As in Go the last one counts; merged, they could fill the memory.
                    records.forget_pax();
                    records
                        .add_pax(&bytes)
                        .map_err(|reason| self.damaged(reason))?;
                }
                // Docker ignores global headers (git archive writes one) and so do we.
                b'g' => drop(self.extension(&header)?),
                b'L' => records.long_name = Some(self.long_text(&header)?),
                b'K' => records.long_link = Some(self.long_text(&header)?),
                _ => return self.entry(&header, records).map(Some),
            }
        }
    }

    /// The next piece of the entry's data; empty at its end. Call [`Self::consume`] after it.
    pub(crate) fn chunk(&mut self) -> Result<&[u8], ArchiveError> {
        if self.data == 0 {
            return Ok(&[]);
        }
        let left = usize::try_from(self.data).unwrap_or(usize::MAX);
        let Self { input, current, .. } = self;
        let bytes = input.fill_buf().map_err(|source| ArchiveError::Read {
            after: current.clone(),
            source,
        })?;
        if bytes.is_empty() {
            let entry = current.clone();
            return Err(ArchiveError::Truncated { entry });
        }
        Ok(&bytes[..bytes.len().min(left)])
    }

    /// Takes bytes that [`Self::chunk`] gave.
    pub(crate) fn consume(&mut self, count: usize) {
        self.input.consume(count);
        self.data -= count as u64;
    }

    fn entry(&mut self, header: &Header, records: Records) -> Result<Entry, ArchiveError> {
        let name = entry::name(header, &records);
        self.current = shown(&name);
        let fault = |reason| ArchiveError::Entry {
            entry: shown(&name),
            reason,
        };
        let mut entry = Entry::parse(header, records, &name).map_err(fault)?;
        self.set_data(entry.stored);
        if entry.sparse_in_data {
            let map = sparse::read_map_in_data(self)?;
            entry.sparse = Some(map);
        } else if entry.extended_sparse {
            self.read_extended_sparse(&mut entry)?;
        }
        entry.check_sparse(self.data).map_err(fault)?;
        Ok(entry)
    }

    /// Reads the blocks of an old GNU sparse map that follow the header, before the data.
    fn read_extended_sparse(&mut self, entry: &mut Entry) -> Result<(), ArchiveError> {
        let map = entry.sparse.get_or_insert_default();
        loop {
            let block = self.block()?.ok_or_else(|| self.truncated())?;
            let more = sparse::old_gnu_block(&block, map).map_err(|reason| self.damaged(reason))?;
            if !more {
                return Ok(());
            }
        }
    }

    fn set_data(&mut self, size: u64) {
        self.data = size;
        self.padding = size.wrapping_neg() % BLOCK;
    }

    /// Reads a header; `None` at the end-of-archive mark, or at the end of the stream.
    fn header(&mut self) -> Result<Option<Header>, ArchiveError> {
        let Some(block) = self.block()? else {
            return Ok(None);
        };
        if block.iter().all(|byte| *byte == 0) {
            return match self.block()? {
                Some(second) if second.iter().any(|byte| *byte != 0) => {
                    Err(self.damaged("a lone zero block"))
                }
                _ => Ok(None),
            };
        }
        let mut header = Header::new_old();
        header.as_mut_bytes().copy_from_slice(&block);
        if !number::checksum_fits(&block) {
            return Err(self.damaged("wrong checksum"));
        }
        Ok(Some(header))
    }

    /// Reads a block; `None` when the stream ends in front of it.
    fn block(&mut self) -> Result<Option<[u8; 512]>, ArchiveError> {
        let mut block = [0; 512];
        let mut filled = 0;
        while filled < block.len() {
            let bytes = self.fill()?;
            if bytes.is_empty() {
                return if filled == 0 {
                    Ok(None)
                } else {
                    Err(self.truncated())
                };
            }
            let count = bytes.len().min(block.len() - filled);
            block[filled..filled + count].copy_from_slice(&bytes[..count]);
            self.input.consume(count);
            filled += count;
        }
        Ok(Some(block))
    }

    fn skip(&mut self, mut count: u64) -> Result<(), ArchiveError> {
        while count > 0 {
            let bytes = self.fill()?.len();
            if bytes == 0 {
                return Err(self.truncated());
            }
            let step = bytes.min(usize::try_from(count).unwrap_or(usize::MAX));
            self.input.consume(step);
            count -= step as u64;
        }
        Ok(())
    }

    fn fill(&mut self) -> Result<&[u8], ArchiveError> {
        let current = &self.current;
        self.input.fill_buf().map_err(|source| ArchiveError::Read {
            after: current.clone(),
            source,
        })
    }

    /// Reads the content of a header that describes the next entry.
    fn extension(&mut self, header: &Header) -> Result<Vec<u8>, ArchiveError> {
        let size = number::size(header).map_err(|reason| self.damaged(reason))?;
        if size > MAX_EXTENSION {
            return Err(self.damaged("an extension header of more than 1 MiB"));
        }
        let mut bytes = Vec::new();
        let read = self.input.by_ref().take(size).read_to_end(&mut bytes);
        read.map_err(|source| ArchiveError::Read {
            after: self.current.clone(),
            source,
        })?;
        if (bytes.len() as u64) < size {
            return Err(self.truncated());
        }
        self.set_data(size);
        self.data = 0;
        Ok(bytes)
    }

    /// Reads a GNU long name, which ends at the first NUL.
    fn long_text(&mut self, header: &Header) -> Result<Vec<u8>, ArchiveError> {
        let mut bytes = self.extension(header)?;
        if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
            bytes.truncate(end);
        }
        Ok(bytes)
    }

    fn damaged(&self, reason: &'static str) -> ArchiveError {
        let after = self.current.clone();
        ArchiveError::Header { after, reason }
    }

    fn truncated(&self) -> ArchiveError {
        let entry = self.current.clone();
        ArchiveError::Truncated { entry }
    }
}

/// A hostile name, cut to what a message can hold.
pub(crate) fn shown(name: &[u8]) -> String {
    const LONGEST: usize = 200;
    let text = String::from_utf8_lossy(&name[..name.len().min(LONGEST)]).into_owned();
    if name.len() > LONGEST {
        format!("{text}...")
    } else {
        text
    }
}
