//! Volumes.

use api::volume::CreateRequest;
use axum::extract::{Path, State};
use axum::routing::{get, post};
use axum::{Extension, Router};
use http::StatusCode;
use serde_json::{Map, Value};

use super::{Shared, to_the_end};
use crate::body::{empty, json};
use crate::error::{ApiError, Reply};
use crate::request::{Json, Params};
use crate::version::ApiVersion;

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/volumes", get(list))
        .route("/volumes/create", post(create))
        .route("/volumes/prune", post(prune))
        .route(
            "/volumes/{name}",
            get(inspect).delete(remove).put(update_cluster_volume),
        )
}

async fn list(State(shared): State<Shared>, Params(query): Params) -> Reply {
    let volumes = shared.engine.volume_list(&query.filters()?)?;
    Ok(json(StatusCode::OK, &volumes))
}

async fn create(State(shared): State<Shared>, Json(request): Json<CreateRequest>) -> Reply {
    let volume = to_the_end(async move { shared.engine.volume_create(request).await }).await?;
    Ok(json(StatusCode::CREATED, &volume))
}

async fn inspect(State(shared): State<Shared>, Path(name): Path<String>) -> Reply {
    Ok(json(StatusCode::OK, &shared.engine.volume_inspect(&name)?))
}

async fn remove(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    Params(query): Params,
) -> Reply {
    let force = query.bool("force");
    to_the_end(async move { shared.engine.volume_remove(&name, force).await }).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

async fn prune(
    State(shared): State<Shared>,
    Extension(version): Extension<ApiVersion>,
    Params(query): Params,
) -> Reply {
    let mut filters = query.filters()?;
    // before 1.42 a prune took named volumes too, and those clients still mean it
    if version < ApiVersion::one(42) && !filters.contains("all") {
        filters.add("all", "true");
    }
    let report = to_the_end(async move { shared.engine.volume_prune(&filters).await }).await?;
    Ok(json(StatusCode::OK, &report))
}

/// Volumes of a swarm alone can be changed, and there is none.
async fn update_cluster_volume(_: Json<Option<Map<String, Value>>>) -> ApiError {
    ApiError::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "volume update only valid for cluster volumes, but swarm is unavailable",
    )
}
