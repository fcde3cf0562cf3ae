//! Blobs by digest: the `blobs/sha256` folder of an OCI image layout.

mod apart;
mod check;
mod detached;
mod extents;
mod ingest;
mod room;
mod writer;

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci::Digest;

use crate::fsutil;
pub use detached::DetachedBlob;
pub use ingest::{Ingest, Ingested, Partial};
pub use writer::{BlobWriter, digest_of, digest_of_reader};

/// A failed step on a blob.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// The blob is not in the store.
    #[error("blob {digest} is not in the content store")]
    Missing {
        /// The blob.
        digest: Digest,
    },
    /// The bytes have another digest than was asked for.
    #[error("blob verification failed: expected {expected}, the content is {actual}")]
    DigestMismatch {
        /// The digest asked for.
        expected: Digest,
        /// The digest of the bytes that came.
        actual: Digest,
    },
    /// More or fewer bytes came than the descriptor says.
    #[error("blob {digest}: expected {expected} bytes, got {actual}")]
    SizeMismatch {
        /// The blob.
        digest: Digest,
        /// The length in the descriptor.
        expected: u64,
        /// The length that came.
        actual: u64,
    },
    /// A blob that is read into memory is longer than the caller allows.
    #[error("blob {digest} has {size} bytes, more than the {max} allowed here")]
    TooLarge {
        /// The blob.
        digest: Digest,
        /// Its length.
        size: u64,
        /// The longest allowed.
        max: u64,
    },
    /// A system call failed.
    #[error("{step} {}", path.display())]
    Io {
        /// What was done.
        step: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

impl ContentError {
    pub(crate) fn io(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            step,
            path: path.to_owned(),
            source,
        }
    }
}

/// The blobs of a store.
#[derive(Clone, Debug)]
pub struct BlobStore {
    folders: Arc<Folders>,
}

#[derive(Debug)]
pub(crate) struct Folders {
    blobs: PathBuf,
    temporary: PathBuf,
    room: room::Room,
    ingest: PathBuf,
}

impl BlobStore {
    pub(crate) fn new(blobs: PathBuf, ingest: PathBuf, temporary: PathBuf) -> Self {
        Self {
            folders: Arc::new(Folders {
                blobs,
                temporary,
                room: room::Room::default(),
                ingest,
            }),
        }
    }

    /// Where a blob is, or would be.
    #[must_use]
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.folders.blobs.join(digest.hex())
    }

    /// Whether the blob is there.
    #[must_use]
    pub fn has(&self, digest: &Digest) -> bool {
        self.size(digest).is_ok()
    }

    /// The blob's length.
    ///
    /// # Errors
    ///
    /// [`ContentError::Missing`] when it is not there.
    pub fn size(&self, digest: &Digest) -> Result<u64, ContentError> {
        let path = self.path(digest);
        let found = std::fs::symlink_metadata(&path);
        Ok(found.map_err(|error| missing(error, digest, &path))?.len())
    }

    /// Opens a blob for reading.
    ///
    /// # Errors
    ///
    /// [`ContentError::Missing`] when it is not there.
    pub fn open(&self, digest: &Digest) -> Result<File, ContentError> {
        let path = self.path(digest);
        File::open(&path).map_err(|error| missing(error, digest, &path))
    }

    /// Reads a small blob (manifest, configuration) and verifies it against its digest, so that
    /// a damaged disk never decides what is run.
    ///
    /// # Errors
    ///
    /// A blob longer than `max`, a missing one, a damaged one.
    pub fn read_small(&self, digest: &Digest, max: u64) -> Result<Vec<u8>, ContentError> {
        let file = self.open(digest)?;
        let path = self.path(digest);
        let mut bytes = Vec::new();
        file.take(max.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(ContentError::io("read blob", &path))?;
        if bytes.len() as u64 > max {
            let digest = digest.clone();
            let size = self.size(&digest)?;
            return Err(ContentError::TooLarge { digest, size, max });
        }
        let actual = writer::digest_of(&bytes);
        if actual != *digest {
            let expected = digest.clone();
            return Err(ContentError::DigestMismatch { expected, actual });
        }
        Ok(bytes)
    }

    /// Starts a blob. With an expectation, a longer stream is refused while it comes, and
    /// [`BlobWriter::commit`] accepts nothing but exactly that content.
    ///
    /// # Errors
    ///
    /// The temporary file cannot be made.
    pub fn writer(&self, expected: Option<(Digest, u64)>) -> Result<BlobWriter, ContentError> {
        BlobWriter::new(Arc::clone(&self.folders), expected)
    }

    /// Stores bytes and returns their digest.
    ///
    /// # Errors
    ///
    /// The disk does not take them.
    pub fn put_bytes(&self, bytes: &[u8]) -> Result<Digest, ContentError> {
        let mut all = self.put_all(&[bytes])?;
        Ok(all.remove(0))
    }

    /// Stores several documents and returns their digests; they wait for the disk together.
    ///
    /// # Errors
    ///
    /// The disk does not take them; some of them may be there then.
    pub fn put_all(&self, all: &[&[u8]]) -> Result<Vec<Digest>, ContentError> {
        let digests: Vec<Digest> = all.iter().map(|bytes| writer::digest_of(bytes)).collect();
        let mut writers = Vec::new();
        for (number, (bytes, digest)) in all.iter().zip(&digests).enumerate() {
            let length = bytes.len() as u64;
            let known = self.size(digest).is_ok_and(|size| size == length);
            if known || digests[..number].contains(digest) {
                continue;
            }
            let mut writer = self.writer(Some((digest.clone(), length)))?;
            let path = writer.path().to_owned();
            writer
                .write_all(bytes)
                .map_err(ContentError::io("write blob", &path))?;
            writers.push(writer);
        }
        writer::commit_all(writers)?;
        Ok(digests)
    }

    /// Caps what the store may take, of which so much is taken. Writers that would pass the cap fail.
    pub fn set_room(&self, cap: Option<u64>, taken: u64) {
        self.folders.room.set(cap, taken);
    }

    /// Bytes that are being written and are not counted by whoever measures the store.
    #[must_use]
    pub fn coming(&self) -> u64 {
        self.folders.room.coming()
    }

    /// Names who is told, by whichever writer it is, when little of the cap is left.
    pub fn when_crowded(&self, tell: impl Fn() + Send + Sync + 'static) {
        self.folders.room.tell(Box::new(tell));
    }

    /// All blobs with their lengths, in no order.
    ///
    /// # Errors
    ///
    /// The folder cannot be read.
    pub fn list(&self) -> Result<Vec<(Digest, u64)>, ContentError> {
        let failed = || ContentError::io("list blobs in", &self.folders.blobs);
        let mut blobs = Vec::new();
        for entry in std::fs::read_dir(&self.folders.blobs).map_err(failed())? {
            let entry = entry.map_err(failed())?;
            let name = entry.file_name();
            let Some(digest) = name.to_str().and_then(digest_from_hex) else {
                continue;
            };
            match entry.metadata() {
                Ok(found) => blobs.push((digest, found.len())),
                Err(error) if fsutil::is_missing(&error) => {}
                Err(error) => return Err(failed()(error)),
            }
        }
        Ok(blobs)
    }
}

/// A digest from a file name.
pub(crate) fn digest_from_hex(hex: &str) -> Option<Digest> {
    format!("{}:{hex}", Digest::ALGORITHM).parse().ok()
}

fn missing(error: io::Error, digest: &Digest, path: &Path) -> ContentError {
    if fsutil::is_missing(&error) {
        let digest = digest.clone();
        return ContentError::Missing { digest };
    }
    ContentError::io("open blob", path)(error)
}
