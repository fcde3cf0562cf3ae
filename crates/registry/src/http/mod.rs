//! The specification's endpoints over the store.

pub(crate) mod blobs;
pub(crate) mod body;
pub(crate) mod lists;
pub(crate) mod manifests;
pub(crate) mod range;
pub(crate) mod route;
pub(crate) mod uploads;

use std::net::SocketAddr;
use std::sync::Arc;

use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, response};
use hyper::body::Incoming;
use oci::Digest;
use serde_json::json;

use crate::app::App;
use crate::auth::{Way, Who};
use crate::config::Right;
use crate::name::Name;
use crate::refusal::{Code, Refusal};
use body::Body;
use route::{Query, Route};

/// The digest of what is answered or was taken.
pub(crate) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// The upload that is spoken about.
pub(crate) const UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");
/// Tells clients that this is a registry.
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// An answer, or what is told in its place.
pub(crate) type Answer = Result<Response<Body>, Refusal>;

/// One request with what is known about it.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) app: Arc<App>,
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
    pub(crate) query: Query,
    pub(crate) who: Who,
    pub(crate) peer: SocketAddr,
    /// The request's own name, in the log and in events.
    pub(crate) id: String,
}

impl Call {
    pub(crate) fn header(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Whether the client may do something; where not, what it is told.
    pub(crate) fn allow(&self, name: &Name, right: Right) -> Result<(), Refusal> {
        if right != Right::Pull {
            self.app.writable()?;
        }
        if right == Right::Push && self.app.proxy.is_some() {
            let text = "this registry only passes on what its upstream has";
            return Err(Refusal::new(Code::Unsupported, text));
        }
        self.app.auth().allow(&self.who, name, right)
    }

    pub(crate) fn may(&self, name: &Name, right: Right) -> bool {
        self.app.auth().may(&self.who, name, right)
    }

    /// Whether the client has what an entity tag names.
    pub(crate) fn has(&self, digest: &Digest) -> bool {
        let Some(tags) = self.header(header::IF_NONE_MATCH) else {
            return false;
        };
        tags.split(',').any(|tag| {
            let tag = tag.trim();
            let tag = tag.strip_prefix("W/").unwrap_or(tag);
            tag == "*" || tag.trim_matches('"') == digest.to_string()
        })
    }
}

/// Begins an answer.
pub(crate) fn reply(status: StatusCode) -> response::Builder {
    Response::builder().status(status)
}

/// Ends an answer. A header that cannot be one is our own fault.
pub(crate) fn finish(builder: response::Builder, body: Body) -> Answer {
    builder
        .body(body)
        .map_err(|error| Refusal::internal(&error))
}

/// The entity tag of content.
pub(crate) fn entity_tag(digest: &Digest) -> String {
    format!("\"{digest}\"")
}

/// An answer in JSON.
pub(crate) fn json(builder: response::Builder, value: &serde_json::Value) -> Answer {
    let text = value.to_string();
    let builder = builder.header(header::CONTENT_TYPE, "application/json");
    finish(builder, Body::whole(text))
}

pub(crate) fn name(text: &str) -> Result<Name, Refusal> {
    Name::parse(text).ok_or_else(|| {
        Refusal::new(Code::NameInvalid, "invalid repository name").detail(json!({"name": text}))
    })
}

pub(crate) fn digest(text: &str) -> Result<Digest, Refusal> {
    text.parse()
        .map_err(|error: oci::digest::ParseDigestError| {
            Refusal::new(Code::DigestInvalid, error.to_string())
        })
}

/// Answers a request; never fails.
pub(crate) async fn answer(call: &Call, route: &Route<'_>, body: Incoming) -> Response<Body> {
    let outcome = dispatch(call, route, body).await;
    let about = |refusal| challenged(refusal, &call.app, &call.headers, route, &call.method);
    let mut response = outcome.unwrap_or_else(|refusal| refuse(&about(refusal)));
    if !matches!(route, Route::Page(_)) {
        let version = HeaderValue::from_static("registry/2.0");
        response.headers_mut().insert(API_VERSION, version);
    }
    response
}

/// The refusal with how the client can sign in, where that is what it lacks.
pub(crate) fn challenged(
    refusal: Refusal,
    app: &App,
    headers: &HeaderMap,
    route: &Route<'_>,
    method: &Method,
) -> Refusal {
    if refusal.code != Code::Unauthorized {
        return refusal;
    }
    let host = headers
        .get(header::HOST)
        .and_then(|value| value.to_str().ok());
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".:-_[]".contains(&byte);
    let host = host
        .filter(|host| host.bytes().all(plain))
        .unwrap_or_default();
    let scheme = match app.tls {
        Some(_) => "https",
        None => "http",
    };
    let shown = headers.get(header::AUTHORIZATION);
    let shown = shown.and_then(|value| value.to_str().ok());
    let way = Way {
        origin: &format!("{scheme}://{host}"),
        scope: route.scope(method),
        had_token: shown.is_some_and(|text| text.to_ascii_lowercase().starts_with("bearer ")),
        basic: matches!(route, Route::Page(_) | Route::Token),
    };
    let challenge = app.auth().challenge(&way);
    refusal.header(header::WWW_AUTHENTICATE, &challenge)
}

fn token(call: &Call) -> Answer {
    let scopes: Vec<&str> = call.query.all("scope").collect();
    let (token, life) = call.app.auth().token(&call.who, &scopes)?;
    let builder = reply(StatusCode::OK).header(header::CACHE_CONTROL, "no-store");
    let value = json!({
        "token": token,
        "access_token": token,
        "expires_in": life,
        "issued_at": crate::clock::rfc3339(crate::clock::now()),
    });
    self::json(builder, &value)
}

pub(crate) fn refuse(refusal: &Refusal) -> Response<Body> {
    let mut response = Response::new(Body::whole(refusal.body()));
    *response.status_mut() = refusal.status;
    let headers = response.headers_mut();
    let kind = HeaderValue::from_static("application/json");
    headers.insert(header::CONTENT_TYPE, kind);
    for (name, value) in &refusal.headers {
        headers.append(name, value.clone());
    }
    response
}

async fn dispatch(call: &Call, route: &Route<'_>, body: Incoming) -> Answer {
    let method = &call.method;
    match (route, method) {
        (Route::Base, &Method::GET | &Method::HEAD) => base(call),
        (Route::Catalog, &Method::GET | &Method::HEAD) => lists::catalog(call),
        (Route::Tags(name), &Method::GET | &Method::HEAD) => lists::tags(call, name),
        (Route::Referrers(name, digest), &Method::GET | &Method::HEAD) => {
            lists::referrers(call, name, digest)
        }
        (Route::Manifest(name, reference), _) => {
            manifests::answer(call, name, reference, body).await
        }
        (Route::Blob(name, digest), _) => blobs::answer(call, name, digest).await,
        (Route::Uploads(name), &Method::POST) => uploads::begin(call, name, body).await,
        (Route::Upload(name, id), _) => uploads::answer(call, name, id, body).await,
        (Route::Token, &Method::GET) => token(call),
        (Route::Page(path), &Method::GET | &Method::HEAD) => crate::web::page(call, path).await,
        (Route::Unknown, _) => Err(not_found()),
        _ => Err(no_method(method)),
    }
}

fn base(call: &Call) -> Answer {
    call.app.auth().allow_entry(&call.who)?;
    json(reply(StatusCode::OK), &json!({}))
}

pub(crate) fn not_found() -> Refusal {
    Refusal::new(Code::NameUnknown, "there is nothing at this path")
}

pub(crate) fn no_method(method: &Method) -> Refusal {
    Refusal::new(
        Code::Unsupported,
        format!("{method} is not supported on this path"),
    )
}
