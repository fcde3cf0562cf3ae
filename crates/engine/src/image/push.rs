//! Pushing images: the layers that the registry lacks, several at a time, the configuration, and
//! the manifest.
//!
//! What came from a registry goes to a registry as it is: manifest and packed layers keep their
//! digests. Layers that were made here as plain tars are packed before the first push, and are kept
//! packed from then on, so the image has in every registry the digest that it has here.

use std::io::{Read, Seek as _, SeekFrom};
use std::sync::Arc;
use std::time::Duration;

use api::image::{Progress, ProgressDetail, PushResult};
use api::registry::AuthConfig;
use bytes::Bytes;
use distribution::{BlobSource, Repository, Sent};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use oci::image::{Descriptor, media_type};
use oci::{Digest, Platform, Reference};

use super::manifests::{Stored, is_foreign, is_plain, layer_descriptors};
use super::pull::{ProgressSender, tell};
use super::store::Lease;
use super::{Image, Layer, Record, credentials, registry_error};
use crate::engine::Engine;
use crate::error::{Error, Kind, Result, Step};

/// Layers that are sent at the same time, as Docker's `max-concurrent-uploads`.
const UPLOADS: usize = 5;
/// Other repositories of the registry that are asked for a layer.
const MOUNTS: usize = 3;
/// How often a layer's progress is told.
const TELL: Duration = Duration::from_millis(100);

/// What to push; made by [`PushRequest::new`], so that a wrong one is refused before the stream.
#[derive(Clone, Debug)]
pub struct PushRequest {
    /// With a tag, or without for all tags.
    reference: Reference,
    platform: Option<Platform>,
}

impl PushRequest {
    /// Reads a name, a tag beside it, and the platform that the image has to be for.
    ///
    /// # Errors
    /// When name or tag are none, or the name has a digest.
    pub fn new(name: &str, tag: &str, platform: Option<Platform>) -> Result<Self> {
        let reference: Reference = name
            .parse()
            .map_err(|e: oci::reference::ParseReferenceError| Error::invalid(e.to_string()))?;
        if reference.digest().is_some() {
            return Err(Error::invalid("cannot push a digest reference"));
        }
        let reference = if tag.is_empty() {
            reference
        } else {
            reference
                .with_tag(tag)
                .map_err(|_| Error::invalid("invalid tag format"))?
        };
        Ok(Self {
            reference,
            platform,
        })
    }
}

/// An image in the form in which it goes to a registry.
struct Ready {
    image: Arc<Image>,
    manifest: Stored,
    layers: Vec<Descriptor>,
    /// Whether its plain layers were packed for this push.
    packed: bool,
    _lease: Lease,
}

impl Engine {
    /// Checks what can be told before a push's stream begins.
    ///
    /// # Errors
    /// When the image is for another platform.
    pub fn image_push_check(&self, request: &PushRequest) -> Result<()> {
        let tagged = request.reference.clone().or_latest().familiar();
        if self.images.get(&tagged, None).is_ok() {
            self.images
                .for_platform(&tagged, request.platform.as_ref())?;
        }
        Ok(())
    }

    /// Pushes a tag, or all tags of a repository.
    ///
    /// # Errors
    /// When there is no such image, or the registry cannot be reached or refuses.
    pub async fn image_push(
        self: &Arc<Self>,
        request: &PushRequest,
        auth: Option<&AuthConfig>,
        progress: &ProgressSender,
    ) -> Result<()> {
        let reference = &request.reference;
        let text = format!("The push refers to repository [{}]", reference.name());
        tell(progress, Progress::status(text)).await?;
        let images = self.tagged(reference)?;
        for (image, tag) in images {
            let repository = self.registries().repository(&tag, auth.map(credentials));
            tokio::select! {
                result = self.push_tag(image, &tag, &repository, progress) => result?,
                () = progress.closed() => {
                    return Err(Error::new(Kind::System, "push cancelled: the client has gone"));
                }
            }
        }
        Ok(())
    }

