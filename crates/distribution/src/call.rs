//! A request to a repository, with the credentials that its registry wants.

use bytes::Bytes;
use http::header::ACCEPT;
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::answer::{Answer, method_name};
use crate::auth::{Asked, Claim};
use crate::challenge::{Challenge, parse};
use crate::client::{Client, Ping, Repository, Shared};
use crate::error::RegistryError;
use crate::exchange::Message;
use crate::location::shown;

/// A request to a repository, before it is known where its registry is.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub(crate) method: Method,
    /// Below `/v2/<repository>/`, with its query.
    pub(crate) path: &'a str,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// What a token has to allow.
    pub(crate) scope: &'a str,
}

impl Repository {
    /// Sends a request that reads to a path below `/v2/<repository>/`.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
    ) -> Result<Answer, RegistryError> {
        let scope = format!("repository:{}:pull", self.reference.path());
        self.request(Request {
            method,
            path,
            headers,
            body: Bytes::new(),
            scope: &scope,
        })
        .await
    }

    /// Sends a request; a failure tells which file has decided where to.
    pub(crate) async fn request(&self, request: Request<'_>) -> Result<Answer, RegistryError> {
        let result = self.send_request(request).await;
        let Err(error) = result else {
            return result;
        };
        let own = matches!(error, RegistryError::Hosts(_));
        match self.client.decided_by(self.domain()).filter(|_| !own) {
            Some(file) => Err(RegistryError::Configured {
                file,
                source: Box::new(error),
            }),
            None => Err(error),
        }
    }

    async fn send_request(&self, request: Request<'_>) -> Result<Answer, RegistryError> {
        let ping = self.client.ping(self.domain()).await?;
        let mut whole = format!("/{}/{}", self.reference.path(), request.path);
        if let Some(registry) = self.stands_for() {
            let separator = if whole.contains('?') { '&' } else { '?' };
            whole.push_str(&format!("{separator}ns={registry}"));
        }
        let uri = ping
            .base
            .api(&whole)
            .ok_or_else(|| RegistryError::RegistryName {
                name: self.reference.name(),
            })?;
        let mut message = Message::new(request.method, uri);
        message.headers = request.headers;
        message.body = request.body;
        message.downgrade = ping.base.insecure;
        let claim = self.claim(&ping, request.scope);
        let result = self.client.authorized(&ping, message, claim).await;
        if matches!(result, Err(RegistryError::Exchange { .. })) {
            self.client.forget(self.domain());
        }
        result
    }

    /// Who asks, and for what.
    pub(crate) fn claim<'a>(&'a self, ping: &Ping, scope: &'a str) -> Claim<'a> {
        Claim {
            credentials: self.credentials.as_deref(),
            scope,
            insecure: ping.base.insecure,
            offline: false,
        }
    }
}

impl Client {
    /// Sends a request with what the registry is known to want, and once more with what it says
    /// that it wants when it refuses.
    pub(crate) async fn authorized(
        &self,
        ping: &Ping,
        mut message: Message,
        claim: Claim<'_>,
    ) -> Result<Answer, RegistryError> {
        let first = self.header(&ping.challenges, &message, claim, None).await?;
        message.authorization = first;
        let answer = self.shared.exchange.patient(&message).await?;
        // Another host's challenge is not for this registry's credentials.
        if answer.status != StatusCode::UNAUTHORIZED || answer.elsewhere {
            return Ok(answer);
        }
        let challenges = parse(&answer.headers);
        let rejected = message.authorization.clone();
        let better = self
            .header(&challenges, &message, claim, rejected.as_ref())
            .await?;
        if better.is_none() {
            return Ok(answer);
        }
        drop(answer);
        message.authorization = better;
        self.shared.exchange.patient(&message).await
    }

    pub(crate) async fn header(
        &self,
        challenges: &[Challenge],
        message: &Message,
        claim: Claim<'_>,
        rejected: Option<&HeaderValue>,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        let asked = Asked {
            method: method_name(&message.method),
            url: &shown(&message.uri),
        };
        let Shared {
            exchange, tokens, ..
        } = &*self.shared;
        tokens
            .authorize(exchange, challenges, claim, rejected, &asked)
            .await
    }
}

/// An `Accept` header for these media types.
pub(crate) fn accept(media_types: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::try_from(media_types.join(", ")) {
        headers.insert(ACCEPT, value);
    }
    headers
}
