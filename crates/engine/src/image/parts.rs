//! Images of several platforms: one that the names lead to, and the others, which go with it.
//!
//! A build for several platforms gives an image for each. The names belong to the one for this machine;
//! the others are its parts: they are found by its name and their platform, are not listed beside it, and
//! go when it goes. A part that gets a name of its own is an image like all.

use std::sync::Arc;

use oci::image::{Descriptor, media_type};
use oci::{Digest, Platform};
use storage::BlobStore;

use super::manifests::{MANIFEST_MAX, descriptor, parse_index};
use super::{Image, Images, Tables, parse_manifest};
use crate::engine::Engine;
use crate::error::{Result, Step};

impl Image {
    fn has_name(&self) -> bool {
        !self.record.tags.is_empty() || !self.record.digests.is_empty()
    }

    /// Whether it is for another platform, from the same index that this one is from.
    fn is_beside(&self, other: &Self) -> bool {
        let (own, index) = (&self.record, &other.record.index);
        index.is_some()
            && own.index == *index
            && (own.part_of.is_some() || other.record.part_of.is_some())
    }
}

impl Tables {
    /// The image that a part goes with; none for what is no part.
    fn lead(&self, image: &Image) -> Option<&Arc<Image>> {
        let lead = image.record.part_of.as_ref()?;
        self.by_id.get(lead).filter(|_| !image.has_name())
    }

    /// What goes with an image.
    pub(super) fn parts(&self, id: &Digest) -> Vec<Arc<Image>> {
        let all = self.by_id.values();
        let parts = all.filter(|part| self.lead(part).is_some_and(|lead| lead.id == *id));
        parts.cloned().collect()
    }

    /// The image that an index or a manifest has brought here.
    pub(super) fn by_document(&self, digest: &Digest) -> Option<Arc<Image>> {
        let of_index = |image: &&Arc<Image>| {
            image.record.index.as_ref() == Some(digest) && image.record.part_of.is_none()
        };
        let of_manifest = |image: &&Arc<Image>| image.record.manifest == *digest;
        let all = || self.by_id.values();
        let found = all().find(of_index).or_else(|| all().find(of_manifest));
        found.cloned()
    }
}

impl Images {
    /// The images that stand for themselves: no parts.
    pub(crate) fn listed(&self) -> Vec<Arc<Image>> {
        let tables = self.read();
        let all = tables.by_id.values();
        let own = all.filter(|image| tables.lead(image).is_none());
        own.cloned().collect()
    }

    /// What goes with an image.
    pub(super) fn parts(&self, id: &Digest) -> Vec<Arc<Image>> {
        self.read().parts(id)
    }

    /// The image that stands for another one: itself, where that is no part.
    pub(super) fn lead(&self, id: &Digest) -> Digest {
        let tables = self.read();
        let image = tables.by_id.get(id);
        let lead = image.and_then(|image| tables.lead(image));
        lead.map_or_else(|| id.clone(), |lead| lead.id.clone())
    }

    /// The image for another platform that came here with one.
    pub(super) fn beside(&self, image: &Image, wanted: &Platform) -> Option<Arc<Image>> {
        let all = self.all().into_iter();
        all.filter(|other| other.is_beside(image))
            .find(|other| wanted.accepts(&other.platform()))
    }

    /// The image that has a manifest.
    pub(super) fn with_manifest(&self, manifest: &Digest) -> Option<Arc<Image>> {
        let mut all = self.all().into_iter();
        all.find(|image| image.record.manifest == *manifest)
    }
}

/// An index of which everything is here.
#[derive(Clone, Debug)]
pub(super) struct Whole {
    /// What names the index.
    pub(super) descriptor: Descriptor,
    /// The images for other platforms.
    pub(super) others: Vec<Arc<Image>>,
    /// What it names beside images: manifests of statements, and what those name.
    pub(super) beside: Vec<Digest>,
}

impl Engine {
    /// The index of an image that came here with all that it names: from a build, or out of an archive.
    pub(super) fn whole_index(&self, image: &Image) -> Result<Option<Whole>> {
        let record = &image.record;
        let Some(digest) = &record.index else {
            return Ok(None);
        };
        let content = self.store.content();
        let bytes = content
            .read_small(digest, MANIFEST_MAX)
            .step(|| format!("read the index of image {}", image.id.short()))?;
        let index = parse_index(&bytes)?;
        let kind = index.media_type.as_deref().unwrap_or(media_type::OCI_INDEX);
        let mut whole = Whole {
            descriptor: descriptor(kind, digest, bytes.len() as u64),
            others: Vec::new(),
            beside: Vec::new(),
        };
        for entry in &index.manifests {
            if entry.digest == record.manifest {
                continue;
            }
            if let Some(other) = self.images.with_manifest(&entry.digest) {
                whole.others.push(other);
                continue;
            }
            match here(content, &entry.digest) {
                Some(documents) => whole.beside.extend(documents),
                None => return Ok(None),
            }
        }
        let is_more = !whole.others.is_empty() || !whole.beside.is_empty();
        Ok(is_more.then_some(whole))
    }
}

/// A manifest and what it names, if all of it is in the store.
pub(super) fn here(content: &BlobStore, manifest: &Digest) -> Option<Vec<Digest>> {
    let bytes = content.read_small(manifest, MANIFEST_MAX).ok()?;
    let parsed = parse_manifest(&bytes).ok()?;
    let blobs = std::iter::once(parsed.config).chain(parsed.layers);
    let mut all = vec![manifest.clone()];
    for blob in blobs {
        if !content.has(&blob.digest) {
            return None;
        }
        all.push(blob.digest);
    }
    Some(all)
}
