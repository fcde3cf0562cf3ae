//! Taking blobs away: out of sight at once, and off the disk behind that.

use std::path::PathBuf;
use std::sync::Arc;

use oci::Digest;

use super::{BlobStore, ContentError, Folders};
use crate::failpoint::{self, Point};
use crate::fsutil;

/// A blob that is in the store no more and still on the disk; a crash leaves it to
/// [`crate::Store::open`].
#[derive(Debug)]
#[must_use = "it takes space until it is deleted"]
pub struct DetachedBlob {
    folders: Arc<Folders>,
    away: PathBuf,
    size: u64,
}

impl DetachedBlob {
    /// The blob's length.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Deletes the blob's file.
    ///
    /// # Errors
    ///
    /// A disk that fails.
    pub fn delete(self) -> Result<(), ContentError> {
        fsutil::remove::remove_path(&self.away)
            .map_err(ContentError::io("remove blob", &self.away))?;
        self.folders.room.free(self.size);
        Ok(())
    }
}

impl BlobStore {
    /// Removes a blob; returns whether it was there.
    ///
    /// # Errors
    ///
    /// The file cannot be removed.
    pub fn remove(&self, digest: &Digest) -> Result<bool, ContentError> {
        match self.detach(digest)? {
            Some(blob) => blob.delete().map(|()| true),
            None => Ok(false),
        }
    }

    /// Takes a blob out of sight by one rename; nothing where there is none.
    ///
    /// To give the space of a large file back takes a file system much longer.
    ///
    /// # Errors
    ///
    /// The file cannot be renamed.
    pub fn detach(&self, digest: &Digest) -> Result<Option<DetachedBlob>, ContentError> {
        let path = self.path(digest);
        let failed = || ContentError::io("remove blob", &path);
        let name = fsutil::temp::unique_name("removed").map_err(failed())?;
        let away = self.folders.temporary.join(name);
        let size = self.size(digest).unwrap_or(0);
        match std::fs::rename(&path, &away) {
            Ok(()) => {
                failpoint::reach(Point::BlobDetached);
                let folders = Arc::clone(&self.folders);
                Ok(Some(DetachedBlob {
                    folders,
                    away,
                    size,
                }))
            }
            Err(error) if fsutil::is_missing(&error) => Ok(None),
            Err(error) => Err(failed()(error)),
        }
    }
}
