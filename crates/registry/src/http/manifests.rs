//! Manifests: reading, putting, removing; and tags with them.

use bytes::{Bytes, BytesMut};
use http::header::HeaderName;
use http::{Method, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use super::body::Body;
use super::{Answer, CONTENT_DIGEST, Call, entity_tag, finish, no_method, reply};
use crate::config::Right;
use crate::document;
use crate::hooks::{Action, Target};
use crate::name::{Name, Tag};
use crate::refusal::{Code, Refusal, chain};
use crate::store::{Reference, Served, too_large};

/// Tells a client that the list of referrers was brought up to date.
const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");

pub(super) async fn answer(call: &Call, name: &str, reference: &str, body: Incoming) -> Answer {
    let name = super::name(name)?;
    match call.method {
        Method::GET | Method::HEAD => {
            call.allow(&name, Right::Pull)?;
            get(call, &name, &parse(reference)?).await
        }
        Method::PUT => {
            call.allow(&name, Right::Push)?;
            put(call, &name, parse(reference)?, body).await
        }
        Method::DELETE => {
            call.allow(&name, Right::Delete)?;
            remove(call, &name, parse(reference)?).await
        }
        _ => Err(no_method(&call.method)),
    }
}

fn parse(text: &str) -> Result<Reference, Refusal> {
    if text.contains(':') {
        return Ok(Reference::Digest(super::digest(text)?));
    }
    let invalid = || Refusal::new(Code::TagInvalid, "invalid tag");
    Tag::parse(text).map(Reference::Tag).ok_or_else(invalid)
}

async fn get(call: &Call, name: &Name, reference: &Reference) -> Answer {
    let served = match &call.app.proxy {
        Some(proxy) => crate::proxy::manifest(&call.app, proxy, name, reference).await?,
        None => call.app.store.manifest(name, reference).await?,
    };
    if call.method == Method::GET {
        let size = served.bytes.len() as u64;
        let target = Target::manifest(&served.digest, &served.media_type, size, reference);
        call.app.told(call, Action::Pull, name, &target).await;
    }
    serve(call, served)
}

fn serve(call: &Call, served: Served) -> Answer {
    let Served {
        digest,
        media_type,
        bytes,
    } = served;
    let builder = |status| {
        reply(status)
            .header(CONTENT_DIGEST, digest.to_string())
            .header(header::ETAG, entity_tag(&digest))
    };
    if call.has(&digest) {
        return finish(builder(StatusCode::NOT_MODIFIED), Body::Empty);
    }
    let builder = builder(StatusCode::OK)
        .header(header::CONTENT_TYPE, &*media_type)
        .header(header::CONTENT_LENGTH, bytes.len());
    match call.method == Method::HEAD {
        true => finish(builder, Body::Empty),
        false => finish(builder, Body::whole(bytes)),
    }
}

async fn put(call: &Call, name: &Name, reference: Reference, body: Incoming) -> Answer {
    let bytes = read(call, body).await?;
    let digest = storage::digest_of(&bytes);
    let told = call.header(header::CONTENT_TYPE);
    let told = told.map(|text| text.split(';').next().unwrap_or_default().trim());
    let told = told.filter(|text| !text.is_empty() && *text != "application/json");
    let document = document::parse(&bytes, told)
        .map_err(|error| Refusal::new(Code::ManifestInvalid, chain(&error)))?;
    let tag = match &reference {
        Reference::Digest(named) if *named != digest => {
            let text = format!("the manifest's digest is {digest}");
            return Err(Refusal::new(Code::DigestInvalid, text));
        }
        Reference::Digest(_) => None,
        Reference::Tag(tag) => Some(tag.clone()),
    };
    let size = bytes.len() as u64;
    let store = &call.app.store;
    store
        .put_manifest(name, &digest, &document, bytes, tag)
        .await?;
    let target = Target::manifest(&digest, &document.media_type, size, &reference);
    call.app.told(call, Action::Push, name, &target).await;
    let mut builder = reply(StatusCode::CREATED)
        .header(header::LOCATION, format!("/v2/{name}/manifests/{digest}"))
        .header(CONTENT_DIGEST, digest.to_string());
    if let Some(subject) = &document.subject {
        builder = builder.header(SUBJECT, subject.to_string());
    }
    finish(builder, Body::Empty)
}

/// Reads a manifest's bytes, up to the length that is allowed.
async fn read(call: &Call, mut body: Incoming) -> Result<Bytes, Refusal> {
    let max = call.app.store.manifest_max;
    let told = http_body::Body::size_hint(&body).lower();
    if told > max {
        return Err(too_large("manifest", max));
    }
    let mut all = BytesMut::new();
    let stall = call.app.stall();
    loop {
        let frame = tokio::time::timeout(stall, body.frame()).await;
        let frame = frame.map_err(|_| super::uploads::stalled())?;
        let Some(frame) = frame else {
            return Ok(all.freeze());
        };
        let frame = frame.map_err(|_| super::uploads::broken())?;
        if let Ok(data) = frame.into_data() {
            if (all.len() + data.len()) as u64 > max {
                return Err(too_large("manifest", max));
            }
            call.app.metrics.received(data.len());
            all.extend_from_slice(&data);
        }
    }
}

async fn remove(call: &Call, name: &Name, reference: Reference) -> Answer {
    call.app.deletable()?;
    let digest = match &reference {
        Reference::Tag(tag) => call.app.store.untag(name, tag).await?,
        Reference::Digest(digest) => {
            call.app.store.remove_manifest(name, digest).await?;
            digest.clone()
        }
    };
    let target = Target::manifest(&digest, "", 0, &reference);
    call.app.told(call, Action::Delete, name, &target).await;
    finish(reply(StatusCode::ACCEPTED), Body::Empty)
}
