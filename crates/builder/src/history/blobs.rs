//! Blobs of the history.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bollard_buildkit_proto::moby::buildkit::v1::Descriptor;
use oci::Digest;

use crate::error::{Error, Result, Step};
use crate::llb::digest_of;

/// The largest blob.
const MAX_BLOB: u64 = 64 << 20;

/// A folder of blobs by their digests.
#[derive(Debug)]
pub struct Blobs {
    folder: PathBuf,
}

/// What is known of a blob without its content.
#[derive(Debug, Clone)]
pub struct Blob {
    /// Its digest.
    pub digest: String,
    /// Its size.
    pub size: u64,
    /// When it was made.
    pub created: SystemTime,
}

impl Blobs {
    pub(super) fn open(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).step(|| format!("make folder {}", folder.display()))?;
        Ok(Self {
            folder: folder.to_owned(),
        })
    }

    fn path(&self, digest: &str) -> Result<PathBuf> {
        let digest: Digest = digest
            .parse()
            .map_err(|_| Error::invalid(format!("invalid digest {digest:?}")))?;
        Ok(self.folder.join(digest.hex()))
    }

    /// Keeps a blob. What cannot be kept is not worth a build's failure.
    pub(super) fn keep(&self, media_type: &str, bytes: &[u8]) -> Option<Descriptor> {
        let digest = digest_of(bytes);
        let new = self.folder.join(format!("{}.new", crate::id::new()));
        let written =
            fs::write(&new, bytes).and_then(|()| fs::rename(&new, self.folder.join(digest.hex())));
        if let Err(error) = written {
            tracing::warn!(%error, "what a build told is not kept");
            return None;
        }
        Some(Descriptor {
            media_type: media_type.to_owned(),
            digest: digest.to_string(),
            size: i64::try_from(bytes.len()).unwrap_or(i64::MAX),
            ..Descriptor::default()
        })
    }

    /// Describes a blob.
    ///
    /// # Errors
    /// When it is not there.
    pub fn stat(&self, digest: &str) -> Result<Blob> {
        let path = self.path(digest)?;
        let metadata = fs::metadata(path)
            .map_err(|_| Error::not_found(format!("content {digest}: not found")))?;
        Ok(Blob {
            digest: digest.to_owned(),
            size: metadata.len(),
            created: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
        })
    }

    /// Reads a blob.
    ///
    /// # Errors
    /// When it is not there, or too large.
    pub fn read(&self, digest: &str) -> Result<Vec<u8>> {
        let found = self.stat(digest)?;
        if found.size > MAX_BLOB {
            return Err(Error::invalid(format!("content {digest}: too large")));
        }
        fs::read(self.path(digest)?).step(|| format!("read content {digest}"))
    }

    /// All blobs.
    #[must_use]
    pub fn list(&self) -> Vec<Blob> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names
            .filter_map(|name| self.stat(&format!("sha256:{name}")).ok())
            .collect()
    }

    /// Removes all but these.
    pub(super) fn retain(&self, used: &HashSet<String>) {
        for blob in self.list() {
            if used.contains(&blob.digest) {
                continue;
            }
            if let Ok(path) = self.path(&blob.digest)
                && let Err(error) = fs::remove_file(path)
            {
                tracing::warn!(%error, digest = blob.digest, "a blob of the history stays");
            }
        }
    }
}
