//! Caches in folders of the client's: image layouts, which its content service reads and writes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use oci::Digest;
use oci::image::{Descriptor, media_type};

use super::manifest::{self, Place};
use super::{Bundle, document, records};
use crate::cache::ImportedRecord;
use crate::error::{Error, Result, Step as _};
use crate::export::layers::send_layer;
use crate::export::manifest::Document as Stored;
use crate::job::{Job, RemoteCache};
use crate::progress::VertexProgress;
use crate::session::Session;
use crate::source::oci_layout::Layout;

/// How long a client may take to open its session.
const WAIT: Duration = Duration::from_secs(10);
/// The longest manifest.
const MANIFEST_MAX: usize = 4 << 20;

/// What stands in front of the names of such folders.
fn store(cache: &RemoteCache, attr: &str, verb: &str) -> Result<String> {
    let folder = cache.attrs.get(attr).filter(|folder| !folder.is_empty());
    let missing = || Error::invalid(format!("local cache {verb} requires {attr}"));
    Ok(format!("local:{}", folder.ok_or_else(missing)?))
}

async fn session(job: &Arc<Job>) -> Result<Arc<Session>> {
    let builder = job.builder()?;
    let first = job.sessions.all().into_iter().next();
    let none = || Error::invalid("local cache exporter/importer requires session");
    let found = builder.sessions.get(&first.ok_or_else(none)?, WAIT).await;
    found.map_err(|error| Error::system("open the session of a local cache", &error))
}

pub(super) async fn export(
    job: &Arc<Job>,
    cache: &RemoteCache,
    bundle: Bundle,
    progress: &VertexProgress,
) -> Result<BTreeMap<String, String>> {
    let store = store(cache, "dest", "exporter")?;
    let session = session(job).await?;
    let builder = job.builder()?;
    let Bundle {
        writer,
        layers,
        _leases,
    } = bundle;
    let config = Stored::of(document::MEDIA_TYPE, Bytes::from(writer.finish()?));
    let manifest = manifest::write(&config.descriptor, &layers)?;
    let manifest = Stored::of(media_type::OCI_MANIFEST, Bytes::from(manifest));
    for layer in &layers {
        let part = progress.part(format!("writing layer {}", layer.blob.digest));
        send_layer(&session, &store, &builder.engine, layer).await?;
        drop(part);
    }
    let failed = |error| Error::system("write a local cache", &error);
    for (what, one) in [("config", &config), ("cache image manifest", &manifest)] {
        let (digest, bytes) = (&one.descriptor.digest, one.bytes.clone());
        let _part = progress.part(format!("writing {what} {digest}"));
        let size = bytes.len() as u64;
        let blob = session.write_blob(&store, digest, size).await;
        if let Some(mut blob) = blob.map_err(failed)? {
            blob.write(bytes).await.map_err(failed)?;
            blob.finish().await.map_err(failed)?;
        }
    }
    let text = serde_json::to_string(&manifest.descriptor).step(|| "write a descriptor")?;
    Ok(BTreeMap::from([("cache.manifest".to_owned(), text)]))
}

impl Place for Layout {
    async fn manifest(&self, digest: &Digest) -> Result<Bytes> {
        self.document(digest, MANIFEST_MAX).await
    }

    async fn blob(&self, blob: &Descriptor, max: u64) -> Result<Bytes> {
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        self.document(&blob.digest, max).await
    }
}

pub(super) async fn import(
    job: &Arc<Job>,
    cache: &RemoteCache,
    progress: &VertexProgress,
) -> Result<Vec<ImportedRecord>> {
    let digest = cache
        .attrs
        .get("digest")
        .filter(|digest| !digest.is_empty());
    let missing = || Error::invalid("local cache importer requires explicit digest");
    let digest = digest.ok_or_else(missing)?;
    let wrong = |_| Error::invalid(format!("invalid digest {digest:?} of a local cache"));
    let digest: Digest = digest.parse().map_err(wrong)?;
    let store = store(cache, "src", "importer")?;
    let layout = Layout::of_store(&session(job).await?, &store);
    let manifest = layout.manifest(&digest).await?;
    let document = manifest::read(&layout, manifest).await?;
    records(job, Arc::new(layout), &document, progress).await
}
