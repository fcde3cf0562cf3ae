//! What a push brings: one manifest, or an index with all that it names.

use std::sync::Arc;

use distribution::Repository;
use oci::image::{Descriptor, Manifest, media_type};
use oci::{Digest, Platform, Reference};

use super::super::manifests::{MANIFEST_MAX, descriptor, parse_index};
use super::super::{Image, credentials};
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
            match self.with_manifest(&entry.digest) {
                Some(other) => images.push(other),
                None => copies.push(entry),
            }
        }
        for entry in &copies {
            if !brought(entry, repository, &sources).await {
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

    fn with_manifest(&self, manifest: &Digest) -> Option<Arc<Image>> {
        let mut all = self.images.all().into_iter();
        all.find(|image| image.record.manifest == *manifest)
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

/// Whether a manifest is in the repository, or has been brought there from another one of the registry.
async fn brought(entry: &Descriptor, target: &Repository, sources: &[Repository]) -> bool {
    match target.has_manifest(&entry.digest).await {
        Ok(true) => return true,
        Ok(false) => {}
        Err(error) => tracing::debug!(%error, "a registry does not tell whether it has a manifest"),
    }
    for source in sources {
        match copy(entry, target, source).await {
            Ok(true) => return true,
            Ok(false) => {}
            Err(error) => {
                tracing::debug!(digest = %entry.digest, %error, "a manifest is not brought along");
            }
        }
    }
    false
}

/// Mounts what a manifest names and pushes it. An index in an index is left.
async fn copy(
    entry: &Descriptor,
    target: &Repository,
    source: &Repository,
) -> std::result::Result<bool, distribution::RegistryError> {
    let document = source.document_of(&entry.digest).await?;
    let manifest: Manifest = match serde_json::from_slice(&document.bytes) {
        Ok(manifest) if !document.is_index => manifest,
        _ => return Ok(false),
    };
    for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
        if !target.mount_blob(blob, source.path()).await? {
            return Ok(false);
        }
    }
    let kind = &document.descriptor.media_type;
    target.push_manifest(None, kind, document.bytes).await?;
    Ok(true)
}
