//! Serving connections until the daemon is told to end.

use std::convert::Infallible;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use engine::Engine;
use futures_util::FutureExt;
use http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tower::ServiceExt;

use crate::config::Config;
use crate::error::ApiError;
use crate::hang_up::HangUp;
use crate::listen::{self, ListenError, Socket};
use crate::routes::{self, Closing};
use crate::version;

/// How long requests that run may go on after the daemon was told to end.
const GRACE: Duration = Duration::from_secs(5);
/// How long to wait when the host has no file descriptors left for a connection.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// Why a daemon cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A socket cannot be made.
    #[error("listen for clients")]
    Listen(#[source] ListenError),
    /// Signals cannot be received.
    #[error("receive signals")]
    Signals(#[source] io::Error),
}

/// Serves the API on the configured sockets until SIGTERM or SIGINT.
///
/// Containers run on after the return; so do their logs and published ports.
///
/// # Errors
/// When a socket cannot be made or signals cannot be received.
pub async fn serve(engine: Arc<Engine>, config: &Config) -> Result<(), ServeError> {
    let group = listen::group(config.group.as_deref()).map_err(ServeError::Listen)?;
    listen::open_folder(&config.engine.run, group).map_err(ServeError::Listen)?;
    let sockets: Vec<Socket> = config
        .listen_paths()
        .iter()
        .map(|path| Socket::bind(path, group))
        .collect::<Result<_, _>>()
        .map_err(ServeError::Listen)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(ServeError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ServeError::Signals)?;
    for path in config.listen_paths() {
        tracing::info!(socket = %path.display(), "the engine listens");
    }
    let (close, closing) = watch::channel(false);
    let api = Api {
        router: routes::router(engine, Closing::new(closing)),
    };
    let graceful = GracefulShutdown::new();
    let name = run_until_signal(&sockets, &api, &graceful, &mut terminate, &mut interrupt).await;
    tracing::info!(signal = name, "the engine ends; containers run on");
    drop(sockets);
    close.send_replace(true);
    tokio::select! {
        () = graceful.shutdown() => {}
        () = tokio::time::sleep(GRACE) => {
            tracing::warn!(seconds = GRACE.as_secs(), "requests still ran and were cut off");
        }
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

async fn run_until_signal(
    sockets: &[Socket],
    api: &Api,
    graceful: &GracefulShutdown,
    terminate: &mut Signal,
    interrupt: &mut Signal,
) -> &'static str {
    let mut accepting = futures_util::future::join_all(
        sockets
            .iter()
            .map(|socket| accept(&socket.listener, api, graceful)),
    )
    .boxed();
    tokio::select! {
        _ = &mut accepting => "none",
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}

async fn accept(listener: &UnixListener, api: &Api, graceful: &GracefulShutdown) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(connection(stream, api.clone(), graceful.watcher()));
            }
            Err(error) => {
                tracing::error!(%error, "a client cannot be accepted");
                tokio::time::sleep(EXHAUSTED).await;
            }
        }
    }
}

