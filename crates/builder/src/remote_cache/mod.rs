//! Caches that other machines can read: in a registry, inside an image, in a folder of the client's, or in
//! the cache service of GitHub's runners.
//!
//! What a cache brings is results by the keys that lead to them. Their layers are fetched when a step
//! needs their files, and have to be what the cache says of them; whoever may write to a cache can make
//! builds that import it believe in results of his, as with BuildKit.

mod document;
mod gha;
mod local;
mod manifest;
mod registry;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use engine::{BuiltLayer, ContentLease};
use oci::{Digest, Reference};
use serde_json::Value;
use storage::Packing;

use self::document::{Document, Writer};
use crate::builder::Builder;
use crate::cache::{ExportRecord, ImportedRecord};
use crate::error::{Error, Result};
use crate::export::{layers, options};
use crate::job::{Job, RemoteCache};
use crate::progress::VertexProgress;
use crate::snapshot::Snapshot;
use crate::source::blobs::{self, BlobSource};

/// How much of a build goes into a cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Extent {
    /// What the results are made of.
    #[default]
    Min,
    /// Every step.
    Max,
}

/// A cache that is ready to be sent.
struct Bundle {
    writer: Writer,
    /// All layers, each once.
    layers: Vec<BuiltLayer>,
    _leases: Vec<ContentLease>,
}

/// Reads a name in an attribute.
fn reference(cache: &RemoteCache) -> Result<Reference> {
    let text = cache.attrs.get("ref").filter(|text| !text.is_empty());
    let missing = || Error::invalid(format!("ref is missing for {} cache", cache.kind));
    let wrong = |error: oci::reference::ParseReferenceError| Error::invalid(error.to_string());
    let name: Reference = text.ok_or_else(missing)?.parse().map_err(wrong)?;
    Ok(name.or_latest())
}

/// Whether the client wants no proof of who the registry is, and takes plain http.
fn insecure(cache: &RemoteCache) -> Result<bool> {
    match cache.attrs.get(options::INSECURE) {
        Some(value) => options::flag(options::INSECURE, value),
        None => Ok(false),
    }
}

fn extent(cache: &RemoteCache) -> Result<Extent> {
    match cache.attrs.get("mode").map(String::as_str) {
        None | Some("" | "min") => Ok(Extent::Min),
        Some("max") => Ok(Extent::Max),
        Some(other) => Err(Error::invalid(format!("unknown cache mode {other:?}"))),
    }
}

/// Checks what can be told of a cache before a build begins.
///
/// # Errors
/// When there is no such kind, or an attribute is wrong.
pub fn check(cache: &RemoteCache) -> Result<()> {
    extent(cache)?;
    match cache.kind.as_str() {
        "registry" => {
            insecure(cache)?;
            reference(cache).map(drop)
        }
        "inline" => Ok(()),
        "local" => {
            let place = ["src", "dest"].map(|name| cache.attrs.get(name));
            let given = place.iter().flatten().any(|place| !place.is_empty());
            let missing = || Error::invalid("local cache requires src or dest");
            given.then_some(()).ok_or_else(missing)
        }
        "gha" => gha::check(cache),
        other => Err(Error::not_implemented(format!(
            "{other:?} caches are not supported: use registry, inline, local or gha"
        ))),
    }
}

/// Writes a cache of what a job has solved; answers what the client is told.
///
/// # Errors
/// When there is no such kind of cache, or its place cannot be written to.
pub async fn export(
    job: &Arc<Job>,
    cache: &RemoteCache,
    records: &[ExportRecord],
) -> Result<BTreeMap<String, String>> {
    check(cache)?;
    if cache.kind == "inline" {
        // it goes with the image
        return Ok(BTreeMap::new());
    }
    let progress = job.progress.internal(match cache.kind.as_str() {
        "local" => "exporting cache to client directory",
        "gha" => "exporting cache to GitHub Actions Cache",
        _ => "exporting cache to registry",
    });
    progress.started();
    let work = async {
        let bundle = {
            let _preparing = progress.part("preparing build cache for export");
            bundle(job, records, extent(cache)?).await?
        };
        match cache.kind.as_str() {
            "local" => local::export(job, cache, bundle, &progress).await,
            "gha" => gha::export(job, cache, bundle, &progress).await,
            _ => registry::export(job, cache, bundle, &progress).await,
        }
    };
    let done = job.cancel.run(work).await;
    progress.completed(done.as_ref().map(drop));
    match done {
        Err(error) if ignores_errors(cache) && !error.is_canceled() => {
            tracing::warn!(kind = cache.kind, %error, "a cache was not written");
            Ok(BTreeMap::new())
        }
        done => done,
    }
}

/// Whether a build succeeds although its cache cannot be written.
fn ignores_errors(cache: &RemoteCache) -> bool {
    let value = cache.attrs.get("ignore-error").map(String::as_str);
    matches!(value, Some("1" | "t" | "T" | "true" | "TRUE" | "True"))
}

