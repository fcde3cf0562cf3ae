//! Plugins, as a dockerd that has none answers: lists are empty, and no name is known.
//!
//! Installing one is where Gorae differs: it runs no plugins, and says so.

use api::Filters;
use axum::Router;
use axum::extract::Path;
use axum::routing::{get, post};
use http::StatusCode;
use oci::Reference;

use super::{Shared, not_found};
use crate::body::json;
use crate::error::{ApiError, Reply};
use crate::request::{Json, Params};

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/plugins", get(list))
        .route("/plugins/privileges", get(privileges))
        .route("/plugins/pull", post(pull))
        .route("/plugins/create", post(create))
        .route(
            "/plugins/{*rest}",
            get(inspect).post(change).delete(no_such_plugin),
        )
}

async fn list(Params(query): Params) -> Reply {
    let filters: Filters = query.filters()?;
    filters.validate(&["capability", "enabled"])?;
    filters.bool_or("enabled", false)?;
    Ok(json(StatusCode::OK, &[(); 0]))
}

fn refused() -> ApiError {
    ApiError::not_implemented("installing plugins")
}

fn unknown(name: &str) -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        format!("plugin {name:?} not found: gorae runs no plugins"),
    )
}

/// Dockerd calls a reference that is none a failure of its own.
fn reference(text: &str) -> Result<Reference, ApiError> {
    text.parse()
        .map_err(|error: oci::reference::ParseReferenceError| {
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
        })
}

async fn privileges(Params(query): Params) -> ApiError {
    reference(query.get("remote")).map_or_else(|error| error, |_| refused())
}

/// A body that is a list, or nothing.
type List = Json<Option<Vec<serde_json::Value>>>;

async fn pull(Params(query): Params, _: List) -> ApiError {
    reference(query.get("remote")).map_or_else(|error| error, |_| refused())
}

async fn create(Params(query): Params) -> ApiError {
    match reference(query.get("name")) {
        Ok(_) => refused(),
        Err(error) => error.context(&format!("failed to parse reference {}", query.get("name"))),
    }
}

async fn inspect(Path(rest): Path<String>) -> ApiError {
    match rest.strip_suffix("/json") {
        Some(name) if !name.is_empty() => unknown(name),
        _ => not_found().await,
    }
}

async fn no_such_plugin(Path(name): Path<String>) -> ApiError {
    unknown(&name)
}

/// `enable`, `disable`, `upgrade`, `push` and `set`.
async fn change(Path(rest): Path<String>, Params(query): Params, body: axum::body::Bytes) -> Reply {
    let Some((name, verb)) = rest.rsplit_once('/').filter(|(name, _)| !name.is_empty()) else {
        return Err(not_found().await);
    };
    match verb {
        "disable" | "push" => Err(unknown(name)),
        "enable" => {
            let timeout = query.get("timeout");
            if timeout.parse::<i64>().is_err() {
                let why = format!("strconv.Atoi: parsing {timeout:?}: invalid syntax");
                return Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, why));
            }
            Err(unknown(name))
        }
        "upgrade" => {
            check_list(&body)?;
            reference(query.get("remote"))?;
            Err(unknown(name))
        }
        "set" => {
            check_list(&body)?;
            Err(unknown(name))
        }
        _ => Err(not_found().await),
    }
}

fn check_list(body: &[u8]) -> Result<(), ApiError> {
    if body.is_empty() {
        return Ok(());
    }
    crate::request::parse::<Option<Vec<serde_json::Value>>>(body).map(drop)
}
