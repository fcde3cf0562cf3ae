//! Parts of Docker's API that Gorae does not have: an answer that says so, and where it matters
//! the one that Docker gives when the feature is off.

use axum::Router;
use axum::body::Bytes;
use axum::routing::{delete, get, post};
use http::StatusCode;

use super::Shared;
use crate::error::ApiError;

pub(super) fn routes() -> Router<Shared> {
    let mut router = Router::new();
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