/// The results that a document names, whose layers come from elsewhere when they are needed.
async fn records(
    job: &Arc<Job>,
    source: Arc<dyn BlobSource>,
    document: &Document,
    progress: &VertexProgress,
) -> Result<Vec<ImportedRecord>> {
    let builder = job.builder()?;
    let mut records = Vec::new();
    for one in document.found() {
        let mut outputs = Vec::with_capacity(one.outputs.len());
        for layers in &one.outputs {
            let (source, about) = (Arc::clone(&source), &one.description);
            outputs.push(blobs::snapshot(&builder, source, layers, about, progress).await?);
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

/// The cache that goes inside an image; nothing where no step would be found again by it.
///
/// # Errors
/// When a layer cannot be read.
pub async fn inline(job: &Arc<Job>, records: &[ExportRecord]) -> Result<Option<Value>> {
    let bundle = bundle(job, records, Extent::Min).await?;
    if bundle.writer.is_empty() {
        return Ok(None);
    }
    bundle.writer.into_value().map(Some)
}

/// Asks all caches of a job, each once.
pub(crate) async fn bring(job: &Arc<Job>) {
    let asked = job.imports.iter().map(|cache| import(job, cache));
    for records in futures_util::future::join_all(asked).await {
        job.import(records);
    }
}

/// Reads what a cache has. One that cannot be read brings nothing, and the build goes on without it.
pub async fn import(job: &Arc<Job>, cache: &RemoteCache) -> Vec<ImportedRecord> {
    let attr = |name| cache.attrs.get(name).map_or("", String::as_str);
    let from = match cache.kind.as_str() {
        "local" => format!("local:{}", attr("src")),
        "gha" => format!("gha:{}", attr("scope")),
        _ => attr("ref").to_owned(),
    };
    let progress = job
        .progress
        .internal(&format!("importing cache manifest from {from}"));
    progress.started();
    let work = async {
        check(cache)?;
        match cache.kind.as_str() {
            "local" => local::import(job, cache, &progress).await,
            "gha" => gha::import(job, cache, &progress).await,
            _ => registry::import(job, cache, &progress).await,
        }
    };
    let found = job.cancel.run(work).await;
    progress.completed(found.as_ref().map(drop));
    found.unwrap_or_else(|error| {
        tracing::debug!(%from, %error, "a cache brings nothing");
        Vec::new()
    })
}

/// Gathers the results that go into a cache, with their layers packed.
async fn bundle(job: &Arc<Job>, records: &[ExportRecord], extent: Extent) -> Result<Bundle> {
    let builder = job.builder()?;
    let keys = document::keys(records)?;
    let wanted = wanted(records, extent);
    let mut bundle = Bundle {
        writer: Writer::default(),
        layers: Vec::new(),
        _leases: Vec::new(),
    };
    let mut seen: HashSet<Digest> = HashSet::new();
    for (record, keys) in records.iter().zip(keys) {
        let fits = |output: &Snapshot| output.folder().is_none() && wanted.fits(output);
        if record.outputs.is_empty() || !record.outputs.iter().all(fits) {
            continue;
        }
        let mut outputs = Vec::with_capacity(record.outputs.len());
        for output in &record.outputs {
            let packed = packed(&builder, output).await?;
            let new = packed.layers.iter();
            let new = new.filter(|layer| seen.insert(layer.chain.clone()));
            bundle.layers.extend(new.cloned());
            bundle._leases.extend(packed.leases);
            outputs.push(packed.layers);
        }
        bundle.writer.add(keys, &outputs, &record.description);
    }
    Ok(bundle)
}

async fn packed(builder: &Arc<Builder>, output: &Snapshot) -> Result<layers::Layers> {
    let mut found = layers::adopt(builder, output).await?;
    layers::pack(builder, &mut found, Packing::default(), false).await?;
    Ok(found)
}

/// Which layers go into a cache.
#[derive(Debug)]
struct Wanted {
    /// The layers of the results; all are wanted where absent.
    of_results: Option<Vec<Vec<String>>>,
}

fn wanted(records: &[ExportRecord], extent: Extent) -> Wanted {
    let results = records.iter().filter(|record| record.result);
    let outputs = results.flat_map(|record| &record.outputs);
    let of_results = outputs.filter_map(Snapshot::layer_ids).collect();
    Wanted {
        of_results: (extent == Extent::Min).then_some(of_results),
    }
}

impl Wanted {
    /// Whether a result needs no layer that is not wanted.
    fn fits(&self, output: &Snapshot) -> bool {
        let (Some(stacks), Some(own)) = (&self.of_results, output.layer_ids()) else {
            return self.of_results.is_none();
        };
        stacks.iter().any(|stack| stack.starts_with(&own))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(kind: &str, attrs: &[(&str, &str)]) -> RemoteCache {
        let attrs = attrs.iter();
        RemoteCache {
            kind: kind.to_owned(),
            attrs: attrs
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
        }
    }

    #[test]
    fn kinds_and_attributes() {
        for (kind, attrs, good) in [
            ("registry", &[("ref", "r.example/c")][..], true),
            (
                "registry",
                &[("ref", "r.example/c:1"), ("mode", "max")],
                true,
            ),
            ("registry", &[], false),
            ("registry", &[("ref", "A B")], false),
            (
                "registry",
                &[("ref", "r.example/c"), ("mode", "most")],
                false,
            ),
            ("inline", &[], true),
            ("local", &[("dest", "/c")], true),
            ("local", &[], false),
            ("s3", &[], false),
        ] {
            assert_eq!(check(&cache(kind, attrs)).is_ok(), good, "{kind} {attrs:?}");
        }
    }
}
