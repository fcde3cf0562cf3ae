//! Figures of a running container, once or every second.

use std::sync::Arc;
use std::time::Duration;

use api::query::StatsQuery;
use api::stats::Stats;
use axum::extract::{Path, State};
use bytes::Bytes;
use engine::Engine;
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
    let first = shared.engine.container_stats(&id).await?;
    if wanted.stream {
        return Ok(body::stream(JSON, samples(shared, id, first)));
    }
    if wanted.one_shot {
        return Ok(json(StatusCode::OK, &first));
    }
    sleep_until(Instant::now() + PERIOD).await;
    let second = next(&shared.engine, &id, &first).await?;
    Ok(json(StatusCode::OK, &second))
}

/// Takes a sample that also tells the one before, so that clients can compute rates.
async fn next(engine: &Arc<Engine>, id: &str, before: &Stats) -> engine::Result<Stats> {
    let mut sample = engine.container_stats(id).await?;
    sample.preread.clone_from(&before.read);
    sample.precpu.clone_from(&before.cpu);
    Ok(sample)
}

fn samples(
    shared: Shared,
    id: String,
    first: Stats,
) -> impl stream::Stream<Item = Result<Bytes, BodyError>> {
    let Shared {
        engine, closing, ..
    } = shared;
    let state = (engine, id, None::<Stats>, first, Instant::now());
    stream::unfold(state, |(engine, id, before, mut sample, due)| async move {
        if let Some(before) = &before {
            sleep_until(due).await;
            sample = next(&engine, &id, before).await.ok()?;
        }
        let mut line = serde_json::to_vec(&sample).ok()?;
        line.push(b'\n');
        let state = (engine, id, Some(sample.clone()), sample, due + PERIOD);
        Some((Ok(Bytes::from(line)), state))
    })
    .take_until(async move { closing.wait().await })
}
