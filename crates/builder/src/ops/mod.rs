//! The operations: processes, files, merges, differences.

use oci::Digest;
use prost::Message as _;

use crate::error::{Error, Result};
use crate::llb::{digest_of, pb};
use crate::op::{CacheMap, OpContext, Selector};
use crate::snapshot::{Snapshot, SnapshotError, merge};

impl From<SnapshotError> for Error {
    fn from(error: SnapshotError) -> Self {
        let text = error.to_string();
        match std::error::Error::source(&error) {
            Some(source) => Self::system(text, source),
            None => Self::internal(text),
        }
    }
}

fn unknown(context: &OpContext) -> Error {
    Error::not_implemented(format!(
        "operation {} is not supported",
        context.vertex.name
    ))
}

/// What an operation's results are known by.
///
/// # Errors
/// When the operation is not known.
pub async fn cache_map(context: &OpContext) -> Result<CacheMap> {
    match &context.vertex.op.op {
        Some(pb::op::Op::Merge(op)) => Ok(CacheMap {
            digest: digest_of(&op.encode_to_vec()),
            inputs: Vec::new(),
        }),
        _ => Err(unknown(context)),
    }
}

/// Does what an operation says; one snapshot for each of its outputs.
///
/// # Errors
/// When it fails, or the operation is not known.
pub async fn run(context: &OpContext, inputs: &[Snapshot]) -> Result<Vec<Snapshot>> {
    match &context.vertex.op.op {
        Some(pb::op::Op::Merge(_)) => Ok(vec![merge(inputs)?]),
        _ => Err(unknown(context)),
    }
}

/// The digest of what a snapshot holds at paths.
///
/// # Errors
/// Always: no operation that is known asks for it.
pub async fn content_digest(
    context: &OpContext,
    _snapshot: &Snapshot,
    _selectors: &[Selector],
) -> Result<Digest> {
    Err(unknown(context))
}
