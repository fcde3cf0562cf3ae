//! The writer of a log: a file that is rotated by size, and its failures.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::compress::{self, Compressor};
use crate::format::{Format, Found, LONGEST, compressed, fingerprint, numbered, temporary};
use crate::local;
use crate::position::Position;
use crate::record::{Entry, Stream};
use crate::split::Piece;
use crate::timestamp::{self, Stamper};

/// A clock that goes back by less than this does not turn the order of records.
const SMALL_STEP: i64 = 1_000_000_000;

/// Where and how a log is kept.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Settings {
    /// The current file.
    pub path: PathBuf,
    /// How records are written.
    pub format: Format,
    /// Size in bytes from which on it is rotated; absent is never.
    pub max_size: Option<u64>,
    /// How many files there are at most, the current one included; 0 counts as 1.
    pub max_files: u32,
    /// Whether rotated files are compressed.
    pub compress: bool,
    /// Attributes of every record as a JSON object; empty for none.
    pub attrs: String,
    /// How many bytes of records are kept in memory while the disk refuses them.
    pub ring: usize,
}

/// A log that is written.
///
/// No failure stops the container: records that cannot be written are counted and the last reason
/// is kept, and the file is tried again with the next record.
#[derive(Debug)]
pub struct LogFile {
    settings: Settings,
    max_size: u64,
    max_files: u32,
    file: Option<File>,
    size: u64,
    batch: Vec<u8>,
    /// The lengths of the records in the batch.
    lengths: VecDeque<usize>,
    stamper: Stamper,
    last_time: i64,
    line_ids: [u64; 2],
    records_lost: u64,
    error: Option<String>,
    compressor: Option<Compressor>,
    /// Whether a file may wait for its compression.
    uncompressed: bool,
    backlog: Backlog,
}

/// How much was written, and where somebody who follows is.
#[derive(Debug, Default)]
struct Backlog {
    /// Each file that was written since the start: its fingerprint, and how many bytes were written
    /// before its first one. That is negative for the file found at the start.
    files: VecDeque<(u64, i64)>,
    written: i64,
    followed: i64,
}

/// How many files a follower may be behind.
const FILES_KNOWN: usize = 64;

impl LogFile {
    /// Opens or makes the file; a failure here is the caller's to report, before anything runs.
    ///
    /// # Errors
    /// When the file cannot be opened for writing.
    pub fn open(settings: Settings) -> io::Result<Self> {
        let (file, size) = open_append(&settings.path)?;
        let mut log = Self {
            max_size: settings
                .max_size
                .filter(|size| *size > 0)
                .unwrap_or(u64::MAX),
            max_files: settings.max_files.max(1),
            uncompressed: settings.compress && numbered(&settings.path, 1).exists(),
            settings,
            file: Some(file),
            size,
            batch: Vec::new(),
            lengths: VecDeque::new(),
            stamper: Stamper::default(),
            last_time: 0,
            line_ids: [0; 2],
            records_lost: 0,
            error: None,
            compressor: None,
            backlog: Backlog::default(),
        };
        if log.settings.compress {
            // an earlier writer may have died over it
            let _removed = fs::remove_file(compress::target(&log.settings.path));
        }
        log.mend();
        log.backlog.begin(log.first_fingerprint(), log.size);
        Ok(log)
    }

    /// Takes one record; it reaches the file with [`Self::flush`] at the latest.
    pub fn push(&mut self, piece: Piece<'_>, stream: Stream) {
        if self.size.saturating_add(self.batch.len() as u64) >= self.max_size {
            self.flush();
            if self.batch.is_empty() {
                self.rotate();
            }
        }
        let time = self.next_time();
        let line_id = &mut self.line_ids[usize::from(stream == Stream::Stderr)];
        if piece.ordinal <= 1 {
            *line_id = time.cast_unsigned();
        }
        let entry = Entry {
            stream,
            time,
            piece,
            line_id: *line_id,
        };
        let before = self.batch.len();
        self.settings.format.encode(
            &mut self.batch,
            &entry,
            self.settings.attrs.as_bytes(),
            &mut self.stamper,
        );
        self.lengths.push_back(self.batch.len() - before);
    }

    /// Every record has a time of its own, so that a reader can go on behind any of them.
    fn next_time(&mut self) -> i64 {
        let now = timestamp::unix_now();
        let behind = self.last_time.saturating_sub(now);
        self.last_time = if (0..SMALL_STEP).contains(&behind) {
            self.last_time + 1
        } else {
            now
        };
        self.last_time
    }