    /// The images that a reference means, each with its tag.
    fn tagged(&self, reference: &Reference) -> Result<Vec<(Arc<Image>, Reference)>> {
        let name = reference.familiar_name();
        let repository: Option<Vec<_>> = self.all_tags(&name);
        let Some(all) = repository else {
            return Err(Error::not_found(format!(
                "An image does not exist locally with the tag: {name}"
            )));
        };
        if reference.tag().is_none() {
            return Ok(all);
        }
        let one = all.into_iter().find(|(_, tag)| tag == reference);
        let missing = || {
            let text = format!("tag does not exist: {}", reference.familiar());
            Error::not_found(text)
        };
        one.map(|one| vec![one]).ok_or_else(missing)
    }

    async fn push_tag(
        self: &Arc<Self>,
        image: Arc<Image>,
        tag: &Reference,
        repository: &Repository,
        progress: &ProgressSender,
    ) -> Result<()> {
        for layer in image.record.layers.iter().rev() {
            tell(progress, Progress::of(layer.diff_id.short(), "Preparing")).await?;
        }
        let ready = self.ready(image, progress).await?;
        self.push_layers(&ready, tag, repository, progress).await?;
        let config = &ready.manifest.manifest.config;
        let source = self.source(&config.digest);
        repository
            .push_blob(config, &[], &source)
            .await
            .map_err(|e| registry_error(&e))?;
        let bytes = Bytes::from(ready.manifest.bytes.clone());
        let size = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
        let name = tag.tag().unwrap_or_default();
        let digest = repository
            .push_manifest(Some(name), ready.manifest.media_type(), bytes)
            .await
            .map_err(|e| registry_error(&e))?;
        let by_digest = tag.with_digest(digest.clone());
        // nothing but a name is added: who has removed the image meanwhile does not get it back
        if let Some(current) = self.images.by_id(&ready.image.id) {
            self.register_image(current.record.clone(), None, Some(&by_digest))
                .await?;
        }
        let text = format!("{name}: digest: {digest} size: {size}");
        tell(progress, Progress::status(text)).await?;
        tell(progress, aux(name, &digest, size)?).await?;
        self.image_event("push", &tag.familiar(), &tag.familiar_name());
        let packed = ready.packed;
        drop(ready);
        if packed {
            // the plain tars are needed no more, unless another image has them
            self.collect().await;
        }
        Ok(())
    }

    /// Sends the layers, topmost first as Docker shows them; a blob that is there twice goes once.
    async fn push_layers(
        self: &Arc<Self>,
        ready: &Ready,
        tag: &Reference,
        repository: &Repository,
        progress: &ProgressSender,
    ) -> Result<()> {
        let mut seen = std::collections::HashSet::new();
        let layers: Vec<(&Layer, &Descriptor)> = ready
            .image
            .record
            .layers
            .iter()
            .zip(&ready.layers)
            .collect();
        let (first, again): (Vec<_>, Vec<_>) = layers
            .into_iter()
            .rev()
            .partition(|(_, descriptor)| seen.insert(&descriptor.digest));
        let mut pushes = Vec::with_capacity(first.len());
        for (layer, descriptor) in first {
            pushes.push(self.push_layer(layer, descriptor, tag, repository, progress));
        }
        stream::iter(pushes)
            .buffer_unordered(UPLOADS)
            .try_collect::<()>()
            .await?;
        for (layer, _) in again {
            let text = "Layer already exists";
            tell(progress, Progress::of(layer.diff_id.short(), text)).await?;
        }
        Ok(())
    }

