//! One blob's upload: in one piece, and from where it broke.

use http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use oci::image::Descriptor;

use super::body::Gauge;
use super::{Begun, BlobSource};
use crate::answer::{Answer, method_name};
use crate::challenge::parse;
use crate::client::{Ping, Repository};
use crate::error::RegistryError;
use crate::exchange::{Message, Payload};
use crate::location::{Origin, is_https, shown};
use crate::net::TransportError;
use crate::retry::{Backoff, is_passing, retry_after};

/// An upload and how much of it the registry has.
#[derive(Clone, Debug)]
struct Session {
    location: Uri,
    offset: u64,
}

/// What one try ended in.
enum Tried {
    Done,
    /// Another try may succeed, after the pause that the registry asks for.
    Again(RegistryError, Option<std::time::Duration>),
}

impl Repository {
    /// Uploads a blob, again and again while that may help.
    pub(super) async fn upload(
        &self,
        blob: &Descriptor,
        source: &BlobSource,
        begun: Option<Uri>,
    ) -> Result<(), RegistryError> {
        let policy = self.client.shared.config.retry;
        let mut backoff = Backoff::new(policy);
        let mut session = begun.map(|location| Session {
            location,
            offset: 0,
        });
        for _ in 0..=policy.resumes {
            let current = match session.take() {
                Some(session) => session,
                None => self.new_session(blob).await?,
            };
            let tried = self.attempt(blob, source, &current).await;
            // a source that cannot be read is no fault of the registry, and no cause to try again
            if let Some(source) = source.take_failure() {
                let digest = blob.digest.clone();
                return Err(RegistryError::Source { digest, source });
            }
            let (error, asked) = match tried? {
                Tried::Done => return Ok(()),
                Tried::Again(error, asked) => (error, asked),
            };
            session = self.position(&current, blob).await;
            if session.as_ref().is_some_and(|s| s.offset > current.offset) {
                // progress: the next failure is the first again
                backoff = Backoff::new(policy);
            }
            let Some(pause) = backoff.next_pause(asked) else {
                return Err(error);
            };
            tracing::debug!(digest = %blob.digest, ?pause, %error, "repeating an upload");
            tokio::time::sleep(pause).await;
        }
        Err(RegistryError::Short {
            what: "filesystem layer",
            digest: blob.digest.clone(),
            expected: blob.size,
            received: source.sent(),
        })
    }

    async fn new_session(&self, blob: &Descriptor) -> Result<Session, RegistryError> {
        match self.begin(blob, None).await? {
            Begun::Session(location) => Ok(Session {
                location,
                offset: 0,
            }),
            // nothing was to be mounted; `begin` does not say so without a repository
            Begun::Mounted => Err(RegistryError::RegistryName {
                name: self.reference.name(),
            }),
        }
    }

    /// Sends all, or the rest and the closing request.
    async fn attempt(
        &self,
        blob: &Descriptor,
        source: &BlobSource,
        session: &Session,
    ) -> Result<Tried, RegistryError> {
        if session.offset == 0 {
            let uri = closing(&session.location, blob)
                .ok_or_else(|| self.bad_location(&session.location))?;
            let result = self.send(Method::PUT, uri, blob, source, 0).await;
            return self.judge(result).await.map(|(tried, _)| tried);
        }
        let patch = self
            .send(
                Method::PATCH,
                session.location.clone(),
                blob,
                source,
                session.offset,
            )
            .await;
        let (tried, answer) = self.judge(patch).await?;
        let Some(answer) = answer else {
            return Ok(tried);
        };
        let next = self
            .location_of(&answer)
            .unwrap_or_else(|_| session.location.clone());
        let uri = closing(&next, blob).ok_or_else(|| self.bad_location(&next))?;
        let result = self.send(Method::PUT, uri, blob, source, blob.size).await;
        self.judge(result).await.map(|(tried, _)| tried)
    }

    async fn judge(
        &self,
        result: Result<Answer, RegistryError>,
    ) -> Result<(Tried, Option<Answer>), RegistryError> {
        match result {
            Ok(answer) if answer.status.is_success() => Ok((Tried::Done, Some(answer))),
            Ok(answer) if may_pass(answer.status) => {
                let asked = retry_after(&answer.headers);
                Ok((Tried::Again(answer.into_error().await, asked), None))
            }
            Ok(answer) => Err(self.push_refusal(answer).await),
            Err(error) if is_worth_more(&error) => Ok((Tried::Again(error, None), None)),
            Err(error) => Err(error),
        }
    }

