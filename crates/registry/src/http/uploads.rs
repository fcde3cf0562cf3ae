//! Uploads: begun, fed in one piece or several, asked about, finished, cancelled; and mounts.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::HeaderName;
use http::{Method, StatusCode, header, response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use oci::Digest;
use serde_json::json;

use super::body::Body;
use super::{Answer, CONTENT_DIGEST, Call, UPLOAD_UUID, finish, no_method, reply};
use crate::config::Right;
use crate::hooks::{Action, Target};
use crate::name::Name;
use crate::refusal::{Code, Refusal};
use crate::store::{blocking, too_large};
use crate::uploads::{BeginError, Finished, Held};

/// So much is worth a turn of hashing and writing.
const BATCH: usize = 64 << 10;
/// After so many bytes others have their turn.
const REST_EVERY: u64 = 1 << 20;
/// After how many bytes of unknown total the room is looked at again.
const CHECK_EVERY: u64 = 64 << 20;
/// Pieces of a chunked upload need not be longer than this.
const CHUNK_MIN: HeaderName = HeaderName::from_static("oci-chunk-min-length");

/// `POST`: begins an upload, takes a blob in one piece, or mounts one of another repository.
pub(super) async fn begin(call: &Call, name: &str, body: Incoming) -> Answer {
    let name = super::name(name)?;
    call.allow(&name, Right::Push)?;
    if let Some(mount) = call.query.get("mount")
        && let Some(answer) = mounted(call, &name, mount).await?
    {
        return Ok(answer);
    }
    let expected = call.query.get("digest").map(super::digest).transpose()?;
    let length = http_body::Body::size_hint(&body).lower();
    call.app
        .store
        .check_room(&name, expected.as_ref(), length)?;
    let uploads = Arc::clone(&call.app.store.uploads);
    let repository = name.clone();
    let begun = blocking(move || uploads.begin(&repository)).await?;
    let held = begun.map_err(|error| not_begun(&error))?;
    match expected {
        None => {
            let builder = reply(StatusCode::ACCEPTED).header(CHUNK_MIN, 1);
            finish(state(builder, &held), Body::Empty)
        }
        Some(digest) => {
            let held = receive(call, held, body).await?;
            complete(call, &name, held, &digest).await
        }
    }
}

fn not_begun(error: &BeginError) -> Refusal {
    match error {
        BeginError::TooMany(_) => {
            Refusal::new(Code::TooManyRequests, error.to_string()).header(header::RETRY_AFTER, "60")
        }
        BeginError::Io { .. } => {
            let text = crate::refusal::chain(error);
            tracing::error!(error = text, "an upload cannot begin");
            Refusal::new(Code::Unknown, "the registry failed; its log says why")
        }
    }
}

/// Gives a repository what another one has, if there is one that the client may read; without that the
/// request is one for an upload.
async fn mounted(
    call: &Call,
    name: &Name,
    mount: &str,
) -> Result<Option<http::Response<Body>>, Refusal> {
    let digest = super::digest(mount)?;
    let from = call.query.get("from").filter(|from| !from.is_empty());
    let from = match from.map(Name::parse) {
        // a name that is none has no blobs
        Some(None) => return Ok(None),
        Some(Some(from)) => Some(from),
        None => None,
    };
    let store = &call.app.store;
    let may_pull = |name: &Name| call.may(name, Right::Pull);
    let Some((from, size)) = store.mountable(&digest, from.as_ref(), may_pull).await? else {
        return Ok(None);
    };
    store.link(name, &digest, size).await?;
    let target = Target::blob(&digest, size).from(&from);
    call.app.told(call, Action::Mount, name, &target).await;
    created(name, &digest).map(Some)
}

/// `GET`, `PATCH`, `PUT` and `DELETE` of an upload.
pub(super) async fn answer(call: &Call, name: &str, id: &str, body: Incoming) -> Answer {
    let name = super::name(name)?;
    let known = [
        Method::GET,
        Method::HEAD,
        Method::PATCH,
        Method::PUT,
        Method::DELETE,
    ];
    if !known.contains(&call.method) {
        return Err(no_method(&call.method));
    }
    call.allow(&name, Right::Push)?;
    let expected = match call.method {
        Method::PUT => Some(wanted_digest(call)?),
        _ => None,
    };
    let taken = call.app.store.uploads.take(id, &name).await;
    let taken = taken.map_err(|error| Refusal::internal(&error))?;
    let held = taken.ok_or_else(unknown)?;
    match (&call.method, expected) {
        (&Method::PATCH, _) => {
            let held = append(call, held, body).await?;
            finish(state(reply(StatusCode::ACCEPTED), &held), Body::Empty)
        }
        (_, Some(digest)) => {
            let held = append(call, held, body).await?;
            complete(call, &name, held, &digest).await
        }
        (&Method::DELETE, _) => {
            let uploads = Arc::clone(&call.app.store.uploads);
            blocking(move || uploads.cancel(held)).await?;
            finish(reply(StatusCode::NO_CONTENT), Body::Empty)
        }
        _ => finish(state(reply(StatusCode::NO_CONTENT), &held), Body::Empty),
    }
}

fn wanted_digest(call: &Call) -> Result<Digest, Refusal> {
    let text = call.query.get("digest");
    let text = text.ok_or_else(|| Refusal::new(Code::DigestInvalid, "digest parameter missing"))?;
    super::digest(text)
}

fn unknown() -> Refusal {
    Refusal::new(Code::BlobUploadUnknown, "blob upload unknown to registry")
}

/// Where an upload is, and what it has.
fn state(builder: response::Builder, held: &Held) -> response::Builder {
    builder
        .header(header::LOCATION, location(held))
        .header(header::RANGE, range(held))
        .header(UPLOAD_UUID, &held.id)
}

fn location(held: &Held) -> String {
    format!("/v2/{}/blobs/uploads/{}", held.repository, held.id)
}

/// The bytes that there are, inclusive; an upload with none says `0-0`, as clients expect.
fn range(held: &Held) -> String {
    format!("0-{}", held.written().saturating_sub(1))
}

fn created(name: &Name, digest: &Digest) -> Answer {
    let builder = reply(StatusCode::CREATED)
        .header(header::LOCATION, format!("/v2/{name}/blobs/{digest}"))
        .header(CONTENT_DIGEST, digest.to_string());
    finish(builder, Body::Empty)
}

/// Takes a piece, if it is the next one.
async fn append(call: &Call, held: Held, body: Incoming) -> Result<Held, Refusal> {
    let length = http_body::Body::size_hint(&body).exact();
    if let Some(text) = call.header(header::CONTENT_RANGE) {
        let (first, last) = content_range(text)
            .ok_or_else(|| Refusal::new(Code::BlobUploadInvalid, "invalid Content-Range"))?;
        if first != held.written() {
            let text = format!("the next byte is {}", held.written());
            return Err(Refusal::new(Code::RangeInvalid, text)
                .header(header::LOCATION, &location(&held))
                .header(header::RANGE, &range(&held))
                .header(UPLOAD_UUID, &held.id));
        }
        if length.is_some_and(|length| length != last - first + 1) {
            let text = "Content-Length is not the length of Content-Range";
            return Err(Refusal::new(Code::SizeInvalid, text));
        }
    }
    let total = held.written().saturating_add(length.unwrap_or(0));
    call.app.store.check_room(&held.repository, None, total)?;
    receive(call, held, body).await
}

/// `first-last`; some clients write `bytes first-last/total`.
fn content_range(text: &str) -> Option<(u64, u64)> {
    let text = text.trim();
    let text = text.strip_prefix("bytes ").unwrap_or(text);
    let text = text.split('/').next()?;
    let (first, last) = text.split_once('-')?;
    let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (first <= last && last < u64::MAX).then_some((first, last))
}

/// Takes a body's bytes.
async fn receive(call: &Call, mut held: Held, mut body: Incoming) -> Result<Held, Refusal> {
    let mut checked = held.written();
    let mut rested = held.written();
    loop {
        let (pieces, end) = gather(call, &mut body).await;
        if !pieces.is_empty() {
            held = write(call, held, pieces).await?;
        }
        if held.written() - checked >= CHECK_EVERY {
            checked = held.written();
            let store = &call.app.store;
            store.check_room(&held.repository, None, held.written())?;
        }
        if let Some(end) = end {
            end?;
            if held.written() > call.app.store.blob_max {
                return Err(too_large("blob", call.app.store.blob_max));
            }
            return Ok(held);
        }
        if held.written() - rested >= REST_EVERY {
            rested = held.written();
            tokio::task::yield_now().await;
        }
    }
}

/// Hashes and writes pieces, right here while files take them at once: what was received a moment ago is
/// in the processor's cache, and its memory is free for what comes next. While files make their writers
/// wait, a thread that may wait does it. The upload goes with the pieces, so that it is whole again when
/// they are written, whether the client is still there or not.
async fn write(call: &Call, mut held: Held, pieces: Vec<Bytes>) -> Result<Held, Refusal> {
    let uploads = &call.app.store.uploads;
    let (held, result) = if uploads.pace.is_quick() {
        let begun = Instant::now();
        let result = held.append(&pieces);
        uploads.pace.took(begun.elapsed());
        (held, result)
    } else {
        blocking(move || {
            let result = held.append(&pieces);
            (held, result)
        })
        .await?
    };
    match result {
        Ok(()) => Ok(held),
        Err(error) => {
            uploads.set_back(held);
            Err(Refusal::internal(&error))
        }
    }
}

/// Gathers what is worth to be written, which is one large piece or several small ones; says how the body
/// ended, once it did.
async fn gather(call: &Call, body: &mut Incoming) -> (Vec<Bytes>, Option<Result<(), Refusal>>) {
    let mut pieces = Vec::new();
    let mut size = 0;
    let stall = call.app.stall();
    while size < BATCH {
        let Ok(frame) = tokio::time::timeout(stall, body.frame()).await else {
            return (pieces, Some(Err(stalled())));
        };
        match frame {
            None => return (pieces, Some(Ok(()))),
            Some(Err(_)) => return (pieces, Some(Err(broken()))),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    call.app.metrics.received(data.len());
                    size += data.len();
                    pieces.push(data);
                }
            }
        }
    }
    (pieces, None)
}

