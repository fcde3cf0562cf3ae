//! From a reference to the manifest for a platform.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, StatusCode};
use oci::image::{Descriptor, Manifest};
use oci::{Digest, Platform};

use crate::answer::Answer;
use crate::call::accept;
use crate::client::Repository;
use crate::error::RegistryError;
use crate::manifest::{
    ACCEPTED, CONFIG_MAX, Document, DocumentError, MANIFEST_MAX, choose, digest_of, media_type_of,
};

/// How deep an index may name other indexes.
const NESTING_MAX: usize = 3;

/// What a reference means on a platform.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The index that the reference names, if it names one; its digest is the image's digest.
    pub index: Option<(Descriptor, Bytes)>,
    /// Where the manifest is.
    pub manifest_descriptor: Descriptor,
    /// The manifest as the registry has it.
    pub manifest_bytes: Bytes,
    /// The manifest.
    pub manifest: Manifest,
    /// Where configuration and layers come from.
    pub repository: Repository,
}

impl Resolved {
    /// The digest that the reference names: the index's where there is one.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        let index = self.index.as_ref().map(|(descriptor, _)| descriptor);
        &index.unwrap_or(&self.manifest_descriptor).digest
    }
}

/// A verified document.
pub(crate) struct Fetched {
    pub(crate) descriptor: Descriptor,
    pub(crate) bytes: Bytes,
    pub(crate) document: Document,
}

impl Repository {
    /// Finds the manifest for a platform.
    ///
    /// # Errors
    /// When the registry cannot be reached, refuses, has no such image, or sends what is none.
    pub async fn resolve(&self, platform: &Platform) -> Result<Resolved, RegistryError> {
        let mut fetched = self.fetch_named().await?;
        let mut index = None;
        for _ in 0..=NESTING_MAX {
            let list = match fetched.document {
                Document::Manifest(manifest) => {
                    return Ok(Resolved {
                        index,
                        manifest_descriptor: fetched.descriptor,
                        manifest_bytes: fetched.bytes,
                        manifest,
                        repository: self.clone(),
                    });
                }
                Document::Index(list) => list,
            };
            let entry = choose(&list, platform).ok_or_else(|| RegistryError::NoPlatform {
                platform: platform.clone(),
            })?;
            index = index.or(Some((fetched.descriptor, fetched.bytes)));
            fetched = self.fetch_entry(entry).await?;
        }
        let limit = NESTING_MAX;
        Err(self.unusable(DocumentError::Nested { limit }))
    }

    /// The descriptor of what the reference names, without its content. `None` where the registry
    /// does not tell a digest.
    ///
    /// # Errors
    /// When the registry cannot be reached, refuses, or has no such image.
    pub async fn head_manifest(&self) -> Result<Option<Descriptor>, RegistryError> {
        let path = self.manifest_path();
        let answer = self.call(Method::HEAD, &path, accept(&ACCEPTED)).await?;
        if answer.status != StatusCode::OK {
            return Err(self.manifest_refusal(answer).await);
        }
        let Some(digest) = self.told_digest(&answer)? else {
            return Ok(None);
        };
        let media_type = answer.header(CONTENT_TYPE.as_str()).unwrap_or_default();
        let media_type = media_type.split(';').next().unwrap_or_default().trim();
        Ok(answer.length().map(|size| Descriptor {
            media_type: media_type.to_owned(),
            digest,
            size,
            platform: None,
            annotations: std::collections::BTreeMap::new(),
        }))
    }

