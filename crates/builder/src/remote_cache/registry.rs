//! Caches in registries: a manifest with the document as its configuration, or an image with a cache inside.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use engine::BuiltPush;
use oci::image::{Descriptor, Manifest, media_type};
use serde::Deserialize;
use serde_json::Value;

use super::document::{self, Document};
use super::{Bundle, reference};
use crate::cache::ImportedRecord;
use crate::error::{Error, Result, Step};
use crate::export::layers::descriptor;
use crate::export::manifest::Document as Stored;
use crate::job::{Job, RemoteCache};
use crate::progress::{Status, VertexProgress};
use crate::snapshot::Snapshot;
use crate::source::image::{credentials, snapshot_of};

/// The longest configuration of an image.
const CONFIG_MAX: u64 = 8 << 20;

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

pub(super) async fn export(
    job: &Arc<Job>,
    cache: &RemoteCache,
    bundle: Bundle,
    progress: &VertexProgress,
) -> Result<BTreeMap<String, String>> {
    let builder = job.builder()?;
    let name = reference(cache)?;
    let Bundle {
        writer,
        layers,
        _leases,
    } = bundle;
    let config = Stored::of(document::MEDIA_TYPE, Bytes::from(writer.finish()?));
    let manifest = document::manifest(&config.descriptor, &layers)?;
    let manifest = Stored::of(media_type::OCI_MANIFEST, Bytes::from(manifest));
    let auth = credentials(&builder.sessions, &job.sessions, &name).await;
    let push = BuiltPush {
        reference: name.clone(),
        by_digest: false,
        auth,
        layers,
        blobs: vec![config.bytes],
        manifests: vec![(media_type::OCI_MANIFEST.to_owned(), manifest.bytes)],
    };
    let told = |blob: &Descriptor, sent: u64, completed: bool| {
        let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        progress.status(Status {
            id: format!("writing layer {}", blob.digest),
            current: signed(sent),
            total: signed(blob.size),
            completed,
            ..Status::default()
        });
    };
    let part = format!(
        "writing cache image manifest {}",
        manifest.descriptor.digest
    );
    let _writing = progress.part(part);
    let pushed = builder.engine.image_push_built(&push, &told).await;
    pushed.map_err(|error| Error::from(error).context(format!("error writing cache to {name}")))?;
    let text = serde_json::to_string(&manifest.descriptor).step(|| "write a descriptor")?;
    Ok(BTreeMap::from([("cache.manifest".to_owned(), text)]))
}

pub(super) async fn import(
    job: &Arc<Job>,
    cache: &RemoteCache,
    progress: &VertexProgress,
) -> Result<Vec<ImportedRecord>> {
    let builder = job.builder()?;
    let engine = &builder.engine;
    let mut name = reference(cache)?;
    let auth = credentials(&builder.sessions, &job.sessions, &name).await;
    let (mut found, mut bytes) = engine.remote_document(&name, auth.as_ref()).await?;
    if is_index(&found) {
        let entry = choose(&bytes)?;
        name = name.with_digest(entry.digest);
        (found, bytes) = engine.remote_document(&name, auth.as_ref()).await?;
    }
    let wrong = |error| Error::invalid(format!("invalid cache {}: {error}", found.digest));
    let manifest: Manifest = serde_json::from_slice(&bytes).map_err(wrong)?;
    let config = &manifest.config;
    let document = if config.media_type == document::MEDIA_TYPE {
        let fetched = engine.remote_blob(&name, auth.as_ref(), config, document::MAX);
        Document::read(&fetched.await?)?
    } else {
        let fetched = engine.remote_blob(&name, auth.as_ref(), config, CONFIG_MAX);
        let inside: Inside = serde_json::from_slice(&fetched.await?).map_err(wrong)?;
        match inside.cache {
            Some(cache) => Document::of(cache)?,
            None => return Err(Error::not_found(format!("no cache in image {name}"))),
        }
    };
    let mut records = Vec::new();
    for one in document.found() {
        let mut outputs = Vec::with_capacity(one.outputs.len());
        for layers in &one.outputs {
            let base = engine.remote_layers(&name, auth.as_ref(), layers).await?;
            let all = base.layers();
            let snapshots = &builder.snapshots;
            outputs.push(match all.is_empty() {
                true => Snapshot::scratch(),
                false => snapshot_of(snapshots, &base, &all, &one.description, progress),
            });
        }
        records.push(ImportedRecord {
            primary: one.primary,
            keys: one.keys,
            outputs,
            description: one.description,
        });
    }
    Ok(records)
}

fn is_index(found: &Descriptor) -> bool {
    [media_type::OCI_INDEX, media_type::DOCKER_LIST].contains(&found.media_type.as_str())
}

/// The image of an index that is for this machine: its cache is the one that fits.
fn choose(bytes: &[u8]) -> Result<Descriptor> {
    let wrong = |error| Error::invalid(format!("invalid index of a cache: {error}"));
    let index: Index = serde_json::from_slice(bytes).map_err(wrong)?;
    let host = oci::Platform::host();
    let fits = |entry: &&Descriptor| {
        let platform = entry.platform.as_ref();
        platform.is_some_and(|platform| host.accepts(platform))
    };
    let found = index.manifests.iter().find(fits).cloned();
    let none = || Error::not_found(format!("no cache for {host} in the index"));
    let found = found.ok_or_else(none)?;
    Ok(descriptor(&found.media_type, &found.digest, found.size))
}
