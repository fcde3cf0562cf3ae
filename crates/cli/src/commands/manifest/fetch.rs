//! Manifests of a registry, with the platforms that their configurations tell.

use super::document::{Entry, EntryPlatform};
use crate::failure::Failure;
use crate::remote;
use anyhow::Context;
use distribution::{RemoteDocument, Repository};
use oci::image::{Index, Manifest};
use oci::{Digest, Reference};
use serde::Deserialize;

/// What a reference names.
pub(super) enum Named {
    Manifest(Box<Entry>),
    List(Vec<Entry>),
}

/// The platforms of an index, all that they say.
#[derive(Deserialize)]
struct Platforms {
    manifests: Vec<PlatformOf>,
}

#[derive(Deserialize)]
struct PlatformOf {
    digest: Digest,
    #[serde(default)]
    platform: Option<EntryPlatform>,
}

/// Reads what a reference names.
pub(super) async fn named(repository: &Repository, reference: &Reference) -> anyhow::Result<Named> {
    let document = repository.document().await;
    let document = document.map_err(|error| remote::failure(reference, &error))?;
    if !document.is_index {
        let entry = entry(repository, reference, &document).await?;
        return Ok(Named::Manifest(Box::new(entry)));
    }
    let index: Index = serde_json::from_slice(&document.bytes)?;
    let platforms: Platforms = serde_json::from_slice(&document.bytes)?;
    let mut entries = Vec::with_capacity(index.manifests.len());
    for (descriptor, told) in index.manifests.iter().zip(platforms.manifests) {
        let named: Reference = format!("{reference}@{}", told.digest)
            .parse()
            .map_err(|_| Failure::message("the list names a manifest by no digest"))?;
        let document = repository.document_of(&descriptor.digest).await;
        let document = document.map_err(|error| remote::failure(&named, &error))?;
        if document.is_index {
            return Err(Failure::message(format!("{named} is a manifest list")).into());
        }
        let mut entry = entry(repository, &named, &document).await?;
        // what the list says is what counts
        entry.descriptor.platform = Some(told.platform.unwrap_or_default());
        entries.push(entry);
    }
    Ok(Named::List(entries))
}

async fn entry(
    repository: &Repository,
    reference: &Reference,
    document: &RemoteDocument,
) -> anyhow::Result<Entry> {
    let manifest: Manifest = serde_json::from_slice(&document.bytes)?;
    let config = repository.fetch_config(&manifest.config).await;
    let config = config.map_err(|error| remote::failure(reference, &error))?;
    // an artifact's configuration is none, and tells no platform
    let platform = serde_json::from_slice(&config).unwrap_or_default();
    Entry::new(reference, &document.descriptor, &document.bytes, platform)
        .with_context(|| format!("cannot read the manifest of {reference}"))
}
