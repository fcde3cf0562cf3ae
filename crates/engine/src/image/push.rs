//! Pushing images: the layers that the registry lacks, several at a time, the configuration, and
//! the manifest.
//!
//! What came from a registry goes to a registry as it is: manifest and packed layers keep their
//! digests. Layers that were made here as plain tars are packed before the first push, and are kept
//! packed from then on, so the image has in every registry the digest that it has here.

mod built;
mod pack;
mod target;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use api::image::{Progress, ProgressDetail, PushResult};
use api::registry::AuthConfig;
use bytes::Bytes;
use distribution::{BlobSource, Repository, Sent};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use oci::image::{Descriptor, media_type};
use oci::{Digest, Platform, Reference};
use serde_json::{Value, json};
use storage::Packing;

pub use self::built::{BuiltPush, PushTold};
use self::target::Target;
use super::blobs::Blobs;
use super::manifests::{Stored, is_foreign};
use super::pull::{ProgressSender, tell};
use super::remote::shown;
use super::store::Lease;
use super::{Image, Layer, credentials, registry_error};
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
    /// How plain layers are packed, if not as the settings say.
    packing: Option<Packing>,
    /// What is added to the document that gets the tag.
    annotations: BTreeMap<String, String>,
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
            packing: None,
            annotations: BTreeMap::new(),
        })
    }

    /// The same with a method for plain layers, `zstd:9`; an empty text is none.
    ///
    /// # Errors
    /// When there is no such method or level.
    pub fn with_compression(mut self, text: &str) -> Result<Self> {
        if !text.is_empty() {
            let packing = text
                .parse()
                .map_err(|error: storage::packing::ParsePackingError| {
                    Error::invalid(format!("invalid compression {text:?}: {error}"))
                })?;
            self.packing = Some(packing);
        }
        Ok(self)
    }

    /// The same with annotations, `key=value` each.
    ///
    /// # Errors
    /// When one has no key.
    pub fn with_annotations(mut self, texts: &[String]) -> Result<Self> {
        for text in texts {
            match text.split_once('=') {
                Some((key, value)) if !key.is_empty() => {
                    self.annotations.insert(key.to_owned(), value.to_owned());
                }
                _ => {
                    let text = format!("invalid annotation {text:?}: it must be key=value");
                    return Err(Error::invalid(text));
                }
            }
        }
        Ok(self)
    }
}

/// An image in the form in which it goes to a registry.
struct Ready {
    image: Arc<Image>,
    manifest: Stored,
    layers: Vec<Descriptor>,
    /// Whether its plain layers were packed for this push.
    packed: bool,
    /// Blobs that were sent while layers were packed.
    sent: HashSet<Digest>,
    _lease: Lease,
}

/// What gets the tag.
struct Head {
    media_type: String,
    bytes: Bytes,
}

