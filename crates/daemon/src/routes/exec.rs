//! Further processes in running containers.

use api::exec::{CreateRequest, StartRequest};
use api::query::Resize;
use axum::extract::{FromRequest, Path, Request, State};
use axum::routing::{get, post};
use axum::{Extension, Router};
use http::StatusCode;

use super::{Shared, to_the_end};
use crate::body::{empty, json};
use crate::detach::DetachKeys;
use crate::error::{ApiError, Reply};
use crate::hijack::{self, Ask};
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
    DetachKeys::parse(&request.detach_keys)?;
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
    let exec = shared.engine.exec_inspect(&id)?;
    let keys = DetachKeys::parse(&String::from_utf8_lossy(&exec.detach_keys.0))?;
    let ask = Ask::new(&mut parts, version, keys);
    let request = Request::from_parts(parts, body);
    let Json(options) = Json::<StartRequest>::from_request(request, &()).await?;
    let detach = options.detach;
    let engine = shared.engine;
    let starting = to_the_end(async move { engine.exec_start(&id, &options).await });
    let tty = exec.process_config.tty;
    if detach || ask.upgrade.is_none() {
        return match starting.await {
            Ok(Some(attachment)) => Ok(hijack::answer(ask, attachment, shared.closing)),
            Ok(None) => Ok(empty(StatusCode::OK)),
            Err(error) if detach => Err(error),
            Err(error) => Ok(hijack::message(tty, &error.into_message())),
        };
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
    Ok(json(StatusCode::OK, &shared.engine.exec_inspect(&id)?))
}
