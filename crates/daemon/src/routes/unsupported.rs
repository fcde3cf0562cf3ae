//! Parts of Docker's API that Gorae does not have: an answer that says so, and where it matters
//! the one that Docker gives when the feature is off.

use axum::Router;
use axum::body::Bytes;
use axum::routing::{any, delete, get};
use http::StatusCode;

use super::Shared;
use crate::body::json;
use crate::error::{ApiError, Reply};

pub(super) fn routes() -> Router<Shared> {
    let mut router = Router::new().route("/plugins", get(no_plugins));
    for family in ["swarm", "nodes", "services", "tasks", "secrets", "configs"] {
        router = router
            .route(&format!("/{family}"), any(no_swarm))
            .route(&format!("/{family}/{{*rest}}"), any(no_swarm));
    }
    for (path, what) in [
        ("/build", "building images"),
        ("/build/{*rest}", "building images"),
        ("/session", "building images"),
        ("/grpc", "building images"),
        ("/plugins/{*rest}", "installing plugins"),
    ] {
        router = router.route(path, any(move || refuse(what)));
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

async fn no_plugins() -> Reply {
    Ok(json(StatusCode::OK, &[(); 0]))
}

async fn no_swarm() -> ApiError {
    ApiError::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" \
         to connect this node to swarm and try again.",
    )
}
