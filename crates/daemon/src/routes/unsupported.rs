//! Parts of Docker's API that Gorae does not have: an answer that says so, and where it matters
//! the one that Docker gives when the feature is off.

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::{delete, get, post};
use http::StatusCode;

use super::Shared;
use crate::body::json;
use crate::error::{ApiError, Reply};
use crate::request::Params;

pub(super) fn routes() -> Router<Shared> {
    let mut router = Router::new().route("/build/prune", post(prune_nothing));
    for path in ["/build", "/build/cancel"] {
        router = router.route(path, post(move || refuse("building images")));
    }
    let checkpoints = "/containers/{id}/checkpoints";
    router
        .route(checkpoints, get(experimental).post(experimental))
        .route(&format!("{checkpoints}/{{name}}"), delete(experimental))
}

/// Dockerd's answer while its experimental features are off.
async fn experimental(_: Bytes) -> ApiError {
    ApiError::new(
        StatusCode::NOT_IMPLEMENTED,
        "This experimental feature is disabled by default. Start the Docker daemon in experimental \
         mode in order to enable it.",
    )
}

async fn refuse(what: &'static str) -> ApiError {
    ApiError::not_implemented(what)
}

/// There is no build cache yet, so its prune, which `docker system prune` asks for too, frees nothing.
async fn prune_nothing(State(shared): State<Shared>, Params(query): Params) -> Reply {
    const FILTERS: [&str; 9] = [
        "until",
        "id",
        "label",
        "label!",
        "parent",
        "type",
        "description",
        "inuse",
        "shared",
    ];
    for name in [
        "keep-storage",
        "reserved-space",
        "max-used-space",
        "min-free-space",
    ] {
        if let Err(error) = query.int(name) {
            let given = query.get(name);
            let why = error.0;
            return Err(ApiError::invalid(format!(
                "{name} is in bytes and expects an integer, got {given}: {why}"
            )));
        }
    }
    let filters = query.filters()?;
    if let Err(error) = filters.validate(&FILTERS) {
        return Err(ApiError::from(error).context("failed to prune build cache"));
    }
    shared.engine.build_cache_prune();
    Ok(json(
        StatusCode::OK,
        &serde_json::json!({"CachesDeleted": null, "SpaceReclaimed": 0}),
    ))
}
