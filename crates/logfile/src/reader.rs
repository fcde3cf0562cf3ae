//! The reader of a log.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use crate::chain::{self, Source};
use crate::format::{Format, Found, LONGEST, fingerprint};
use crate::position::Position;
use crate::record::{Parsed, Record};
use crate::tail;

/// How much is read at once.
const READ: usize = 128 << 10;
/// How many files a slow reader holds open after their names are gone.
const HELD: usize = 24;
/// How much a file's own time may be older than what was written to it: the kernel keeps it by ticks.
const COARSE: i64 = 1_000_000_000;

/// Goes through the records of a log, oldest first, over all its files.
///
/// At the end it can be asked again: more may have been written. Files that a rotation takes away
/// are held open until they are read, but for a reader that is many files behind.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    format: Format,
    /// The file that is read is the first, the one that is written the last.
    sources: VecDeque<Source>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// The place of the buffer's start in the file.
    place: u64,
    /// The first record of the file that is read.
    first: Option<u64>,
    scratch: Vec<u8>,
    /// Whether the rest of a line that is too long is left out.
    skipping: bool,
    missed: bool,
    /// Whether what is written from now on is not read.
    finite: bool,
}

impl Reader {
    /// Opens a log at its beginning. A log that does not exist yet has no records.
    ///
    /// # Errors
    /// When a file is there and cannot be opened.
    pub fn open(path: &Path, format: Format) -> io::Result<Self> {
        Ok(Self {
            path: path.into(),
            format,
            sources: chain::open_all(path)?.into(),
            buffer: Vec::new(),
            start: 0,
            end: 0,
            place: 0,
            first: None,
            scratch: Vec::new(),
            skipping: false,
            missed: false,
            finite: false,
        })
    }

    /// Has the log end where it ends now: a container may write faster than anybody reads.
    ///
    /// # Errors
    /// When a file cannot be looked at.
    pub fn end_here(&mut self) -> io::Result<()> {
        self.finite = true;
        self.sources.back_mut().map_or(Ok(()), Source::end_here)
    }

