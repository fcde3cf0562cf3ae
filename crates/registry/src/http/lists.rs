//! Lists: tags, repositories, referrers; in pages.

use http::header::HeaderName;
use http::{StatusCode, header};
use serde_json::json;

use super::body::Body;
use super::route::escape;
use super::{Answer, Call, finish, reply};
use crate::config::Right;
use crate::db::records::Referrer;
use crate::name::Name;
use crate::refusal::{Code, Refusal};

/// The longest page.
const PAGE_MAX: usize = 10_000;
/// A page of repositories, where the client names no length.
const CATALOG_PAGE: usize = 100;
/// A page of referrers.
const REFERRERS_PAGE: usize = 1000;
/// How much of a page of referrers may be annotations and the like: clients read no more than that.
const REFERRERS_MAX: usize = 3 << 20;
/// Tells a client which of its filters were heeded.
const FILTERS: HeaderName = HeaderName::from_static("oci-filters-applied");
const INDEX: &str = oci::image::media_type::OCI_INDEX;

fn page(call: &Call, default: usize) -> Result<usize, Refusal> {
    let Some(text) = call.query.get("n") else {
        return Ok(default);
    };
    let number: Option<i64> = text.parse().ok();
    let number = number.and_then(|number| usize::try_from(number).ok());
    let invalid = || {
        let text = "invalid number of results requested";
        Refusal::new(Code::PaginationNumberInvalid, text).detail(json!({"n": text}))
    };
    number
        .map(|number| number.min(PAGE_MAX))
        .ok_or_else(invalid)
}

fn link(path: &str, last: &str, n: usize) -> String {
    format!("<{path}?last={}&n={n}>; rel=\"next\"", escape(last))
}

pub(super) fn tags(call: &Call, name: &str) -> Answer {
    let name = super::name(name)?;
    call.allow(&name, Right::Pull)?;
    let n = page(call, PAGE_MAX)?;
    let last = call.query.get("last");
    let store = &call.app.store;
    let found = store.db.read(|reader| {
        let known = reader.has_repository(&name)?;
        // one more tells whether there is a next page
        Ok((known, reader.tags(&name, last, n.saturating_add(1))?))
    });
    let (known, mut found) = found.map_err(|error| Refusal::internal(&error))?;
    if !known {
        let refusal = Refusal::new(Code::NameUnknown, "repository name not known to registry");
        return Err(refusal.detail(json!({"name": name.as_str()})));
    }
    let more = found.len() > n;
    found.truncate(n);
    let tags: Vec<String> = found.into_iter().map(|(tag, ..)| tag).collect();
    let mut builder = reply(StatusCode::OK);
    if let Some(last) = tags.last().filter(|_| more) {
        let path = format!("/v2/{name}/tags/list");
        builder = builder.header(header::LINK, link(&path, last, n));
    }
    super::json(builder, &json!({"name": name.as_str(), "tags": tags}))
}

pub(super) fn catalog(call: &Call) -> Answer {
    call.app.auth().allow_catalog(&call.who)?;
    let n = page(call, CATALOG_PAGE)?;
    let (names, more) = repositories(call, call.query.get("last"), n)?;
    let mut builder = reply(StatusCode::OK);
    if let Some(last) = names.last().filter(|_| more) {
        builder = builder.header(header::LINK, link("/v2/_catalog", last, n));
    }
    super::json(builder, &json!({"repositories": names}))
}

/// A page of the repositories that the client may read, and whether there are more.
pub(crate) fn repositories(
    call: &Call,
    last: Option<&str>,
    n: usize,
) -> Result<(Vec<String>, bool), Refusal> {
    let mut names = Vec::new();
    let mut more = false;
    let listed = call.app.store.db.read(|reader| {
        reader.repositories(last, |text| {
            let visible = Name::parse(text).is_some_and(|name| call.may(&name, Right::Pull));
            if visible {
                more = names.len() >= n;
                if !more {
                    names.push(text.to_owned());
                }
            }
            !more
        })
    });
    listed.map_err(|error| Refusal::internal(&error))?;
    Ok((names, more))
}

pub(super) fn referrers(call: &Call, name: &str, digest: &str) -> Answer {
    let name = super::name(name)?;
    call.allow(&name, Right::Pull)?;
    let subject = super::digest(digest)?;
    let kind = call
        .query
        .get("artifactType")
        .filter(|kind| !kind.is_empty());
    let mut found: Vec<Referrer> = Vec::new();
    let (mut size, mut more) = (0, false);
    let listed = call.app.store.db.read(|reader| {
        reader.referrers(&name, &subject, call.query.get("last"), |referrer| {
            if kind.is_some() && referrer.artifact_type.as_deref() != kind {
                return true;
            }
            size += weight(&referrer);
            more = found.len() >= REFERRERS_PAGE || (size > REFERRERS_MAX && !found.is_empty());
            if !more {
                found.push(referrer);
            }
            !more
        })
    });
    listed.map_err(|error| Refusal::internal(&error))?;
    let mut builder = reply(StatusCode::OK).header(header::CONTENT_TYPE, INDEX);
    if kind.is_some() {
        builder = builder.header(FILTERS, "artifactType");
    }
    if let Some(last) = found.last().filter(|_| more) {
        let mut next = format!("</v2/{name}/referrers/{subject}?last={}", last.digest.hex());
        if let Some(kind) = kind {
            next.push_str(&format!("&artifactType={}", escape(kind)));
        }
        builder = builder.header(header::LINK, next + ">; rel=\"next\"");
    }
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": found});
    finish(builder, Body::whole(index.to_string()))
}

fn weight(referrer: &Referrer) -> usize {
    let annotations = referrer.annotations.iter();
    let annotations: usize = annotations
        .map(|(key, value)| key.len() + value.len())
        .sum();
    annotations + 256
}
