//! Parts of Docker's API that Gorae does not have: an answer that says so, and where it matters
//! the one that Docker gives when the feature is off.

use axum::Router;
use axum::body::Bytes;
use axum::routing::{delete, get};
use http::StatusCode;

use super::Shared;
use crate::error::ApiError;

pub(super) fn routes() -> Router<Shared> {
    let checkpoints = "/containers/{id}/checkpoints";
    Router::new()
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
