//! What is said about an image: its software bill of materials, and how it was built.
//!
//! BuildKit puts such statements into manifests of their own, which stand in the image's index
//! beside it and point to it by annotations. A pull leaves them where they are; they are read
//! from the store if they are there, and from the registry if not.

use std::sync::Arc;

use api::image::AttestationStatement;
use api::registry::AuthConfig;
use bytes::Bytes;
use distribution::Repository;
use oci::image::{Descriptor, Index, Manifest};
use oci::{Digest, Platform, Reference};

use super::manifests::MANIFEST_MAX;
use super::remote::shown;
use super::{credentials, parse_manifest, registry_error};
use crate::engine::Engine;
use crate::error::{Error, Result, Step};

/// The type of a statement's blob.
const IN_TOTO: &str = "application/vnd.in-toto+json";
/// Says of a statement's blob what it states.
const PREDICATE: &str = "in-toto.io/predicate-type";
/// Say of an index's entry that it is about another one.
const KIND: (&str, &str) = ("vnd.docker.reference.type", "attestation-manifest");
const ABOUT: &str = "vnd.docker.reference.digest";
/// The longest statement that is read; a bill of materials of a whole distribution has some megabytes.
const STATEMENT_MAX: u64 = 16 << 20;
/// All statements of an answer together.
const ALL_MAX: u64 = 64 << 20;
/// Manifests of statements that are read for one image, and statements of each.
const MANIFESTS_MAX: usize = 16;
const STATEMENTS_MAX: usize = 64;

/// Which statements are wanted.
#[derive(Clone, Debug, Default)]
pub struct AttestationRequest {
    /// The image's name.
    pub name: String,
    /// The platform; the image's own, or the host's, when absent.
    pub platform: Option<Platform>,
    /// What they state; all when empty.
    pub predicate: String,
    /// Whether the statements themselves are wanted.
    pub statements: bool,
    /// Whether the registry is asked, not the store.
    pub remote: bool,
}

/// Where documents are read: in the store, and what is not there in a registry.
struct Shelf {
    store: Arc<storage::Store>,
    /// Nothing where the image's name leads to no registry.
    repository: Option<Repository>,
}

impl Engine {
    /// Tells the statements that stand beside an image in its index.
    ///
    /// # Errors
    /// When there is no such image, or its registry cannot be reached or refuses.
    pub async fn image_attestations(
        self: &Arc<Self>,
        request: &AttestationRequest,
        auth: Option<&AuthConfig>,
    ) -> Result<Vec<AttestationStatement>> {
        let Some((index, shelf, subject)) = self.index_of(request, auth).await? else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        let mut left = ALL_MAX;
        let entries = index.manifests.iter();
        let about = entries.filter(|entry| is_about(entry, &subject));
        for entry in about.take(MANIFESTS_MAX) {
            let Some(manifest) = shelf.manifest(entry).await? else {
                continue;
            };
            for blob in manifest.layers.iter().take(STATEMENTS_MAX) {
                if let Some(one) = shelf.statement(blob, request, &mut left).await? {
                    found.push(one);
                }
            }
        }
        Ok(found)
    }

    /// The index of an image, where its documents are, and the digest of the image's manifest.
    async fn index_of(
        self: &Arc<Self>,
        request: &AttestationRequest,
        auth: Option<&AuthConfig>,
    ) -> Result<Option<(Index, Shelf, Digest)>> {
        let store = Arc::clone(&self.store);
        let open = |reference: &Reference| {
            let credentials = auth.map(credentials);
            Some(self.registries().repository(reference, credentials))
        };
        if request.remote {
            let reference: Reference = request
                .name
                .parse()
                .map_err(|e: oci::reference::ParseReferenceError| Error::invalid(e.to_string()))?;
            let repository = open(&reference.or_latest());
            let shelf = Shelf { store, repository };
            let index = shelf.repository()?.fetch_index().await;
            let Some(index) = index.map_err(|e| registry_error(&e))? else {
                return Ok(None);
            };
            let subject = subject(&index, &request.wanted())?;
            return Ok(Some((index, shelf, subject)));
        }
        let image = self.images.for_platform(&request.name, None)?;
        let Some(digest) = image.record.index.clone() else {
            return Ok(None);
        };
        let repository = image
            .record
            .digests
            .iter()
            .find_map(|name| name.parse().ok())
            .as_ref()
            .and_then(open);
        let shelf = Shelf { store, repository };
        let bytes = shelf.read(&digest, MANIFEST_MAX).await?;
        let index: Index = serde_json::from_slice(&bytes)
            .map_err(|e| Error::internal(format!("invalid index {digest}: {e}")))?;
        let subject = match &request.platform {
            Some(platform) => subject(&index, platform)?,
            None => image.record.manifest.clone(),
        };
        Ok(Some((index, shelf, subject)))
    }
}

