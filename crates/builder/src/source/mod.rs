//! Where files come from: images, contexts, repositories, the web.

use crate::error::{Error, Result};
use crate::llb::pb;
use crate::op::{CacheMap, OpContext};
use crate::snapshot::Snapshot;

fn unknown(source: &pb::SourceOp) -> Error {
    Error::invalid(format!("unsupported source {}", source.identifier))
}

/// What a source resolves to.
///
/// # Errors
/// When it cannot be resolved, or its scheme is not known.
pub async fn cache_map(_context: &OpContext, source: &pb::SourceOp) -> Result<CacheMap> {
    Err(unknown(source))
}

/// The files of a source.
///
/// # Errors
/// When they cannot be had, or its scheme is not known.
pub async fn run(_context: &OpContext, source: &pb::SourceOp) -> Result<Vec<Snapshot>> {
    Err(unknown(source))
}
