//! Images that a build has made: their layers are here already, as folders that became layers by a
//! rename, so that an image is there as soon as its documents are.

use std::sync::Arc;

use bytes::Bytes;
use oci::image::{Descriptor, ImageConfig, Manifest};
use oci::{Digest, Platform, Reference};

use super::manifests::{layer_descriptors, parse_config, platform_of};
use super::store::Lease;
use super::{Image, Layer, Record, Tables, parse_manifest};
use crate::db::Change;
use crate::engine::Engine;
use crate::error::{Error, Result, Step};

/// A layer that the engine has, or can bring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuiltLayer {
    /// The blob. That of a layer which nobody has packed is its plain tar: it has the diff id as its
    /// digest, and is made from the layer's files when somebody reads it.
    pub blob: Descriptor,
    /// Digest of the plain tar.
    pub diff_id: Digest,
    /// The layer on all below it.
    pub chain: Digest,
    /// Bytes of file content; of a layer that is not here yet, the length of its blob.
    pub size: u64,
}

/// An image for one platform.
#[derive(Clone, Debug)]
pub struct BuiltImage {
    /// The configuration; its digest is the image's id.
    pub config: Bytes,
    /// The manifest, which names the blobs of `layers`.
    pub manifest: Bytes,
    /// Lowest first; all of them in the store.
    pub layers: Vec<BuiltLayer>,
}

/// What one build gives: an image, or several for as many platforms. That for this machine gets the
/// names, or else the first; the others become its parts.
#[derive(Clone, Debug, Default)]
pub struct BuiltRelease {
    /// The images.
    pub images: Vec<BuiltImage>,
    /// The index of all of them.
    pub index: Option<Bytes>,
    /// What the index names beside the images: statements about them, and their manifests.
    pub beside: Vec<Bytes>,
    /// The names, with tags.
    pub names: Vec<Reference>,
}

/// Keeps layers and blobs from being collected for as long as it lives.
#[derive(Debug)]
pub struct ContentLease {
    _lease: Lease,
}

/// What is written down of a release.
struct Stored {
    records: Vec<Record>,
    _lease: Lease,
}

impl Engine {
    /// The store, for those who build layers in it.
    #[must_use]
    pub fn store(&self) -> &Arc<storage::Store> {
        &self.store
    }

    /// Keeps content from being collected that is here, or is about to come: blobs by their digests,
    /// layers by their chain ids.
    pub async fn keep_content(&self, digests: Vec<Digest>) -> ContentLease {
        ContentLease {
            _lease: self.images.leases.take(digests).await,
        }
    }

    /// Makes what a build has made known under its names; answers the ids of the images, that of the one
    /// with the names first.
    ///
    /// The layers have to be [kept](Self::keep_content) until it is done.
    ///
    /// # Errors
    /// When a document is none, a layer is not there, or the disk is full; nothing is changed then.
    pub async fn image_add_built(self: &Arc<Self>, release: BuiltRelease) -> Result<Vec<Digest>> {
        let names: Vec<String> = release.names.iter().map(ToString::to_string).collect();
        let shown: Vec<String> = release.names.iter().map(Reference::familiar).collect();
        let lease = self.images.leases.take(documents(&release)).await;
        let engine = Arc::clone(self);
        let stored = self
            .blocking(move || engine.put_release(&release, lease))
            .await?;
        let records = stored.records.clone();
        let ids: Vec<Digest> = records.iter().map(|one| one.id.clone()).collect();
        self.change_images(|tables| tables.add_built(records, &names))
            .await?;
        for (number, id) in ids.iter().enumerate() {
            self.image_used(id).await;
            let text = id.to_string();
            self.image_event("create", &text, &text);
            for name in shown.iter().filter(|_| number == 0) {
                self.image_event("tag", &text, name);
            }
        }
        self.images.leases.ring();
        Ok(ids)
    }

    /// Writes the documents of a release, and reads what their records say.
    fn put_release(&self, release: &BuiltRelease, lease: Lease) -> Result<Stored> {
        let images = lead_first(&release.images);
        let documents = images.iter().flat_map(|one| [&one.config, &one.manifest]);
        let documents = documents.chain(&release.index).chain(&release.beside);
        let documents: Vec<&[u8]> = documents.map(|bytes| &**bytes).collect();
        let stored = self.store.content().put_all(&documents);
        let mut stored = stored.step(|| "store the image's documents")?;
        let mut rest = stored.split_off(2 * images.len());
        let beside = rest.split_off(usize::from(release.index.is_some()));
        let index = rest.pop();
        let mut records = Vec::with_capacity(images.len());
        for (image, own) in images.into_iter().zip(stored.chunks_exact(2)) {
            let (id, manifest) = (own[0].clone(), own[1].clone());
            let config = parse_config(&id, &image.config)?;
            let layers = self.layers_of(&config, &parse_manifest(&image.manifest)?, image)?;
            records.push(Record {
                id,
                manifest,
                index: index.clone(),
                beside: beside.clone(),
                part_of: records.first().map(|lead: &Record| lead.id.clone()),
                tags: Vec::new(),
                digests: Vec::new(),
                layers,
                tagged: None,
                config,
            });
        }
        Ok(Stored {
            records,
            _lease: lease,
        })
    }

