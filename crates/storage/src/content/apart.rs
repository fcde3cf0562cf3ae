//! Blobs of a folder that is no engine's, and files that are verified elsewhere.

use std::path::Path;

use oci::Digest;

use super::{BlobStore, ContentError};
use crate::fsutil::{self, ensure_dir};
use crate::store::{OpenError, write_layout};

impl BlobStore {
    /// Opens the blobs of a folder, an OCI image layout, and makes it where it is not there.
    ///
    /// `temporary` must be on the same file system. Nothing is locked: that is the caller's part.
    ///
    /// # Errors
    ///
    /// A folder cannot be made.
    pub fn open_folder(content: &Path, temporary: &Path) -> Result<Self, OpenError> {
        let blobs = content.join("blobs/sha256");
        let ingest = content.join("ingest");
        for folder in [content, &content.join("blobs"), &blobs, &ingest, temporary] {
            ensure_dir(folder, 0o700).map_err(OpenError::io("make folder", folder))?;
        }
        write_layout(content)?;
        Ok(Self::new(blobs, ingest, temporary.to_owned()))
    }

    /// Takes a file over as a blob. Its bytes must have been verified and be on the disk.
    ///
    /// # Errors
    ///
    /// The file is on another file system, or the disk fails.
    pub fn adopt(&self, file: &Path, digest: &Digest) -> Result<(), ContentError> {
        let target = self.path(digest);
        std::fs::rename(file, &target).map_err(ContentError::io("rename blob to", &target))?;
        let folder = &self.folders.blobs;
        fsutil::sync_dir(folder).map_err(ContentError::io("sync folder", folder))
    }

    /// Gives the bytes of an equal blob of another store a second name here, so that the disk
    /// holds them once; either store may drop its name alone. Says whether it did.
    ///
    /// # Errors
    ///
    /// The disk fails; that the stores lie on different file systems is no failure.
    pub fn share(&self, other: &Self, digest: &Digest, size: u64) -> Result<bool, ContentError> {
        let (own, theirs) = (self.path(digest), other.path(digest));
        let Ok(found) = std::fs::symlink_metadata(&theirs) else {
            return Ok(false);
        };
        if !found.is_file() || found.len() != size {
            return Ok(false);
        }
        let name = fsutil::temp::unique_name("share");
        let name = name.map_err(ContentError::io("name a file in", &self.folders.temporary))?;
        let temporary = self.folders.temporary.join(name);
        match std::fs::hard_link(&theirs, &temporary) {
            Ok(()) => {}
            Err(error) if is_apart(&error) || fsutil::is_missing(&error) => return Ok(false),
            Err(error) => return Err(ContentError::io("link blob", &theirs)(error)),
        }
        let renamed = std::fs::rename(&temporary, &own);
        if renamed.is_err() || temporary.exists() {
            // rename(2) does nothing where both names are one file already
            let _gone = std::fs::remove_file(&temporary);
        }
        renamed.map_err(ContentError::io("rename blob to", &own))?;
        Ok(true)
    }
}

/// Another file system, or one without hard links.
fn is_apart(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(
        error.kind(),
        ErrorKind::CrossesDevices | ErrorKind::Unsupported | ErrorKind::PermissionDenied
    )
}
