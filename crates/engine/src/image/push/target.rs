//! What a push brings: one manifest, or an index with all that it names.

use std::pin::Pin;
use std::sync::Arc;

use distribution::{RegistryError, Repository};
use oci::image::{Descriptor, Manifest, media_type};
use oci::{Digest, Platform, Reference};

use super::super::manifests::{MANIFEST_MAX, descriptor, parse_index};
use super::super::{Image, credentials, parse_manifest, registry_error};
use crate::engine::Engine;
use crate::error::{Result, Step};
use api::registry::AuthConfig;

/// What a tag will name in the registry.
pub(super) struct Target {
    /// The images whose content is sent; the first is the tag's own.
    pub(super) images: Vec<Arc<Image>>,
    /// The index that gets the tag; without one the first image's manifest does.
    pub(super) index: Option<WholeIndex>,
    /// The index in whose place the manifest is pushed, because not all of it can be.
    pub(super) instead_of: Option<Descriptor>,
}

/// An index of which everything is here or in the registry.
pub(super) struct WholeIndex {
    pub(super) bytes: Vec<u8>,
    pub(super) descriptor: Descriptor,
}

impl Target {
    pub(super) fn one(image: Arc<Image>) -> Self {
        Self {
            images: vec![image],
            index: None,
            instead_of: None,
        }
    }
}

impl Engine {
    /// The image of a tag for a platform: the tag's own, or another of the same index.
    pub(super) fn image_for_push(
        &self,
        image: Arc<Image>,
        tag: &str,
        wanted: Option<&Platform>,
    ) -> Result<Arc<Image>> {
        let Some(wanted) = wanted.filter(|wanted| !wanted.accepts(&image.platform())) else {
            return Ok(image);
        };
        let siblings = self.images.all().into_iter();
        let index = image.record.index.as_ref();
        let found = siblings
            .filter(|other| index.is_some() && other.record.index.as_ref() == index)
            .find(|other| wanted.accepts(&other.platform()));
        match found {
            Some(found) => Ok(found),
            // says which platform the image has
            None => self.images.for_platform(tag, Some(wanted)),
        }
    }

    /// What a push of an image to a tag brings there. Without a platform an image of an index goes
    /// with that, if all that it names is here, is there, or can be mounted from beside there.
    pub(super) async fn target(
        self: &Arc<Self>,
        image: Arc<Image>,
        tag: &Reference,
        repository: &Repository,
        auth: Option<&AuthConfig>,
    ) -> Result<Target> {
        let Some(digest) = image.record.index.clone() else {
            return Ok(Target::one(image));
        };
        let content = self.store.content().clone();
        let (wanted, short) = (digest.clone(), image.id.short().to_owned());
        let bytes = self
            .blocking(move || {
                content
                    .read_small(&wanted, MANIFEST_MAX)
                    .step(|| format!("read the index of image {short}"))
            })
            .await?;
        let index = parse_index(&bytes)?;
        let kind = index.media_type.as_deref().unwrap_or(media_type::OCI_INDEX);
        let pointer = descriptor(kind, &digest, bytes.len() as u64);
        let sources = self.beside(&image, &digest, tag, auth);
        let (mut images, mut copies) = (vec![Arc::clone(&image)], Vec::new());
        for entry in index.manifests {
            if entry.digest == image.record.manifest {
                continue;
            }
            match self.images.with_manifest(&entry.digest) {
                Some(other) => images.push(other),
                None => copies.push(entry),
            }
        }
        for entry in &copies {
            let own = self.brought_from_here(entry, repository).await?;
            if !own && !brought(entry, repository, &sources).await {
                return Ok(Target {
                    instead_of: Some(pointer),
                    ..Target::one(image)
                });
            }
        }
        Ok(Target {
            images,
            index: Some(WholeIndex {
                bytes,
                descriptor: pointer,
            }),
            instead_of: None,
        })
    }

