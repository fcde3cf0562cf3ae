//! Containers.

use std::sync::Arc;

use api::container::{Config, CreateRequest, UpdateRequest};
use api::query::{
    Attach, ContainerCreate, ContainerList, ContainerRemove, Logs, Query, Resize, Stop,
    WaitCondition,
};
use axum::extract::{Path, Request, State};
use axum::response::Response;
use axum::routing::{delete, get, post};
use axum::{Extension, Router};
use bytes::Bytes;
use engine::Following;
use futures_util::stream;
use http::header::USER_AGENT;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use http_body::Body as _;

use super::{Shared, given, to_the_end};
use crate::body::{self, BodyError, JSON, empty, json};
use crate::detach::DetachKeys;
use crate::error::{ApiError, Reply};
use crate::hijack::{self, Ask, OnDetach};
use crate::request::{Json, Params, SomeJson};
use crate::version::ApiVersion;
use crate::websocket::Offer;

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/containers/json", get(list))
        .route("/containers/create", post(create))
        .route("/containers/prune", post(prune))
        .route("/containers/{id}", delete(remove))
        .route("/containers/{id}/json", get(inspect))
        .route("/containers/{id}/start", post(start))
        .route("/containers/{id}/stop", post(stop))
        .route("/containers/{id}/restart", post(restart))
        .route("/containers/{id}/kill", post(kill))
        .route("/containers/{id}/pause", post(pause))
        .route("/containers/{id}/unpause", post(unpause))
        .route("/containers/{id}/rename", post(rename))
        .route("/containers/{id}/update", post(update))
        .route("/containers/{id}/wait", post(wait))
        .route("/containers/{id}/resize", post(resize))
        .route("/containers/{id}/top", get(top))
        .route("/containers/{id}/logs", get(logs))
        .route("/containers/{id}/attach", post(attach))
        .route("/containers/{id}/attach/ws", get(attach_by_websocket))
        .route("/containers/{id}/stats", get(super::stats::stats))
}

async fn list(State(shared): State<Shared>, Params(query): Params) -> Reply {
    let options = ContainerList::from_query(&query)?;
    let list = shared.engine.container_list(&options).await?;
    Ok(json(StatusCode::OK, &list))
}

async fn create(
    State(shared): State<Shared>,
    Params(query): Params,
    SomeJson(request): SomeJson<CreateRequest>,
) -> Reply {
    if request.config == Config::default() {
        let why = "config cannot be empty in order to create a container";
        return Err(ApiError::invalid(why));
    }
    let ContainerCreate { name, platform } = ContainerCreate::from_query(&query);
    let response = to_the_end(async move {
        let (name, platform) = (given(&name), given(&platform));
        shared
            .engine
            .container_create(name, platform, request)
            .await
    })
    .await?;
    Ok(json(StatusCode::CREATED, &response))
}

async fn prune(State(shared): State<Shared>, Params(query): Params) -> Reply {
    let filters = query.filters()?;
    let report = to_the_end(async move { shared.engine.container_prune(&filters).await }).await?;
    Ok(json(StatusCode::OK, &report))
}

