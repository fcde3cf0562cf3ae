//! Blobs that are still coming: `content/ingest/<hex>`, which outlive the engine.
//!
//! A pull that was cut off, by its client, by the network or by the engine's death, goes on where
//! it ended. The file holds the bytes at their places; what lies behind a gap is listed in
//! `<hex>.parts`, which is written before such bytes are. The content is hashed again when it is
//! taken up, so nothing is believed of a file that a crash may have damaged.

use std::fs::{File, TryLockError};
use std::io::{self, Read as _};
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use oci::Digest;
use sha2::{Digest as _, Sha256};

use super::extents::Extents;
use super::{BlobStore, ContentError, Folders, digest_from_hex};
use crate::failpoint::{self, Point};
use crate::fsutil;

/// Bytes read at once to be hashed.
const PIECE: usize = 256 * 1024;
/// Bytes behind a gap after which the list of parts is written again: what a kill costs at most. Parts
/// come only from slow registries, and a list is some 50 bytes in a file that nobody syncs.
const NOTE: u64 = 1 << 20;
/// The longest list of parts that is read.
const LIST_MAX: u64 = 1 << 20;
/// How long the former user of a file may need to let go of it.
const RELEASE: Duration = Duration::from_secs(60);

/// A blob on its way into the store, by one user at a time.
#[derive(Debug)]
pub struct Ingest {
    folders: Arc<Folders>,
    digest: Digest,
    size: u64,
    /// Locked (flock(2)) as long as it is open.
    file: Arc<File>,
    path: PathBuf,
    extents: Extents,
    hash: Sha256,
    hashed: u64,
    resumed: u64,
    noted: Option<u64>,
}

/// A blob that is there and right, but not yet among the blobs.
#[derive(Debug)]
pub struct Ingested {
    folders: Arc<Folders>,
    digest: Digest,
    /// Keeps the lock.
    file: Arc<File>,
    path: PathBuf,
}

/// What is there of a blob that nobody needed to the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partial {
    /// The blob's digest.
    pub digest: Digest,
    /// Bytes on the disk.
    pub allocated: u64,
    /// When the last bytes came.
    pub modified: SystemTime,
}

impl BlobStore {
    /// Takes up a blob where it was left, or begins it.
    ///
    /// Waits for a former user to let go of the file.
    ///
    /// # Errors
    /// The file cannot be made or read, or is in use for long.
    pub fn ingest(&self, digest: &Digest, size: u64) -> Result<Ingest, ContentError> {
        let path = self.folders.ingest.join(digest.hex());
        let failed = || ContentError::io("open the partial blob", &path);
        let file = lock(&path).map_err(failed())?;
        let mut ingest = Ingest {
            folders: Arc::clone(&self.folders),
            digest: digest.clone(),
            size,
            extents: Extents::default(),
            hash: Sha256::new(),
            hashed: 0,
            resumed: 0,
            noted: None,
            file: Arc::new(file),
            path: path.clone(),
        };
        ingest.take_up().map_err(failed())?;
        Ok(ingest)
    }

    /// What is there of blobs that are not complete, in no order.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn partials(&self) -> Result<Vec<Partial>, ContentError> {
        let failed = || ContentError::io("list partial blobs in", &self.folders.ingest);
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.folders.ingest).map_err(failed())? {
            let entry = entry.map_err(failed())?;
            let Some(digest) = entry.file_name().to_str().and_then(digest_from_hex) else {
                continue;
            };
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            found.push(Partial {
                digest,
                allocated: metadata.blocks() * 512,
                modified: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
            });
        }
        Ok(found)
    }

    /// Removes what is there of a blob; returns whether there was something that nobody uses.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn remove_partial(&self, digest: &Digest) -> Result<bool, ContentError> {
        let path = self.folders.ingest.join(digest.hex());
        let failed = || ContentError::io("remove the partial blob", &path);
        let file = match File::open(&path) {
            Err(error) if fsutil::is_missing(&error) => return Ok(false),
            other => other.map_err(failed())?,
        };
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => return Ok(false),
            Err(TryLockError::Error(error)) => return Err(failed()(error)),
            Ok(()) => {}
        }
        remove(&path).map_err(failed())?;
        Ok(true)
    }

    /// Removes partial blobs that are older than `age`, and then the oldest while all of them take
    /// more than `most` bytes. Those in use stay. Returns how many bytes were freed.
    ///
    /// # Errors
    /// The folder cannot be read, or a file not removed.
    pub fn trim_partials(&self, age: Duration, most: u64) -> Result<u64, ContentError> {
        let mut partials = self.partials()?;
        partials.sort_by_key(|partial| partial.modified);
        let now = SystemTime::now();
        let mut total: u64 = partials.iter().map(|partial| partial.allocated).sum();
        let mut freed = 0;
        for partial in partials {
            let lain = now.duration_since(partial.modified).unwrap_or_default();
            let goes = lain >= age || total > most;
            if goes && self.remove_partial(&partial.digest)? {
                total -= partial.allocated;
                freed += partial.allocated;
            }
        }
        self.sweep_lists()?;
        Ok(freed)
    }

    /// Makes the names of blobs durable that were put into their place, all at once.
    ///
    /// # Errors
    /// The disk fails.
    pub fn sync_names(&self) -> Result<(), ContentError> {
        fsutil::sync_dir(&self.folders.blobs)
            .map_err(ContentError::io("sync folder", &self.folders.blobs))
    }

    /// Removes lists of parts whose files are gone.
    fn sweep_lists(&self) -> Result<(), ContentError> {
        let failed = || ContentError::io("list partial blobs in", &self.folders.ingest);
        for entry in std::fs::read_dir(&self.folders.ingest).map_err(failed())? {
            let path = entry.map_err(failed())?.path();
            let is_list = path.extension().is_some();
            if is_list && !path.with_extension("").exists() {
                drop(std::fs::remove_file(&path));
            }
        }
        Ok(())
    }
}

