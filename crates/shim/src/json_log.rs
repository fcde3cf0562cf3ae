//! Docker's json-file log: the lines, their splitting, and a file that is rotated by size.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::stdcopy::Output;

/// The longest piece of a line in one record; longer lines come in several, as Docker writes them.
pub const PIECE: usize = 16 << 10;

/// Splits a stream into records.
#[derive(Debug, Default)]
pub struct Splitter {
    pending: Vec<u8>,
}

/// One record's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// The bytes, without the line's end.
    pub text: &'a [u8],
    /// Whether the line ends here.
    pub line_end: bool,
}

impl Splitter {
    /// Takes what was read, and gives every record that is complete with it.
    pub fn feed(&mut self, mut bytes: &[u8], mut emit: impl FnMut(Piece<'_>)) {
        while !bytes.is_empty() {
            let room = PIECE - self.pending.len();
            let window = &bytes[..bytes.len().min(room)];
            let (text, line_end, used) = match window.iter().position(|b| *b == b'\n') {
                Some(at) => (&window[..at], true, at + 1),
                None if window.len() == room => (window, false, room),
                None => {
                    self.pending.extend_from_slice(window);
                    return;
                }
            };
            if self.pending.is_empty() {
                emit(Piece { text, line_end });
            } else {
                self.pending.extend_from_slice(text);
                emit(Piece {
                    text: &self.pending,
                    line_end,
                });
                self.pending = Vec::new();
            }
            bytes = &bytes[used..];
        }
    }

    /// Gives what is left when the stream has ended.
    pub fn finish(&mut self, mut emit: impl FnMut(Piece<'_>)) {
        let rest = std::mem::take(&mut self.pending);
        if !rest.is_empty() {
            emit(Piece {
                text: &rest,
                line_end: false,
            });
        }
    }
}

/// Appends one record: `{"log":"text\n","stream":"stdout","time":"..."}`.
pub fn encode(into: &mut Vec<u8>, piece: Piece<'_>, output: Output, time: &str) {
    into.extend_from_slice(b"{\"log\":\"");
    escape(into, piece.text);
    if piece.line_end {
        into.extend_from_slice(b"\\n");
    }
    into.extend_from_slice(b"\",\"stream\":\"");
    into.extend_from_slice(output.name().as_bytes());
    into.extend_from_slice(b"\",\"time\":\"");
    into.extend_from_slice(time.as_bytes());
    into.extend_from_slice(b"\"}\n");
}

/// Appends the inside of a JSON string as Go's encoder writes it: `<`, `>`, `&`, U+2028 and U+2029
/// escaped, and U+FFFD for every byte that is no UTF-8.
pub fn escape(into: &mut Vec<u8>, text: &[u8]) {
    for chunk in text.utf8_chunks() {
        escape_valid(into, chunk.valid());
        for _byte in chunk.invalid() {
            into.extend_from_slice(b"\\ufffd");
        }
    }
}

fn escape_valid(into: &mut Vec<u8>, text: &str) {
    let mut rest = text.as_bytes();
    let mut at = 0;
    while let Some(found) = rest[at..].iter().position(|b| SUSPECT[usize::from(*b)]) {
        at += found;
        let length = special(&rest[at..]);
        if length == 0 {
            at += 1;
            continue;
        }
        into.extend_from_slice(&rest[..at]);
        escape_one(into, &rest[at..at + length]);
        rest = &rest[at + length..];
        at = 0;
    }
    into.extend_from_slice(rest);
}

/// The bytes with which something may begin that needs an escape.
static SUSPECT: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = true;
        byte += 1;
    }
    let others = b"\"\\<>&\xe2";
    let mut at = 0;
    while at < others.len() {
        table[others[at] as usize] = true;
        at += 1;
    }
    table
};

/// How many bytes at the start need an escape together: 0 for a plain byte.
fn special(bytes: &[u8]) -> usize {
    match bytes {
        [0..0x20 | b'"' | b'\\' | b'<' | b'>' | b'&', ..] => 1,
        [0xe2, 0x80, 0xa8 | 0xa9, ..] => 3,
        _ => 0,
    }
}

