//! Caches in registries: a manifest with the document as its configuration, or an image with a cache inside.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use engine::{BuiltPush, Engine, RemotePlace};
use oci::Digest;
use oci::image::{Descriptor, media_type};

use super::manifest::{self, Place};
use super::{Bundle, document, insecure, reference};
use crate::cache::ImportedRecord;
use crate::error::{Error, Result, Step};
use crate::export::manifest::Document as Stored;
use crate::job::{Job, RemoteCache};
use crate::progress::{Status, VertexProgress};
use crate::snapshot::Snapshot;
use crate::source::image::{credentials, snapshot_of};

/// A repository of a registry.
struct Registry {
    engine: Arc<Engine>,
    place: RemotePlace,
}

impl Registry {
    /// The repository of a cache, which is asked as the client's attributes say.
    async fn open(job: &Arc<Job>, cache: &RemoteCache) -> Result<Self> {
        let builder = job.builder()?;
        let reference = reference(cache)?;
        Ok(Self {
            engine: Arc::clone(&builder.engine),
            place: RemotePlace {
                auth: credentials(&builder.sessions, &job.sessions, &reference).await,
                insecure: insecure(cache)?,
                reference,
            },
        })
    }
}

impl Place for Registry {
    async fn manifest(&self, digest: &Digest) -> Result<Bytes> {
        let place = RemotePlace {
            reference: self.place.reference.with_digest(digest.clone()),
            ..self.place.clone()
        };
        Ok(self.engine.remote_document(&place).await?.1)
    }

    async fn blob(&self, blob: &Descriptor, max: u64) -> Result<Bytes> {
        Ok(self.engine.remote_blob(&self.place, blob, max).await?)
    }
}

pub(super) async fn export(
    job: &Arc<Job>,
    cache: &RemoteCache,
    bundle: Bundle,
    progress: &VertexProgress,
) -> Result<BTreeMap<String, String>> {
    let Registry { engine, place } = Registry::open(job, cache).await?;
    let name = place.reference.clone();
    let Bundle {
        writer,
        layers,
        _leases,
    } = bundle;
    let config = Stored::of(document::MEDIA_TYPE, Bytes::from(writer.finish()?));
    let manifest = manifest::write(&config.descriptor, &layers)?;
    let manifest = Stored::of(media_type::OCI_MANIFEST, Bytes::from(manifest));
    let push = BuiltPush {
        place,
        by_digest: false,
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
    let pushed = engine.image_push_built(&push, &told).await;
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
    let registry = Registry::open(job, cache).await?;
    let (_, manifest) = registry.engine.remote_document(&registry.place).await?;
    let found = manifest::read(&registry, manifest).await;
    let document = found.map_err(|e| e.context(registry.place.reference.to_string()))?;
    let mut records = Vec::new();
    for one in document.found() {
        let mut outputs = Vec::with_capacity(one.outputs.len());
        for layers in &one.outputs {
            let base = registry.engine.remote_layers(&registry.place, layers);
            let base = base.await?;
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
