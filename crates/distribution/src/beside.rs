//! What stands beside an image in its index, without pulling it.

use bytes::Bytes;
use oci::image::{Descriptor, Index, Manifest};

use crate::client::Repository;
use crate::error::RegistryError;
use crate::manifest::{Document, MANIFEST_MAX};

impl Repository {
    /// The index that the reference names; nothing where it names one image.
    ///
    /// # Errors
    /// When the registry cannot be reached, refuses, has no such image, or sends what is none.
    pub async fn fetch_index(&self) -> Result<Option<Index>, RegistryError> {
        match self.fetch_named().await?.document {
            Document::Index(index) => Ok(Some(index)),
            Document::Manifest(_) => Ok(None),
        }
    }

    /// The manifest that an entry of an index points to; nothing where that is an index again.
    ///
    /// # Errors
    /// When the registry cannot be reached, does not have it, or sends something else.
    pub async fn fetch_manifest(
        &self,
        entry: &Descriptor,
    ) -> Result<Option<Manifest>, RegistryError> {
        if entry.size > MANIFEST_MAX {
            return Ok(None);
        }
        match self.fetch_entry(entry).await?.document {
            Document::Manifest(manifest) => Ok(Some(manifest)),
            Document::Index(_) => Ok(None),
        }
    }

    /// A blob of at most `limit` bytes, verified.
    ///
    /// # Errors
    /// When it is longer, cannot be read, or has another digest.
    pub async fn fetch_small(
        &self,
        blob: &Descriptor,
        what: &'static str,
        limit: u64,
    ) -> Result<Bytes, RegistryError> {
        if blob.size > limit {
            return Err(RegistryError::WrongLength {
                what,
                digest: blob.digest.clone(),
                expected: limit,
                announced: blob.size.to_string(),
            });
        }
        let mut stream = self.open_blob(blob, what).await?;
        let mut all = bytes::BytesMut::new();
        while let Some(chunk) = stream.chunk().await? {
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }
}