fn escape_one(into: &mut Vec<u8>, bytes: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match bytes {
        [b'\n'] => into.extend_from_slice(b"\\n"),
        [b'\r'] => into.extend_from_slice(b"\\r"),
        [quoted @ (b'"' | b'\\')] => into.extend_from_slice(&[b'\\', *quoted]),
        [byte] => {
            into.extend_from_slice(b"\\u00");
            into.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
        [.., last] => {
            into.extend_from_slice(b"\\u202");
            into.push(HEX[usize::from(last & 15)]);
        }
        [] => {}
    }
}

/// A log file, its rotation and its failures.
///
/// No failure stops the container: records that cannot be written are counted and the last reason
/// is kept, and the file is tried again with the next record.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    max_size: u64,
    max_files: u32,
    file: Option<File>,
    size: u64,
    batch: Vec<u8>,
    lines_lost: u64,
    error: Option<String>,
}

impl LogFile {
    /// Opens or makes the file; a failure here is the caller's to report, before anything runs.
    pub fn open(path: &Path, max_size: Option<u64>, max_files: u32) -> io::Result<Self> {
        let (file, size) = open_append(path)?;
        Ok(Self {
            path: path.into(),
            max_size: max_size.filter(|size| *size > 0).unwrap_or(u64::MAX),
            max_files: max_files.max(1),
            file: Some(file),
            size,
            batch: Vec::new(),
            lines_lost: 0,
            error: None,
        })
    }

    /// Takes one record; it reaches the file with [`Self::flush`] at the latest.
    pub fn push(&mut self, piece: Piece<'_>, output: Output, time: &str) {
        if self.size.saturating_add(self.batch.len() as u64) >= self.max_size {
            self.flush();
            self.rotate();
        }
        encode(&mut self.batch, piece, output, time);
    }

    /// Writes the records taken since the last time.
    pub fn flush(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        if batch.is_empty() {
            return;
        }
        match self.append(&batch) {
            Ok(()) => self.size += batch.len() as u64,
            Err(error) => {
                self.lines_lost += batch.iter().filter(|b| **b == b'\n').count() as u64;
                self.error = Some(format!("write the log {}: {error}", self.path.display()));
            }
        }
    }

    /// Opens the file anew by its name.
    pub fn reopen(&mut self) -> io::Result<()> {
        self.flush();
        let (file, size) = open_append(&self.path)?;
        self.file = Some(file);
        self.size = size;
        Ok(())
    }

    /// How many records could not be written.
    #[must_use]
    pub fn lines_lost(&self) -> u64 {
        self.lines_lost
    }

    /// The last failure.
    #[must_use]
    pub fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// Writes all or nothing: half a record would spoil the next one too.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.file.is_none() {
            let (file, size) = open_append(&self.path)?;
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
            self.error = Some(format!("rotate the log {}: {error}", self.path.display()));
        }
    }

    fn try_rotate(&mut self) -> io::Result<()> {
        if self.max_files > 1 {
            for number in (1..self.max_files - 1).rev() {
                rename_if_present(&self.numbered(number), &self.numbered(number + 1))?;
            }
            rename_if_present(&self.path, &self.numbered(1))?;
            self.file = None;
            let (file, size) = open_append(&self.path)?;
            self.file = Some(file);
            self.size = size;
        } else if let Some(file) = &self.file {
            file.set_len(0)?;
            self.size = 0;
        }
        Ok(())
    }

    fn numbered(&self, number: u32) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }
}

fn open_append(path: &Path) -> io::Result<(File, u64)> {
    let flags = OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NOCTTY;
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .custom_flags(flags.bits().cast_signed())
        .open(path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
}

fn rename_if_present(from: &Path, to: &Path) -> io::Result<()> {
    match std::fs::rename(from, to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
