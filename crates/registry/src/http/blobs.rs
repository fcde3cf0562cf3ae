//! Blobs: reading, whole and in pieces, and removing.

use std::collections::VecDeque;
use std::fs::File;

use bytes::Bytes;
use http::{Method, StatusCode, header, response};
use oci::Digest;

use super::body::{Body, FileBody, Segment};
use super::range::{Wanted, wanted};
use super::{Answer, CONTENT_DIGEST, Call, entity_tag, finish, no_method, reply};
use crate::config::Right;
use crate::hooks::{Action, Target};
use crate::ident;
use crate::name::Name;
use crate::refusal::{Code, Refusal};

const KIND: &str = "application/octet-stream";

pub(super) async fn answer(call: &Call, name: &str, digest: &str) -> Answer {
    let name = super::name(name)?;
    match call.method {
        Method::GET | Method::HEAD => {
            call.allow(&name, Right::Pull)?;
            get(call, &name, &super::digest(digest)?).await
        }
        Method::DELETE => {
            call.allow(&name, Right::Delete)?;
            remove(call, &name, &super::digest(digest)?).await
        }
        _ => Err(no_method(&call.method)),
    }
}

async fn get(call: &Call, name: &Name, digest: &Digest) -> Answer {
    let store = &call.app.store;
    // who may push asks in order not to send it: the answer must hold until the manifest comes
    if call.method == Method::HEAD && call.may(name, Right::Push) {
        store.claims.claim(digest).await;
    }
    let size = match (store.blob(name, digest), &call.app.proxy) {
        (Err(refusal), Some(proxy)) if refusal.code == Code::BlobUnknown => {
            return crate::proxy::blob(call, proxy, name, digest).await;
        }
        (found, _) => found?,
    };
    serve(call, digest, size, || store.blobs.open(digest))
}

/// Serves a blob's file, or what is asked for of it.
pub(crate) fn serve(
    call: &Call,
    digest: &Digest,
    size: u64,
    open: impl FnOnce() -> Result<File, storage::ContentError>,
) -> Answer {
    let tag = entity_tag(digest);
    let builder = |status| {
        reply(status)
            .header(CONTENT_DIGEST, digest.to_string())
            .header(header::ETAG, &tag)
            .header(header::ACCEPT_RANGES, "bytes")
            .header(header::CACHE_CONTROL, "max-age=31536000")
    };
    if call.has(digest) {
        return finish(builder(StatusCode::NOT_MODIFIED), Body::Empty);
    }
    let fits = call
        .header(header::IF_RANGE)
        .is_none_or(|text| text.trim() == tag);
    let range = call.header(header::RANGE).filter(|_| fits);
    // RFC 9110 knows ranges for GET only
    let range = range.filter(|_| call.method == Method::GET);
    let pieces = match wanted(range, size) {
        Wanted::Nothing => {
            let refusal = Refusal::new(Code::RangeInvalid, "the blob has nothing of this range");
            return Err(refusal.header(header::CONTENT_RANGE, &format!("bytes */{size}")));
        }
        Wanted::All => None,
        Wanted::Pieces(pieces) => Some(pieces),
    };
    if call.method == Method::HEAD {
        let head = builder(StatusCode::OK)
            .header(header::CONTENT_TYPE, KIND)
            .header(header::CONTENT_LENGTH, size);
        return finish(head, Body::Empty);
    }
    let file = open().map_err(|error| Refusal::internal(&error))?;
    match pieces.as_deref() {
        None => send(
            builder(StatusCode::OK),
            KIND,
            file,
            [Segment::File(0, size)].into(),
        ),
        Some(&[(at, length)]) => {
            let told = format!("bytes {at}-{}/{size}", at + length - 1);
            let head = builder(StatusCode::PARTIAL_CONTENT).header(header::CONTENT_RANGE, told);
            send(head, KIND, file, [Segment::File(at, length)].into())
        }
        Some(pieces) => {
            let mark = ident::uuid().map_err(|error| Refusal::internal(&error))?;
            let kind = format!("multipart/byteranges; boundary={mark}");
            let segments = multipart(pieces, size, &mark);
            send(builder(StatusCode::PARTIAL_CONTENT), &kind, file, segments)
        }
    }
}

fn send(builder: response::Builder, kind: &str, file: File, parts: VecDeque<Segment>) -> Answer {
    let body = FileBody::new(file, parts);
    let body = Body::File(Box::new(body));
    let length = http_body::SizeHint::exact(&body.size()).unwrap_or_default();
    let builder = builder
        .header(header::CONTENT_TYPE, kind)
        .header(header::CONTENT_LENGTH, length);
    finish(builder, body)
}

/// Several pieces in one body (RFC 9110, section 14.6).
fn multipart(pieces: &[(u64, u64)], size: u64, mark: &str) -> VecDeque<Segment> {
    let mut segments = VecDeque::new();
    for (at, length) in pieces {
        let head = format!(
            "\r\n--{mark}\r\nContent-Type: {KIND}\r\nContent-Range: bytes {at}-{}/{size}\r\n\r\n",
            at + length - 1
        );
        segments.push_back(Segment::Bytes(head.into()));
        segments.push_back(Segment::File(*at, *length));
    }
    segments.push_back(Segment::Bytes(Bytes::from(format!("\r\n--{mark}--\r\n"))));
    segments
}

async fn remove(call: &Call, name: &Name, digest: &Digest) -> Answer {
    call.app.deletable()?;
    call.app.store.remove_blob(name, digest).await?;
    call.app
        .told(call, Action::Delete, name, &Target::blob(digest, 0))
        .await;
    finish(reply(StatusCode::ACCEPTED), Body::Empty)
}
