//! The manifest of a cache: where its document is, in a registry as in a folder of the client's.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use engine::BuiltLayer;
use oci::Digest;
use oci::image::{Descriptor, Manifest, media_type};
use serde::Deserialize;
use serde_json::Value;

use super::document::{self, Document};
use crate::error::{Error, Result, Step as _};

/// The longest configuration of an image.
const CONFIG_MAX: u64 = 8 << 20;

/// Where manifests and what they name are read; what comes has the digest that was asked for.
pub(super) trait Place {
    /// Reads a manifest.
    fn manifest(&self, digest: &Digest) -> impl Future<Output = Result<Bytes>> + Send;

    /// Reads a document of no more than `max` bytes.
    fn blob(&self, blob: &Descriptor, max: u64) -> impl Future<Output = Result<Bytes>> + Send;
}

/// An image configuration with a cache inside.
#[derive(Deserialize)]
struct Inside {
    #[serde(rename = "moby.buildkit.cache.v0", default)]
    cache: Option<Value>,
}

/// An index, of which BuildKit's older caches are some.
#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

fn wrong(error: impl std::fmt::Display) -> Error {
    Error::invalid(format!("invalid cache: {error}"))
}

/// Reads the document that a manifest leads to: its configuration, or what an image has inside.
pub(super) async fn read(place: &impl Place, manifest: Bytes) -> Result<Document> {
    let mut manifest = manifest;
    if let Some(chosen) = choose(&manifest)? {
        manifest = place.manifest(&chosen).await?;
    }
    let manifest: Manifest = serde_json::from_slice(&manifest).map_err(wrong)?;
    let config = &manifest.config;
    if config.media_type == document::MEDIA_TYPE {
        return Document::read(&place.blob(config, document::MAX).await?);
    }
    let bytes = place.blob(config, CONFIG_MAX).await?;
    let inside: Inside = serde_json::from_slice(&bytes).map_err(wrong)?;
    let none = || Error::not_found("no cache in the image");
    Document::of(inside.cache.ok_or_else(none)?)
}

/// The entry of an index that is for this machine: its cache is the one that fits. A manifest has none.
fn choose(bytes: &[u8]) -> Result<Option<Digest>> {
    let value: Value = serde_json::from_slice(bytes).map_err(wrong)?;
    if value.get("manifests").is_none() {
        return Ok(None);
    }
    if value.get("layers").is_some() {
        // neither reading may depend on who reads (CVE-2021-41190)
        return Err(wrong("it is a manifest and an index"));
    }
    let index: Index = serde_json::from_value(value).map_err(wrong)?;
    let host = oci::Platform::host();
    let fits = |entry: &Descriptor| {
        let platform = entry.platform.as_ref();
        platform.is_some_and(|platform| host.accepts(platform))
    };
    let found = index.manifests.into_iter().find(fits);
    let none = || Error::not_found(format!("no cache for {host} in the index"));
    Ok(Some(found.ok_or_else(none)?.digest))
}

/// Writes a manifest: the document as its configuration, and the layers.
pub(super) fn write(config: &Descriptor, layers: &[BuiltLayer]) -> Result<Vec<u8>> {
    let mut seen = HashSet::new();
    let layers = layers
        .iter()
        .filter(|layer| seen.insert(&layer.blob.digest));
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media_type::OCI_MANIFEST.to_owned()),
        config: config.clone(),
        layers: layers.map(|layer| layer.blob.clone()).collect(),
        annotations: BTreeMap::new(),
    };
    serde_json::to_vec_pretty(&manifest).step(|| "write the manifest of a cache")
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use serde_json::json;

    use super::*;

    /// Documents by their digests.
    #[derive(Default)]
    struct Shelf(HashMap<Digest, Bytes>);

    impl Shelf {
        fn put(&mut self, value: &Value) -> Descriptor {
            let bytes = Bytes::from(value.to_string());
            let digest = storage::digest_of(&bytes);
            let size = bytes.len() as u64;
            self.0.insert(digest.clone(), bytes);
            crate::export::layers::descriptor(document::MEDIA_TYPE, &digest, size)
        }

        fn get(&self, digest: &Digest) -> Result<Bytes> {
            let none = || Error::not_found("nothing there");
            self.0.get(digest).cloned().ok_or_else(none)
        }
    }

    impl Place for Shelf {
        async fn manifest(&self, digest: &Digest) -> Result<Bytes> {
            self.get(digest)
        }

        async fn blob(&self, blob: &Descriptor, max: u64) -> Result<Bytes> {
            assert!(blob.size <= max);
            self.get(&blob.digest)
        }
    }

    fn manifest(config: &Descriptor) -> Value {
        json!({"schemaVersion": 2, "config": config, "layers": []})
    }

    fn asked(shelf: &Shelf, bytes: &Value) -> Result<usize> {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let read = read(shelf, Bytes::from(bytes.to_string()));
        Ok(runtime.unwrap().block_on(read)?.records.len())
    }

    #[test]
    fn documents_are_found_in_every_form() {
        let mut shelf = Shelf::default();
        let digest = Digest::from_sha256(&[1; 32]);
        let record = json!({"digest": digest, "gorae": {"keys": [digest], "outputs": [-1]}});
        let document = json!({"layers": [], "records": [record]});
        let own = shelf.put(&document);
        assert_eq!(asked(&shelf, &manifest(&own)).unwrap(), 1);
        let mut image = shelf.put(&json!({"moby.buildkit.cache.v0": document}));
        image.media_type = media_type::OCI_CONFIG.to_owned();
        assert_eq!(asked(&shelf, &manifest(&image)).unwrap(), 1);
        let mut plain = shelf.put(&json!({"os": "linux"}));
        plain.media_type = media_type::OCI_CONFIG.to_owned();
        assert!(asked(&shelf, &manifest(&plain)).is_err());
        let mut entry = shelf.put(&manifest(&own));
        let index = |entry: &Descriptor| json!({"schemaVersion": 2, "manifests": [entry]});
        assert!(asked(&shelf, &index(&entry)).is_err());
        entry.platform = Some(oci::Platform::host());
        assert_eq!(asked(&shelf, &index(&entry)).unwrap(), 1);
        let mut both = index(&entry);
        both["layers"] = json!([]);
        assert!(asked(&shelf, &both).is_err());
        for hostile in [json!(1), json!([]), json!({"manifests": 1}), json!({})] {
            assert!(asked(&shelf, &hostile).is_err(), "{hostile}");
        }
    }
}
