//! Pushing what a build has made, whether the store keeps it or not.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use distribution::{BlobSource, Repository};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use oci::image::Descriptor;
use oci::{Digest, Reference};

use super::super::built::BuiltLayer;
use super::super::{Layer, RemotePlace, registry_error};
use super::{TELL, UPLOADS, is_foreign};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::image::blobs::Blobs;

/// What of a build goes to a registry.
#[derive(Clone, Debug)]
pub struct BuiltPush {
    /// Where it goes, and who pushes.
    pub place: RemotePlace,
    /// Whether it gets no tag.
    pub by_digest: bool,
    /// The layers of all images.
    pub layers: Vec<BuiltLayer>,
    /// Other blobs, such as configurations.
    pub blobs: Vec<Bytes>,
    /// Manifests by their media types, each after those that it names; the last gets the tag.
    pub manifests: Vec<(String, Bytes)>,
}

/// Who is told how far a push is: of a blob, how many bytes were sent, and whether it is there.
pub type PushTold<'a> = &'a (dyn Fn(&Descriptor, u64, bool) + Send + Sync);

impl Engine {
    /// Pushes what a build has made; answers the digest that the registry has it by.
    ///
    /// # Errors
    /// When the registry cannot be reached or refuses, or a layer cannot be read.
    pub async fn image_push_built(
        self: &Arc<Self>,
        push: &BuiltPush,
        told: PushTold<'_>,
    ) -> Result<Digest> {
        let place = RemotePlace {
            reference: push.place.reference.clone().or_latest(),
            ..push.place.clone()
        };
        let (reference, repository) = (&place.reference, self.remote(&place));
        let mut seen = HashSet::new();
        let layers = push.layers.iter();
        let layers = layers.filter(|layer| seen.insert(&layer.blob.digest));
        let mut uploads = Vec::new();
        for layer in layers.filter(|layer| !is_foreign(&layer.blob)) {
            uploads.push(self.push_built_layer(layer, reference, &repository, told));
        }
        stream::iter(uploads)
            .buffer_unordered(UPLOADS)
            .try_collect::<()>()
            .await?;
        for bytes in &push.blobs {
            push_small(bytes, &repository).await?;
        }
        let (last, below) = push
            .manifests
            .split_last()
            .ok_or_else(|| Error::internal("a push has nothing to push"))?;
        for (kind, bytes) in below {
            let pushed = repository.push_manifest(None, kind, bytes.clone()).await;
            pushed.map_err(|e| registry_error(&e))?;
        }
        let tag = reference.tag().filter(|_| !push.by_digest);
        let (kind, bytes) = last;
        let pushed = repository.push_manifest(tag, kind, bytes.clone()).await;
        pushed.map_err(|e| registry_error(&e))
    }

    /// Notes that a registry has an image by a digest, if the image is here.
    ///
    /// # Errors
    /// When it cannot be written down.
    pub async fn image_pushed(
        self: &Arc<Self>,
        id: &Digest,
        reference: &Reference,
        digest: &Digest,
    ) -> Result<()> {
        if let Some(image) = self.images.by_id(id) {
            let name = reference.with_digest(digest.clone());
            self.register_image(image.record.clone(), None, Some(&name))
                .await?;
            let shown = reference.familiar();
            self.image_event("push", &shown, &reference.familiar_name());
        }
        Ok(())
    }

    async fn push_built_layer(
        self: &Arc<Self>,
        layer: &BuiltLayer,
        reference: &Reference,
        repository: &Repository,
        told: PushTold<'_>,
    ) -> Result<()> {
        let blob = &layer.blob;
        let own = Layer::of_built(layer);
        let source = self.source(std::slice::from_ref(&own), &blob.digest);
        let elsewhere = self.repositories_with(&blob.digest, reference);
        let mut push = std::pin::pin!(repository.push_blob(blob, &elsewhere, &source));
        told(blob, 0, false);
        loop {
            tokio::select! {
                sent = &mut push => {
                    sent.map_err(|e| registry_error(&e))?;
                    told(blob, blob.size, true);
                    return Ok(());
                }
                () = tokio::time::sleep(TELL) => told(blob, source.sent(), false),
            }
        }
    }
}

/// Sends a blob that is in memory.
async fn push_small(bytes: &Bytes, repository: &Repository) -> Result<()> {
    let digest = storage::digest_of(bytes);
    let blob = super::super::manifests::descriptor(
        "application/octet-stream",
        &digest,
        bytes.len() as u64,
    );
    let bytes = bytes.clone();
    let source = BlobSource::new(move |offset| {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = bytes.slice(offset.min(bytes.len())..);
        Ok(Box::new(std::io::Cursor::new(rest)) as Box<dyn std::io::Read + Send>)
    });
    let sent = repository.push_blob(&blob, &[], &source).await;
    sent.map(drop).map_err(|e| registry_error(&e))
}

impl Engine {
    /// Opens a blob of a layer, which is made from the layer's files where the store has none.
    ///
    /// # Errors
    /// When the layer is gone.
    pub fn open_built(&self, layer: &BuiltLayer) -> Result<Box<dyn std::io::Read + Send>> {
        let own = Layer::of_built(layer);
        let blobs = Blobs::of(&self.store, std::iter::once(&own));
        let digest = &layer.blob.digest;
        let opened = blobs.open(digest, 0);
        opened.map_err(|error| Error::system(format!("open layer {digest}"), &error))
    }
}
