//! The `Authorization` that a registry wants: basic, or a token of its token server.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, StatusCode, Uri};
use serde::Deserialize;

use crate::answer::Answer;
use crate::challenge::{Bearer, Challenge};
use crate::credentials::Credentials;
use crate::error::RegistryError;
use crate::exchange::{Exchange, Message};
use crate::location::{Origin, is_https};

const TOKEN_MAX: u64 = 256 * 1024;
/// How the token servers know us; Docker's name, because some serve no other.
const CLIENT_ID: &str = "docker";
/// The distribution specification: a token without a life time lives for 60 seconds.
const LIFE_DEFAULT: u64 = 60;
const LIFE_MAX: u64 = 24 * 3600;
/// Tokens kept at most.
const TOKENS_MAX: usize = 1024;

/// Who asks, and for what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim<'a> {
    pub(crate) credentials: Option<&'a Credentials>,
    /// As `repository:library/busybox:pull`; empty for a login.
    pub(crate) scope: &'a str,
    /// Whether the registry was declared insecure.
    pub(crate) insecure: bool,
    /// Whether a refresh token is wanted, too.
    pub(crate) offline: bool,
}

/// Tokens by the place that gave them, what they are for, and whose they are.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    slots: Mutex<HashMap<Key, Slot>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    realm: String,
    service: String,
    scope: String,
    user: [u8; 32],
}

/// Held while a token is fetched, so that parallel requests fetch it once.
type Slot = Arc<tokio::sync::Mutex<Option<Kept>>>;

#[derive(Clone, Debug)]
struct Kept {
    value: HeaderValue,
    good_until: Instant,
}

/// A token server's answer.
#[derive(Deserialize)]
pub(crate) struct Grant {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
    #[serde(default)]
    expires_in: Option<u64>,
    #[serde(default)]
    pub(crate) refresh_token: Option<String>,
}

impl Tokens {
    /// The header for a registry with these challenges, or `None` where it wants none or where
    /// nothing else than what it `rejected` can be given.
    pub(crate) async fn authorize(
        &self,
        exchange: &Exchange,
        challenges: &[Challenge],
        claim: Claim<'_>,
        rejected: Option<&HeaderValue>,
        asked: &Asked<'_>,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        let bearer = challenges.iter().find_map(|challenge| match challenge {
            Challenge::Bearer(bearer) => Some(bearer),
            Challenge::Basic => None,
        });
        let header = match bearer {
            Some(bearer) => Some(
                self.bearer(exchange, bearer, claim, rejected, asked)
                    .await?,
            ),
            None if challenges.is_empty() => None,
            None => Some(basic(claim, asked)?),
        };
        Ok(header.filter(|header| Some(header) != rejected))
    }

    async fn bearer(
        &self,
        exchange: &Exchange,
        bearer: &Bearer,
        claim: Claim<'_>,
        rejected: Option<&HeaderValue>,
        asked: &Asked<'_>,
    ) -> Result<HeaderValue, RegistryError> {
        if let Some(own) = claim.credentials.filter(|c| !c.registry_token.is_empty()) {
            return bearer_header(&own.registry_token).ok_or_else(|| asked.bad("registry token"));
        }
        let scope = bearer.scope.as_deref().unwrap_or(claim.scope);
        let slot = self.slot(Key {
            realm: bearer.realm.clone(),
            service: bearer.service.clone(),
            scope: scope.to_owned(),
            user: claim.credentials.map_or([0; 32], Credentials::fingerprint),
        });
        let mut kept = slot.lock().await;
        if let Some(token) = &*kept
            && token.good_until > Instant::now()
            && Some(&token.value) != rejected
        {
            return Ok(token.value.clone());
        }
        *kept = None;
        let grant = fetch(exchange, bearer, scope, claim, asked).await?;
        let token = grant.keep().ok_or_else(|| asked.bad("token"))?;
        *kept = Some(token.clone());
        Ok(token.value)
    }

    fn slot(&self, key: Key) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= TOKENS_MAX {
            let now = Instant::now();
            // A slot that is locked is in use by a request.
            slots.retain(|_, slot| match slot.try_lock() {
                Ok(kept) => kept.as_ref().is_some_and(|kept| kept.good_until > now),
                Err(_) => true,
            });
            if slots.len() >= TOKENS_MAX {
                slots.clear();
            }
        }
        slots.entry(key).or_default().clone()
    }
}

/// The request that made a token necessary, for messages.
#[derive(Clone, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) method: &'static str,
    pub(crate) url: &'a str,
}

impl Asked<'_> {
    fn bad(&self, what: &str) -> RegistryError {
        RegistryError::Protocol {
            method: self.method,
            url: self.url.to_owned(),
            problem: format!("the {what} is no valid header value"),
        }
    }
}

fn basic(claim: Claim<'_>, asked: &Asked<'_>) -> Result<HeaderValue, RegistryError> {
    let usable = |c: &&Credentials| !c.username.is_empty() && !c.password.is_empty();
    claim
        .credentials
        .filter(usable)
        .and_then(Credentials::basic_header)
        .ok_or_else(|| RegistryError::NoCredentials {
            method: asked.method,
            url: asked.url.to_owned(),
        })
}

