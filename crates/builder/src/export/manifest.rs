//! The documents of an image: manifests, those of statements, and the index of all.

use std::collections::BTreeMap;

use bytes::Bytes;
use engine::BuiltLayer;
use oci::image::{Descriptor, Manifest, media_type};
use oci::{Digest, Platform};
use serde::Serialize;
use storage::Compression;

use super::layers::descriptor;
use crate::error::{Result, Step};

/// The type of a statement's blob.
const IN_TOTO: &str = "application/vnd.in-toto+json";
/// Says of a statement's blob what it states.
const PREDICATE: &str = "in-toto.io/predicate-type";
/// Say of an index's entry that it is about another one.
const REFERENCE: [&str; 2] = ["vnd.docker.reference.type", "vnd.docker.reference.digest"];

/// A document and what names it.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    pub(crate) bytes: Bytes,
    pub(crate) descriptor: Descriptor,
}

/// A statement about an image as a blob.
#[derive(Clone, Debug)]
pub(crate) struct StatementBlob {
    pub(crate) predicate: String,
    pub(crate) bytes: Bytes,
}

/// An index; its annotations come last.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index<'a> {
    schema_version: u32,
    media_type: &'a str,
    manifests: &'a [Descriptor],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

impl Document {
    fn new(media_type: &str, value: &impl Serialize) -> Result<Self> {
        let bytes = serde_json::to_vec_pretty(value).step(|| "write a document of an image")?;
        Ok(Self::of(media_type, bytes.into()))
    }

    /// Bytes as they are.
    pub(crate) fn of(media_type: &str, bytes: Bytes) -> Self {
        let digest = storage::digest_of(&bytes);
        Self {
            descriptor: descriptor(media_type, &digest, bytes.len() as u64),
            bytes,
        }
    }

    pub(crate) fn digest(&self) -> &Digest {
        &self.descriptor.digest
    }
}

/// The configuration of an image as a document.
pub(super) fn config(bytes: Vec<u8>, oci: bool) -> Document {
    let kind = if oci {
        media_type::OCI_CONFIG
    } else {
        media_type::DOCKER_CONFIG
    };
    Document::of(kind, bytes.into())
}

/// A layer's media type in the terms of one family.
pub(crate) fn layer_type(own: &str, oci: bool) -> String {
    let compression = Compression::from_media_type(own);
    match (compression, oci) {
        (Some(Compression::Gzip), false) => media_type::DOCKER_LAYER_GZIP.to_owned(),
        (Some(Compression::None), false) => media_type::DOCKER_LAYER.to_owned(),
        (Some(compression), _) => compression.media_type().to_owned(),
        (None, _) => own.to_owned(),
    }
}

/// The manifest of an image.
pub(super) fn manifest(
    config: &Document,
    layers: &[BuiltLayer],
    oci: bool,
    annotations: BTreeMap<String, String>,
) -> Result<Document> {
    let kind = if oci {
        media_type::OCI_MANIFEST
    } else {
        media_type::DOCKER_MANIFEST
    };
    let layers = layers.iter().map(|layer| {
        let kind = layer_type(&layer.blob.media_type, oci);
        descriptor(&kind, &layer.blob.digest, layer.blob.size)
    });
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(kind.to_owned()),
        config: config.descriptor.clone(),
        layers: layers.collect(),
        annotations,
    };
    Document::new(kind, &manifest)
}

/// The manifest of statements about an image, with its configuration.
pub(super) fn attestation(
    statements: &[StatementBlob],
    about: &Digest,
) -> Result<(Document, Document)> {
    let layers: Vec<Descriptor> = statements
        .iter()
        .map(|statement| {
            let digest = storage::digest_of(&statement.bytes);
            let mut blob = descriptor(IN_TOTO, &digest, statement.bytes.len() as u64);
            let predicate = statement.predicate.clone();
            blob.annotations.insert(PREDICATE.to_owned(), predicate);
            blob
        })
        .collect();
    let diff_ids: Vec<&Digest> = layers.iter().map(|layer| &layer.digest).collect();
    let config = serde_json::json!({
        "architecture": "unknown",
        "os": "unknown",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = serde_json::to_vec(&config).step(|| "write the configuration of statements")?;
    let config = Document::of(media_type::OCI_CONFIG, config.into());
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media_type::OCI_MANIFEST.to_owned()),
        config: config.descriptor.clone(),
        layers,
        annotations: BTreeMap::new(),
    };
    let mut manifest = Document::new(media_type::OCI_MANIFEST, &manifest)?;
    let said = ["attestation-manifest".to_owned(), about.to_string()];
    let said = REFERENCE.into_iter().map(str::to_owned).zip(said);
    manifest.descriptor.annotations.extend(said);
    manifest.descriptor.platform = Some(Platform {
        architecture: "unknown".to_owned(),
        os: "unknown".to_owned(),
        variant: None,
        os_version: None,
    });
    Ok((config, manifest))
}

/// The index of an image's manifests.
pub(super) fn index(
    entries: &[Descriptor],
    oci: bool,
    annotations: BTreeMap<String, String>,
) -> Result<Document> {
    let kind = if oci {
        media_type::OCI_INDEX
    } else {
        media_type::DOCKER_LIST
    };
    let index = Index {
        schema_version: 2,
        media_type: kind,
        manifests: entries,
        annotations,
    };
    Document::new(kind, &index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_of_either_family() {
        for (own, docker, expect) in [
            (media_type::OCI_LAYER, true, media_type::DOCKER_LAYER),
            (
                media_type::OCI_LAYER_GZIP,
                true,
                media_type::DOCKER_LAYER_GZIP,
            ),
            (
                media_type::DOCKER_LAYER_GZIP,
                false,
                media_type::OCI_LAYER_GZIP,
            ),
            (media_type::OCI_LAYER_ZSTD, true, media_type::OCI_LAYER_ZSTD),
            ("application/x", true, "application/x"),
        ] {
            assert_eq!(layer_type(own, !docker), expect, "{own}");
        }
    }

    #[test]
    fn statements_stand_beside_their_image() {
        let about = Digest::from_sha256(&[3; 32]);
        let statement = StatementBlob {
            predicate: "https://slsa.dev/provenance/v0.2".to_owned(),
            bytes: Bytes::from_static(b"{}"),
        };
        let (config, manifest) = attestation(&[statement], &about).unwrap();
        let annotations = &manifest.descriptor.annotations;
        assert_eq!(
            annotations["vnd.docker.reference.type"],
            "attestation-manifest"
        );
        assert_eq!(
            annotations["vnd.docker.reference.digest"],
            about.to_string()
        );
        let written: Manifest = serde_json::from_slice(&manifest.bytes).unwrap();
        assert_eq!(written.config.digest, *config.digest());
        assert_eq!(written.layers[0].media_type, IN_TOTO);
        assert!(written.layers[0].annotations.contains_key(PREDICATE));
        let list = index(&[manifest.descriptor], false, BTreeMap::new()).unwrap();
        assert_eq!(list.descriptor.media_type, media_type::DOCKER_LIST);
    }
}
