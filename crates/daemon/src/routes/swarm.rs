//! Swarm: nodes, services, tasks, secrets and configs, as a dockerd that is in no swarm answers.
//!
//! A request is checked in dockerd's order, so that a wrong one gets the same answer as there: its
//! parameters and its body first, and only then that there is no swarm.

use api::query::Query;
use axum::Router;
use axum::routing::{get, post};
use http::StatusCode;
use serde_json::{Map, Value};

use super::Shared;
use crate::error::{ApiError, Reply};
use crate::request::{Json, Params, bool_strictly};

/// A body that has to be an object, or nothing.
type Object = Json<Option<Map<String, Value>>>;

pub(super) fn routes() -> Router<Shared> {
    let mut router = Router::new()
        .route("/swarm", get(no_swarm))
        .route("/swarm/init", post(init))
        .route("/swarm/join", post(init))
        .route("/swarm/leave", post(leave))
        .route("/swarm/update", post(update_swarm))
        .route("/swarm/unlock", post(no_swarm_for_body))
        .route("/swarm/unlockkey", get(no_swarm))
        .route("/services", get(services))
        .route("/services/{id}", get(service).delete(no_swarm))
        .route("/services/{id}/logs", get(logs))
        .route("/tasks/{id}", get(no_swarm))
        .route("/tasks/{id}/logs", get(logs))
        .route("/nodes/{id}", get(no_swarm).delete(no_swarm))
        .route("/secrets/{id}", get(no_swarm).delete(no_swarm))
        .route("/configs/{id}", get(no_swarm).delete(no_swarm));
    for family in ["nodes", "tasks", "secrets", "configs"] {
        router = router.route(&format!("/{family}"), get(list));
    }
    for family in ["services", "secrets", "configs"] {
        router = router.route(&format!("/{family}/create"), post(no_swarm_for_body));
    }
    for (family, what) in [
        ("nodes", Versioned::Told("node")),
        ("services", Versioned::Told("service")),
        ("secrets", Versioned::Untold("secret")),
        ("configs", Versioned::Untold("config")),
    ] {
        let path = format!("/{family}/{{id}}/update");
        let update = move |Params(query): Params, _: Object| async move { update(&query, what) };
        router = router.route(&path, post(update));
    }
    router
}

/// What has a version, and whether a wrong one is explained.
#[derive(Clone, Copy)]
enum Versioned {
    Told(&'static str),
    Untold(&'static str),
}

impl Versioned {
    fn check(self, query: &Query) -> Result<(), ApiError> {
        let text = query.get("version");
        let why = match text.parse::<u64>() {
            Ok(_) => return Ok(()),
            Err(error) if *error.kind() == std::num::IntErrorKind::PosOverflow => {
                "value out of range"
            }
            Err(_) => "invalid syntax",
        };
        Err(ApiError::invalid(match self {
            Self::Told(what) => format!(
                "invalid {what} version '{text}': strconv.ParseUint: parsing {text:?}: {why}"
            ),
            Self::Untold(what) => format!("invalid {what} version"),
        }))
    }
}

fn outside() -> ApiError {
    ApiError::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" \
         to connect this node to swarm and try again.",
    )
}

async fn no_swarm() -> ApiError {
    outside()
}

async fn no_swarm_for_body(_: Object) -> ApiError {
    outside()
}

async fn list(Params(query): Params) -> Reply {
    query.filters()?;
    Err(outside())
}

async fn services(Params(query): Params) -> Reply {
    query.filters()?;
    bool_strictly(&query, "status")?;
    Err(outside())
}

async fn service(Params(query): Params) -> Reply {
    bool_strictly(&query, "insertDefaults")?;
    Err(outside())
}

async fn logs(Params(query): Params) -> Reply {
    if !(query.bool("stdout") || query.bool("stderr")) {
        return Err(ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "Bad parameters: you must choose at least one stream",
        ));
    }
    Err(outside())
}

/// Where dockerd would make or join a swarm: nothing here can.
async fn init(Json(body): Object) -> ApiError {
    let address = body.as_ref().and_then(|body| body.get("ListenAddr"));
    match address.and_then(Value::as_str) {
        None | Some("") => ApiError::invalid("invalid ListenAddr \"\": invalid empty address"),
        Some(_) => ApiError::not_implemented("swarm mode"),
    }
}

async fn leave() -> ApiError {
    ApiError::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "This node is not part of a swarm",
    )
}

async fn update_swarm(Params(query): Params, _: Object) -> Reply {
    Versioned::Told("swarm").check(&query)?;
    for name in [
        "rotateWorkerToken",
        "rotateManagerToken",
        "rotateManagerUnlockKey",
    ] {
        if bool_strictly(&query, name).is_err() {
            let why = format!("invalid value for {name}: {}", query.get(name));
            return Err(ApiError::invalid(why));
        }
    }
    Err(outside())
}

fn update(query: &Query, what: Versioned) -> Reply {
    what.check(query)?;
    Err(outside())
}