pub(super) fn stalled() -> Refusal {
    let text = "nothing came for too long; what came is kept";
    Refusal::new(Code::BlobUploadInvalid, text).status(StatusCode::REQUEST_TIMEOUT)
}

pub(super) fn broken() -> Refusal {
    Refusal::new(
        Code::BlobUploadInvalid,
        "the request broke off; what came is kept",
    )
}

/// Verifies an upload and makes it a blob of the repository.
async fn complete(call: &Call, name: &Name, held: Held, digest: &Digest) -> Answer {
    let store = &call.app.store;
    store.check_room(name, Some(digest), held.written())?;
    // before the file leaves the uploads: a collection must not take an equal blob that is relied on
    store.claims.claim(digest).await;
    let (uploads, expected) = (Arc::clone(&store.uploads), digest.clone());
    let known = store.blobs.size(digest).is_ok();
    let finished = blocking(move || uploads.finish(held, &expected, known)).await?;
    let finished = finished.map_err(|error| Refusal::internal(&error))?;
    let Finished { path, size } = finished.map_err(|actual| {
        Refusal::new(
            Code::DigestInvalid,
            format!("the content's digest is {actual}"),
        )
        .detail(json!({"digest": digest.to_string(), "actual": actual.to_string()}))
    })?;
    store.add(name, digest, size, path).await?;
    let target = Target::blob(digest, size);
    call.app.told(call, Action::Push, name, &target).await;
    created(name, digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges() {
        assert_eq!(content_range("0-9"), Some((0, 9)));
        assert_eq!(content_range("bytes 5-9/10"), Some((5, 9)));
        assert_eq!(content_range("bytes 5-9/*"), Some((5, 9)));
        for bad in [
            "",
            "5",
            "9-5",
            "-5",
            "a-b",
            "0-18446744073709551615",
            "0-18446744073709551616",
        ] {
            assert_eq!(content_range(bad), None, "{bad}");
        }
    }
}
