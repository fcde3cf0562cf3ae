//! Documents of a registry as they are, and artifacts that are attached to images.

use std::collections::BTreeMap;
use std::io::{self, Cursor, Read};

use bytes::Bytes;
use oci::Digest;
use oci::image::{Descriptor, media_type};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::client::Repository;
use crate::error::RegistryError;
use crate::manifest::Document;
use crate::push::BlobSource;
use crate::resolve::Fetched;

/// The media type of what is nothing (OCI image specification, "Guidance for an Empty Descriptor").
const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";
const EMPTY: &[u8] = b"{}";

/// A manifest or an index as a registry has it; its bytes have its digest.
#[derive(Clone, Debug)]
pub struct RemoteDocument {
    /// What points to it.
    pub descriptor: Descriptor,
    /// It itself.
    pub bytes: Bytes,
    /// Whether it names manifests, and not layers.
    pub is_index: bool,
}

impl From<Fetched> for RemoteDocument {
    fn from(fetched: Fetched) -> Self {
        Self {
            is_index: matches!(fetched.document, Document::Index(_)),
            descriptor: fetched.descriptor,
            bytes: fetched.bytes,
        }
    }
}

/// Something about an image that is stored beside it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// What it is.
    pub artifact_type: String,
    /// What tells about it; [`empty_config`] where nothing does.
    pub config: Descriptor,
    /// Its blobs, which the repository has.
    pub layers: Vec<Descriptor>,
    /// Free annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// What it is about.
    pub subject: Descriptor,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AttachmentManifest<'a> {
    schema_version: u32,
    media_type: &'static str,
    #[serde(flatten)]
    attachment: &'a Attachment,
}

impl Repository {
    /// Reads what the reference names, index or manifest, without choosing a platform.
    ///
    /// # Errors
    /// When the registry cannot be reached, refuses, has nothing there, or sends what is neither.
    pub async fn document(&self) -> Result<RemoteDocument, RegistryError> {
        self.fetch_named().await.map(RemoteDocument::from)
    }

    /// Reads an index or a manifest of this repository by its digest.
    ///
    /// # Errors
    /// When the registry cannot be reached, refuses, has nothing there, or sends what is neither.
    pub async fn document_of(&self, digest: &Digest) -> Result<RemoteDocument, RegistryError> {
        let mut named = self.clone();
        named.reference = self.reference.with_digest(digest.clone());
        named.document().await
    }

    /// The repository in its registry, `library/busybox`.
    #[must_use]
    pub fn path(&self) -> &str {
        self.reference.path()
    }

    /// The same repository at another tag.
    pub(crate) fn tagged(&self, tag: &str) -> Result<Self, RegistryError> {
        let mut named = self.clone();
        named.reference =
            self.reference
                .with_tag(tag)
                .map_err(|_| RegistryError::RegistryName {
                    name: format!("{}:{tag}", self.reference.name()),
                })?;
        Ok(named)
    }

    /// Stores an artifact about an image; its blobs are there already, but for an empty configuration.
    ///
    /// # Errors
    /// When the registry cannot be reached or refuses.
    pub async fn attach(&self, attachment: &Attachment) -> Result<Descriptor, RegistryError> {
        if attachment.config.media_type == EMPTY_TYPE {
            let source = bytes_source(Bytes::from_static(EMPTY));
            self.push_blob(&attachment.config, &[], &source).await?;
        }
        let manifest = AttachmentManifest {
            schema_version: 2,
            media_type: media_type::OCI_MANIFEST,
            attachment,
        };
        // texts and numbers are always writable
        let bytes = Bytes::from(serde_json::to_vec(&manifest).unwrap_or_default());
        let descriptor = describe(media_type::OCI_MANIFEST, &bytes);
        self.push_manifest(None, media_type::OCI_MANIFEST, bytes)
            .await?;
        Ok(descriptor)
    }
}

/// The configuration of an artifact that needs none.
#[must_use]
pub fn empty_config() -> Descriptor {
    describe(EMPTY_TYPE, EMPTY)
}

/// The digest of bytes.
#[must_use]
pub fn digest_of(bytes: &[u8]) -> Digest {
    crate::manifest::digest_of(bytes)
}

/// The digest and the length of what a reader gives.
///
/// # Errors
/// When it cannot be read.
pub fn digest_of_reader(source: &mut impl Read) -> io::Result<(Digest, u64)> {
    let (mut hash, mut size) = (Sha256::new(), 0);
    let mut buffer = vec![0; 256 << 10];
    loop {
        let count = source.read(&mut buffer)?;
        if count == 0 {
            return Ok((Digest::from_sha256(&hash.finalize().into()), size));
        }
        hash.update(&buffer[..count]);
        size += count as u64;
    }
}

/// What points to bytes.
pub(crate) fn describe(media_type: &str, bytes: &[u8]) -> Descriptor {
    Descriptor {
        media_type: media_type.to_owned(),
        digest: digest_of(bytes),
        size: bytes.len() as u64,
        platform: None,
        annotations: BTreeMap::new(),
    }
}

/// A source of bytes that are in memory.
pub(crate) fn bytes_source(bytes: Bytes) -> BlobSource {
    BlobSource::new(move |offset| {
        let mut reader = Cursor::new(bytes.clone());
        reader.set_position(offset);
        Ok(Box::new(reader) as Box<dyn Read + Send>)
    })
}
