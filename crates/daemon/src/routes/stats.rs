//! Figures of a running container, once or every second.

use std::time::Duration;

use api::query::StatsQuery;
use axum::extract::{Path, State};
use bytes::Bytes;
use engine::Sampler;
use futures_util::{StreamExt, stream};
use http::StatusCode;
use tokio::time::{Instant, sleep_until};

use super::Shared;
use crate::body::{self, BodyError, JSON, json};
use crate::error::Reply;
use crate::request::Params;

/// Time between two samples, as clients expect it.
const PERIOD: Duration = Duration::from_secs(1);

pub(super) async fn stats(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    Params(query): Params,
) -> Reply {
    let wanted = StatsQuery::from_query(&query);
    let mut sampler = shared.engine.container_stats(&id)?;
    if wanted.stream {
        return Ok(body::stream(JSON, samples(shared, sampler)));
    }
    let first = sampler.sample().await?;
    if wanted.one_shot || first.cpu.system_usage == 0 {
        return Ok(json(StatusCode::OK, &first));
    }
    sleep_until(Instant::now() + PERIOD).await;
    Ok(json(StatusCode::OK, &sampler.sample().await?))
}

fn samples(
    shared: Shared,
    sampler: Sampler,
) -> impl stream::Stream<Item = Result<Bytes, BodyError>> {
    let closing = shared.closing;
    stream::unfold((sampler, Instant::now()), |(mut sampler, due)| async move {
        sleep_until(due).await;
        let sample = sampler.sample().await.ok()?;
        let mut line = serde_json::to_vec(&sample).ok()?;
        line.push(b'\n');
        Some((Ok(Bytes::from(line)), (sampler, due + PERIOD)))
    })
    .take_until(async move { closing.wait().await })
}
