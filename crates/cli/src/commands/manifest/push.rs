//! `gorae manifest push`.

use super::document::{self, Entry};
use super::store::Store;
use crate::args::{Call, Flag, Operands, Verb};
use crate::failure::Failure;
use crate::{output, remote};
use distribution::{Repository, chain};
use oci::Reference;

pub(crate) static VERB: Verb = Verb {
    about: "Push a manifest list to a repository",
    usage: "[OPTIONS] MANIFEST_LIST",
    operands: Operands::between(1, 1),
    flags: &[&[
        Flag::switch("insecure", "Allow push to an insecure registry"),
        Flag::switch("purge", "Remove the local manifest list after push").short('p'),
    ]],
    examples: &[(
        "manifest push --purge r.example.org/app:1",
        "Push a list and forget it here",
    )],
    run: |call| Box::pin(run(call)),
};

async fn run(call: &Call) -> anyhow::Result<u8> {
    let target = remote::reference(&call.operands[0])?;
    let store = Store::open(&call.globals)?;
    let entries = store.need(&target)?;
    if entries.is_empty() {
        return Err(Failure::message(format!("{target} not found")).into());
    }
    for entry in &entries {
        let platform = entry.descriptor.platform.as_ref();
        if platform.is_none_or(|p| p.os.is_empty() || p.architecture.is_empty()) {
            return Err(Failure::message(format!(
                "manifest {} must have an OS and Architecture to be pushed to a registry",
                entry.reference
            ))
            .into());
        }
    }
    let (media_type, list) = document::list(&target, &entries)?;
    let repository = remote::repository(&call.globals, &target, call.on("insecure")).await?;
    for entry in &entries {
        bring(&repository, &target, entry).await?;
    }
    let digest = repository
        .push_manifest(target.tag(), media_type, list.into())
        .await
        .map_err(|error| Failure::message(chain(&error)))?;
    output::line(digest.to_string())?;
    if call.on("purge") {
        store.remove(&target)?;
    }
    Ok(0)
}

/// Brings a manifest of another repository of the registry into the list's.
async fn bring(repository: &Repository, target: &Reference, entry: &Entry) -> anyhow::Result<()> {
    let from = entry.named()?;
    if from.path() == target.path() {
        return Ok(());
    }
    let foreign = |os: &str| os == "windows";
    let skips = entry.descriptor.platform.as_ref();
    let skips = skips.is_some_and(|platform| foreign(&platform.os));
    for blob in entry.blobs()? {
        let mounted = repository
            .mount_blob(&blob, from.path())
            .await
            .map_err(|error| Failure::message(chain(&error)))?;
        // layers of Windows may be nowhere but at their publisher's
        if !mounted && !skips {
            return Err(Failure::message(format!(
                "error mounting {}@{} to {target}",
                from.name(),
                blob.digest
            ))
            .into());
        }
    }
    let digest = repository
        .push_manifest(None, &entry.descriptor.media_type, entry.bytes()?.into())
        .await
        .map_err(|error| Failure::message(chain(&error)))?;
    let pushed = target.with_digest(entry.descriptor.digest.clone());
    output::line(format!("Pushed ref {pushed} with digest: {digest}"))?;
    Ok(())
}
