//! Images in their registries.

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::get;
use http::{HeaderMap, StatusCode};

use super::Shared;
use super::images::credentials;
use crate::body::json;
use crate::error::{ApiError, Reply};

/// Image names have slashes, so what is asked of an image stands behind a wildcard.
pub(super) fn routes() -> Router<Shared> {
    Router::new().route("/distribution/{*rest}", get(inspect))
}

async fn inspect(
    State(shared): State<Shared>,
    headers: HeaderMap,
    Path(rest): Path<String>,
) -> Reply {
    let name = rest
        .strip_suffix("/json")
        .ok_or_else(|| ApiError::new(StatusCode::NOT_FOUND, "page not found"))?;
    let auth = credentials(&headers);
    let found = shared
        .engine
        .distribution_inspect(name, auth.as_ref())
        .await?;
    Ok(json(StatusCode::OK, &found))
}