impl AttestationRequest {
    fn wanted(&self) -> Platform {
        self.platform.clone().unwrap_or_else(Platform::host)
    }
}

impl Shelf {
    fn repository(&self) -> Result<&Repository> {
        let none = || Error::not_found("the image has no name that leads to a registry");
        self.repository.as_ref().ok_or_else(none)
    }

    /// A document of the store.
    async fn read(&self, digest: &Digest, limit: u64) -> Result<Bytes> {
        let (store, digest) = (Arc::clone(&self.store), digest.clone());
        let read = tokio::task::spawn_blocking(move || {
            let read = store.content().read_small(&digest, limit);
            read.step(|| "read an attestation").map(Bytes::from)
        });
        let failed = |error| Error::internal(format!("a background step failed: {error}"));
        read.await.map_err(failed)?
    }

    async fn manifest(&self, entry: &Descriptor) -> Result<Option<Manifest>> {
        if self.store.content().has(&entry.digest) {
            let bytes = self.read(&entry.digest, MANIFEST_MAX).await?;
            return parse_manifest(&bytes).map(Some);
        }
        let found = self.repository()?.fetch_manifest(entry).await;
        found.map_err(|e| registry_error(&e))
    }

    /// One statement, if it is one and is wanted.
    async fn statement(
        &self,
        blob: &Descriptor,
        request: &AttestationRequest,
        left: &mut u64,
    ) -> Result<Option<AttestationStatement>> {
        let Some(predicate) = blob.annotations.get(PREDICATE) else {
            return Ok(None);
        };
        let wanted = request.predicate.is_empty() || request.predicate == *predicate;
        if blob.media_type != IN_TOTO || !wanted {
            return Ok(None);
        }
        let mut statement = None;
        if request.statements {
            *left = left.checked_sub(blob.size).ok_or_else(|| {
                Error::invalid(format!("the statements have more than {ALL_MAX} bytes"))
            })?;
            let bytes = self.small(blob).await?;
            let parsed = serde_json::from_slice(&bytes)
                .map_err(|e| Error::internal(format!("invalid statement {}: {e}", blob.digest)))?;
            statement = Some(parsed);
        }
        Ok(Some(AttestationStatement {
            descriptor: shown(blob),
            predicate_type: predicate.clone(),
            statement,
        }))
    }

    async fn small(&self, blob: &Descriptor) -> Result<Bytes> {
        if self.store.content().has(&blob.digest) {
            return self.read(&blob.digest, STATEMENT_MAX).await;
        }
        let repository = self.repository()?;
        let found = repository.fetch_small(blob, "attestation", STATEMENT_MAX);
        found.await.map_err(|e| registry_error(&e))
    }
}

/// The digest of the manifest for a platform.
fn subject(index: &Index, platform: &Platform) -> Result<Digest> {
    let entry = distribution::choose(index, platform).ok_or_else(|| {
        Error::not_found(format!(
            "no matching manifest for {platform} in the manifest list entries"
        ))
    })?;
    Ok(entry.digest.clone())
}

fn is_about(entry: &Descriptor, subject: &Digest) -> bool {
    let said = |key| entry.annotations.get(key).map(String::as_str);
    let about = said(ABOUT).and_then(|text| text.parse::<Digest>().ok());
    said(KIND.0) == Some(KIND.1) && about.is_some_and(|digest| digest == *subject)
}
