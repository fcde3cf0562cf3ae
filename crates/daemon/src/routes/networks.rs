//! Networks.

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::{get, post};
use http::StatusCode;

use super::Shared;
use crate::body::json;
use crate::error::{ApiError, Reply};
use crate::request::Params;

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/networks", get(list))
        .route("/networks/create", post(create))
        .route("/networks/prune", post(prune))
        .route("/networks/{id}", get(inspect).delete(remove))
        .route("/networks/{id}/connect", post(connect))
        .route("/networks/{id}/disconnect", post(connect))
}

async fn list(State(shared): State<Shared>, Params(query): Params) -> Reply {
    let networks = shared.engine.network_list(&query.filters()?)?;
    Ok(json(StatusCode::OK, &networks))
}

async fn inspect(State(shared): State<Shared>, Path(id): Path<String>) -> Reply {
    Ok(json(StatusCode::OK, &shared.engine.network_inspect(&id)?))
}

async fn create() -> ApiError {
    ApiError::not_implemented("creating networks")
}

async fn connect(State(shared): State<Shared>, Path(id): Path<String>) -> Reply {
    shared.engine.network_inspect(&id)?;
    Err(ApiError::not_implemented(
        "connecting containers to networks",
    ))
}

/// The networks that there are cannot be removed, so there is nothing to prune either.
async fn prune() -> Reply {
    Ok(json(StatusCode::OK, &api::network::PruneReport::default()))
}

async fn remove(State(shared): State<Shared>, Path(id): Path<String>) -> Reply {
    let network = shared.engine.network_inspect(&id)?;
    Err(ApiError::new(
        StatusCode::FORBIDDEN,
        format!(
            "{} is a pre-defined network and cannot be removed",
            network.name
        ),
    ))
}
