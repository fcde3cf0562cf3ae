//! What operations do: sources, processes, changes of files, and snapshots put together.

pub mod cache_mount;
mod copy;
mod diff;
pub(crate) mod exec;
mod file;
mod go;
mod merge;
mod owner;
pub(crate) mod stage;
pub(crate) mod transfer;

use oci::Digest;
use prost::Message as _;

pub(crate) use go::quote as quoted;
pub(crate) use owner::as_layers;

/// Paths as operations give them.
pub(crate) mod paths {
    pub(crate) use super::copy::{clean, split, wildcards};
}

use crate::error::{Error, Result};
use crate::llb::{digest_of, pb};
use crate::op::{CacheMap, InputKey, OpContext, Selector};
use crate::snapshot::{Snapshot, SnapshotError};

impl From<SnapshotError> for Error {
    fn from(error: SnapshotError) -> Self {
        match std::error::Error::source(&error) {
            Some(source) => Self::system(&error, source),
            None => Self::internal(error.to_string()),
        }
    }
}

fn operation(context: &OpContext) -> Result<&pb::op::Op> {
    let op = context.vertex.op.op.as_ref();
    op.ok_or_else(|| Error::invalid("invalid LLB: a vertex without an operation"))
}

/// What an operation's results are known by.
///
/// # Errors
/// When a source cannot be resolved, or the operation is not known.
pub async fn cache_map(context: &OpContext) -> Result<CacheMap> {
    match operation(context)? {
        pb::op::Op::Source(op) => crate::source::cache_map(context, op).await,
        pb::op::Op::Exec(op) => Ok(exec::cache_map(context, op)),
        pb::op::Op::File(op) => file::cache_map(context, op),
        pb::op::Op::Merge(op) => Ok(plain(
            "buildkit.merge.v0",
            &op.encode_to_vec(),
            op.inputs.len(),
        )),
        pb::op::Op::Diff(op) => Ok(plain("buildkit.diff.v0", &op.encode_to_vec(), 2)),
        pb::op::Op::Build(_) => Err(Error::not_implemented("build ops are not supported")),
    }
}

/// Does what an operation says; one snapshot for each of its outputs.
///
/// # Errors
/// When it fails, or nobody wants it any more.
pub async fn run(context: &OpContext, inputs: &[Snapshot]) -> Result<Vec<Snapshot>> {
    let made = run_operation(context, inputs).await?;
    if context.job.wants_layers {
        digest_ahead(&made);
    }
    Ok(made)
}

/// Begins with what an export needs of layers while the build goes on.
fn digest_ahead(made: &[Snapshot]) {
    for layer in made.iter().filter_map(|snapshot| snapshot.layers().last()) {
        if layer.image().is_none() {
            let layer = std::sync::Arc::clone(layer);
            tokio::spawn(async move {
                if let Err(error) = layer.diff_id().await {
                    tracing::debug!(id = layer.id(), %error, "the export will tell");
                }
            });
        }
    }
}

async fn run_operation(context: &OpContext, inputs: &[Snapshot]) -> Result<Vec<Snapshot>> {
    match operation(context)? {
        pb::op::Op::Source(op) => crate::source::run(context, op).await,
        pb::op::Op::Exec(op) => exec::run(context, op, inputs).await,
        pb::op::Op::File(op) => file::run(context, op, inputs).await,
        pb::op::Op::Merge(op) => merge::run(op, inputs),
        pb::op::Op::Diff(op) => diff::run(context, op, inputs).await,
        pb::op::Op::Build(_) => Err(Error::not_implemented("build ops are not supported")),
    }
}

/// The digest of what a snapshot holds at paths.
///
/// # Errors
/// When it cannot be read, or nothing is there.
pub async fn content_digest(
    context: &OpContext,
    snapshot: &Snapshot,
    selectors: &[Selector],
) -> Result<Digest> {
    context.cancel.check()?;
    snapshot.ready().await?;
    crate::content_hash::digest(&context.builder, snapshot, selectors).await
}

/// A map of an operation whose inputs all count by how they were made.
fn plain(kind: &str, bytes: &[u8], inputs: usize) -> CacheMap {
    CacheMap {
        digest: keyed(kind, bytes),
        inputs: vec![InputKey::Definition; inputs],
    }
}

/// The digest of what an operation does.
fn keyed(kind: &str, bytes: &[u8]) -> Digest {
    digest_of(&[kind.as_bytes(), b"\0", bytes].concat())
}

/// An input of an operation by its number.
fn input(inputs: &[Snapshot], index: i64) -> Result<Snapshot> {
    if index < 0 {
        return Ok(Snapshot::scratch());
    }
    let found = usize::try_from(index).ok().and_then(|at| inputs.get(at));
    found
        .cloned()
        .ok_or_else(|| Error::invalid(format!("invalid input index {index} of {}", inputs.len())))
}

/// Runs disk work where it may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| {
        Err(Error::internal(format!(
            "a background step failed: {error}"
        )))
    })
}
