//! Where files come from: images, contexts, repositories, the web.

pub(crate) mod blobs;
mod client;
pub mod filter;
mod git;
pub(crate) mod http;
pub mod image;
pub mod local;
pub(crate) mod oci_layout;
mod view;

pub(crate) use local::LARGEST_ATTR;

use crate::error::{Error, Result};
use crate::llb::pb;
use crate::op::{CacheMap, OpContext};
use crate::snapshot::Snapshot;

/// The scheme of a source's identifier.
fn scheme(source: &pb::SourceOp) -> &str {
    let scheme = source.identifier.split_once("://");
    scheme.map_or("", |(scheme, _)| scheme)
}

fn unknown(source: &pb::SourceOp) -> Error {
    Error::invalid(format!("unsupported source {}", source.identifier))
}

/// What a source resolves to.
///
/// # Errors
/// When it cannot be resolved, or its scheme is not known.
pub async fn cache_map(context: &OpContext, source: &pb::SourceOp) -> Result<CacheMap> {
    match scheme(source) {
        "docker-image" => image::cache_map(context, source).await,
        "oci-layout" => oci_layout::cache_map(context, source).await,
        "local" => local::cache_map(context, source).await,
        "http" | "https" => http::cache_map(context, source).await,
        "git" => git::cache_map(context, source).await,
        _ => Err(unknown(source)),
    }
}

/// The files of a source.
///
/// # Errors
/// When they cannot be had, or its scheme is not known.
pub async fn run(context: &OpContext, source: &pb::SourceOp) -> Result<Vec<Snapshot>> {
    let snapshot = match scheme(source) {
        "docker-image" => image::run(context, source).await?,
        "oci-layout" => oci_layout::run(context, source).await?,
        "local" => local::run(context)?,
        "http" | "https" => http::run(context, source).await?,
        "git" => git::run(context, source).await?,
        _ => return Err(unknown(source)),
    };
    Ok(vec![snapshot])
}