    /// Brings a manifest whose documents are all here and that is of no image, such as one of statements.
    async fn brought_from_here(
        self: &Arc<Self>,
        entry: &Descriptor,
        repository: &Repository,
    ) -> Result<bool> {
        let (content, digest) = (self.store.content().clone(), entry.digest.clone());
        let read = move || {
            if !content.has(&digest) {
                return Ok(None);
            }
            let bytes = content.read_small(&digest, MANIFEST_MAX);
            let bytes = bytes.step(|| format!("read manifest {digest}"))?;
            let Ok(manifest) = parse_manifest(&bytes) else {
                return Ok(None);
            };
            let blobs = std::iter::once(manifest.config).chain(manifest.layers);
            let blobs: Vec<Descriptor> = blobs.collect();
            let whole = blobs.iter().all(|blob| content.has(&blob.digest));
            Ok(whole.then_some((bytes, blobs)))
        };
        let Some((bytes, blobs)) = self.blocking(read).await? else {
            return Ok(false);
        };
        for blob in &blobs {
            let source = self.source(&[], &blob.digest);
            let pushed = repository.push_blob(blob, &[], &source).await;
            pushed.map_err(|e| registry_error(&e))?;
        }
        let pushed = repository.push_manifest(None, &entry.media_type, bytes.into());
        pushed.await.map_err(|e| registry_error(&e))?;
        Ok(true)
    }

    /// Other repositories of a registry that have the index, by what the image is known as.
    fn beside(
        &self,
        image: &Image,
        index: &Digest,
        tag: &Reference,
        auth: Option<&AuthConfig>,
    ) -> Vec<Repository> {
        let names = image.record.digests.iter();
        names
            .filter_map(|name| name.parse::<Reference>().ok())
            .filter(|name| name.digest() == Some(index))
            .filter(|name| name.domain() == tag.domain() && name.path() != tag.path())
            .map(|name| self.registries().repository(&name, auth.map(credentials)))
            .collect()
    }
}

/// Whether a manifest or an index is in the repository, or has been brought there from another one of the
/// registry.
async fn brought(entry: &Descriptor, target: &Repository, sources: &[Repository]) -> bool {
    match target.has_manifest(&entry.digest).await {
        Ok(true) => return true,
        Ok(false) => {}
        Err(error) => tracing::debug!(%error, "a registry does not tell whether it has a manifest"),
    }
    for source in sources {
        let mut copying = Copying {
            target,
            source,
            documents: DOCUMENTS_MAX,
        };
        match copying.copy(&entry.digest, 1).await {
            Ok(true) => return true,
            Ok(false) => {}
            Err(error) => {
                tracing::debug!(digest = %entry.digest, %error, "a manifest is not brought along");
            }
        }
    }
    false
}

/// What a document brings along may be so deep: an index in an index in an index.
const DEPTH_MAX: usize = 3;
/// And so many documents in all.
const DOCUMENTS_MAX: usize = 500;

/// What is still brought along from one repository to another.
struct Copying<'a> {
    target: &'a Repository,
    source: &'a Repository,
    documents: usize,
}

type Copied<'a> =
    Pin<Box<dyn Future<Output = std::result::Result<bool, RegistryError>> + Send + 'a>>;

impl Copying<'_> {
    /// Mounts what a document names and pushes it; of an index, first the documents that it names. False
    /// where not all of it can be had.
    fn copy<'a>(&'a mut self, digest: &'a Digest, depth: usize) -> Copied<'a> {
        Box::pin(async move {
            if depth > DEPTH_MAX || self.documents == 0 {
                return Ok(false);
            }
            self.documents -= 1;
            let document = self.source.document_of(digest).await?;
            let whole = if document.is_index {
                self.entries(&document.bytes, depth).await?
            } else {
                self.blobs(&document.bytes).await?
            };
            if whole {
                let kind = &document.descriptor.media_type;
                self.target
                    .push_manifest(None, kind, document.bytes)
                    .await?;
            }
            Ok(whole)
        })
    }

    async fn entries(
        &mut self,
        index: &[u8],
        depth: usize,
    ) -> std::result::Result<bool, RegistryError> {
        let Ok(index) = parse_index(index) else {
            return Ok(false);
        };
        for entry in &index.manifests {
            let there = self.target.has_manifest(&entry.digest).await?;
            if !there && !self.copy(&entry.digest, depth + 1).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn blobs(&self, manifest: &[u8]) -> std::result::Result<bool, RegistryError> {
        let Ok(manifest) = serde_json::from_slice::<Manifest>(manifest) else {
            return Ok(false);
        };
        for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
            if !self.target.mount_blob(blob, self.source.path()).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
