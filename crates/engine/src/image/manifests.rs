//! The manifests and configurations of images as they lie in the content store.

use std::collections::BTreeMap;

use oci::image::{Descriptor, ImageConfig, Index, Manifest, media_type};
use oci::{Digest, Platform};
use serde_json::{Value, json};
use storage::{BlobStore, Compression};

use super::remote::{platform, shown};
use super::{Image, Layer, parse_manifest};
use crate::engine::Engine;
use crate::error::{Error, Result, Step};

/// The longest manifest or index; registries take no longer ones.
pub(super) const MANIFEST_MAX: u64 = 4 << 20;
/// The longest configuration.
pub(super) const CONFIG_MAX: u64 = 8 << 20;
/// More layers cannot be stacked by any kernel.
pub(super) const LAYERS_MAX: usize = 500;

/// A manifest with its bytes.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) bytes: Vec<u8>,
    pub(super) manifest: Manifest,
}

impl Stored {
    /// Reads an image's manifest.
    pub(super) fn of(content: &BlobStore, image: &Image) -> Result<Self> {
        let bytes = content
            .read_small(&image.record.manifest, MANIFEST_MAX)
            .step(|| format!("read the manifest of image {}", image.id.short()))?;
        let manifest = parse_manifest(&bytes)?;
        Ok(Self { bytes, manifest })
    }

    /// The manifest's own media type, or the one that its configuration speaks for.
    pub(super) fn media_type(&self) -> &str {
        let docker = self.manifest.config.media_type == media_type::DOCKER_CONFIG;
        match &self.manifest.media_type {
            Some(own) => own,
            None if docker => media_type::DOCKER_MANIFEST,
            None => media_type::OCI_MANIFEST,
        }
    }

    /// What points to the manifest.
    pub(super) fn descriptor(&self, digest: &Digest) -> Descriptor {
        descriptor(self.media_type(), digest, self.bytes.len() as u64)
    }
}

impl Engine {
    /// What an image's names lead to, and the manifests behind it, as clients see them.
    ///
    /// An image that was pulled from an index has that index's other manifests, too: they are named,
    /// and most are not here.
    pub(super) fn image_manifests(
        &self,
        image: &Image,
    ) -> Result<(Option<api::image::Descriptor>, Vec<Value>)> {
        let content = self.store.content();
        let stored = Stored::of(content, image)?;
        let own = stored.descriptor(&image.record.manifest);
        let Some(digest) = &image.record.index else {
            let entry = self.available(image, &stored, &own);
            return Ok((Some(shown(&own)), vec![entry]));
        };
        let bytes = content
            .read_small(digest, MANIFEST_MAX)
            .step(|| format!("read the index of image {}", image.id.short()))?;
        let index = parse_index(&bytes)?;
        let kind = index.media_type.as_deref().unwrap_or(media_type::OCI_INDEX);
        let target = descriptor(kind, digest, bytes.len() as u64);
        let entries = index.manifests.iter().map(|entry| {
            if entry.digest == image.record.manifest {
                return self.available(image, &stored, entry);
            }
            let other = self.images.with_manifest(&entry.digest);
            let other = other.and_then(|other| Some((Stored::of(content, &other).ok()?, other)));
            match other {
                Some((stored, other)) => self.available(&other, &stored, entry),
                None => beside(content, entry),
            }
        });
        Ok((Some(shown(&target)), entries.collect()))
    }

    fn available(&self, image: &Image, stored: &Stored, entry: &Descriptor) -> Value {
        let layers: u64 = image
            .record
            .layers
            .iter()
            .map(|layer| layer.blob_size)
            .sum();
        let content = layers + stored.manifest.config.size + stored.bytes.len() as u64;
        let containers = self.containers.all().into_iter();
        let users: Vec<String> = containers
            .filter(|container| container.record().image == image.id)
            .map(|container| container.id.to_string())
            .collect();
        json!({
            "ID": entry.digest,
            "Descriptor": shown(entry),
            "Available": true,
            "Size": {"Content": content, "Total": content + image.size},
            "Kind": "image",
            "ImageData": {
                "Platform": platform(&image.platform()),
                "Size": {"Unpacked": image.size},
                "Containers": users,
            },
        })
    }
}

