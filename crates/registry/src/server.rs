//! A registry that listens: connections, requests, figures, collection by time, and its end.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response, header};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::access_log::Entry;
use crate::app::{App, OpenError};
use crate::auth::Who;
use crate::clients::{Clients, Place};
use crate::config::Config;
use crate::gc::{CollectError, Collected};
use crate::http::body::Body;
use crate::http::route::{Query, Route};
use crate::http::{Call, answer, challenged, refuse};
use crate::paced::Paced;
use crate::refusal::{Code, Refusal, chain};
use crate::{admin, clock, ident};

/// What HTTP/1 gathers of a body before it is taken, and holds back of an answer.
const HTTP1_BUFFER: usize = 256 << 10;
/// Requests at the same time on one HTTP/2 connection.
const HTTP2_STREAMS: u32 = 64;
/// What an HTTP/2 client may send ahead, of one request and of all.
const HTTP2_WINDOW: u32 = 1 << 20;
/// The pause after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A registry that cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The registry cannot be opened.
    #[error("open the registry")]
    Open(#[source] OpenError),
    /// An address cannot be listened on.
    #[error("listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The socket for commands cannot be made.
    #[error("listen for commands on {}", path.display())]
    Admin {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A registry that serves clients, on the runtime that it was started on.
#[derive(Debug)]
pub struct Server {
    app: Arc<App>,
    addresses: Vec<SocketAddr>,
    metrics: Option<SocketAddr>,
    admin: PathBuf,
    graceful: Arc<GracefulShutdown>,
    tasks: JoinSet<()>,
}

impl Server {
    /// Opens a registry and begins to serve it.
    ///
    /// # Errors
    /// When its folder, a file or an address cannot be had.
    pub async fn start(config: &Config) -> Result<Self, ServeError> {
        let own = config.clone();
        let opened = tokio::task::spawn_blocking(move || App::open(&own)).await;
        let app = match opened {
            Ok(app) => app.map_err(ServeError::Open)?,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        let app = Arc::new(app);
        let graceful = Arc::new(GracefulShutdown::new());
        let clients = Arc::new(Clients::default());
        let mut tasks = JoinSet::new();
        let mut addresses = Vec::new();
        for address in &config.listen {
            let (listener, address) = listen(*address).await?;
            addresses.push(address);
            let door = Door {
                app: Arc::clone(&app),
                clients: Arc::clone(&clients),
                graceful: Arc::clone(&graceful),
                figures: false,
            };
            tasks.spawn(door.accept(listener));
        }
        let mut metrics = None;
        if let Some(address) = config.metrics_address {
            let (listener, address) = listen(address).await?;
            metrics = Some(address);
            let door = Door {
                app: Arc::clone(&app),
                clients: Arc::default(),
                graceful: Arc::clone(&graceful),
                figures: true,
            };
            tasks.spawn(door.accept(listener));
        }
        let path = config.admin_socket();
        let socket = admin::listen(&path).map_err(|source| ServeError::Admin {
            path: path.clone(),
            source,
        })?;
        tasks.spawn(admin::serve(socket, Arc::clone(&app)));
        tasks.spawn(collect_by_time(Arc::clone(&app)));
        let client = distribution::Client::new(distribution::ClientConfig::from_env());
        app.hooks.forget_stale(&app.store.db, &app.metrics).await;
        for sender in app.hooks.senders(&client, &app) {
            tasks.spawn(sender);
        }
        Ok(Self {
            app,
            addresses,
            metrics,
            admin: path,
            graceful,
            tasks,
        })
    }

    /// Where clients connect, with the ports that were chosen.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where figures are.
    #[must_use]
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics
    }

    /// Takes new settings, as far as they can change while the registry runs.
    ///
    /// # Errors
    /// When they cannot be used; all goes on as it was then.
    pub fn reload(&self, config: &Config) -> Result<(), OpenError> {
        self.app.reload(config)
    }

    /// Ends: no new connections, and those that are open are closed after their request, or after a while.
    pub async fn stop(mut self, patience: Duration) {
        self.tasks.abort_all();
        while self.tasks.join_next().await.is_some() {}
        let _gone = std::fs::remove_file(&self.admin);
        if let Some(graceful) = Arc::into_inner(self.graceful) {
            let ended = tokio::time::timeout(patience, graceful.shutdown()).await;
            if ended.is_err() {
                tracing::warn!("requests still ran and were cut off; uploads can be resumed");
            }
        }
    }
}

/// Collects garbage in a registry's folder, with no server on it.
///
/// # Errors
/// When a server uses the folder, or the disk fails.
pub async fn collect(config: &Config, grace: Option<Duration>) -> Result<Collected, OfflineError> {
    let app = App::open(config).map_err(OfflineError::Open)?;
    match app.collect(grace).await {
        Some(result) => result.map_err(OfflineError::Collect),
        None => Ok(Collected::default()),
    }
}

/// A collection without a server that did not come about.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// The registry cannot be opened.
    #[error("open the registry")]
    Open(#[source] OpenError),
    /// The collection failed.
    #[error("collect")]
    Collect(#[source] CollectError),
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ServeError> {
    let failed = |source| ServeError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

async fn collect_by_time(app: Arc<App>) {
    loop {
        let gc = app.config().gc.clone();
        if gc.interval.0.is_zero() {
            // a reload may set it
            tokio::time::sleep(Duration::from_secs(60)).await;
            continue;
        }
        // claims of before the start are forgotten: until the grace is over, anything may be wanted
        tokio::time::sleep(gc.interval.0.max(gc.grace.0)).await;
        match app.collect(None).await {
            Some(Ok(taken)) => tracing::info!(
                manifests = taken.manifests,
                blobs = taken.blobs,
                bytes = taken.bytes,
                uploads = taken.uploads,
                "garbage was collected"
            ),
            Some(Err(error)) => tracing::error!(error = chain(&error), "the collection failed"),
            None => {}
        }
    }
}

/// One listener.
#[derive(Clone)]
struct Door {
    app: Arc<App>,
    clients: Arc<Clients>,
    graceful: Arc<GracefulShutdown>,
    figures: bool,
}

impl Door {
    async fn accept(self, listener: TcpListener) {
        // connections end with their own requests, not with this task
        loop {
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection cannot be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let limits = self.app.config().limits.clone();
            let address = peer.ip().to_canonical();
            let each = limits.connections_per_client;
            let Some(place) = self.clients.place(address, limits.connections, each) else {
                let refused = &self.app.metrics.refused_connections;
                refused.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            let seat = Seat::new(Arc::clone(&self.app), place);
            tokio::spawn(self.clone().greet(stream, peer, seat));
        }
    }

    async fn greet(self, stream: TcpStream, peer: SocketAddr, seat: Seat) {
        let _no_matter = stream.set_nodelay(true);
        let limits = self.app.config().limits.clone();
        let stream = Paced::new(stream, limits.stall.0);
        let acceptor = self.app.tls.as_ref().filter(|_| !self.figures);
        match acceptor.map(crate::tls::Tls::acceptor) {
            None => self.serve(stream, peer, seat).await,
            Some(acceptor) => {
                let shaken = tokio::time::timeout(limits.stall.0, acceptor.accept(stream)).await;
                match shaken {
                    Ok(Ok(stream)) => self.serve(stream, peer, seat).await,
                    Ok(Err(error)) => tracing::debug!(%peer, %error, "no TLS"),
                    Err(_) => tracing::debug!(%peer, "no TLS in time"),
                }
            }
        }
    }

    async fn serve<S>(self, stream: S, peer: SocketAddr, seat: Seat)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let idle = self.app.config().limits.idle.0;
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(idle)
            .max_buf_size(HTTP1_BUFFER);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(HTTP2_STREAMS)
            .initial_stream_window_size(HTTP2_WINDOW)
            .initial_connection_window_size(HTTP2_WINDOW)
            .max_send_buf_size(HTTP1_BUFFER)
            .keep_alive_interval(idle)
            .keep_alive_timeout(idle);
        let (app, clients, figures) = (self.app, self.clients, self.figures);
        let service = service_fn(move |request: Request<Incoming>| {
            let (app, clients) = (Arc::clone(&app), Arc::clone(&clients));
            async move {
                let response = match figures {
                    true => scrape(&app, &request),
                    false => handle(app, &clients, peer, request).await,
                };
                Ok::<_, std::convert::Infallible>(response)
            }
        });
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        let connection = self.graceful.watch(connection.into_owned());
        drop(self.graceful);
        if let Err(error) = connection.await {
            tracing::debug!(%peer, error = &*error, "a connection broke");
        }
        drop(seat);
    }
}

/// A connection that is counted.
struct Seat {
    app: Arc<App>,
    _place: Place,
}

impl Seat {
    fn new(app: Arc<App>, place: Place) -> Self {
        app.metrics.connections.fetch_add(1, Ordering::Relaxed);
        Self { app, _place: place }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.app.metrics.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

fn scrape(app: &Arc<App>, request: &Request<Incoming>) -> Response<Observed> {
    let response = match request.uri().path() {
        "/metrics" => {
            let kind = "text/plain; version=0.0.4; charset=utf-8";
            let mut response = Response::new(Body::whole(app.figures()));
            let kind = http::HeaderValue::from_static(kind);
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        _ => refuse(&crate::http::not_found()),
    };
    response.map(|body| Observed { body, note: None })
}

async fn handle(
    app: Arc<App>,
    clients: &Clients,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Response<Observed> {
    let (mut head, body) = request.into_parts();
    if let Some(authority) = head.uri.authority()
        && let Ok(host) = http::HeaderValue::from_str(authority.as_str())
    {
        // HTTP/2 has it elsewhere
        head.headers.entry(header::HOST).or_insert(host);
    }
    let route = Route::of(head.uri.path());
    let mut note = Note::new(&app, &head, &route, peer);
    let response = match admit(&app, clients, peer.ip().to_canonical(), &head.headers).await {
        Err(refusal) => {
            let refusal = challenged(refusal, &app, &head.headers, &route, &head.method);
            refuse(&refusal)
        }
        Ok(who) => {
            note.is_of(&who);
            let call = Call {
                app,
                method: head.method,
                query: Query::of(head.uri.query().unwrap_or_default()),
                headers: head.headers,
                who,
                peer,
                id: note.id.clone(),
            };
            answer(&call, &route, body).await
        }
    };
    note.status = response.status().as_u16();
    // an empty body is never asked for
    note.complete = response.body().size().exact() == Some(0);
    response.map(|body| Observed {
        body,
        note: Some(note),
    })
}

async fn admit(
    app: &App,
    clients: &Clients,
    address: IpAddr,
    headers: &http::HeaderMap,
) -> Result<Who, Refusal> {
    let limit = app.config().limits.requests_per_second;
    if let Err(wait) = clients.pace(address, limit) {
        let seconds = (wait.as_secs() + 1).to_string();
        let refusal = Refusal::new(Code::TooManyRequests, "too many requests");
        return Err(refusal.header(header::RETRY_AFTER, &seconds));
    }
    app.auth().identify(headers).await
}

/// What is told of a request when its answer has ended.
#[derive(Debug)]
struct Note {
    app: Arc<App>,
    begun: Instant,
    id: String,
    route: &'static str,
    method: http::Method,
    status: u16,
    sent: u64,
    complete: bool,
    line: Option<Box<Line>>,
}

/// What only the access log wants.
#[derive(Debug)]
struct Line {
    peer: SocketAddr,
    user: String,
    path: String,
    protocol: http::Version,
    agent: String,
}

impl Note {
    fn new(app: &Arc<App>, head: &Parts, route: &Route<'_>, peer: SocketAddr) -> Self {
        let line = app.log.is_some().then(|| {
            let agent = head.headers.get(header::USER_AGENT);
            let agent = agent.map(|value| String::from_utf8_lossy(value.as_bytes()));
            Box::new(Line {
                peer,
                user: String::new(),
                // a query may hold what nobody else should read
                path: head.uri.path().to_owned(),
                protocol: head.version,
                agent: agent.unwrap_or_default().into_owned(),
            })
        });
        Self {
            app: Arc::clone(app),
            begun: Instant::now(),
            id: ident::uuid().unwrap_or_default(),
            route: route.label(),
            method: head.method.clone(),
            status: 0,
            sent: 0,
            complete: false,
            line,
        }
    }

    fn is_of(&mut self, who: &Who) {
        if let Some(line) = &mut self.line {
            who.name().clone_into(&mut line.user);
        }
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        let took = self.begun.elapsed();
        let metrics = &self.app.metrics;
        metrics.answered(self.route, &self.method, self.status, took);
        if let (Some(log), Some(line)) = (&self.app.log, &self.line) {
            log.write(&Entry {
                time: clock::stamp(),
                id: &self.id,
                client: line.peer.to_string(),
                user: &line.user,
                method: self.method.as_str(),
                path: &line.path,
                route: self.route,
                protocol: &format!("{:?}", line.protocol),
                status: self.status,
                sent: self.sent,
                milliseconds: took.as_secs_f64() * 1000.0,
                agent: &line.agent,
                complete: self.complete,
            });
        }
    }
}

/// A body whose end is noted.
#[derive(Debug)]
struct Observed {
    body: Body,
    note: Option<Note>,
}

impl http_body::Body for Observed {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let polled = self.body.poll(cx);
        let rest = self.body.size().exact();
        if let Some(note) = &mut self.note {
            match &polled {
                Poll::Ready(Some(Ok(frame))) => {
                    let length = frame.data_ref().map_or(0, Bytes::len);
                    note.sent += length as u64;
                    note.app.metrics.sent(length);
                    note.complete = rest == Some(0);
                }
                Poll::Ready(Some(Err(error))) => {
                    let error = chain(error);
                    tracing::warn!(request = note.id, error, "an answer broke off");
                }
                Poll::Ready(None) => note.complete = true,
                Poll::Pending => {}
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.size().exact() == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size()
    }
}
