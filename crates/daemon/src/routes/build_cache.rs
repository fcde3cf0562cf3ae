//! The build cache: what it takes, and its prune.

use api::query::Query;
use axum::Router;
use axum::extract::State;
use axum::routing::post;
use builder::Builder;
use builder::cache::{PruneRequest, Usage};
use http::StatusCode;
use serde_json::{Value, json};

use super::{Shared, to_the_end};
use crate::body::json as answer;
use crate::error::{ApiError, Reply};
use crate::request::Params;

/// The filters that dockerd knows.
const FILTERS: [&str; 11] = [
    "until",
    "unused-for",
    "id",
    "label",
    "label!",
    "parent",
    "type",
    "description",
    "inuse",
    "shared",
    "private",
];

pub(super) fn routes() -> Router<Shared> {
    Router::new().route("/build/prune", post(prune))
}

/// What `system df` tells of the build cache.
pub(super) async fn usage(builder: &Builder) -> Result<Vec<Value>, ApiError> {
    let list = builder.cache.disk_usage(&[]).await;
    let list = list.map_err(engine::Error::from)?;
    Ok(list.iter().map(record).collect())
}

/// A record in dockerd's words, the blank in ` Parents` among them: that is how its clients read it.
fn record(usage: &Usage) -> Value {
    let mut record = json!({ "ID": usage.id });
    if !usage.parents.is_empty() {
        record[" Parents"] = json!(usage.parents);
    }
    record["Type"] = json!(usage.kind.name());
    record["Description"] = json!(usage.description);
    record["InUse"] = json!(usage.in_use);
    record["Shared"] = json!(usage.shared);
    record["Size"] = json!(usage.size);
    record["CreatedAt"] = json!(usage.created.to_string());
    record["LastUsedAt"] = json!(usage.uses.map(|uses| uses.last.to_string()));
    record["UsageCount"] = json!(usage.uses.map_or(0, |uses| uses.count));
    record
}

/// A limit in bytes; dockerd takes a former name of one of them, too.
fn bytes(query: &Query, name: &str) -> Result<Option<u64>, ApiError> {
    let given = query.int(name).map_err(|error| {
        let (given, why) = (query.get(name), error.0);
        ApiError::invalid(format!(
            "{name} is in bytes and expects an integer, got {given}: {why}"
        ))
    })?;
    // 0 is dockerd's absent
    let given = given.and_then(|n| u64::try_from(n).ok());
    Ok(given.filter(|n| *n > 0))
}

async fn prune(State(shared): State<Shared>, Params(query): Params) -> Reply {
    let former = bytes(&query, "keep-storage")?;
    let request = PruneRequest {
        all: query.bool("all"),
        reserved_space: bytes(&query, "reserved-space")?.or(former),
        max_used: bytes(&query, "max-used-space")?,
        min_free: bytes(&query, "min-free-space")?,
        ..PruneRequest::default()
    };
    let filters = query.filters()?;
    let context = |error: ApiError| error.context("failed to prune build cache");
    filters
        .validate(&FILTERS)
        .map_err(|error| context(error.into()))?;
    let request = request.with_filters(&filters);
    let request = request.map_err(|error| context(engine::Error::from(error).into()))?;
    let (builder, engine) = (shared.builder, shared.engine);
    let gone = to_the_end(async move {
        let gone = builder.cache.prune(request).await?;
        let bytes = gone.iter().map(|usage| usage.size).sum();
        engine.build_cache_pruned(bytes);
        Ok((gone, bytes))
    });
    let (gone, bytes) = gone.await.map_err(context)?;
    let ids: Vec<_> = gone.iter().map(|usage| usage.id.as_str()).collect();
    let deleted = if ids.is_empty() {
        Value::Null
    } else {
        json!(ids)
    };
    let body = json!({ "CachesDeleted": deleted, "SpaceReclaimed": bytes });
    Ok(answer(StatusCode::OK, &body))
}