    /// Reads an image configuration.
    ///
    /// # Errors
    /// When it is too large, cannot be read, or has another digest.
    pub async fn fetch_config(&self, config: &Descriptor) -> Result<Bytes, RegistryError> {
        if config.size > CONFIG_MAX {
            return Err(RegistryError::ConfigTooLarge {
                digest: config.digest.clone(),
                size: config.size,
                limit: CONFIG_MAX,
            });
        }
        let mut stream = self.open_blob(config, "image config").await?;
        let mut all = bytes::BytesMut::new();
        while let Some(chunk) = stream.chunk().await? {
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }

    /// Reads what the reference names, an index or a manifest.
    pub(crate) async fn fetch_named(&self) -> Result<Fetched, RegistryError> {
        let path = self.manifest_path();
        let answer = self.call(Method::GET, &path, accept(&ACCEPTED)).await?;
        if answer.status != StatusCode::OK {
            return Err(self.manifest_refusal(answer).await);
        }
        let told = self.told_digest(&answer)?;
        let media_type = answer.header(CONTENT_TYPE.as_str()).map(str::to_owned);
        let bytes = answer.bytes("manifest", MANIFEST_MAX).await?;
        let expected = self.reference.digest().or(told.as_ref());
        self.verified(bytes, expected, media_type.as_deref())
    }

    pub(crate) async fn fetch_entry(&self, entry: &Descriptor) -> Result<Fetched, RegistryError> {
        let path = format!("manifests/{}", entry.digest);
        let headers = accept(&[&entry.media_type]);
        let answer = self.call(Method::GET, &path, headers).await?;
        if answer.status != StatusCode::OK {
            return Err(self.manifest_refusal(answer).await);
        }
        let bytes = answer.bytes("manifest", MANIFEST_MAX).await?;
        let fetched = self.verified(bytes, Some(&entry.digest), Some(&entry.media_type))?;
        if fetched.descriptor.size != entry.size {
            return Err(self.unusable(DocumentError::Length {
                digest: entry.digest.clone(),
                expected: entry.size,
                actual: fetched.descriptor.size,
            }));
        }
        Ok(Fetched {
            descriptor: entry.clone(),
            ..fetched
        })
    }

    fn verified(
        &self,
        bytes: Bytes,
        expected: Option<&Digest>,
        media_type: Option<&str>,
    ) -> Result<Fetched, RegistryError> {
        let actual = digest_of(&bytes);
        if let Some(expected) = expected.filter(|expected| **expected != actual) {
            return Err(RegistryError::DigestMismatch {
                what: "manifest",
                expected: expected.clone(),
                actual,
            });
        }
        let document = Document::parse(&bytes, media_type).map_err(|e| self.unusable(e))?;
        let descriptor = Descriptor {
            media_type: media_type_of(&document),
            digest: actual,
            size: bytes.len() as u64,
            platform: None,
            annotations: std::collections::BTreeMap::new(),
        };
        Ok(Fetched {
            descriptor,
            bytes,
            document,
        })
    }

    /// The digest that the registry tells. Digests of other algorithms cannot be checked and say
    /// nothing.
    fn told_digest(&self, answer: &Answer) -> Result<Option<Digest>, RegistryError> {
        use oci::digest::ParseDigestError;
        let Some(text) = answer.header("docker-content-digest") else {
            return Ok(None);
        };
        match text.parse() {
            Ok(digest) => Ok(Some(digest)),
            Err(ParseDigestError::Algorithm { .. }) => Ok(None),
            Err(error) => Err(self.unusable(DocumentError::DigestHeader(error))),
        }
    }

    fn manifest_path(&self) -> String {
        let reference = self.reference.clone().or_latest();
        match (reference.digest(), reference.tag()) {
            (Some(digest), _) => format!("manifests/{digest}"),
            (None, tag) => format!("manifests/{}", tag.unwrap_or_default()),
        }
    }

    pub(crate) fn unusable(&self, source: DocumentError) -> RegistryError {
        RegistryError::Document {
            reference: self.reference.familiar(),
            source,
        }
    }

    async fn manifest_refusal(&self, answer: Answer) -> RegistryError {
        self.refusal(answer, |repository, complaint| {
            if complaint.code == "NAME_UNKNOWN" {
                return repository.unknown_repository(complaint);
            }
            RegistryError::ManifestUnknown {
                reference: repository.reference.clone().or_latest().familiar(),
                detail: complaint.text_or("manifest unknown: manifest unknown"),
            }
        })
        .await
    }
}