impl Ingest {
    /// Where the gapless part at the beginning ends.
    #[must_use]
    pub fn front(&self) -> u64 {
        self.extents.front()
    }

    /// How many bytes are there, in whichever places.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.extents.total()
    }

    /// How many bytes were there when the blob was taken up.
    #[must_use]
    pub fn resumed(&self) -> u64 {
        self.resumed
    }

    /// What is missing.
    #[must_use]
    pub fn gaps(&self) -> Vec<Range<u64>> {
        self.extents.gaps(self.size)
    }

    /// The bytes, for one who reads them up to [`Ingest::front`] while the rest comes.
    ///
    /// # Errors
    /// The file cannot be opened again.
    pub fn reader(&self) -> Result<File, ContentError> {
        // opened anew, not duplicated: the lock belongs to the description that this value has
        File::open(&self.path).map_err(ContentError::io("open the partial blob", &self.path))
    }

    /// Writes bytes to their place.
    ///
    /// # Errors
    /// They lie behind the blob's end, or the disk does not take them.
    pub fn put(&mut self, offset: u64, bytes: &[u8]) -> Result<(), ContentError> {
        let end = offset.saturating_add(bytes.len() as u64);
        if end > self.size {
            return Err(ContentError::SizeMismatch {
                digest: self.digest.clone(),
                expected: self.size,
                actual: end,
            });
        }
        let path = self.path.clone();
        let failed = || ContentError::io("write the partial blob", &path);
        let mut after = self.extents.clone();
        after.add(offset..end);
        if !after.is_plain() && self.noted.is_none() {
            // from here on the file's length says nothing any more
            self.note().map_err(failed())?;
        }
        let more = after.total().saturating_sub(self.extents.total());
        self.folders.room.take(more).map_err(failed())?;
        if let Err(error) = self.file.write_all_at(bytes, offset) {
            self.folders.room.give(more);
            return Err(failed()(error));
        }
        self.folders.room.settle(more);
        self.extents = after;
        if offset == self.hashed && self.front() == end {
            self.hash.update(bytes);
            self.hashed = end;
        }
        self.note_now_and_then().map_err(failed())
    }

    /// Verifies the content and makes it durable. What is wrong is removed.
    ///
    /// # Errors
    /// Bytes are missing, the digest is another, or the disk fails.
    pub fn finish(mut self) -> Result<Ingested, ContentError> {
        if self.front() != self.size {
            return Err(ContentError::SizeMismatch {
                digest: self.digest.clone(),
                expected: self.size,
                actual: self.front(),
            });
        }
        let path = self.path.clone();
        self.catch_up()
            .map_err(ContentError::io("read the partial blob", &path))?;
        let sum = std::mem::take(&mut self.hash).finalize();
        let actual = Digest::from_sha256(&sum.into());
        if actual != self.digest {
            self.discard();
            return Err(ContentError::DigestMismatch {
                expected: self.digest.clone(),
                actual,
            });
        }
        self.file
            .sync_data()
            .map_err(ContentError::io("sync blob", &self.path))?;
        Ok(Ingested {
            folders: Arc::clone(&self.folders),
            digest: self.digest.clone(),
            file: Arc::clone(&self.file),
            path: self.path.clone(),
        })
    }

    /// Removes what is there; the value is of no more use then.
    pub fn discard(&self) {
        if let Err(error) = remove(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "a partial blob stays");
        }
    }

    /// Hashes what lies gapless at the beginning, as far as it is not hashed.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn catch_up(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; PIECE];
        while self.hashed < self.front() {
            let rest = usize::try_from(self.front() - self.hashed).unwrap_or(PIECE);
            let piece = &mut buffer[..rest.min(PIECE)];
            self.file.read_exact_at(piece, self.hashed)?;
            self.hash.update(&*piece);
            self.hashed += piece.len() as u64;
        }
        Ok(())
    }

    /// Finds out what is there.
    fn take_up(&mut self) -> io::Result<()> {
        let length = self.file.metadata()?.len();
        let list = self.list();
        self.extents = match read_list(&list)? {
            Some(text) => Extents::from_text(&text, length.min(self.size)).unwrap_or_default(),
            None if length > self.size => Extents::default(),
            None => Extents::up_to(length),
        };
        if self.extents.is_plain() {
            if self.front() != length {
                self.file.set_len(self.front())?;
            }
            forget(&list)?;
        } else {
            self.noted = Some(self.extents.total());
        }
        self.resumed = self.extents.total();
        Ok(())
    }

    fn list(&self) -> PathBuf {
        self.path.with_extension("parts")
    }

    fn note_now_and_then(&mut self) -> io::Result<()> {
        let Some(noted) = self.noted else {
            return Ok(());
        };
        if self.extents.is_plain() {
            forget(&self.list())?;
            self.noted = None;
        } else if self.extents.total() - noted >= NOTE {
            self.note()?;
        }
        Ok(())
    }

    fn note(&mut self) -> io::Result<()> {
        let (list, fresh) = (self.list(), self.path.with_extension("new"));
        std::fs::write(&fresh, self.extents.to_text())?;
        std::fs::rename(&fresh, &list)?;
        self.noted = Some(self.extents.total());
        Ok(())
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        if self.noted.is_some()
            && self.path.exists()
            && let Err(error) = self.note()
        {
            tracing::debug!(path = %self.path.display(), %error, "the last parts of a blob are forgotten");
        }
    }
}