    /// The layers as a record has them, checked against the documents that name them.
    fn layers_of(
        &self,
        config: &ImageConfig,
        manifest: &Manifest,
        image: &BuiltImage,
    ) -> Result<Vec<Layer>> {
        let layers: Vec<Layer> = image.layers.iter().map(Layer::of_built).collect();
        let diff_ids = layers.iter().map(|layer| &layer.diff_id);
        if !diff_ids.eq(&config.rootfs.diff_ids) {
            return Err(Error::internal(
                "the image's configuration names other layers than were built",
            ));
        }
        layer_descriptors(manifest, &layers)?;
        let gone = layers
            .iter()
            .find(|layer| !self.store.layers().exists(&layer.chain));
        match gone {
            Some(layer) => Err(Error::internal(format!(
                "layer {} of the image is not in the store",
                layer.chain
            ))),
            None => Ok(layers),
        }
    }
}

/// The images, that for this machine before the others.
fn lead_first(images: &[BuiltImage]) -> Vec<&BuiltImage> {
    let host = Platform::host();
    let is_own = |image: &BuiltImage| {
        let config = parse_config(&storage::digest_of(&image.config), &image.config);
        config.is_ok_and(|config| host.accepts(&platform_of(&config)))
    };
    let lead = images.iter().position(is_own).unwrap_or(0);
    let mut all: Vec<&BuiltImage> = images.iter().collect();
    if let Some(first) = all.get_mut(..=lead) {
        first.rotate_right(1);
    }
    all
}

/// The digests of all documents.
fn documents(release: &BuiltRelease) -> Vec<Digest> {
    let own = release.images.iter();
    let own = own.flat_map(|image| [&image.config, &image.manifest]);
    own.chain(&release.index)
        .chain(&release.beside)
        .map(|bytes| storage::digest_of(bytes))
        .collect()
}

impl Layer {
    pub(super) fn of_built(layer: &BuiltLayer) -> Self {
        Self {
            blob: layer.blob.digest.clone(),
            blob_size: layer.blob.size,
            diff_id: layer.diff_id.clone(),
            chain: layer.chain.clone(),
            size: layer.size,
        }
    }
}

impl BuiltLayer {
    /// A layer of an image here, with its blob as the image's manifest names it.
    pub(super) fn of_record(layer: &Layer, blob: &Descriptor) -> Self {
        Self {
            blob: blob.clone(),
            diff_id: layer.diff_id.clone(),
            chain: layer.chain.clone(),
            size: layer.size,
        }
    }
}

impl Tables {
    /// Adds images, of which the first gets the names.
    fn add_built(&mut self, records: Vec<Record>, names: &[String]) -> Result<((), Vec<Change>)> {
        let mut changes = Vec::new();
        for (number, record) in records.into_iter().enumerate() {
            let id = record.id.clone();
            let known = self.by_id.get(&id).map(|known| known.record.clone());
            let record = match known {
                // what came from a registry keeps its registry's digests and packed layers
                Some(known) if record.index.is_none() => Record {
                    part_of: None,
                    ..known
                },
                _ => record,
            };
            let names = names.iter().filter(|_| number == 0);
            let new: Vec<&String> = names
                .filter(|name| self.by_name.get(*name) != Some(&id))
                .collect();
            let same = self.by_id.get(&id).is_some_and(|image| {
                let old = &image.record;
                (&old.manifest, &old.index, &old.part_of)
                    == (&record.manifest, &record.index, &record.part_of)
            });
            if same && new.is_empty() {
                continue;
            }
            if new.is_empty() {
                changes.extend(self.register(record.clone(), None, None)?.1);
            }
            for name in new {
                // the names that it has got by now are taken from the table
                let (_, more) = self.register(record.clone(), Some(name.clone()), None)?;
                changes.extend(more);
            }
        }
        Ok(((), changes))
    }
}

impl Image {
    /// The descriptors of the layers, from the image's manifest.
    pub(super) fn built_layers(&self, manifest: &Manifest) -> Result<Vec<BuiltLayer>> {
        let blobs = layer_descriptors(manifest, &self.record.layers)?;
        let layers = self.record.layers.iter().zip(&blobs);
        Ok(layers
            .map(|(layer, blob)| BuiltLayer::of_record(layer, blob))
            .collect())
    }
}
