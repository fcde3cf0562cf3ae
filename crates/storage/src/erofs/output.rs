//! The file that an image is written into, each byte once and nearly in order.
//!
//! Content goes out as it comes, in large writes. What describes it goes into spaces that are
//! set aside on the way, each written when it is full; so neither waits for the other in memory.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use super::format::{BLOCK, BLOCK_LEN, SLOT};

/// Bytes of content that are written at once.
const WRITE: usize = 1 << 20;
/// Blocks of the first space for descriptions; each next one has twice as many.
const SPACE_FIRST: usize = 2;
/// Blocks of the largest space.
const SPACE_MOST: usize = 64;
/// The kernel counts blocks with 32 bits.
const BLOCKS_MAX: u64 = u32::MAX as u64 - 1;

pub(super) struct Output {
    file: File,
    /// Content that is not written yet, and where it goes.
    content: Vec<u8>,
    content_at: u64,
    space: Space,
}

/// Room for descriptions.
#[derive(Default)]
struct Space {
    at: u64,
    bytes: Vec<u8>,
    /// Bytes in use of each block.
    used: Vec<usize>,
    /// Blocks in front of this one are full.
    open: usize,
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Output");
        shown.field("end", &self.end()).finish_non_exhaustive()
    }
}

/// Bytes of a block beyond which nothing more is put into it.
const FULL: usize = BLOCK_LEN - 2 * SLOT;

impl Space {
    fn set_aside(&mut self, at: u64, blocks: usize) {
        *self = Self {
            at,
            bytes: vec![0; blocks * BLOCK_LEN],
            used: vec![0; blocks],
            open: 0,
        };
    }

    /// Finds room that does not cross into another block.
    fn find(&mut self, length: usize) -> Option<usize> {
        while self.used.get(self.open).is_some_and(|used| *used > FULL) {
            self.open += 1;
        }
        let mut open = self.used.iter_mut().enumerate().skip(self.open);
        let (block, used) = open.find(|(_, used)| **used + length <= BLOCK_LEN)?;
        let at = block * BLOCK_LEN + *used;
        *used = (*used + length).next_multiple_of(SLOT);
        Some(at)
    }

    /// Blocks up to the last one in use.
    fn blocks(&self) -> usize {
        let free = self.used.iter().rev().take_while(|used| **used == 0);
        self.used.len() - free.count()
    }

    fn holds(&self, at: u64, length: usize) -> Option<std::ops::Range<usize>> {
        let from = usize::try_from(at.checked_sub(self.at)?).ok()?;
        let to = from.checked_add(length)?;
        (to <= self.bytes.len()).then_some(from..to)
    }
}

impl Output {
    /// Starts behind the first block, which is written last.
    pub(super) fn new(file: File) -> Self {
        Self {
            file,
            content: Vec::new(),
            content_at: BLOCK,
            space: Space::default(),
        }
    }

    /// Where the next content goes; a multiple of the length of blocks unless one is under way.
    fn end(&self) -> u64 {
        self.content_at + self.content.len() as u64
    }

    /// The block at which the next content begins.
    pub(super) fn next_block(&self) -> io::Result<u32> {
        block_of(self.end())
    }