    /// Sends the bytes from `offset` on, once more where the registry wants other credentials.
    async fn send(
        &self,
        method: Method,
        uri: Uri,
        blob: &Descriptor,
        source: &BlobSource,
        offset: u64,
    ) -> Result<Answer, RegistryError> {
        let ping = self.client.ping(self.reference.domain()).await?;
        if is_https(&ping.base.uri) && !is_https(&uri) && !ping.base.insecure {
            return Err(self.bad_location(&uri));
        }
        let own = Origin::of(&uri).is_some_and(|origin| origin == ping.base.origin);
        let mut message = Message::new(method, uri);
        message.headers = headers(offset, blob.size);
        let scope = self.push_scope(None);
        if own {
            message.authorization = self.credentials_for(&ping, &message, &scope, None).await?;
        }
        let exchange = &self.client.shared.exchange;
        let (body, gauge) = source.body(offset, blob.size);
        let answer = exchange.upload(&message, body, &gauge).await?;
        if answer.status != StatusCode::UNAUTHORIZED || !own {
            return Ok(answer);
        }
        let better = self
            .credentials_for(&ping, &message, &scope, Some(&answer))
            .await?;
        if better.is_none() {
            return Ok(answer);
        }
        drop(answer);
        message.authorization = better;
        let (body, gauge) = source.body(offset, blob.size);
        exchange.upload(&message, body, &gauge).await
    }

    /// The header for what the registry is known to want, or for what it says now that it wants.
    async fn credentials_for(
        &self,
        ping: &Ping,
        message: &Message,
        scope: &str,
        refusal: Option<&Answer>,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        let claim = self.claim(ping, scope);
        let Some(refusal) = refusal else {
            return self
                .client
                .header(&ping.challenges, message, claim, None)
                .await;
        };
        let challenges = parse(&refusal.headers);
        let rejected = message.authorization.as_ref();
        self.client
            .header(&challenges, message, claim, rejected)
            .await
    }

    /// Sends a body that cannot be sent again, with what the registry is known to want.
    pub(super) async fn send_once(
        &self,
        method: Method,
        uri: Uri,
        headers: HeaderMap,
        (body, gauge): (Payload, Gauge),
    ) -> Result<Answer, RegistryError> {
        let ping = self.client.ping(self.reference.domain()).await?;
        if is_https(&ping.base.uri) && !is_https(&uri) && !ping.base.insecure {
            return Err(self.bad_location(&uri));
        }
        let own = Origin::of(&uri).is_some_and(|origin| origin == ping.base.origin);
        let mut message = Message::new(method, uri);
        message.headers = headers;
        let scope = self.push_scope(None);
        if own {
            message.authorization = self.credentials_for(&ping, &message, &scope, None).await?;
        }
        let exchange = &self.client.shared.exchange;
        exchange.upload(&message, body, &gauge).await
    }

    /// Says which blob was uploaded.
    pub(super) async fn close_upload(
        &self,
        location: &Uri,
        blob: &Descriptor,
        nothing: &BlobSource,
    ) -> Result<(), RegistryError> {
        let uri = closing(location, blob).ok_or_else(|| self.bad_location(location))?;
        let result = self.send(Method::PUT, uri, blob, nothing, blob.size).await;
        match self.judge(result).await?.0 {
            Tried::Done => Ok(()),
            Tried::Again(error, _) => Err(error),
        }
    }

    /// Gives an upload up that nobody needs; a registry forgets it by itself, too.
    pub(super) async fn abandon(&self, location: &Uri) {
        let Ok(ping) = self.client.ping(self.reference.domain()).await else {
            return;
        };
        let mut message = Message::new(Method::DELETE, location.clone());
        if Origin::of(&message.uri).is_none_or(|origin| origin != ping.base.origin) {
            return;
        }
        let scope = self.push_scope(None);
        if let Ok(authorization) = self.credentials_for(&ping, &message, &scope, None).await {
            message.authorization = authorization;
            if let Err(error) = self.client.shared.exchange.follow(&message).await {
                tracing::debug!(%error, "an upload that is not needed stays with the registry");
            }
        }
    }

