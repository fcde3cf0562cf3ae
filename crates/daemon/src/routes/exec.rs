//! Further processes in running containers.

use std::sync::Arc;

use api::exec::{CreateRequest, StartRequest};
use api::query::Resize;
use axum::extract::{FromRequest, Path, Request, State};
use axum::routing::{get, post};
use axum::{Extension, Router};
use http::StatusCode;
use hyper::upgrade::OnUpgrade;

use super::{Shared, to_the_end};
use crate::body::{empty, json};
use crate::detach::DetachKeys;
use crate::error::{ApiError, Reply};
use crate::hijack::{self, Ask, OnDetach};
use crate::request::{Json, Params};
use crate::version::ApiVersion;

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/containers/{id}/exec", post(create))
        .route("/exec/{id}/start", post(start))
        .route("/exec/{id}/resize", post(resize))
        .route("/exec/{id}/json", get(inspect))
}

async fn create(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    Json(request): Json<CreateRequest>,
) -> Reply {
    let keys = &request.detach_keys;
    DetachKeys::parse(keys)
        .map_err(|_| ApiError::invalid(format!("Invalid escape keys ({keys}) provided")))?;
    let response = shared.engine.exec_create(&id, request).await?;
    Ok(json(StatusCode::CREATED, &response))
}

/// Starts after the answer's head, as dockerd does: clients that read the head through a buffer
/// would lose what comes with it, and a failed start is told in the stream, where clients look for
/// it before they ask for the exit code.
async fn start(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    Extension(version): Extension<ApiVersion>,
    request: Request,
) -> Reply {
    let (mut parts, body) = request.into_parts();
    let upgrade = parts.extensions.remove::<OnUpgrade>();
    // read before anything is refused: who still sends does not hear
    let request = Request::from_parts(parts.clone(), body);
    let Json(options) = Json::<StartRequest>::from_request(request, &()).await?;
    if let Some(upgrade) = upgrade {
        parts.extensions.insert(upgrade);
    }
    let (keys, tty) = shared.engine.exec_terms(&id)?;
    let on_detach = {
        let (engine, id) = (Arc::clone(&shared.engine), id.clone());
        OnDetach::new(move || engine.exec_detached(&id))
    };
    let ask = Ask::new(&mut parts, version, DetachKeys::parse(&keys)?, on_detach);
    let detach = options.detach;
    let engine = shared.engine;
    let starting = to_the_end(async move { engine.exec_start(&id, &options).await });
    if detach {
        starting.await?;
        return Ok(empty(StatusCode::OK));
    }
    if ask.upgrade.is_none() {
        return Ok(match starting.await {
            Ok(Some(attachment)) => hijack::answer(ask, attachment, shared.closing),
            Ok(None) => empty(StatusCode::OK),
            Err(error) => hijack::message(tty, &error.into_message()),
        });
    }
    let starting = async move { starting.await.map_err(ApiError::into_message) };
    Ok(hijack::answer_first(ask, tty, starting, shared.closing))
}

async fn resize(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    Params(query): Params,
) -> Reply {
    let Resize { height, width } = Resize::from_query(&query)?;
    shared.engine.exec_resize(&id, height, width).await?;
    Ok(empty(StatusCode::OK))
}

async fn inspect(State(shared): State<Shared>, Path(id): Path<String>) -> Reply {
    shared.engine.exec_settled(&id).await;
    let mut found = shared.engine.exec_inspect(&id)?;
    let keys = String::from_utf8_lossy(&found.detach_keys.0);
    found.detach_keys.0 = DetachKeys::bytes(&keys);
    Ok(json(StatusCode::OK, &found))
}
