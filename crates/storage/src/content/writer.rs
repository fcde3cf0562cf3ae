//! A blob on its way into the store.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci::Digest;
use sha2::{Digest as _, Sha256};

use super::{ContentError, Folders};
use crate::failpoint::{self, Point};
use crate::fsutil;

/// After so many bytes the disk begins to write them, so that the flush at the end is short.
const STRIDE: u64 = 4 << 20;

/// The digest of bytes in memory.
#[must_use]
pub fn digest_of(bytes: &[u8]) -> Digest {
    Digest::from_sha256(&Sha256::digest(bytes).into())
}

/// The digest of all that a reader gives.
///
/// # Errors
/// It cannot be read.
pub fn digest_of_reader(mut source: impl Read) -> io::Result<Digest> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match source.read(&mut buffer) {
            Ok(0) => return Ok(Digest::from_sha256(&hash.finalize().into())),
            Ok(count) => hash.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Takes a blob's bytes, hashing them as they come; dropped without a commit, it leaves nothing.
#[derive(Debug)]
pub struct BlobWriter {
    folders: Arc<Folders>,
    file: File,
    path: PathBuf,
    hash: Sha256,
    written: u64,
    /// Where what the disk was told to write ends.
    begun: u64,
    expected: Option<(Digest, u64)>,
    renamed: bool,
}

impl BlobWriter {
    pub(super) fn new(
        folders: Arc<Folders>,
        expected: Option<(Digest, u64)>,
    ) -> Result<Self, ContentError> {
        let create = "create the temporary blob file in";
        let name = fsutil::temp::unique_name("blob")
            .map_err(ContentError::io(create, &folders.temporary))?;
        let path = folders.temporary.join(name);
        let file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o644)
            .open(&path)
            .map_err(ContentError::io(create, &folders.temporary))?;
        failpoint::reach(Point::BlobBegun);
        Ok(Self {
            folders,
            file,
            path,
            hash: Sha256::new(),
            written: 0,
            begun: 0,
            expected,
            renamed: false,
        })
    }

    /// How many bytes have come.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written
    }

    /// The digest of what has come so far.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::from_sha256(&self.hash.clone().finalize().into())
    }

    /// The temporary file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Verifies the content, makes it durable and puts it in its place.
    ///
    /// # Errors
    ///
    /// Another digest or length than expected, or a disk that fails; nothing is left then.
    pub fn commit(self) -> Result<(Digest, u64), ContentError> {
        let mut all = commit_all(vec![self])?;
        Ok(all.remove(0))
    }

    /// Verifies the content and makes it durable under its temporary name.
    fn flush_to_disk(&mut self) -> Result<Digest, ContentError> {
        let sum = std::mem::take(&mut self.hash).finalize();
        let actual = Digest::from_sha256(&sum.into());
        self.verify(&actual)?;
        self.file
            .sync_data()
            .map_err(ContentError::io("sync blob", &self.path))?;
        failpoint::reach(Point::BlobWritten);
        Ok(actual)
    }

    /// Gives what is on the disk its name.
    fn place(&mut self, digest: &Digest) -> Result<(), ContentError> {
        let target = self.folders.blobs.join(digest.hex());
        std::fs::rename(&self.path, &target)
            .map_err(ContentError::io("rename blob to", &target))?;
        self.renamed = true;
        self.folders.room.settle(self.written);
        failpoint::reach(Point::BlobPlaced);
        Ok(())
    }

    fn verify(&self, actual: &Digest) -> Result<(), ContentError> {
        let Some((digest, size)) = &self.expected else {
            return Ok(());
        };
        if *size != self.written {
            return Err(ContentError::SizeMismatch {
                digest: digest.clone(),
                expected: *size,
                actual: self.written,
            });
        }
        if digest != actual {
            return Err(ContentError::DigestMismatch {
                expected: digest.clone(),
                actual: actual.clone(),
            });
        }
        Ok(())
    }

    /// Has the disk begin with what has come.
    fn begin_writeback(&mut self) {
        let length = self.written - self.begun;
        if length >= STRIDE {
            // what fails now fails at the flush, too
            let _told_later = sys::writeback::begin(self.file.as_fd(), self.begun, length);
            self.begun = self.written;
        }
    }

    /// Refuses a stream that is longer than its descriptor says, before it fills the disk.
    fn check_length(&self, more: usize) -> io::Result<()> {
        match &self.expected {
            Some((digest, size)) if self.written + more as u64 > *size => {
                let text = format!("blob {digest} is longer than the {size} bytes expected");
                Err(io::Error::new(io::ErrorKind::InvalidData, text))
            }
            _ => Ok(()),
        }
    }
}

/// Commits several blobs of one store. They wait for the disk together: a journal writes what is asked of it at
/// the same time in one go.
///
/// # Errors
///
/// As [`BlobWriter::commit`]; those that have got their places then stay.
pub(crate) fn commit_all(mut writers: Vec<BlobWriter>) -> Result<Vec<(Digest, u64)>, ContentError> {
    let broken = |_| {
        Err(ContentError::io("sync blobs", Path::new("."))(
            io::Error::other("a thread broke off"),
        ))
    };
    let digests: Vec<Result<Digest, ContentError>> = match writers.as_mut_slice() {
        [] => return Ok(Vec::new()),
        [only] => vec![only.flush_to_disk()],
        [first, others @ ..] => std::thread::scope(|scope| {
            let others: Vec<_> = others
                .iter_mut()
                .map(|writer| scope.spawn(|| writer.flush_to_disk()))
                .collect();
            let first = first.flush_to_disk();
            let others = others
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(broken));
            std::iter::once(first).chain(others).collect()
        }),
    };
    let mut placed = Vec::with_capacity(writers.len());
    for (writer, digest) in writers.iter_mut().zip(digests) {
        let digest = digest?;
        writer.place(&digest)?;
        placed.push((digest, writer.written));
    }
    if let Some(folders) = writers.first().map(|writer| &writer.folders) {
        fsutil::sync_dir(&folders.blobs)
            .map_err(ContentError::io("sync folder", &folders.blobs))?;
    }
    Ok(placed)
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.check_length(bytes.len())?;
        let wanted = bytes.len() as u64;
        self.folders.room.take(wanted)?;
        let written = self.file.write(bytes);
        let taken = *written.as_ref().unwrap_or(&0);
        self.folders.room.give(wanted - taken as u64);
        let taken = written?;
        self.hash.update(&bytes[..taken]);
        self.written += taken as u64;
        self.begin_writeback();
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        if self.renamed {
            return;
        }
        self.folders.room.give(self.written);
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "temporary blob stays until the next start");
        }
    }
}