impl Engine {
    /// Checks what can be told before a push's stream begins.
    ///
    /// # Errors
    /// When the image is for another platform.
    pub fn image_push_check(&self, request: &PushRequest) -> Result<()> {
        let tagged = request.reference.clone().or_latest().familiar();
        if let Ok(image) = self.images.get(&tagged, None) {
            self.image_for_push(image, &tagged, request.platform.as_ref())?;
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
                result = self.push_tag(image, &tag, &repository, (request, auth), progress) => result?,
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
        (request, auth): (&PushRequest, Option<&AuthConfig>),
        progress: &ProgressSender,
    ) -> Result<()> {
        let wanted = request.platform.as_ref();
        let image = self.image_for_push(image, &tag.familiar(), wanted)?;
        let target = match wanted {
            Some(_) => Target::one(image),
            None => self.target(image, tag, repository, auth).await?,
        };
        for image in &target.images {
            for layer in image.record.layers.iter().rev() {
                tell(progress, Progress::of(layer.diff_id.short(), "Preparing")).await?;
            }
        }
        let mut ready = Vec::with_capacity(target.images.len());
        for image in target.images {
            let packing = request.packing;
            let one = self.ready(image, packing, repository, progress).await?;
            self.push_content(&one, tag, repository, progress).await?;
            if target.index.is_some() {
                let manifest = Bytes::from(one.manifest.bytes.clone());
                repository
                    .push_manifest(None, one.manifest.media_type(), manifest)
                    .await
                    .map_err(|e| registry_error(&e))?;
            }
            ready.push(one);
        }
        let Some(own) = ready.first() else {
            return Err(Error::internal("a push has nothing to push"));
        };
        let own_descriptor = own.manifest.descriptor(&own.image.record.manifest);
        let head = match target.index {
            Some(index) => Head {
                media_type: index.descriptor.media_type,
                bytes: index.bytes.into(),
            },
            None => Head {
                media_type: own_descriptor.media_type.clone(),
                bytes: own.manifest.bytes.clone().into(),
            },
        };
        let head = annotated(head, &request.annotations)?;
        self.push_head(&own.image, head, tag, repository, progress)
            .await?;
        if let Some(index) = target.instead_of {
            tell(progress, pushed_instead(&index, &own_descriptor)).await?;
        }
        let packed = ready.iter().any(|one| one.packed);
        drop(ready);
        if packed {
            // the plain tars are needed no more, unless another image has them
            self.collect().await;
        }
        Ok(())
    }

    /// Gives the tag to what it is for, and tells so.
    async fn push_head(
        self: &Arc<Self>,
        image: &Image,
        head: Head,
        tag: &Reference,
        repository: &Repository,
        progress: &ProgressSender,
    ) -> Result<()> {
        let size = i64::try_from(head.bytes.len()).unwrap_or(i64::MAX);
        let name = tag.tag().unwrap_or_default();
        let digest = repository
            .push_manifest(Some(name), &head.media_type, head.bytes)
            .await
            .map_err(|e| registry_error(&e))?;
        let by_digest = tag.with_digest(digest.clone());
        // nothing but a name is added: who has removed the image meanwhile does not get it back
        if let Some(current) = self.images.by_id(&image.id) {
            self.register_image(current.record.clone(), None, Some(&by_digest))
                .await?;
        }
        let text = format!("{name}: digest: {digest} size: {size}");
        tell(progress, Progress::status(text)).await?;
        tell(progress, aux(name, &digest, size)?).await?;
        self.image_event("push", &tag.familiar(), &tag.familiar_name());
        Ok(())
    }

    /// Sends what a manifest names.
    async fn push_content(
        self: &Arc<Self>,
        ready: &Ready,
        tag: &Reference,
        repository: &Repository,
        progress: &ProgressSender,
    ) -> Result<()> {
        self.push_layers(ready, tag, repository, progress).await?;
        let config = &ready.manifest.manifest.config;
        if ready.sent.contains(&config.digest) {
            return Ok(());
        }
        let source = self.source(&[], &config.digest);
        repository
            .push_blob(config, &[], &source)
            .await
            .map(drop)
            .map_err(|e| registry_error(&e))
    }

    /// Sends the layers, topmost first as Docker shows them; a blob that is there twice goes once.
    async fn push_layers(
        self: &Arc<Self>,
        ready: &Ready,
        tag: &Reference,
        repository: &Repository,
        progress: &ProgressSender,
    ) -> Result<()> {
        let mut seen = HashSet::new();
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
            if ready.sent.contains(&descriptor.digest) {
                tell(progress, Progress::of(layer.diff_id.short(), "Pushed")).await?;
                continue;
            }
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
        let source = self.source(std::slice::from_ref(layer), &blob.digest);
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

    /// Where a push reads a blob of an image.
    fn source(&self, layers: &[Layer], digest: &Digest) -> BlobSource {
        let blobs = Blobs::of(&self.store, layers.iter());
        let digest = digest.clone();
        BlobSource::new(move |offset| blobs.open(&digest, offset))
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

/// Adds annotations to a document.
fn annotated(head: Head, annotations: &BTreeMap<String, String>) -> Result<Head> {
    if annotations.is_empty() {
        return Ok(head);
    }
    if !matches!(
        head.media_type.as_str(),
        media_type::OCI_INDEX | media_type::OCI_MANIFEST
    ) {
        return Err(Error::invalid(format!(
            "annotations need an image in OCI's format, and this one is in Docker's ({})",
            head.media_type
        )));
    }
    let step = || "add annotations to a manifest";
    let mut document: Value = serde_json::from_slice(&head.bytes).step(step)?;
    let all = &mut document["annotations"];
    if !all.is_object() {
        *all = json!({});
    }
    for (key, value) in annotations {
        all[key] = value.as_str().into();
    }
    let bytes = serde_json::to_vec(&document).step(step)?.into();
    Ok(Head { bytes, ..head })
}

/// Says that not the index was pushed, as dockerd does.
fn pushed_instead(index: &Descriptor, selected: &Descriptor) -> Progress {
    let note = json!({
        "manifestPushedInsteadOfIndex": true,
        "originalIndex": shown(index),
        "selectedManifest": shown(selected),
    });
    Progress {
        aux: Some(note),
        ..Progress::of("", "")
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