fn bearer_header(token: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

impl Grant {
    fn keep(&self) -> Option<Kept> {
        let token = [&self.token, &self.access_token];
        let token = token.into_iter().find(|token| !token.is_empty())?;
        let life = self.expires_in.unwrap_or(LIFE_DEFAULT);
        let life = life.clamp(LIFE_DEFAULT, LIFE_MAX);
        // A tenth less, so that a token does not end between here and the registry.
        let good_until = Instant::now() + Duration::from_secs(life - life / 10);
        let value = bearer_header(token)?;
        Some(Kept { value, good_until })
    }
}

/// Asks the token server of a challenge.
pub(crate) async fn fetch(
    exchange: &Exchange,
    bearer: &Bearer,
    scope: &str,
    claim: Claim<'_>,
    asked: &Asked<'_>,
) -> Result<Grant, RegistryError> {
    let bad_realm = |problem: &str| RegistryError::Protocol {
        method: asked.method,
        url: asked.url.to_owned(),
        problem: format!("the token server's address {:?} {problem}", bearer.realm),
    };
    let realm: Uri = bearer.realm.parse().map_err(|_| bad_realm("is invalid"))?;
    if Origin::of(&realm).is_none() {
        return Err(bad_realm("is no http or https address"));
    }
    if !is_https(&realm) && !claim.insecure {
        return Err(bad_realm("is not https"));
    }
    let refresh = claim.credentials.filter(|c| !c.identity_token.is_empty());
    let message = match refresh {
        Some(own) => refresh_request(realm, bearer, scope, own),
        None => {
            plain_request(&realm, bearer, scope, claim).ok_or_else(|| bad_realm("is invalid"))?
        }
    };
    let message = Message {
        downgrade: claim.insecure,
        ..message
    };
    let answer = exchange.patient(&message).await?;
    if answer.status != StatusCode::OK {
        return Err(answer.into_error().await);
    }
    read(answer).await
}

async fn read(answer: Answer) -> Result<Grant, RegistryError> {
    let misfit = answer.misfit("the token server's answer holds no token");
    let body = answer.bytes("token", TOKEN_MAX).await?;
    let grant: Option<Grant> = serde_json::from_slice(&body).ok();
    grant
        .filter(|grant| !(grant.token.is_empty() && grant.access_token.is_empty()))
        .ok_or(misfit)
}

/// The distribution project's token specification: a GET, with basic credentials if there are any.
fn plain_request(realm: &Uri, bearer: &Bearer, scope: &str, claim: Claim<'_>) -> Option<Message> {
    let credentials = claim.credentials.filter(|c| !c.password.is_empty());
    let account = credentials.map_or("", |c| c.username.as_str());
    let mut pairs = vec![("account", account), ("service", &bearer.service)];
    pairs.extend(scope.split(' ').map(|scope| ("scope", scope)));
    if claim.offline {
        pairs.extend([("client_id", CLIENT_ID), ("offline_token", "true")]);
    }
    let query = form(&pairs);
    let separator = if realm.query().is_some() { '&' } else { '?' };
    let uri = format!("{realm}{separator}{query}").parse().ok()?;
    let mut message = Message::new(Method::GET, uri);
    message.authorization = credentials.and_then(Credentials::basic_header);
    Some(message)
}

/// The OAuth 2 form of the same, which takes a refresh token.
fn refresh_request(realm: Uri, bearer: &Bearer, scope: &str, own: &Credentials) -> Message {
    let body = form(&[
        ("grant_type", "refresh_token"),
        ("service", &bearer.service),
        ("client_id", CLIENT_ID),
        ("scope", scope),
        ("refresh_token", &own.identity_token),
    ]);
    let mut message = Message::new(Method::POST, realm);
    message.headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/x-www-form-urlencoded"),
    );
    message.body = Bytes::from(body);
    message
}

/// `application/x-www-form-urlencoded`, without the pairs that have no value.
fn form(pairs: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
        if !text.is_empty() {
            text.push('&');
        }
        text.push_str(name);
        text.push('=');
        percent_encode(value, &mut text);
    }
    text
}

fn percent_encode(value: &str, text: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:/,".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push('%');
            text.push(char::from(DIGITS[usize::from(byte >> 4)]));
            text.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes_forms() {
        let text = form(&[
            ("account", ""),
            ("service", "a b&c"),
            ("scope", "repository:x/y:pull"),
        ]);
        assert_eq!(text, "service=a%20b%26c&scope=repository:x/y:pull");
    }

    #[test]
    fn limits_the_life_of_tokens() {
        let grant = |expires_in| Grant {
            token: "t".into(),
            access_token: String::new(),
            expires_in,
            refresh_token: None,
        };
        let life = |expires_in| {
            let kept = grant(expires_in).keep().unwrap();
            kept.good_until.duration_since(Instant::now()).as_secs()
        };
        assert!((50..=54).contains(&life(None)));
        assert!((50..=54).contains(&life(Some(0))));
        assert!(life(Some(u64::MAX)) <= LIFE_MAX);
    }
}