    /// Writes the records taken since the last time.
    pub fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let batch = std::mem::take(&mut self.batch);
        match self.append(&batch) {
            Ok(()) => {
                if self.size == 0 {
                    let first = self.lengths.front().copied().unwrap_or(batch.len());
                    self.backlog.name_file(fingerprint(&batch[..first]));
                }
                self.size += batch.len() as u64;
                self.backlog.written += signed(batch.len() as u64);
                self.lengths.clear();
            }
            Err(error) => {
                let path = self.settings.path.display();
                self.error = Some(format!("write the log {path}: {error}"));
                self.batch = batch;
                self.drop_oldest();
            }
        }
    }

    /// Whether records wait for a disk that has refused them.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.batch.is_empty()
    }

    /// Keeps no more than the ring holds, the newest.
    fn drop_oldest(&mut self) {
        let mut cut = 0;
        while self.batch.len() - cut > self.settings.ring
            && let Some(length) = self.lengths.pop_front()
        {
            cut += length;
            self.records_lost += 1;
        }
        self.batch.drain(..cut);
    }

    /// Opens the file anew by its name.
    ///
    /// # Errors
    /// When it cannot be opened for writing.
    pub fn reopen(&mut self) -> io::Result<()> {
        self.flush();
        let (file, size) = open_append(&self.settings.path)?;
        self.file = Some(file);
        self.size = size;
        let first = self.first_fingerprint();
        self.backlog.next_file(first);
        Ok(())
    }

    /// How many records could not be written.
    #[must_use]
    pub fn records_lost(&self) -> u64 {
        self.records_lost
    }

    /// The last failure.
    #[must_use]
    pub fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// Takes note of how far somebody has followed.
    pub fn followed(&mut self, position: &Position) {
        self.backlog.followed(position);
    }

    /// How many bytes were written behind the place up to which somebody has followed.
    #[must_use]
    pub fn behind(&self) -> u64 {
        let behind = self.backlog.written - self.backlog.followed;
        u64::try_from(behind).unwrap_or(0)
    }

    /// Whether a rotated file waits for its compression.
    #[must_use]
    pub fn wants_compression(&self) -> bool {
        self.uncompressed
    }

    /// Compresses for about a millisecond; to be called when nothing else is to be done.
    pub fn compress_some(&mut self) {
        if let Err(error) = self.try_compress() {
            let path = self.settings.path.display();
            self.error = Some(format!("compress the log {path}: {error}"));
            // the next rotation tries again
            self.compressor = None;
            self.uncompressed = false;
        }
    }

    fn try_compress(&mut self) -> io::Result<()> {
        if self.compressor.is_none() {
            self.compressor = Compressor::begin(&self.settings.path, self.max_files)?;
        }
        match &mut self.compressor {
            None => self.uncompressed = false,
            Some(compressor) => {
                if compressor.step()? {
                    self.compressor = None;
                }
            }
        }
        Ok(())
    }

    /// Writes all or nothing: half a record would spoil the next one too.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.file.is_none() {
            let (file, size) = open_append(&self.settings.path)?;
            self.file = Some(file);
            self.size = size;
        }
        let Some(file) = self.file.as_mut() else {
            return Err(io::ErrorKind::NotFound.into());
        };
        file.write_all(bytes).inspect_err(|_| {
            // On a full disk shrinking works; where it does not, the reader skips the broken line.
            let _shrunk = file.set_len(self.size);
        })
    }

    fn rotate(&mut self) {
        if let Err(error) = self.try_rotate() {
            let path = self.settings.path.display();
            self.error = Some(format!("rotate the log {path}: {error}"));
        }
    }

    fn try_rotate(&mut self) -> io::Result<()> {
        let path = self.settings.path.clone();
        let file = if self.max_files > 1 {
            self.shift(&path)?;
            rename_if_present(&path, &numbered(&path, 1))?;
            self.uncompressed = self.settings.compress;
            self.file = None;
            open_append(&path)?.0
        } else {
            // a new file in place of the old one, which its readers read to its end
            let next = temporary(&path, ".next");
            remove_if_present(&next)?;
            let (file, _) = open_append(&next)?;
            fs::rename(&next, &path)?;
            file
        };
        self.file = Some(file);
        self.size = 0;
        self.backlog.next_file(None);
        Ok(())
    }

    /// Moves the rotated files on by one, and the oldest out.
    fn shift(&mut self, path: &Path) -> io::Result<()> {
        let last = self.max_files - 1;
        remove_if_present(&numbered(path, last))?;
        remove_if_present(&compressed(path, last))?;
        for number in (1..last).rev() {
            rename_if_present(&numbered(path, number), &numbered(path, number + 1))?;
            rename_if_present(&compressed(path, number), &compressed(path, number + 1))?;
        }
        if let Some(compressor) = &mut self.compressor
            && !compressor.rotated(self.max_files)
        {
            self.compressor = None;
        }
        Ok(())
    }

    /// Closes off a record that a power failure has cut.
    fn mend(&mut self) {
        let Some(file) = &mut self.file else { return };
        match self.settings.format {
            Format::Json => {
                if last_byte(file, self.size).is_some_and(|byte| byte != b'\n')
                    && file.write_all(b"\n").is_ok()
                {
                    self.size += 1;
                }
            }
            Format::Local => {
                let whole = whole_records(file, self.size);
                if whole < self.size && file.set_len(whole).is_ok() {
                    self.size = whole;
                }
            }
        }
    }

    fn first_fingerprint(&self) -> Option<u64> {
        let file = File::open(&self.settings.path).ok()?;
        file_fingerprint(&file, self.settings.format)
    }
}

