//! Making images of containers.

use api::archive::{Commit, CommitResponse};
use api::container::Config;
use axum::Router;
use axum::extract::State;
use axum::routing::post;
use http::StatusCode;

use super::{Shared, to_the_end};
use crate::body::json;
use crate::error::Reply;
use crate::request::{Json, Params};

pub(super) fn routes() -> Router<Shared> {
    Router::new().route("/commit", post(commit))
}

async fn commit(
    State(shared): State<Shared>,
    Params(query): Params,
    Json(config): Json<Option<Config>>,
) -> Reply {
    let wanted = Commit::from_query(&query);
    let work = async move { shared.engine.container_commit(wanted, config).await };
    let id = to_the_end(work).await?.to_string();
    Ok(json(StatusCode::CREATED, &CommitResponse { id }))
}
