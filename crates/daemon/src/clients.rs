//! Clients: accepting them, and answering what they ask.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::FutureExt;
use http::{Request, StatusCode};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tower::ServiceExt;

use crate::connection::Connection;
use crate::error::ApiError;
use crate::hang_up::HangUp;
use crate::listen::Socket;
use crate::seats::{Busy, Seat, Seats};
use crate::unread::ReadToEnd;
use crate::version;
use crate::web_page;

/// How long to wait when the host has no file descriptors left for a connection.
const EXHAUSTED: Duration = Duration::from_millis(20);
/// How many waiting connections give way then.
const MADE_ROOM: usize = 16;
/// The longest head of a request; what clients send is a few kilobytes, with filters and
/// credentials that hold whole tokens.
const HEAD_MAX: u32 = 256 << 10;
/// Requests of one connection at a time, over HTTP/2.
const AT_ONCE: u32 = 64;

/// What accepting needs: the API, and the places for those who use it.
#[derive(Debug)]
pub(crate) struct Clients {
    pub(crate) api: Api,
    pub(crate) seats: Arc<Seats>,
    pub(crate) graceful: GracefulShutdown,
}

impl Clients {
    /// Accepts clients of one socket for as long as it is polled.
    pub(crate) async fn accept(&self, socket: &Socket) {
        loop {
            match socket.accept().await {
                Ok(accepted) => {
                    let seat = self.seats.take();
                    let (api, watcher) = (self.api.clone(), self.graceful.watcher());
                    tokio::spawn(async move {
                        let greeted = tokio::select! {
                            greeted = accepted.greet() => greeted,
                            () = seat.lost() => return,
                        };
                        match greeted {
                            Ok(stream) => connection(stream, api, watcher, seat).await,
                            Err(error) => tracing::debug!(%error, "a client was not let in"),
                        }
                    });
                }
                Err(error) => {
                    tracing::error!(%error, "a client cannot be accepted");
                    self.seats.make_room(MADE_ROOM);
                    tokio::time::sleep(EXHAUSTED).await;
                }
            }
        }
    }
}

fn whole(body: Incoming) -> Body {
    Body::new(ReadToEnd::new(body))
}

/// Serves one connection; when the client is gone, what only it waits for is dropped.
async fn connection(stream: Connection, api: Api, watcher: Watcher, seat: Arc<Seat>) {
    let hang_up = match HangUp::new(&stream) {
        Ok(hang_up) => hang_up,
        Err(error) => {
            tracing::error!(%error, "a client cannot be watched");
            return;
        }
    };
    let own = Arc::clone(&seat);
    let is_open = matches!(stream, Connection::Tcp(_));
    let service = service_fn(move |request: Request<Incoming>| {
        let (api, busy) = (api.clone(), own.request());
        async move {
            let refused = is_open.then(|| web_page::refuse(request.headers()));
            let response = match refused {
                Some(Err(error)) => error.into_response(),
                Some(Ok(())) | None => api.answer(request.map(whole)).await,
            };
            let held = response.map(|body| Body::new(Held { body, _busy: busy }));
            Ok::<_, Infallible>(held)
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        // a client may end its side after the request and still wait for the answer; over TCP that
        // cannot be told from one that left, and Docker takes it for that
        .half_close(stream.tells_half_close())
        .max_buf_size(HEAD_MAX as usize);
    builder
        .http2()
        .max_header_list_size(HEAD_MAX)
        .max_concurrent_streams(AT_ONCE);
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
        () = seat.lost() => tracing::debug!("a connection that waited too long was ended"),
    }
}

/// An answer's body: until its end the connection is in use.
struct Held {
    body: Body,
    _busy: Busy,
}

impl http_body::Body for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The API as one service.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    router: Router,
}

impl Api {
    pub(crate) fn new(router: Router) -> Self {
        Self { router }
    }

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
    use crate::hijack::{self, Ask, OnDetach};
    use crate::routes::{self, Closing};
    use axum::routing::{get, post};
    use engine::Attachment;
    use http_body_util::BodyExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;

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

    /// Serves one end of a pair of sockets.
    fn serve(
        server: UnixStream,
        api: Api,
        graceful: &GracefulShutdown,
    ) -> tokio::task::JoinHandle<()> {
        let seat = Seats::new(crate::seats::Limits::default()).take();
        let stream = Connection::Unix(server);
        tokio::spawn(connection(stream, api, graceful.watcher(), seat))
    }

    async fn talk(input: &[u8], half_close: bool) -> String {
        let (mut client, server) = UnixStream::pair().unwrap();
        let graceful = GracefulShutdown::new();
        let task = serve(server, api(), &graceful);
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
        let task = serve(server, api(), &graceful);
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
            let keys = DetachKeys::parse("").unwrap();
            let ask = Ask::new(&mut parts, version, keys, OnDetach::new(|| ()));
            hijack::answer(ask, attachment, Closing::never())
        };
        let router = Router::new().route("/attach", post(attach));
        Api { router }
    }

    async fn attach(api: Api, head: &str, input: &[u8]) -> String {
        let (mut client, server) = UnixStream::pair().unwrap();
        let graceful = GracefulShutdown::new();
        let task = serve(server, api, &graceful);
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
    async fn heads_are_bounded() {
        let long = format!(
            "GET /a HTTP/1.1\r\nX: {}\r\n\r\n",
            "x".repeat(HEAD_MAX as usize)
        );
        let (mut client, server) = UnixStream::pair().unwrap();
        let graceful = GracefulShutdown::new();
        let task = serve(server, api(), &graceful);
        // what is above the bound is not read, and the connection is cut
        drop(client.write_all(long.as_bytes()).await);
        let mut status = [0; 12];
        client.read_exact(&mut status).await.unwrap();
        assert_eq!(&status, b"HTTP/1.1 431");
        task.await.unwrap();
        // hyper's own bound
        let headers: String = (0..=100).map(|n| format!("x-{n}: 1\r\n")).collect();
        let many = format!("GET /a HTTP/1.1\r\n{headers}\r\n");
        let text = talk(many.as_bytes(), false).await;
        assert!(text.starts_with("HTTP/1.1 431 "), "{text}");
    }

    #[tokio::test]
    async fn idle_connections_end_with_the_daemon() {
        let (mut client, server) = UnixStream::pair().unwrap();
        let graceful = GracefulShutdown::new();
        let task = serve(server, api(), &graceful);
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
