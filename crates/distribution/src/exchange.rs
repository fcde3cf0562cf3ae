//! One HTTP exchange: time limits, redirects, repetition. Knows no registry and makes no
//! credentials; it only carries an `Authorization` as far as it may go.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, LOCATION, PROXY_AUTHORIZATION, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::capture_connection;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::answer::{Answer, host_of, method_name, printable};
use crate::config::{ClientConfig, RetryPolicy, Timeouts};
use crate::endpoint::InsecureHosts;
use crate::error::RegistryError;
use crate::hosts::Hosts;
use crate::location::{Origin, is_https, join, shown};
use crate::net::{Connector, Proxies, TransportError, unwrap_transport};
use crate::push::body::Gauge;
use crate::retry::{Backoff, is_passing, is_used_up, retry_after};

/// As Go's client.
const REDIRECTS_MAX: usize = 10;
const IDLE: Duration = Duration::from_secs(30);

/// A request's body, in memory or on its way from a file.
pub(crate) type Payload = UnsyncBoxBody<Bytes, io::Error>;

/// A request that can be sent again.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Sent to the request's own origin only.
    pub(crate) authorization: Option<HeaderValue>,
    /// Whether a redirect may lead from https to http.
    pub(crate) downgrade: bool,
}

impl Message {
    pub(crate) fn new(method: Method, uri: Uri) -> Self {
        Self {
            method,
            uri,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            authorization: None,
            downgrade: false,
        }
    }

    /// The error of a request that got no answer.
    pub(crate) fn failed(&self, uri: &Uri, source: TransportError) -> RegistryError {
        RegistryError::Exchange {
            method: method_name(&self.method),
            url: shown(uri),
            source: Box::new(source),
        }
    }
}

/// Sends requests over pooled connections.
#[derive(Debug)]
pub(crate) struct Exchange {
    http: HttpClient<Connector, Payload>,
    proxies: Arc<Proxies>,
    hosts: Arc<Hosts>,
    user_agent: HeaderValue,
    timeouts: Timeouts,
    retry: RetryPolicy,
}

impl Exchange {
    pub(crate) fn new(
        config: &ClientConfig,
        insecure: Arc<InsecureHosts>,
        hosts: Arc<Hosts>,
    ) -> Self {
        let proxies = Arc::new(Proxies::new(&config.proxy));
        let connector = Connector::new(config, proxies.clone(), insecure, hosts.clone());
        let http = HttpClient::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(config.max_connections_per_host.max(1))
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .build(connector);
        Self {
            http,
            proxies,
            hosts,
            user_agent: HeaderValue::try_from(&config.user_agent)
                .unwrap_or_else(|_| HeaderValue::from_static("gorae")),
            timeouts: config.timeouts,
            retry: config.retry,
        }
    }

    /// Sends a request, follows redirects, and sends it again where that may help.
    pub(crate) async fn patient(&self, message: &Message) -> Result<Answer, RegistryError> {
        let mut backoff = Backoff::new(self.retry);
        loop {
            let result = self.follow(message).await;
            let asked = match &result {
                Ok(answer) if is_used_up(&answer.headers) => return result,
                Ok(answer) if is_passing(answer.status) => retry_after(&answer.headers),
                Err(RegistryError::Exchange { source, .. }) if source.is_passing() => None,
                _ => return result,
            };
            let Some(pause) = backoff.next_pause(asked) else {
                return result;
            };
            tracing::debug!(url = shown(&message.uri), ?pause, "repeating a request");
            drop(result);
            tokio::time::sleep(pause).await;
        }
    }

    /// Sends a request once and follows redirects.
    pub(crate) async fn follow(&self, message: &Message) -> Result<Answer, RegistryError> {
        let origin = Origin::of(&message.uri);
        let mut uri = message.uri.clone();
        let mut authorization = message.authorization.as_ref();
        for _ in 0..=REDIRECTS_MAX {
            let mut answer = self
                .once(message, &uri, authorization)
                .await
                .map_err(|source| message.failed(&uri, source))?;
            answer.elsewhere = Origin::of(&uri) != origin;
            let Some(target) = redirect_target(&answer, message) else {
                return Ok(answer);
            };
            let target = target.map_err(|source| message.failed(&uri, source))?;
            // Once a request has left its origin, the credentials stay behind for good.
            if Origin::of(&target) != origin {
                authorization = None;
            }
            uri = target;
        }
        let limit = REDIRECTS_MAX;
        Err(message.failed(&message.uri, TransportError::Redirects { limit }))
    }

    async fn once(
        &self,
        message: &Message,
        uri: &Uri,
        authorization: Option<&HeaderValue>,
    ) -> Result<Answer, TransportError> {
        let body = whole(message.body.clone());
        let request = self.request(message, uri, authorization, body);
        let response = self.head(request, &host_of(uri)).await?;
        Ok(Answer::new(
            response,
            &message.method,
            uri.clone(),
            self.timeouts,
        ))
    }

