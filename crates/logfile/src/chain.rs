//! The files of a log, from the oldest to the one that is written.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use flate2::read::GzDecoder;
use rustix::fs::OFlags;

use crate::format::{Format, Found, LONGEST, compressed, fingerprint, numbered};
use crate::writer::file_fingerprint;

/// How often the files are looked for anew when a rotation comes between.
const TRIES: u32 = 16;
/// How many numbers may be missing on end: a rotation moves the files one by one.
const GAP: u32 = 2;
/// No log has so many files.
const MOST: u32 = 10_000;

/// One file of a log, open: it can be read to its end whatever becomes of its name.
#[derive(Debug)]
pub(crate) struct Source {
    file: Arc<File>,
    decoder: Option<Box<GzDecoder<BufReader<At>>>>,
    at: u64,
    /// Where it ends for its reader, whatever is written behind that.
    end: Option<u64>,
    id: (u64, u64),
    /// When it was last written, in nanoseconds since 1970.
    pub(crate) modified: i64,
}

/// A file that is read from a place of its own.
#[derive(Debug)]
struct At {
    file: Arc<File>,
    at: u64,
}

impl Read for At {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Source {
    /// Opens a file; `None` where there is none.
    fn open(path: &Path, gzip: bool) -> io::Result<Option<Self>> {
        let flags = OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::NONBLOCK;
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits().cast_signed())
            .open(path);
        let file = match opened {
            Ok(file) => Arc::new(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let metadata = file.metadata()?;
        let mut source = Self {
            decoder: None,
            at: 0,
            end: None,
            id: (metadata.dev(), metadata.ino()),
            modified: metadata
                .mtime()
                .saturating_mul(1_000_000_000)
                .saturating_add(metadata.mtime_nsec()),
            file,
        };
        if gzip {
            source.decoder = Some(Box::new(source.decode()));
        }
        Ok(Some(source))
    }

    fn decode(&self) -> GzDecoder<BufReader<At>> {
        GzDecoder::new(BufReader::new(At {
            file: Arc::clone(&self.file),
            at: 0,
        }))
    }

    pub(crate) fn id(&self) -> (u64, u64) {
        self.id
    }

    /// The file itself, where it is not compressed.
    pub(crate) fn plain(&self) -> Option<&File> {
        self.decoder.is_none().then_some(&*self.file)
    }

    /// Reads on.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.decoder {
            Some(decoder) => decoder.read(buffer),
            None => {
                let left = self.end.map_or(u64::MAX, |end| end.saturating_sub(self.at));
                let most =
                    usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
                let count = self.file.read_at(&mut buffer[..most], self.at)?;
                self.at += count as u64;
                Ok(count)
            }
        }
    }

    /// Has the file end, for its reader, where it ends now.
    pub(crate) fn end_here(&mut self) -> io::Result<()> {
        self.end = Some(self.length()?);
        Ok(())
    }

    /// Goes to a place, by reading up to it where the file is compressed.
    pub(crate) fn seek(&mut self, offset: u64) -> io::Result<()> {
        if self.decoder.is_none() {
            self.at = offset;
            return Ok(());
        }
        let mut decoder = self.decode();
        io::copy(&mut (&mut decoder).take(offset), &mut io::sink())?;
        self.decoder = Some(Box::new(decoder));
        Ok(())
    }

    /// How long the file is now, where it is not compressed.
    pub(crate) fn length(&self) -> io::Result<u64> {
        let length = self.file.metadata()?.len();
        Ok(self.end.map_or(length, |end| end.min(length)))
    }

    /// What the file is known by, once it has a record.
    pub(crate) fn fingerprint(&self, format: Format) -> Option<u64> {
        if let Some(file) = self.plain() {
            return file_fingerprint(file, format);
        }
        let mut decoder = self.decode();
        let mut bytes = Vec::new();
        while bytes.len() <= LONGEST {
            let before = bytes.len();
            let chunk = (&mut decoder).take(16 << 10).read_to_end(&mut bytes).ok()?;
            match format.find(&bytes) {
                Found::Whole(length) => return Some(fingerprint(&bytes[..length])),
                Found::Broken => return None,
                Found::Part if chunk == 0 || bytes.len() == before => return None,
                Found::Part => {}
            }
        }
        None
    }
}

/// What the file that is written now is, if there is one.
pub(crate) fn current(path: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// Opens all files, the oldest first.
///
/// A rotation may come between two of them: then some file would be seen twice or not at all. So
/// they count only if the newest is still the newest when all are open.
pub(crate) fn open_all(path: &Path) -> io::Result<Vec<Source>> {
    let mut tries = 0;
    loop {
        let files = try_open_all(path)?;
        tries += 1;
        if files.last().map(Source::id) == current(path) || tries == TRIES {
            return Ok(files);
        }
    }
}

fn try_open_all(path: &Path) -> io::Result<Vec<Source>> {
    let mut files: Vec<Source> = Source::open(path, false)?.into_iter().collect();
    let mut missing = 0;
    for number in 1..MOST {
        let found = match Source::open(&numbered(path, number), false)? {
            Some(plain) => Some(plain),
            None => Source::open(&compressed(path, number), true)?,
        };
        match found {
            Some(file) if files.iter().any(|other| other.id == file.id) => {}
            Some(file) => files.push(file),
            None if missing + 1 == GAP => break,
            None => {
                missing += 1;
                continue;
            }
        }
        missing = 0;
    }
    files.reverse();
    Ok(files)
}