/// Serves one connection; when the client is gone, what only it waits for is dropped.
async fn connection(stream: UnixStream, api: Api, watcher: Watcher) {
    let hang_up = match HangUp::new(&stream) {
        Ok(hang_up) => hang_up,
        Err(error) => {
            tracing::error!(%error, "a client cannot be watched");
            return;
        }
    };
    let service = service_fn(move |request: Request<Incoming>| {
        let api = api.clone();
        async move { Ok::<_, Infallible>(api.answer(request.map(Body::new)).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // a client may end its side after the request and still wait for the answer
    builder.http1().half_close(true);
    let serving = builder
        .serve_connection_with_upgrades(TokioIo::new(stream), service)
        .into_owned();
    tokio::select! {
        result = watcher.watch(serving) => {
            if let Err(error) = result {
                tracing::debug!(%error, "a client's connection broke");
            }
        }
        () = hang_up.wait() => {}
    }
}

/// The API as one service.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    router: Router,
}

impl Api {
    /// Answers a request, whatever happens.
    pub(crate) async fn answer(&self, mut request: Request<Body>) -> Response {
        let mut response = match version::split(request.uri()) {
            Ok((spoken, target)) => {
                if let Some(target) = target {
                    *request.uri_mut() = target;
                }
                request.extensions_mut().insert(spoken);
                self.route(request).await
            }
            Err(error) => error.into_response(),
        };
        version::sign(&mut response);
        response
    }

    async fn route(&self, request: Request<Body>) -> Response {
        let answer = AssertUnwindSafe(self.router.clone().oneshot(request)).catch_unwind();
        match answer.await {
            Ok(Ok(response)) => response,
            Ok(Err(never)) => match never {},
            // the panic's own message is in the log already
            Err(_) => ApiError::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the engine failed on this request: its log says where",
            )
            .into_response(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detach::DetachKeys;
    use crate::hijack::{self, Ask};
    use axum::routing::{get, post};
    use bytes::Bytes;
    use engine::Attachment;
    use http_body_util::BodyExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn panics() -> &'static str {
        panic!("a bug")
    }

    fn api() -> Api {
        let router = Router::new()
            .route("/a", get(|| async { "a" }))
            .route("/echo", post(|body: Bytes| async move { body }))
            .route("/slow", get(std::future::pending::<()>))
            .route("/panic", get(panics))
            .fallback(routes::not_found)
            .method_not_allowed_fallback(routes::not_found);
        Api { router }
    }

    async fn ask(method: &str, target: &str) -> (u16, String, Response<()>) {
        let request = Request::builder().method(method).uri(target);
        let response = api().answer(request.body(Body::empty()).unwrap()).await;
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        (parts.status.as_u16(), text, Response::from_parts(parts, ()))
    }

    #[tokio::test]
    async fn answers() {
        let (status, text, response) = ask("GET", "/v1.40/a").await;
        assert_eq!((status, text.as_str()), (200, "a"));
        assert_eq!(response.headers()["api-version"], "1.51");
        assert_eq!(response.headers()["ostype"], "linux");
        assert_eq!(response.headers()["docker-experimental"], "false");
        let not_found = (404, "{\"message\":\"page not found\"}\n");
        for (method, target) in [
            ("GET", "/b"),
            ("PUT", "/a"),
            ("GET", "/v1.51/"),
            ("GET", "/a/"),
        ] {
            let (status, text, _) = ask(method, target).await;
            assert_eq!((status, text.as_str()), not_found, "{method} {target}");
        }
        let (status, text, response) = ask("GET", "/v1.99/a").await;
        assert_eq!(status, 400);
        assert!(text.contains("too new"), "{text}");
        assert_eq!(response.headers()["api-version"], "1.51");
        assert_eq!(ask("GET", "/panic").await.0, 500);
    }

    async fn talk(input: &[u8], half_close: bool) -> String {
        let (mut client, server) = UnixStream::pair().unwrap();
        let graceful = GracefulShutdown::new();
        let task = tokio::spawn(connection(server, api(), graceful.watcher()));
        client.write_all(input).await.unwrap();
        if half_close {
            client.shutdown().await.unwrap();
        }
        let mut text = String::new();
        client.read_to_string(&mut text).await.unwrap();
        task.await.unwrap();
        text
    }

    #[tokio::test]
    async fn half_closed_clients_get_their_answer() {
        let text = talk(b"GET /a HTTP/1.1\r\nHost: d\r\n\r\n", true).await;
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
        assert!(text.ends_with("\r\n\r\na"), "{text}");
    }

    #[tokio::test]
    async fn gone_clients_are_noticed() {
        let (mut client, server) = UnixStream::pair().unwrap();
        let graceful = GracefulShutdown::new();
        let task = tokio::spawn(connection(server, api(), graceful.watcher()));
        client
            .write_all(b"GET /slow HTTP/1.1\r\nHost: d\r\n\r\n")
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        drop(client);
        tokio::time::timeout(Duration::from_secs(5), task)
            .await
            .unwrap()
            .unwrap();
    }

    /// An API whose container answers each input with itself, and ends with it.
    fn attached(tty: bool) -> Api {
        async fn container(mut io: UnixStream) {
            let mut text = Vec::new();
            io.read_to_end(&mut text).await.unwrap();
            io.write_all(b"got ").await.unwrap();
            io.write_all(&text).await.unwrap();
        }
        let attach = move |request: Request<Body>| async move {
            let (ours, theirs) = UnixStream::pair().unwrap();
            tokio::spawn(container(theirs));
            let attachment = Attachment {
                tty,
                past: None,
                io: Some(ours),
                settled: None,
            };
            let (mut parts, _) = request.into_parts();
            let version = *parts.extensions.get().unwrap();
            let ask = Ask::new(&mut parts, version, DetachKeys::parse("").unwrap());
            hijack::answer(ask, attachment, Closing::never())
        };
        let router = Router::new().route("/attach", post(attach));
        Api { router }
    }

    async fn attach(api: Api, head: &str, input: &[u8]) -> String {
        let (mut client, server) = UnixStream::pair().unwrap();
        let graceful = GracefulShutdown::new();
        let task = tokio::spawn(connection(server, api, graceful.watcher()));
        let request = format!("POST {head}\r\nHost: d\r\nContent-Length: 0\r\n\r\n");
        // the input comes with the head, as impatient clients send it
        let mut bytes = request.into_bytes();
        bytes.extend_from_slice(input);
        client.write_all(&bytes).await.unwrap();
        client.shutdown().await.unwrap();
        let mut text = String::new();
        client.read_to_string(&mut text).await.unwrap();
        task.await.unwrap();
        text
    }

    #[tokio::test]
    async fn hijacked_connections() {
        let head = "/v1.51/attach HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: tcp";
        let text = attach(attached(false), head, b"in\n").await;
        assert!(text.starts_with("HTTP/1.1 101 UPGRADED\r\n"), "{text}");
        let lower = text.to_ascii_lowercase();
        for header in [
            "content-type: application/vnd.docker.multiplexed-stream\r\n",
            "connection: upgrade\r\n",
            "upgrade: tcp\r\n",
            "api-version: 1.51\r\n",
        ] {
            assert!(lower.contains(header), "{text}");
        }
        assert!(text.ends_with("\r\n\r\ngot in\n"), "{text}");

        let head = "/v1.41/attach HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: tcp";
        let text = attach(attached(false), head, b"").await;
        assert!(text.contains("application/vnd.docker.raw-stream"), "{text}");

        let head = "/attach HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: tcp";
        let text = attach(attached(true), head, b"ab\x10\x11cd").await;
        assert!(!text.contains("got"), "the keys detach: {text}");
    }

    #[tokio::test]
    async fn without_an_upgrade_the_output_is_the_answer() {
        let text = attach(attached(false), "/attach HTTP/1.1", b"").await;
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
        assert!(text.contains("application/vnd.docker.raw-stream"), "{text}");
        assert!(text.contains("got "), "{text}");
    }

    #[tokio::test]
    async fn garbage_is_refused() {
        let text = talk(b"\x16\x03\x01 hello\r\n\r\n", false).await;
        assert!(text.starts_with("HTTP/1.1 400 "), "{text}");
    }

    #[tokio::test]
    async fn idle_connections_end_with_the_daemon() {
        let (mut client, server) = UnixStream::pair().unwrap();
        let graceful = GracefulShutdown::new();
        let task = tokio::spawn(connection(server, api(), graceful.watcher()));
        client
            .write_all(b"GET /a HTTP/1.1\r\nHost: d\r\n\r\n")
            .await
            .unwrap();
        let mut head = [0; 15];
        client.read_exact(&mut head).await.unwrap();
        tokio::time::timeout(Duration::from_secs(5), graceful.shutdown())
            .await
            .unwrap();
        task.await.unwrap();
    }
}