async fn remove(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    Params(query): Params,
) -> Reply {
    let options = ContainerRemove::from_query(&query);
    to_the_end(async move { shared.engine.container_remove(&id, options).await }).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

async fn inspect(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    Params(query): Params,
) -> Reply {
    let found = shared.engine.container_inspect(&id, query.bool("size"));
    Ok(json(StatusCode::OK, &found.await?))
}

async fn start(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    Params(query): Params,
    request: Request,
) -> Reply {
    if !query.get("checkpoint").is_empty() {
        let why = "checkpoint is only supported in experimental mode";
        return Err(ApiError::invalid(why));
    }
    let length = request.body().size_hint().exact();
    // like dockerd: `null` and `{}` with some white space are let through
    if length.is_none_or(|length| length > 7) {
        let why = "starting container with non-empty request body was deprecated since API v1.22 \
                   and removed in v1.24";
        return Err(ApiError::invalid(why));
    }
    to_the_end(async move { shared.engine.container_start(&id).await }).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

async fn stop(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    Params(query): Params,
) -> Reply {
    let options = Stop::from_query(&query)?;
    let hint = to_the_end(async move { shared.engine.container_stop(&id, &options).await });
    Ok(with_hint(hint.await?))
}

async fn restart(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    Params(query): Params,
) -> Reply {
    let options = Stop::from_query(&query)?;
    let hint = to_the_end(async move { shared.engine.container_restart(&id, &options).await });
    Ok(with_hint(hint.await?))
}

/// An answer without a body, and a word for people in a header that other clients do not look for.
fn with_hint(hint: Option<String>) -> Response {
    let mut response = empty(StatusCode::NO_CONTENT);
    if let Some(value) = hint.and_then(|hint| HeaderValue::try_from(hint).ok()) {
        response
            .headers_mut()
            .insert(HeaderName::from_static(api::HINT_HEADER), value);
    }
    response
}

async fn kill(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    Params(query): Params,
) -> Reply {
    let signal = query.get("signal").to_owned();
    to_the_end(async move { shared.engine.container_kill(&id, given(&signal)).await }).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

async fn pause(State(shared): State<Shared>, Path(id): Path<String>) -> Reply {
    to_the_end(async move { shared.engine.container_pause(&id).await }).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

async fn unpause(State(shared): State<Shared>, Path(id): Path<String>) -> Reply {
    to_the_end(async move { shared.engine.container_unpause(&id).await }).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

async fn rename(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    Params(query): Params,
) -> Reply {
    let name = query.get("name").to_owned();
    to_the_end(async move { shared.engine.container_rename(&id, &name).await }).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

async fn update(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    Json(request): Json<UpdateRequest>,
) -> Reply {
    let update = async move { shared.engine.container_update(&id, request).await };
    Ok(json(StatusCode::OK, &to_the_end(update).await?))
}

/// The answer's head goes out when the wait has begun: a client that starts the container after it
/// has seen the head cannot miss its end.
async fn wait(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    Params(query): Params,
) -> Reply {
    let condition = WaitCondition::from_query(&query)?;
    let waiter = shared.engine.container_wait(&id, condition)?;
    let closing = shared.closing;
    Ok(body::stream(
        JSON,
        stream::once(async move {
            tokio::select! {
                response = waiter.wait() => match serde_json::to_vec(&response) {
                    Ok(text) => Ok(Bytes::from(text)),
                    Err(error) => Err(BodyError::new(error.to_string())),
                },
                () = closing.wait() => Err(BodyError::new("the engine ends")),
            }
        }),
    ))
}

async fn resize(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    Params(query): Params,
) -> Reply {
    let Resize { height, width } = Resize::from_query(&query)?;
    shared.engine.container_resize(&id, height, width).await?;
    Ok(empty(StatusCode::OK))
}

async fn top(State(shared): State<Shared>, Path(id): Path<String>, Params(query): Params) -> Reply {
    let processes = shared.engine.container_top(&id, query.get("ps_args"));
    Ok(json(StatusCode::OK, &processes.await?))
}

async fn logs(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    Extension(version): Extension<ApiVersion>,
    headers: HeaderMap,
    Params(query): Params,
) -> Reply {
    let options = Logs::from_query(&query)?;
    let following = following(&headers);
    let opening = shared.engine.container_logs(&id, options, following);
    let reader = opening.await?;
    let content_type = hijack::content_type(reader.tty, version);
    Ok(body::stream(
        content_type,
        hijack::log(reader, shared.closing),
    ))
}

/// How long a client wants to follow: people who have typed `logs -f` do not care how often the
/// container is restarted meanwhile. Compose and others watch the events and follow anew at each
/// start.
fn following(headers: &HeaderMap) -> Following {
    let agent = headers
        .get(USER_AGENT)
        .and_then(|agent| agent.to_str().ok());
    let typed = ["Docker-Client/", "gorae/"];
    match agent {
        Some(agent) if typed.iter().any(|name| agent.starts_with(name)) => Following::Container,
        _ => Following::Run,
    }
}

async fn attach(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    Extension(version): Extension<ApiVersion>,
    request: Request,
) -> Result<Response, ApiError> {
    let (mut parts, _) = request.into_parts();
    let query = Query::parse(parts.uri.query().unwrap_or_default())?;
    let mut wanted = Attach::from_query(&query);
    let keys = detach_keys(&wanted)?;
    let on_detach = tell_detached(&shared, &id);
    let ask = Ask::new(&mut parts, version, keys, on_detach);
    // without the connection there is no way for input
    wanted.stdin &= ask.upgrade.is_some();
    let attachment = shared.engine.container_attach(&id, &wanted).await?;
    Ok(hijack::answer(ask, attachment, shared.closing))
}

async fn attach_by_websocket(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    Extension(version): Extension<ApiVersion>,
    request: Request,
) -> Result<Response, ApiError> {
    let (mut parts, _) = request.into_parts();
    let query = Query::parse(parts.uri.query().unwrap_or_default())?;
    let mut wanted = Attach::from_query(&query);
    if version < ApiVersion::one(42) {
        (wanted.stdin, wanted.stdout, wanted.stderr) = (true, true, true);
    }
    let keys = detach_keys(&wanted)?;
    let offer = Offer::new(&mut parts, version).or_else(|refusal| {
        // which container is asked for is the first question
        shared
            .engine
            .container_wait(&id, WaitCondition::NotRunning)?;
        Err(refusal)
    })?;
    let on_detach = tell_detached(&shared, &id);
    let attachment = shared.engine.container_attach(&id, &wanted).await?;
    Ok(offer.take(attachment, keys, on_detach, shared.closing))
}

fn detach_keys(wanted: &Attach) -> Result<DetachKeys, ApiError> {
    let keys = &wanted.detach_keys;
    DetachKeys::parse(keys)
        .map_err(|_| ApiError::invalid(format!("Invalid detach keys ({keys}) provided")))
}

fn tell_detached(shared: &Shared, id: &str) -> OnDetach {
    let (engine, id) = (Arc::clone(&shared.engine), id.to_owned());
    OnDetach::new(move || engine.container_detached(&id))
}
