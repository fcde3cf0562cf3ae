//! The services over connections.

use std::sync::Arc;
use std::time::Duration;

use bollard_buildkit_proto::health::health_server::HealthServer;
use bollard_buildkit_proto::moby::buildkit::v1::control_server::ControlServer;
use bollard_buildkit_proto::moby::buildkit::v1::frontend::llb_bridge_server::LlbBridgeServer;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::body::Body;
use tonic::service::Routes;
use tower::ServiceExt;

use super::bridge::{Bridge, Bridges};
use super::content::Content;
use super::gateway::{Gateway, Whose};
use super::health::Health;
use super::service::Service;
use crate::Builder;

/// The paths of all services, as patterns of a router.
pub const METHODS: [&str; 4] = [
    "/moby.buildkit.v1.Control/{method}",
    "/moby.buildkit.v1.frontend.LLBBridge/{method}",
    "/containerd.services.content.v1.Content/{method}",
    "/grpc.health.v1.Health/{method}",
];
/// The largest message of a client; definitions hold Dockerfiles and inline files.
pub(super) const MAX_MESSAGE: usize = 64 << 20;
/// The largest message of a front end, as BuildKit has it.
const MAX_OF_FRONT_END: usize = 16 << 20;
/// Calls of one connection at a time.
const AT_ONCE: u32 = 256;
/// Bytes on their way that are not read yet, a call and a connection.
const WINDOWS: (u32, u32) = (1 << 20, 4 << 20);
/// How long a connection may be silent before it is asked whether it still lives, and to answer.
const ALIVE: Duration = Duration::from_secs(60);

/// The services.
#[derive(Debug, Clone)]
pub struct Grpc {
    routes: Routes,
}

impl Grpc {
    /// Makes the services of a build engine.
    #[must_use]
    pub fn new(builder: &Arc<Builder>) -> Self {
        let bridges = Arc::<Bridges>::default();
        let control = Service::new(Arc::clone(builder), Arc::clone(&bridges));
        let control = ControlServer::new(control).max_decoding_message_size(MAX_MESSAGE);
        let gateway =
            LlbBridgeServer::new(Gateway::new(Arc::clone(builder), Whose::Named(bridges)))
                .max_decoding_message_size(MAX_MESSAGE);
        let routes = Routes::new(control)
            .add_service(gateway)
            .add_service(Content::new(Arc::clone(&builder.history)))
            .add_service(HealthServer::new(Health))
            .prepare();
        Self { routes }
    }

    /// Makes the services of one front end, which is a program that nobody vouches for.
    pub(crate) fn of_front_end(builder: &Arc<Builder>, bridge: Arc<Bridge>) -> Self {
        let gateway = Gateway::new(Arc::clone(builder), Whose::One(bridge));
        let gateway = LlbBridgeServer::new(gateway).max_decoding_message_size(MAX_OF_FRONT_END);
        let routes = Routes::new(gateway)
            .add_service(HealthServer::new(Health))
            .prepare();
        Self { routes }
    }

    /// Answers one request of HTTP/2.
    pub async fn answer<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let request = request.map(|body| Body::new(body.map_err(Into::into)));
        match self.routes.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }

    /// Serves a connection to its end; once `closing` is over, no further call is taken.
    ///
    /// # Errors
    /// When the client does not speak HTTP/2, or the connection breaks.
    pub async fn serve<T>(
        &self,
        connection: T,
        closing: impl Future<Output = ()>,
    ) -> Result<(), hyper::Error>
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let grpc = self.clone();
        let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
            let grpc = grpc.clone();
            async move { Ok::<_, std::convert::Infallible>(grpc.answer(request).await) }
        });
        let mut server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        server
            .timer(TokioTimer::new())
            .max_concurrent_streams(AT_ONCE)
            .initial_stream_window_size(WINDOWS.0)
            .initial_connection_window_size(WINDOWS.1)
            .keep_alive_interval(ALIVE)
            .keep_alive_timeout(ALIVE);
        let serving = server.serve_connection(TokioIo::new(connection), service);
        tokio::pin!(serving, closing);
        tokio::select! {
            result = &mut serving => return result,
            () = &mut closing => serving.as_mut().graceful_shutdown(),
        }
        serving.await
    }
}