/// An entry of an index that is no image here; statements about one are here where it was built here.
fn beside(content: &BlobStore, entry: &Descriptor) -> Value {
    let mut value = absent(entry);
    let bytes = content.read_small(&entry.digest, MANIFEST_MAX).ok();
    let manifest = bytes.and_then(|bytes| parse_manifest(&bytes).ok());
    let Some(manifest) = manifest.filter(|_| value["Kind"] == "attestation") else {
        return value;
    };
    let blobs = std::iter::once(&manifest.config).chain(&manifest.layers);
    let size = blobs.fold(entry.size, |sum, blob| sum.saturating_add(blob.size));
    value["Available"] = true.into();
    value["Size"] = json!({"Content": size, "Total": size});
    value
}

/// An entry of an index whose content is not here.
fn absent(entry: &Descriptor) -> Value {
    let mut value = json!({
        "ID": entry.digest,
        "Descriptor": shown(entry),
        "Available": false,
        "Size": {"Content": 0, "Total": 0},
        "Kind": "unknown",
    });
    if let Some(about) = entry.annotations.get("vnd.docker.reference.digest") {
        value["Kind"] = "attestation".into();
        value["AttestationData"] = json!({"For": about});
    } else if let Some(own) = &entry.platform {
        value["Kind"] = "image".into();
        value["ImageData"] = json!({
            "Platform": platform(own),
            "Size": {"Unpacked": 0},
            "Containers": null,
        });
    }
    value
}

/// A descriptor without platform and annotations.
pub(super) fn descriptor(media_type: &str, digest: &Digest, size: u64) -> Descriptor {
    Descriptor {
        media_type: media_type.to_owned(),
        digest: digest.clone(),
        size,
        platform: None,
        annotations: BTreeMap::new(),
    }
}

/// Writes a manifest for a configuration and layers in the terms of the OCI specification.
pub(super) fn manifest_for(config: Descriptor, layers: Vec<Descriptor>) -> Manifest {
    Manifest {
        schema_version: 2,
        media_type: Some(media_type::OCI_MANIFEST.to_owned()),
        config,
        layers,
        annotations: BTreeMap::new(),
    }
}

/// Reads an image configuration and refuses one that is none.
pub(super) fn parse_config(digest: &Digest, bytes: &[u8]) -> Result<ImageConfig> {
    let config: ImageConfig = serde_json::from_slice(bytes)
        .map_err(|e| Error::invalid(format!("invalid image configuration {digest}: {e}")))?;
    if config.rootfs.diff_ids.len() > LAYERS_MAX {
        return Err(Error::invalid(format!(
            "invalid image configuration {digest}: {} layers are more than {LAYERS_MAX}",
            config.rootfs.diff_ids.len()
        )));
    }
    Ok(config)
}

/// Reads an index.
pub(super) fn parse_index(bytes: &[u8]) -> Result<Index> {
    serde_json::from_slice(bytes).map_err(|e| Error::invalid(format!("invalid image index: {e}")))
}

/// The platform of a configuration.
pub(super) fn platform_of(config: &ImageConfig) -> Platform {
    Platform {
        architecture: config.architecture.clone(),
        os: config.os.clone(),
        variant: config.variant.clone(),
        os_version: None,
    }
}

/// Whether a layer is one that is not to be sent to registries, as those of Windows.
pub(super) fn is_foreign(layer: &Descriptor) -> bool {
    layer.media_type.contains(".foreign.") || layer.media_type.contains(".nondistributable.")
}

/// Whether a layer's blob is a tar that nobody has packed.
pub(super) fn is_plain(layer: &Descriptor) -> bool {
    Compression::from_media_type(&layer.media_type) == Some(Compression::None)
}

/// The descriptors of an image's layers: the manifest's own, in the record's order.
pub(super) fn layer_descriptors(manifest: &Manifest, layers: &[Layer]) -> Result<Vec<Descriptor>> {
    let same = manifest.layers.len() == layers.len()
        && manifest
            .layers
            .iter()
            .zip(layers)
            .all(|(descriptor, layer)| descriptor.digest == layer.blob);
    if same {
        return Ok(manifest.layers.clone());
    }
    Err(Error::internal(
        "the image's manifest names other layers than the image has",
    ))
}
