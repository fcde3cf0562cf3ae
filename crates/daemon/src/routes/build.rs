//! BuildKit's protocols: gRPC over the connection of a request or as a request, and sessions.

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use builder::control::{Grpc, METHODS};
use builder::session::Head;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, StatusCode};
use hyper::ext::ReasonPhrase;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;

use super::{Closing, Shared};
use crate::error::{ApiError, Reply};

/// The one protocol that a connection becomes.
const H2C: HeaderValue = HeaderValue::from_static("h2c");

pub(super) fn routes() -> Router<Shared> {
    let mut router = Router::new()
        .route("/grpc", post(grpc))
        .route("/session", post(session));
    for path in METHODS {
        router = router.route(path, post(call));
    }
    router
}

/// A call of a client that speaks HTTP/2 from the start.
async fn call(State(shared): State<Shared>, request: Request) -> Response {
    shared.grpc.answer(request).await.map(Body::new)
}

/// Takes the connection out of a request, if it is to become HTTP/2.
fn upgrade(request: &mut Request) -> Result<OnUpgrade, ApiError> {
    let refuse = |message: String| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, message);
    match request.headers().get(UPGRADE) {
        None => return Err(refuse("no upgrade proto in request".to_owned())),
        Some(proto) if proto != H2C => {
            let proto = String::from_utf8_lossy(proto.as_bytes());
            return Err(refuse(format!("protocol {proto} not supported")));
        }
        Some(_) => {}
    }
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    upgrade.ok_or_else(|| refuse("handler does not support hijack".to_owned()))
}

fn switching() -> Response {
    let mut response = (
        StatusCode::SWITCHING_PROTOCOLS,
        [
            (CONNECTION, HeaderValue::from_static("Upgrade")),
            (UPGRADE, H2C),
        ],
    )
        .into_response();
    // Go's clients of these two look at the whole line
    let reason = ReasonPhrase::from_static(b"Switching Protocols");
    response.extensions_mut().insert(reason);
    response
}

async fn grpc(State(shared): State<Shared>, mut request: Request) -> Reply {
    let connection = upgrade(&mut request)?;
    let (grpc, closing) = (shared.grpc.clone(), shared.closing.clone());
    tokio::spawn(async move {
        if let Some(connection) = taken(connection).await {
            serve(&grpc, connection, closing).await;
        }
    });
    Ok(switching())
}

async fn serve(grpc: &Grpc, connection: TokioIo<Upgraded>, closing: Closing) {
    if let Err(error) = grpc.serve(connection, closing.wait()).await {
        tracing::debug!(%error, "a build client's connection broke");
    }
}

async fn session(State(shared): State<Shared>, mut request: Request) -> Reply {
    let connection = upgrade(&mut request)?;
    let head = Head::of_headers(request.headers());
    let (builder, closing) = (shared.builder.clone(), shared.closing.clone());
    tokio::spawn(async move {
        let Some(connection) = taken(connection).await else {
            return;
        };
        match builder.sessions.open(head, connection).await {
            Ok(opened) => tokio::select! {
                () = opened.end() => {}
                () = closing.wait() => {}
            },
            Err(error) => tracing::warn!(%error, "a session was not opened"),
        }
    });
    Ok(switching())
}

async fn taken(connection: OnUpgrade) -> Option<TokioIo<Upgraded>> {
    match connection.await {
        Ok(upgraded) => Some(TokioIo::new(upgraded)),
        Err(error) => {
            tracing::debug!(%error, "a connection was not handed over");
            None
        }
    }
}