    async fn push_layer(
        self: &Arc<Self>,
        layer: &Layer,
        blob: &Descriptor,
        tag: &Reference,
        repository: &Repository,
        progress: &ProgressSender,
    ) -> Result<()> {
        let id = layer.diff_id.short();
        if is_foreign(blob) {
            return tell(progress, Progress::of(id, "Skipped foreign layer")).await;
        }
        let source = self.source(&blob.digest);
        let elsewhere = self.repositories_with(&blob.digest, tag);
        let mut push = std::pin::pin!(repository.push_blob(blob, &elsewhere, &source));
        let sent = loop {
            tokio::select! {
                sent = &mut push => break sent.map_err(|e| registry_error(&e))?,
                () = tokio::time::sleep(TELL) => {
                    if source.sent() > 0 {
                        tell(progress, pushing(id, source.sent(), blob.size)).await?;
                    }
                }
            }
        };
        let text = match sent {
            Sent::Existed => "Layer already exists".to_owned(),
            Sent::Mounted { from } => format!("Mounted from {from}"),
            Sent::Uploaded => "Pushed".to_owned(),
        };
        tell(progress, Progress::of(id, text)).await
    }

    /// Where a push reads a blob.
    fn source(&self, digest: &Digest) -> BlobSource {
        let (content, digest) = (self.store.content().clone(), digest.clone());
        BlobSource::new(move |offset| {
            let mut file = content.open(&digest).map_err(std::io::Error::other)?;
            file.seek(SeekFrom::Start(offset))?;
            Ok(Box::new(file) as Box<dyn Read + Send>)
        })
    }

    /// Other repositories of a registry that had a blob when an image came from there or went there.
    fn repositories_with(&self, blob: &Digest, target: &Reference) -> Vec<String> {
        let images = self.images.all();
        let with_blob = images
            .iter()
            .filter(|image| image.record.layers.iter().any(|layer| layer.blob == *blob));
        let mut found: Vec<String> = with_blob
            .flat_map(|image| &image.record.digests)
            .filter_map(|name| name.parse::<Reference>().ok())
            .filter(|name| name.domain() == target.domain() && name.path() != target.path())
            .map(|name| name.path().to_owned())
            .collect();
        found.sort();
        found.dedup();
        found.truncate(MOUNTS);
        found
    }

    /// Brings an image into the form for registries: packs the plain layers of one that was made here.
    async fn ready(
        self: &Arc<Self>,
        image: Arc<Image>,
        progress: &ProgressSender,
    ) -> Result<Ready> {
        let mut lease = self
            .images
            .leases
            .take(image.blobs().cloned().collect())
            .await;
        let (content, read) = (self.store.content().clone(), Arc::clone(&image));
        let (stored, layers) = self
            .blocking(move || {
                let stored = Stored::of(&content, &read)?;
                let layers = layer_descriptors(&stored.manifest, &read.record.layers)?;
                Ok((stored, layers))
            })
            .await?;
        // a registry has it by this digest
        let known = image.record.index.is_some() || !image.record.digests.is_empty();
        if known || !layers.iter().any(is_plain) {
            return Ok(Ready {
                image,
                manifest: stored,
                layers,
                packed: false,
                _lease: lease,
            });
        }
        let mut packed = Vec::new();
        for (layer, descriptor) in image.record.layers.iter().zip(layers) {
            if !is_plain(&descriptor) {
                packed.push(descriptor);
                continue;
            }
            tell(progress, Progress::of(layer.diff_id.short(), "Compressing")).await?;
            let engine = Arc::clone(self);
            let work = move || engine.pack_layer(&descriptor, lease);
            let (descriptor, extended) = self.blocking(work).await?;
            lease = extended;
            packed.push(descriptor);
        }
        self.keep_packed(&image, stored, packed, lease).await
    }

