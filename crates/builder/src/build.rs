//! A whole build: from what a front end answers to what the exporters say.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::try_join_all;

use crate::attest;
use crate::error::{Error, Result};
use crate::export::{self, ExportRequest, Solved};
use crate::front::{FrontResult, FrontendRequest, solve_frontend};
use crate::job::{Job, Ref, RemoteCache};
use crate::remote_cache;
use crate::snapshot::Snapshot;

/// Documents of a front end whose names begin so are part of the answer.
const ANSWERED: &str = "frontend.";

/// What becomes of a result.
#[derive(Clone, Debug, Default)]
pub struct Finish {
    /// The settings of the front end, which say what is to be attested, too.
    pub attrs: BTreeMap<String, String>,
    /// The exporters.
    pub exports: Vec<ExportRequest>,
    /// Caches that get what was built.
    pub cache_to: Vec<RemoteCache>,
}

/// Builds what a front end makes of a request.
///
/// # Errors
/// When the front end, a step or an exporter fails.
pub async fn build(
    job: &Arc<Job>,
    request: FrontendRequest,
    finish: &Finish,
) -> Result<BTreeMap<String, String>> {
    for export in &finish.exports {
        export.check()?;
    }
    // boxed: all that a build may come to makes a type too deep otherwise
    let result = Box::pin(solve_frontend(job, request)).await?;
    Box::pin(complete(job, &result, finish)).await
}

/// Builds the results of a front end, and hands them to the exporters.
///
/// # Errors
/// When a step or an exporter fails.
pub async fn complete(
    job: &Arc<Job>,
    result: &FrontResult,
    finish: &Finish,
) -> Result<BTreeMap<String, String>> {
    let mut solved = solve(result).await?;
    state(job, result, finish, &mut solved).await?;
    let mut response = BTreeMap::new();
    for export in &finish.exports {
        response.extend(Box::pin(export::export(job, export, &solved)).await?);
    }
    for cache in &finish.cache_to {
        let refs = result.refs.iter().filter_map(|(_, reference)| reference);
        let records = job.exportable(&refs.cloned().collect::<Vec<_>>())?;
        response.extend(Box::pin(remote_cache::export(job, cache, &records)).await?);
    }
    let documents = result.metadata.iter();
    for (name, bytes) in documents.filter(|(name, _)| name.starts_with(ANSWERED)) {
        let text = String::from_utf8_lossy(bytes).into_owned();
        response.insert(name.clone(), text);
    }
    Ok(response)
}

/// Adds what goes with the results: statements about them, and caches inside of images.
async fn state(
    job: &Arc<Job>,
    result: &FrontResult,
    finish: &Finish,
    solved: &mut Solved,
) -> Result<()> {
    if finish.exports.is_empty() {
        return Ok(());
    }
    let refs = || {
        let all = result.refs.iter();
        all.filter_map(|(id, reference)| Some((id.unwrap_or_default().to_owned(), reference?)))
    };
    let graphs = refs().filter_map(|(id, one)| Some((id, Arc::clone(one.graph()?))));
    let build = attest::Build {
        attrs: &finish.attrs,
        graphs: graphs.collect(),
    };
    Box::pin(attest::attach(job, &build, solved)).await?;
    for cache in &finish.cache_to {
        remote_cache::check(cache)?;
    }
    if finish.cache_to.iter().any(|cache| cache.kind == "inline") {
        for (id, reference) in refs() {
            let records = job.exportable(std::slice::from_ref(reference))?;
            if let Some(cache) = remote_cache::inline(job, &records).await? {
                solved.inline_caches.insert(id, cache);
            }
        }
    }
    Ok(())
}

/// Builds all results, those of several platforms at once.
async fn solve(result: &FrontResult) -> Result<Solved> {
    let refs = result.refs.iter().map(|(platform, reference)| {
        let platform = platform.unwrap_or_default().to_owned();
        async move { Ok::<_, Error>((platform, snapshot(reference).await?)) }
    });
    Ok(Solved {
        refs: try_join_all(refs).await?.into_iter().collect(),
        metadata: result.metadata.clone(),
        ..Solved::default()
    })
}

async fn snapshot(reference: Option<&Ref>) -> Result<Snapshot> {
    match reference {
        Some(reference) => reference.snapshot().await,
        None => Ok(Snapshot::scratch()),
    }
}
