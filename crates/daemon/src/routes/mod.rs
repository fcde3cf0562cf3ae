//! The routes, a file a group.

mod archive;
mod build;
mod build_cache;
mod build_classic;
mod commit;
mod containers;
mod distribution;
mod exec;
mod images;
mod images_transfer;
mod networks;
mod plugins;
mod run;
mod stats;
mod swarm;
mod system;
mod unsupported;
mod volumes;

use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use builder::Builder;
use builder::control::Grpc;
use engine::Engine;
use http::{Method, StatusCode};
use tokio::sync::watch;

use crate::body::empty;
use crate::error::{ApiError, Reply};
use crate::metrics::{self, Requests};
use crate::seats::Seats;

/// What every route has.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) engine: Arc<Engine>,
    pub(crate) builder: Arc<Builder>,
    grpc: Grpc,
    closing: Closing,
    pub(crate) requests: Arc<Requests>,
    pub(crate) seats: Arc<Seats>,
}

impl Shared {
    pub(crate) fn new(
        engine: Arc<Engine>,
        builder: Arc<Builder>,
        closing: Closing,
        requests: Arc<Requests>,
        seats: Arc<Seats>,
    ) -> Self {
        Self {
            engine,
            grpc: Grpc::new(&builder),
            builder,
            closing,
            requests,
            seats,
        }
    }
}

/// Tells streams that the daemon ends.
#[derive(Clone, Debug)]
pub(crate) struct Closing(Option<watch::Receiver<bool>>);

impl Closing {
    pub(crate) fn new(receiver: watch::Receiver<bool>) -> Self {
        Self(Some(receiver))
    }

    /// One for streams that end by themselves.
    pub(crate) fn never() -> Self {
        Self(None)
    }

    /// Returns when the daemon ends.
    pub(crate) async fn wait(mut self) {
        if let Some(receiver) = &mut self.0 {
            // a sender that is gone is an end too
            drop(receiver.wait_for(|closing| *closing).await);
        } else {
            std::future::pending::<()>().await;
        }
    }
}

/// Makes the router of all routes.
pub(crate) fn router(shared: Shared) -> Router {
    let count = axum::middleware::from_fn_with_state(shared.clone(), metrics::count);
    all().layer(count).with_state(shared)
}

/// Makes the router of those who collect figures, over which nothing else can be asked.
pub(crate) fn metrics_router(shared: Shared) -> Router {
    Router::new()
        .route("/metrics", get(metrics::metrics))
        .fallback(not_found)
        .with_state(shared)
}

fn all() -> Router<Shared> {
    Router::new()
        .merge(system::routes())
        .merge(containers::routes())
        .merge(archive::routes())
        .merge(commit::routes())
        .merge(exec::routes())
        .merge(images::routes())
        .merge(distribution::routes())
        .merge(volumes::routes())
        .merge(networks::routes())
        .merge(run::routes())
        .merge(build::routes())
        .merge(build_cache::routes())
        .merge(build_classic::routes())
        .merge(swarm::routes())
        .merge(plugins::routes())
        .merge(unsupported::routes())
        .fallback(no_route)
        .method_not_allowed_fallback(no_route)
        .route("/metrics", get(metrics::metrics))
        .fallback(not_found)
        .method_not_allowed_fallback(not_found)
}

/// Dockerd's answer for paths and methods that it does not have.
pub(crate) async fn not_found() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "page not found")
}

/// Answers what no route takes; to the question which methods there are dockerd says nothing but yes.
async fn no_route(method: Method) -> Reply {
    if method == Method::OPTIONS {
        return Ok(empty(StatusCode::OK));
    }
    Err(not_found().await)
}

/// Empty text as nothing.
fn given(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// Lets work go on to its end although the client that asked for it may leave.
///
/// A request's future is dropped with its connection; what changes things must not stop half-way.
async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = engine::Result<T>> + Send + 'static,
) -> Result<T, ApiError> {
    match tokio::spawn(work).await {
        Ok(result) => result.map_err(ApiError::from),
        Err(error) => Err(ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("the engine failed on this request: {error}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_do_not_collide() {
        // a router panics when two of its paths are the same
        drop(all());
    }

    #[tokio::test]
    async fn closing() {
        let (sender, receiver) = watch::channel(false);
        let closing = Closing::new(receiver);
        let waiting = tokio::spawn(closing.clone().wait());
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        sender.send_replace(true);
        waiting.await.unwrap();
        drop(sender);
        closing.wait().await;
    }
}