impl Ingested {
    /// The bytes.
    ///
    /// # Errors
    /// The file cannot be opened again.
    pub fn reader(&self) -> Result<File, ContentError> {
        // the file may have its place among the blobs by now
        let path = self.folders.blobs.join(self.digest.hex());
        File::open(&self.path)
            .or_else(|_| File::open(&path))
            .map_err(ContentError::io("open blob", &self.path))
    }

    /// Puts the blob among the blobs; done twice, it is no error. It is durable there after
    /// [`BlobStore::sync_names`].
    ///
    /// # Errors
    /// The disk fails.
    pub fn place(&self) -> Result<(), ContentError> {
        let target = self.folders.blobs.join(self.digest.hex());
        failpoint::reach(Point::BlobWritten);
        match std::fs::rename(&self.path, &target) {
            Err(error) if fsutil::is_missing(&error) && target.exists() => return Ok(()),
            other => other.map_err(ContentError::io("rename blob to", &target))?,
        }
        failpoint::reach(Point::BlobPlaced);
        Ok(())
    }

    /// Removes the blob, unless it is among the blobs: its content is of no use.
    pub fn discard(&self) {
        if let Err(error) = remove(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "a useless blob stays");
        }
    }

    /// The blob's length.
    ///
    /// # Errors
    /// The file cannot be asked.
    pub fn size(&self) -> Result<u64, ContentError> {
        let found = self.file.metadata();
        Ok(found
            .map_err(ContentError::io("measure blob", &self.path))?
            .len())
    }
}

/// Opens a file that nobody else uses, and that still has its name then.
fn lock(path: &Path) -> io::Result<File> {
    let begun = Instant::now();
    loop {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .open(path)?;
        match file.try_lock() {
            Ok(()) if is_at(&file, path)? => return Ok(file),
            // moved or removed by the one who had it
            Ok(()) => {}
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if begun.elapsed() > RELEASE => {
                return Err(io::Error::other("another pull does not let go of it"));
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let own = file.metadata()?;
    match std::fs::symlink_metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (own.dev(), own.ino())),
        Err(error) if fsutil::is_missing(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    forget(path)?;
    forget(&path.with_extension("parts"))
}

fn forget(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if !fsutil::is_missing(&error) => Err(error),
        _ => Ok(()),
    }
}

fn read_list(path: &Path) -> io::Result<Option<String>> {
    let file = match File::open(path) {
        Err(error) if fsutil::is_missing(&error) => return Ok(None),
        other => other?,
    };
    let mut text = String::new();
    file.take(LIST_MAX).read_to_string(&mut text)?;
    Ok(Some(text))
}