    /// Packs a plain layer into a blob of its own.
    fn pack_layer(&self, plain: &Descriptor, mut lease: Lease) -> Result<(Descriptor, Lease)> {
        let content = self.store.content();
        let step = || format!("compress layer {}", plain.digest);
        let source = content.open(&plain.digest).step(step)?;
        let mut writer = content.writer(None).step(step)?;
        storage::gzip::pack(source, &mut writer).step(step)?;
        self.images.leases.extend(&mut lease, writer.digest());
        let (digest, size) = writer.commit().step(step)?;
        let kind = match plain.media_type.as_str() {
            media_type::DOCKER_LAYER => media_type::DOCKER_LAYER_GZIP,
            _ => media_type::OCI_LAYER_GZIP,
        };
        let packed = Descriptor {
            media_type: kind.to_owned(),
            digest,
            size,
            ..plain.clone()
        };
        Ok((packed, lease))
    }

    /// Writes the manifest of the packed layers, and gives the image both.
    async fn keep_packed(
        self: &Arc<Self>,
        image: &Arc<Image>,
        stored: Stored,
        layers: Vec<Descriptor>,
        mut lease: Lease,
    ) -> Result<Ready> {
        let mut manifest = stored.manifest;
        manifest.layers.clone_from(&layers);
        let bytes = serde_json::to_vec(&manifest).step(|| "write a manifest")?;
        let (engine, written) = (Arc::clone(self), bytes.clone());
        let (digest, lease) = self
            .blocking(move || {
                let digest = storage::digest_of(&written);
                engine.images.leases.extend(&mut lease, digest.clone());
                engine
                    .store
                    .content()
                    .put_bytes(&written)
                    .step(|| "store a manifest")?;
                Ok((digest, lease))
            })
            .await?;
        let packed = image.record.layers.iter().zip(&layers);
        let record = Record {
            manifest: digest,
            layers: packed
                .map(|(layer, descriptor)| Layer {
                    blob: descriptor.digest.clone(),
                    blob_size: descriptor.size,
                    ..layer.clone()
                })
                .collect(),
            ..image.record.clone()
        };
        let image = Arc::new(Image::new(record.clone()));
        if self.images.by_id(&image.id).is_some() {
            self.register_image(record, None, None).await?;
        }
        Ok(Ready {
            image,
            manifest: Stored { bytes, manifest },
            layers,
            packed: true,
            _lease: lease,
        })
    }
}

fn pushing(id: &str, current: u64, total: u64) -> Progress {
    let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    Progress {
        progress_detail: Some(ProgressDetail {
            current: signed(current),
            total: signed(total),
            ..ProgressDetail::default()
        }),
        ..Progress::of(id, "Pushing")
    }
}

/// What programs read at the end of a push.
fn aux(tag: &str, digest: &Digest, size: i64) -> Result<Progress> {
    let result = PushResult {
        tag: tag.to_owned(),
        digest: digest.to_string(),
        size,
    };
    let value = serde_json::to_value(result).step(|| "write the push's result")?;
    Ok(Progress {
        aux: Some(value),
        ..Progress::of("", "")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_names_are_refused_as_by_docker() {
        let digest = format!("a@sha256:{}", "a".repeat(64));
        for (name, tag, message) in [
            (
                "NONE",
                "",
                "invalid reference format: repository name (library/NONE) must be lowercase",
            ),
            ("a", "a:b", "invalid tag format"),
            (digest.as_str(), "", "cannot push a digest reference"),
        ] {
            let error = PushRequest::new(name, tag, None).unwrap_err();
            assert_eq!(
                (error.kind(), error.message()),
                (Kind::InvalidParameter, message)
            );
        }
        let request = PushRequest::new("r:5000/a:1", "2", None).unwrap();
        assert_eq!(request.reference.familiar(), "r:5000/a:2");
    }

    #[test]
    fn the_result_for_programs() {
        let message = aux("1", &Digest::from_sha256(&[0xaa; 32]), 7).unwrap();
        let found = serde_json::to_value(&message).unwrap();
        let digest = format!("sha256:{}", "aa".repeat(32));
        let aux = serde_json::json!({"Tag": "1", "Digest": digest, "Size": 7});
        assert_eq!(found, serde_json::json!({"progressDetail": {}, "aux": aux}));
    }
}
