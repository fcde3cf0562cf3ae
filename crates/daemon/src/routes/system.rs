//! The engine itself.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use api::event::Message;
use api::query::{DiskUsageTypes, Events, Query};
use api::registry::AuthConfig;
use api::system::Info;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use bytes::Bytes;
use engine::{CheckRequest, Subscription};
use futures_util::{Stream, StreamExt, stream};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, PRAGMA};
use http::{Method, StatusCode};
use tokio::sync::broadcast::error::RecvError;

use super::{Shared, to_the_end};
use crate::body::{self, BodyError, JSON, json};
use crate::error::{ApiError, Reply};
use crate::events::Choice;
use crate::request::{Json, Params};
use crate::version::ApiVersion;

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/_ping", get(ping))
        .route("/version", get(version))
        .route("/info", get(info))
        .route("/events", get(events))
        .route("/system/df", get(disk_usage))
        .route("/auth", post(auth))
        .route("/gorae/system/check", post(check))
}

async fn ping(method: Method) -> Response {
    let headers = [
        (CACHE_CONTROL, "no-cache, no-store, must-revalidate"),
        (PRAGMA, "no-cache"),
        (CONTENT_TYPE, "text/plain; charset=utf-8"),
    ];
    // to the question for the head alone dockerd announces no body either
    let text = if method == Method::HEAD { "" } else { "OK" };
    let state = [("builder-version", "2"), ("swarm", "inactive")];
    (headers, state, text).into_response()
}

async fn version(State(shared): State<Shared>) -> Reply {
    Ok(json(StatusCode::OK, &shared.engine.version()))
}

async fn info(State(shared): State<Shared>, Extension(version): Extension<ApiVersion>) -> Reply {
    let mut info = shared.engine.info()?;
    for_older_clients(&mut info, version);
    Ok(json(StatusCode::OK, &info))
}

/// Adds what answers held before a version took it away.
fn for_older_clients(info: &mut Info, version: ApiVersion) {
    if version < ApiVersion::one(50) {
        info.bridge_nf_iptables.get_or_insert(false);
        info.bridge_nf_ip6tables.get_or_insert(false);
    }
    if version < ApiVersion::one(49) {
        for commit in [
            &mut info.containerd_commit,
            &mut info.runc_commit,
            &mut info.init_commit,
        ] {
            commit.expected.clone_from(&commit.id);
        }
        if let Some(registries) = &mut info.registry_config {
            registries.allow_nondistributable_cidrs = Some(serde_json::Value::Null);
            registries.allow_nondistributable_names = Some(serde_json::Value::Null);
        }
    }
    if version < ApiVersion::one(42) {
        info.kernel_memory = info.kernel_memory_tcp;
    }
    if version < ApiVersion::one(25) {
        // before there were names with values
        for option in info.security_options.iter_mut().flatten() {
            let name = option.strip_prefix("name=").unwrap_or(option);
            *option = name.split(',').next().unwrap_or_default().to_owned();
        }
    }
}

async fn disk_usage(
    State(shared): State<Shared>,
    Extension(version): Extension<ApiVersion>,
    Params(query): Params,
) -> Reply {
    // before 1.42 everything was told, whatever was asked
    let types = if version < ApiVersion::one(42) {
        DiskUsageTypes::from_query(&Query::default())?
    } else {
        DiskUsageTypes::from_query(&query)?
    };
    let mut usage = shared.engine.disk_usage(&types).await?;
    if types.build_cache {
        usage.build_cache = Some(super::build_cache::usage(&shared.builder).await?);
    }
    if version < ApiVersion::one(42) {
        let records = usage.build_cache.iter().flatten();
        usage.builder_size = Some(records.filter_map(|record| record["Size"].as_i64()).sum());
    }
    Ok(json(StatusCode::OK, &usage))
}

async fn auth(State(shared): State<Shared>, Json(credentials): Json<AuthConfig>) -> Reply {
    let response = shared.engine.auth_check(&credentials).await?;
    Ok(json(StatusCode::OK, &response))
}

/// Compares what the engine remembers with what is there; with `repair` it mends what differs.
async fn check(State(shared): State<Shared>, Params(query): Params) -> Reply {
    let request = CheckRequest {
        repair: query.bool("repair"),
        deep: query.bool("deep"),
    };
    let report = to_the_end(async move { shared.engine.system_check(request).await }).await?;
    Ok(json(StatusCode::OK, &report))
}

async fn events(State(shared): State<Shared>, Params(query): Params) -> Result<Response, ApiError> {
    let choice = Choice::new(Events::from_query(&query)?);
    let left = choice.until().map(time_until);
    let Subscription { past, live } = shared.engine.events();
    let past: Vec<Message> = past
        .into_iter()
        .filter(|event| choice.includes_past(event))
        .collect();
    let end = async move {
        match left {
            Some(left) => tokio::time::sleep(left).await,
            None => std::future::pending().await,
        }
    };
    let closing = shared.closing;
    let live = following(live, choice)
        .take_until(end)
        .take_until(async move { closing.wait().await });
    let events = stream::iter(past).chain(live).map(|event| line(&event));
    Ok(body::stream(JSON, events))
}

/// How long it is until a point in time; nothing when it has passed.
fn time_until(nanoseconds: i64) -> Duration {
    let target = UNIX_EPOCH + Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(0));
    target.duration_since(SystemTime::now()).unwrap_or_default()
}

fn following(
    live: tokio::sync::broadcast::Receiver<Message>,
    choice: Choice,
) -> impl Stream<Item = Message> {
    stream::unfold((live, choice), |(mut live, choice)| async move {
        loop {
            match live.recv().await {
                Ok(event) if choice.includes(&event) => return Some((event, (live, choice))),
                Ok(_) => {}
                Err(RecvError::Lagged(lost)) => {
                    tracing::warn!(lost, "a client reads events too slowly and lost some");
                }
                Err(RecvError::Closed) => return None,
            }
        }
    })
}

fn line(event: &Message) -> Result<Bytes, BodyError> {
    let mut text = serde_json::to_vec(event).map_err(|error| BodyError::new(error.to_string()))?;
    text.push(b'\n');
    Ok(text.into())
}