impl Backlog {
    fn begin(&mut self, first: Option<u64>, size: u64) {
        if let Some(first) = first {
            self.files.push_back((first, -signed(size)));
        }
    }

    /// The file that is written from now on.
    fn next_file(&mut self, first: Option<u64>) {
        if let Some(first) = first {
            self.name_file(first);
        }
    }

    fn name_file(&mut self, first: u64) {
        self.files.push_back((first, self.written));
        if self.files.len() > FILES_KNOWN {
            self.files.pop_front();
        }
    }

    fn followed(&mut self, position: &Position) {
        let file = self.files.iter().find(|(first, _)| *first == position.file);
        if let Some((_, before)) = file {
            self.followed = self.followed.max(before + signed(position.offset));
        }
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn last_byte(file: &File, size: u64) -> Option<u8> {
    let mut byte = [0];
    file.read_exact_at(&mut byte, size.checked_sub(1)?).ok()?;
    Some(byte[0])
}

/// How long a file of the local format is up to its last whole record.
fn whole_records(file: &File, size: u64) -> u64 {
    const FRAME: u64 = local::FRAME as u64;
    let length_at = |at: u64| {
        let mut bytes = [0; local::FRAME];
        file.read_exact_at(&mut bytes, at).ok()?;
        Some(u64::from(u32::from_be_bytes(bytes)))
    };
    // the usual case is told by the end alone
    let ends_whole = || {
        let length = length_at(size.checked_sub(FRAME)?)?;
        let head = length_at(size.checked_sub(2 * FRAME + length)?)?;
        Some(head == length)
    };
    if size == 0 || ends_whole() == Some(true) {
        return size;
    }
    let mut whole = 0;
    while let Some(length) = length_at(whole) {
        let end = whole + length + 2 * FRAME;
        if end > size || length_at(end - FRAME) != Some(length) {
            break;
        }
        whole = end;
    }
    whole
}

/// The fingerprint of a file that can be read, if it has a record.
pub(crate) fn file_fingerprint(file: &File, format: Format) -> Option<u64> {
    let mut bytes = Vec::new();
    let mut want = 4 << 10;
    loop {
        let before = bytes.len();
        bytes.resize(want, 0);
        let count = rustix::io::pread(file, &mut bytes[before..], before as u64).ok()?;
        bytes.truncate(before + count);
        match format.find(&bytes) {
            Found::Whole(length) => return Some(fingerprint(&bytes[..length])),
            Found::Broken => return None,
            Found::Part if count == 0 || want > LONGEST => return None,
            Found::Part => want = (before + count) * 2 + (4 << 10),
        }
    }
}

fn open_append(path: &Path) -> io::Result<(File, u64)> {
    let flags = OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NOCTTY;
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o640)
        .custom_flags(flags.bits().cast_signed())
        .open(path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
}

fn rename_if_present(from: &Path, to: &Path) -> io::Result<()> {
    ignore_missing(fs::rename(from, to))
}

fn remove_if_present(path: &Path) -> io::Result<()> {
    ignore_missing(fs::remove_file(path))
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