    /// Asks how far a broken upload got. Nothing where it is better begun anew.
    async fn position(&self, session: &Session, blob: &Descriptor) -> Option<Session> {
        let ping = self.client.ping(self.reference.domain()).await.ok()?;
        let scope = self.push_scope(None);
        let mut message = Message::new(Method::GET, session.location.clone());
        message.downgrade = ping.base.insecure;
        let own = Origin::of(&message.uri).is_some_and(|origin| origin == ping.base.origin);
        if own {
            message.authorization = self
                .credentials_for(&ping, &message, &scope, None)
                .await
                .ok()?;
        }
        let answer = self.client.shared.exchange.follow(&message).await.ok()?;
        if answer.status != StatusCode::NO_CONTENT {
            return None;
        }
        let offset = received(answer.header(RANGE.as_str())?)?;
        // what is complete, or not begun, goes the plain way
        if offset == 0 || offset >= blob.size {
            return None;
        }
        let location = self
            .location_of(&answer)
            .unwrap_or_else(|_| session.location.clone());
        Some(Session { location, offset })
    }

    fn bad_location(&self, uri: &Uri) -> RegistryError {
        RegistryError::Exchange {
            method: method_name(&Method::PUT),
            url: shown(uri),
            source: Box::new(TransportError::BadRedirect {
                target: shown(uri),
                problem: "no blob is uploaded to such an address",
            }),
        }
    }
}

fn headers(offset: u64, size: u64) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    let left = size.saturating_sub(offset);
    headers.insert(CONTENT_LENGTH, HeaderValue::from(left));
    // the distribution specification's own form, without a unit
    if offset > 0
        && left > 0
        && let Ok(range) = HeaderValue::try_from(format!("{offset}-{}", size - 1))
    {
        headers.insert(CONTENT_RANGE, range);
    }
    headers
}

/// The address that ends an upload: the session's with the digest.
fn closing(location: &Uri, blob: &Descriptor) -> Option<Uri> {
    let separator = if location.query().is_some() { '&' } else { '?' };
    format!("{location}{separator}digest={}", blob.digest)
        .parse()
        .ok()
}

/// How many bytes `Range: 0-499` says; `0-0` is what registries say of an empty upload, too.
fn received(range: &str) -> Option<u64> {
    let range = range.trim();
    let range = range.strip_prefix("bytes=").unwrap_or(range);
    let (first, last) = range.split_once('-')?;
    let last: u64 = last.trim().parse().ok()?;
    match (first.trim(), last) {
        ("0", 0) => Some(0),
        ("0", last) => last.checked_add(1),
        _ => None,
    }
}

/// Besides what passes: an upload that the registry has forgotten, or has at another place.
fn may_pass(status: StatusCode) -> bool {
    is_passing(status)
        || status == StatusCode::NOT_FOUND
        || status == StatusCode::RANGE_NOT_SATISFIABLE
}

fn is_worth_more(error: &RegistryError) -> bool {
    matches!(error, RegistryError::Exchange { source, .. } if source.is_passing())
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci::Digest;

    #[test]
    fn ranges() {
        for (text, expect) in [
            ("0-0", Some(0)),
            ("0-499", Some(500)),
            ("bytes=0-9", Some(10)),
            ("5-9", None),
            ("0-", None),
            ("", None),
            ("0-18446744073709551615", None),
        ] {
            assert_eq!(received(text), expect, "{text}");
        }
    }

    #[test]
    fn addresses_get_the_digest() {
        let blob = Descriptor {
            media_type: String::new(),
            digest: Digest::from_sha256(&[0; 32]),
            size: 1,
            platform: None,
            annotations: std::collections::BTreeMap::new(),
        };
        for (location, separator) in [("http://r/u", '?'), ("http://r/u?_state=x%3D", '&')] {
            let uri = closing(&location.parse().unwrap(), &blob).unwrap();
            let expect = format!("{location}{separator}digest={}", blob.digest);
            assert_eq!(uri.to_string(), expect);
        }
    }
}
