//! The compression of a rotated file, in steps that each take about a millisecond.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::fs::{Timespec, Timestamps};

use crate::format::{compressed, numbered, temporary};

/// How much one step reads.
const STEP: usize = 64 << 10;

/// A compression under way.
#[derive(Debug)]
pub(crate) struct Compressor {
    log: PathBuf,
    /// The number of the file, which rotations move on.
    number: u32,
    source: File,
    target: Option<GzEncoder<File>>,
    buffer: Vec<u8>,
}

impl Compressor {
    /// Begins with the oldest file that is not compressed; `None` where all are.
    pub(crate) fn begin(log: &Path, max_files: u32) -> io::Result<Option<Self>> {
        for number in (1..max_files).rev() {
            let source = match File::open(numbered(log, number)) {
                Ok(source) => source,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let target = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o640)
                .open(target(log))?;
            return Ok(Some(Self {
                log: log.into(),
                number,
                source,
                target: Some(GzEncoder::new(target, Compression::fast())),
                buffer: vec![0; STEP],
            }));
        }
        Ok(None)
    }

    /// Goes on for a while; says whether it is done.
    pub(crate) fn step(&mut self) -> io::Result<bool> {
        let count = self.source.read(&mut self.buffer)?;
        let Some(target) = &mut self.target else {
            return Ok(true);
        };
        if count > 0 {
            io::Write::write_all(target, &self.buffer[..count])?;
            return Ok(false);
        }
        if let Some(target) = self.target.take() {
            self.put_in_place(&target.finish()?)?;
        }
        Ok(true)
    }

    /// Takes note of a rotation; `false` when the file went with it.
    pub(crate) fn rotated(&mut self, max_files: u32) -> bool {
        self.number += 1;
        self.number < max_files
    }

    /// Gives the new file the old one's times, by which readers leave out what is too old, and then its place.
    fn put_in_place(&self, target: &File) -> io::Result<()> {
        let old = self.source.metadata()?;
        let time = Timespec {
            tv_sec: old.mtime(),
            tv_nsec: old.mtime_nsec(),
        };
        rustix::fs::futimens(
            target,
            &Timestamps {
                last_access: time,
                last_modification: time,
            },
        )?;
        fs::rename(self::target(&self.log), compressed(&self.log, self.number))?;
        fs::remove_file(numbered(&self.log, self.number))
    }
}

impl Drop for Compressor {
    fn drop(&mut self) {
        if self.target.take().is_some() {
            let _removed = fs::remove_file(target(&self.log));
        }
    }
}

/// Where the compressed file grows.
pub(crate) fn target(log: &Path) -> PathBuf {
    temporary(log, ".gz.tmp")
}