    /// Goes to the last so many records.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn keep_last(&mut self, records: u64) -> io::Result<()> {
        self.place = tail::keep_last(&mut self.sources, self.format, records)?;
        Ok(())
    }

    /// Leaves out files that were last written before a time.
    pub fn skip_files_before(&mut self, time: i64) {
        while self.sources.len() > 1 && self.sources[0].modified.saturating_add(COARSE) < time {
            self.sources.pop_front();
            self.place = 0;
        }
    }

    /// Goes behind a record of an earlier reader; `false` when it is gone, and the log begins with
    /// newer ones.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn go_behind(&mut self, position: &Position) -> io::Result<bool> {
        let format = self.format;
        let found = self
            .sources
            .iter()
            .rposition(|source| source.fingerprint(format) == Some(position.file));
        let Some(index) = found else {
            return Ok(false);
        };
        self.sources.drain(..index);
        self.sources[0].seek(position.offset)?;
        self.place = position.offset;
        self.first = Some(position.file);
        Ok(true)
    }

    /// The place behind the last record, once there is one.
    pub fn position(&mut self) -> Option<Position> {
        if self.first.is_none() {
            self.first = self.sources.front()?.fingerprint(self.format);
        }
        Some(Position {
            file: self.first?,
            offset: self.place + self.start as u64,
        })
    }

    /// Whether records were lost to this reader since the last time that it was asked: it was so
    /// slow that rotations have removed files it did not hold.
    pub fn take_missed(&mut self) -> bool {
        std::mem::take(&mut self.missed)
    }

    /// How many bytes lie before the end, where no file is compressed; a little less otherwise.
    #[must_use]
    pub fn behind(&self) -> u64 {
        let all: u64 = self.sources.iter().filter_map(|s| s.length().ok()).sum();
        all.saturating_sub(self.place + self.start as u64)
    }

    /// Looks for files that came since, so that they can be read even when their names are gone.
    ///
    /// # Errors
    /// When a file is there and cannot be opened.
    pub fn look_for_files(&mut self) -> io::Result<()> {
        if self.sources.len() < HELD {
            self.notice_rotation()?;
        }
        Ok(())
    }

    /// The next record, or `None` at the end of what is written so far.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn read_next(&mut self) -> io::Result<Option<Record<'_>>> {
        let (parsed, raw) = loop {
            let Some(raw) = self.next_raw()? else {
                return Ok(None);
            };
            let bytes = &self.buffer[raw.clone()];
            if let Some(parsed) = self.format.parse(bytes, &mut self.scratch) {
                break (parsed, raw);
            }
        };
        Ok(Some(self.record(&parsed, raw)))
    }

    fn record(&self, parsed: &Parsed, raw: std::ops::Range<usize>) -> Record<'_> {
        parsed.over(&self.buffer[raw], &self.scratch)
    }

    /// The place of the next whole record in the buffer.
    fn next_raw(&mut self) -> io::Result<Option<std::ops::Range<usize>>> {
        loop {
            match self.format.find(&self.buffer[self.start..self.end]) {
                Found::Whole(length) => {
                    let raw = self.start..self.start + length;
                    if self.place == 0 && self.start == 0 && self.first.is_none() {
                        self.first = Some(fingerprint(&self.buffer[raw.clone()]));
                    }
                    self.start += length;
                    if std::mem::take(&mut self.skipping) {
                        continue;
                    }
                    return Ok(Some(raw));
                }
                Found::Broken => self.give_up_on_record(),
                Found::Part => {}
            }
            if !self.fill()? {
                return Ok(None);
            }
        }
    }

    /// Leaves out what is no record: a line to its end, and a file of frames altogether.
    fn give_up_on_record(&mut self) {
        self.start = self.end;
        self.skipping = self.format == Format::Json;
        if self.format == Format::Local && self.sources.len() > 1 {
            self.next_source();
        }
    }

    /// Reads on; `false` at the end of what is written so far.
    fn fill(&mut self) -> io::Result<bool> {
        loop {
            self.make_room();
            let Some(source) = self.sources.front_mut() else {
                if self.notice_rotation()? {
                    continue;
                }
                return Ok(false);
            };
            let count = match source.read(&mut self.buffer[self.end..]) {
                Ok(count) => count,
                // a damaged archive costs its own records and not those behind it
                Err(_) if source.plain().is_none() => {
                    self.missed = true;
                    0
                }
                Err(error) => return Err(error),
            };
            if count > 0 {
                self.end += count;
                if self.sources.len() < HELD {
                    // newer files are held from now on: they may be gone when their turn comes
                    self.notice_rotation()?;
                }
                return Ok(true);
            }
            if self.sources.len() > 1 {
                self.next_source();
            } else if !self.notice_rotation()? {
                self.rest();
                return Ok(false);
            }
            // what was written between the end of file and the rotation is read now
        }
    }

    /// Moves what is left to the buffer's start, and grows it for a long record.
    fn make_room(&mut self) {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.place += self.start as u64;
            self.end -= self.start;
            self.start = 0;
        }
        if self.buffer.len() < self.end + READ / 2 {
            let size = (self.end + READ).min(LONGEST + 2 * READ);
            self.buffer.resize(size, 0);
        }
    }

    /// At the end of all: gives the buffer back, for the next record may be hours away.
    fn rest(&mut self) {
        self.buffer.truncate(self.end);
        self.buffer.shrink_to_fit();
    }

    fn next_source(&mut self) {
        self.sources.pop_front();
        self.place = 0;
        self.start = 0;
        self.end = 0;
        self.first = None;
        self.skipping = false;
    }

    /// Looks whether another file is written now, and opens those that came since; says whether
    /// there is something more to read.
    fn notice_rotation(&mut self) -> io::Result<bool> {
        if self.finite {
            return Ok(false);
        }
        let Some(current) = chain::current(&self.path) else {
            return Ok(false);
        };
        let Some(newest) = self.sources.back() else {
            self.sources = chain::open_all(&self.path)?.into();
            return Ok(!self.sources.is_empty());
        };
        if newest.id() == current {
            return self.notice_truncation();
        }
        let mut files = chain::open_all(&self.path)?;
        let own = newest.id();
        let place = files.iter().position(|file| file.id() == own).or_else(|| {
            // its name may be that of a compressed copy now
            let first = newest.fingerprint(self.format)?;
            files
                .iter()
                .position(|file| file.fingerprint(self.format) == Some(first))
        });
        match place {
            Some(place) => drop(files.drain(..=place)),
            None => self.missed = true,
        }
        let found = !files.is_empty();
        self.sources.extend(files);
        Ok(found)
    }

    /// Begins anew with a file that somebody has cut short.
    fn notice_truncation(&mut self) -> io::Result<bool> {
        let [source] = self.sources.make_contiguous() else {
            return Ok(false);
        };
        let read = self.place + self.end as u64;
        if source.length()? >= read {
            return Ok(false);
        }
        source.seek(0)?;
        (self.place, self.start, self.end) = (0, 0, 0);
        (self.first, self.skipping) = (None, false);
        Ok(true)
    }
}
