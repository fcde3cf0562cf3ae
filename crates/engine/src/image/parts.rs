//! Images of several platforms: one that the names lead to, and the others, which go with it.
//!
//! A build for several platforms gives an image for each. The names belong to the one for this machine;
//! the others are its parts: they are found by its name and their platform, are not listed beside it, and
//! go when it goes. A part that gets a name of its own is an image like all.

use std::sync::Arc;

use oci::{Digest, Platform};

use super::{Image, Images, Tables};

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