    /// Sends a request whose body is a stream, once. What may be sent again must be opened again,
    /// so repetition is the caller's.
    pub(crate) async fn upload(
        &self,
        message: &Message,
        body: Payload,
        gauge: &Gauge,
    ) -> Result<Answer, RegistryError> {
        let uri = &message.uri;
        let request = self.request(message, uri, message.authorization.as_ref(), body);
        let failed = |source| message.failed(uri, source);
        let response = self
            .head_behind(request, &host_of(uri), gauge)
            .await
            .map_err(failed)?;
        Ok(Answer::new(
            response,
            &message.method,
            uri.clone(),
            self.timeouts,
        ))
    }

    fn request(
        &self,
        message: &Message,
        uri: &Uri,
        authorization: Option<&HeaderValue>,
        body: Payload,
    ) -> Request<Payload> {
        let mut request = Request::new(body);
        *request.method_mut() = message.method.clone();
        *request.uri_mut() = uri.clone();
        let mut headers = message.headers.clone();
        // by origin, so that they go nowhere else, whatever redirects say
        if let Some(site) = Origin::of(uri).and_then(|origin| self.hosts.at(&origin)) {
            headers.extend(site.headers.clone());
        }
        headers.insert(USER_AGENT, self.user_agent.clone());
        if let Some(value) = authorization {
            headers.insert(AUTHORIZATION, value.clone());
        }
        if let Some(value) = self.proxies.authorization(uri) {
            headers.insert(PROXY_AUTHORIZATION, value);
        }
        *request.headers_mut() = headers;
        request
    }

    /// Waits for the head of the answer. The connection has time limits of its own, so the limit
    /// for the answer begins when there is one.
    async fn head(
        &self,
        mut request: Request<Payload>,
        host: &str,
    ) -> Result<http::Response<hyper::body::Incoming>, TransportError> {
        let mut connection = capture_connection(&mut request);
        let mut response = std::pin::pin!(self.http.request(request));
        let failed = |e| unwrap_transport(e, "waiting for the answer of", host);
        tokio::select! {
            done = &mut response => return done.map_err(failed),
            () = connected(&mut connection) => {}
        }
        let limit = self.timeouts.response;
        match tokio::time::timeout(limit, response).await {
            Ok(done) => done.map_err(failed),
            Err(_) => Err(TransportError::ResponseTimeout {
                host: host.to_owned(),
                limit,
            }),
        }
    }

    /// Waits for the head of the answer behind a long body: as long as the host takes of it, and
    /// behind its end as long as the host may need to put the whole away.
    async fn head_behind(
        &self,
        mut request: Request<Payload>,
        host: &str,
        gauge: &Gauge,
    ) -> Result<http::Response<hyper::body::Incoming>, TransportError> {
        let mut connection = capture_connection(&mut request);
        let mut response = std::pin::pin!(self.http.request(request));
        let failed = |e| unwrap_transport(e, "sending a blob to", host);
        tokio::select! {
            done = &mut response => return done.map_err(failed),
            () = connected(&mut connection) => {}
        }
        loop {
            let before = gauge.taken();
            let limit = if gauge.is_done() {
                self.timeouts.body
            } else {
                self.timeouts.stall
            };
            match tokio::time::timeout(limit, &mut response).await {
                Ok(done) => return done.map_err(failed),
                Err(_) if gauge.taken() != before => {}
                Err(_) => {
                    return Err(TransportError::UploadStalled {
                        host: host.to_owned(),
                        limit,
                        sent: before,
                    });
                }
            }
        }
    }
}

/// A body that is in memory.
pub(crate) fn whole(bytes: Bytes) -> Payload {
    let never = |never: Infallible| match never {};
    Full::new(bytes).map_err(never).boxed_unsync()
}

async fn connected(connection: &mut hyper_util::client::legacy::connect::CaptureConnection) {
    drop(connection.wait_for_connection_metadata().await);
}

/// Where an answer sends a request that may be repeated there.
fn redirect_target(answer: &Answer, message: &Message) -> Option<Result<Uri, TransportError>> {
    let redirects = [
        StatusCode::MOVED_PERMANENTLY,
        StatusCode::FOUND,
        StatusCode::SEE_OTHER,
        StatusCode::TEMPORARY_REDIRECT,
        StatusCode::PERMANENT_REDIRECT,
    ];
    let repeatable = message.method == Method::GET || message.method == Method::HEAD;
    if !repeatable || !redirects.contains(&answer.status) {
        return None;
    }
    let location = answer.header(LOCATION.as_str())?;
    let refused = |problem| TransportError::BadRedirect {
        target: printable(location),
        problem,
    };
    let Some(target) = join(&answer.uri, location) else {
        return Some(Err(refused("it is no http or https address")));
    };
    if is_https(&answer.uri) && !is_https(&target) && !message.downgrade {
        return Some(Err(refused("it leads from https to http")));
    }
    Some(Ok(target))
}