    /// Takes content.
    pub(super) fn content(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.content.is_empty() && bytes.len() >= WRITE {
                // whole blocks need no copy
                let direct = bytes.len() / BLOCK_LEN * BLOCK_LEN;
                self.file.write_all_at(&bytes[..direct], self.content_at)?;
                self.content_at += direct as u64;
                bytes = &bytes[direct..];
                continue;
            }
            let count = bytes.len().min(WRITE - self.content.len());
            self.content.extend_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            if self.content.len() == WRITE {
                self.write_content()?;
            }
        }
        Ok(())
    }

    /// Fills the block up with zeros.
    pub(super) fn end_block(&mut self) -> io::Result<()> {
        let missing = BLOCK - 1 - (self.end() + BLOCK - 1) % BLOCK;
        self.content(&[0; BLOCK_LEN][..usize::try_from(missing).unwrap_or_default()])
    }

    /// Leaves zeros out, which the file system below need not keep.
    pub(super) fn skip(&mut self, length: u64) -> io::Result<()> {
        if length < 2 * BLOCK {
            let zeros = [0; 2 * BLOCK_LEN];
            return self.content(&zeros[..usize::try_from(length).unwrap_or_default()]);
        }
        let to = self.end().checked_add(length).ok_or_else(too_large)?;
        block_of(to)?;
        let whole = to / BLOCK * BLOCK;
        self.end_block()?;
        self.write_content()?;
        self.content_at = whole;
        let rest = usize::try_from(to - whole).unwrap_or_default();
        self.content(&[0; BLOCK_LEN][..rest])
    }

    fn write_content(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.content, self.content_at)?;
        self.content_at += self.content.len() as u64;
        self.content.clear();
        Ok(())
    }

    /// Puts a description somewhere, and gives its place: in one block if it is not longer than one.
    ///
    /// No content may be under way.
    pub(super) fn describe(&mut self, bytes: &[u8]) -> io::Result<u64> {
        if bytes.len() > BLOCK_LEN {
            let at = self.end();
            self.content(bytes)?;
            self.end_block()?;
            return Ok(at);
        }
        let found = match self.space.find(bytes.len()) {
            Some(found) => found,
            None => {
                self.next_space()?;
                self.space.find(bytes.len()).unwrap_or_default()
            }
        };
        self.space.bytes[found..found + bytes.len()].copy_from_slice(bytes);
        Ok(self.space.at + found as u64)
    }

    fn next_space(&mut self) -> io::Result<()> {
        let blocks = (self.space.used.len() * 2).clamp(SPACE_FIRST, SPACE_MOST);
        self.file.write_all_at(&self.space.bytes, self.space.at)?;
        self.write_content()?;
        self.space.set_aside(self.content_at, blocks);
        self.content_at += (blocks * BLOCK_LEN) as u64;
        block_of(self.content_at).map(drop)
    }

    /// Changes bytes of a description.
    pub(super) fn change(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        match self.space.holds(at, bytes.len()) {
            Some(range) => {
                self.space.bytes[range].copy_from_slice(bytes);
                Ok(())
            }
            None => self.file.write_all_at(bytes, at),
        }
    }

    /// Reads what was put out.
    pub(super) fn read(&mut self, at: u64, into: &mut [u8]) -> io::Result<()> {
        if let Some(range) = self.space.holds(at, into.len()) {
            into.copy_from_slice(&self.space.bytes[range]);
            return Ok(());
        }
        self.write_content()?;
        self.file.read_exact_at(into, at)
    }

    /// Writes the space that was set aside, and gives back what of it is behind all content.
    pub(super) fn end_space(&mut self) -> io::Result<()> {
        self.write_content()?;
        let blocks = self.space.blocks();
        let used = blocks * BLOCK_LEN;
        self.file
            .write_all_at(&self.space.bytes[..used], self.space.at)?;
        if self.space.at + self.space.bytes.len() as u64 == self.content_at {
            self.content_at = self.space.at + used as u64;
        }
        self.space = Space::default();
        Ok(())
    }

    /// Ends with the first block, and gives the file.
    pub(super) fn finish(mut self, first: impl FnOnce(u32) -> [u8; BLOCK_LEN]) -> io::Result<File> {
        self.end_block()?;
        self.write_content()?;
        let blocks = block_of(self.content_at)?;
        // the last blocks may have been skipped
        self.file.set_len(self.content_at)?;
        self.file.write_all_at(&first(blocks), 0)?;
        Ok(self.file)
    }
}

fn block_of(at: u64) -> io::Result<u32> {
    let block = at.div_ceil(BLOCK);
    if block > BLOCKS_MAX {
        return Err(too_large());
    }
    u32::try_from(block).map_err(|_| too_large())
}

fn too_large() -> io::Error {
    io::Error::from(io::ErrorKind::FileTooLarge)
}
