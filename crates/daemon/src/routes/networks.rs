//! Networks.

use api::audit::Audit;
use api::network::{ConnectRequest, CreateRequest, DisconnectRequest, Network};
use axum::extract::{Path, State};
use axum::routing::{get, post};
use axum::{Extension, Router};
use http::StatusCode;

use super::{Shared, to_the_end};
use crate::body::{empty, json};
use crate::error::{ApiError, Reply};
use crate::request::{Json, Params, bool_strictly};
use crate::version::ApiVersion;

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/networks", get(list))
        .route("/networks/create", post(create))
        .route("/networks/prune", post(prune))
        .route("/networks/{id}", get(inspect).delete(remove))
        .route("/networks/{id}/connect", post(connect))
        .route("/networks/{id}/disconnect", post(disconnect))
        .route("/gorae/network/audit", get(audit))
}

async fn list(
    State(shared): State<Shared>,
    Extension(version): Extension<ApiVersion>,
    Params(query): Params,
) -> Reply {
    let mut networks = shared.engine.network_list(&query.filters()?)?;
    // before 1.28 a list told who is connected, and those clients look for it there
    if version < ApiVersion::one(28) {
        // one that was removed in between is left as the list has it
        for network in &mut networks {
            if let Ok(full) = shared.engine.network_inspect(&network.id) {
                *network = full;
            }
        }
    }
    Ok(json(StatusCode::OK, &networks))
}

async fn inspect(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    Params(query): Params,
) -> Reply {
    // it adds the services of a swarm: here there are none, so it changes nothing
    bool_strictly(&query, "verbose")?;
    let network = shared.engine.network_inspect(&id)?;
    if !in_scope(&network, query.get("scope")) {
        let why = format!("network {id} not found");
        return Err(ApiError::new(StatusCode::NOT_FOUND, why));
    }
    Ok(json(StatusCode::OK, &network))
}

fn in_scope(network: &Network, scope: &str) -> bool {
    scope.is_empty() || network.scope == scope
}

async fn create(
    State(shared): State<Shared>,
    Extension(version): Extension<ApiVersion>,
    Json(mut request): Json<CreateRequest>,
) -> Reply {
    // what older clients send there never had a meaning
    if version < ApiVersion::one(48) {
        request.enable_ipv4 = None;
    }
    let made = to_the_end(async move { shared.engine.network_create(request).await }).await?;
    Ok(json(StatusCode::CREATED, &made))
}

async fn connect(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    Json(request): Json<ConnectRequest>,
) -> Reply {
    to_the_end(async move { shared.engine.network_connect(&id, request).await }).await?;
    Ok(empty(StatusCode::OK))
}

async fn disconnect(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    Json(request): Json<DisconnectRequest>,
) -> Reply {
    to_the_end(async move { shared.engine.network_disconnect(&id, request).await }).await?;
    Ok(empty(StatusCode::OK))
}

async fn remove(State(shared): State<Shared>, Path(id): Path<String>) -> Reply {
    to_the_end(async move { shared.engine.network_remove(&id).await }).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

async fn prune(State(shared): State<Shared>, Params(query): Params) -> Reply {
    let filters = query.filters()?;
    let report = to_the_end(async move { shared.engine.network_prune(&filters).await }).await?;
    Ok(json(StatusCode::OK, &report))
}

async fn audit(State(shared): State<Shared>) -> Reply {
    let audit: Audit = shared.engine.network_audit().await?;
    Ok(json(StatusCode::OK, &audit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::query::Query;

    #[test]
    fn parameters_of_inspect() {
        let check = |text: &str, expect: Result<(), &str>| {
            let query = Query::parse(text).unwrap();
            let found = bool_strictly(&query, "verbose")
                .map(drop)
                .map_err(ApiError::into_message);
            assert_eq!(found, expect.map_err(str::to_owned), "{text}");
        };
        check("", Ok(()));
        check("verbose=1", Ok(()));
        check("verbose=False", Ok(()));
        check(
            "verbose=x",
            Err("invalid value for verbose: x: strconv.ParseBool: parsing \"x\": invalid syntax"),
        );
        let network = Network {
            scope: "local".into(),
            ..Network::default()
        };
        assert!(in_scope(&network, "") && in_scope(&network, "local"));
        assert!(!in_scope(&network, "swarm"));
    }
}
