//! Pushing: to registries that take it, lose it, refuse it, or want a token for it.

use std::io::{self, Cursor, Read};

use bytes::Bytes;
use distribution::{BlobSource, Client, Credentials, ErrorKind, RegistryError, Repository, Sent};
use oci::Platform;
use oci::image::media_type;
use testkit::image::digest_of;
use testkit::registry::{Registry, RegistryOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::fake::{
    Act, Fake, Seen, answer, complaint, descriptor, manifest_json, ok, quick, raw, read_all,
    repository,
};

const BLOB: &[u8] = b"a layer";

fn source(bytes: &[u8]) -> BlobSource {
    let bytes = bytes.to_vec();
    BlobSource::new(move |offset| {
        let mut reader = Cursor::new(bytes.clone());
        reader.set_position(offset);
        Ok(Box::new(reader) as Box<dyn Read + Send>)
    })
}

/// Pushes the blob.
async fn push(repository: &Repository, elsewhere: &[&str]) -> Result<Sent, RegistryError> {
    let elsewhere: Vec<String> = elsewhere.iter().map(|&name| name.to_owned()).collect();
    repository
        .push_blob(&descriptor(BLOB), &elsewhere, &source(BLOB))
        .await
}

fn accepted(location: &str) -> Act {
    answer("202 Accepted", &[("Location", location)], b"")
}

fn created() -> Act {
    answer("201 Created", &[], b"")
}

fn missing() -> Act {
    Act::Send(raw("404 Not Found", &[("Content-Length", "0")], b""))
}

/// The requests behind the knock at the door: method and target.
fn requests(fake: &Fake) -> Vec<String> {
    let all = fake.seen().into_iter();
    all.filter(|seen| seen.target != "/v2/")
        .map(|seen| format!("{} {}", seen.method, seen.target))
        .collect()
}

fn digest() -> String {
    digest_of(BLOB).to_string()
}

/// A registry without the blob that takes uploads; `put` answers their end.
async fn taking(put: impl Fn(&Seen, usize) -> Act + Send + Sync + 'static) -> Fake {
    Fake::start(move |seen, before| match seen.method.as_str() {
        "GET" if seen.target == "/v2/" => ok(b"{}"),
        "HEAD" => missing(),
        "POST" => accepted("/v2/a/b/blobs/uploads/1?state=x%3D"),
        _ => put(seen, before),
    })
    .await
}

#[tokio::test]
async fn sends_what_the_registry_lacks() {
    let fake = taking(|_, _| created()).await;
    let blob = source(BLOB);
    let sent = fake
        .repository()
        .push_blob(&descriptor(BLOB), &[], &blob)
        .await
        .unwrap();
    assert_eq!((sent, blob.sent()), (Sent::Uploaded, BLOB.len() as u64));
    let digest = digest();
    let expect = [
        format!("HEAD /v2/a/b/blobs/{digest}"),
        "POST /v2/a/b/blobs/uploads/".to_owned(),
        format!("PUT /v2/a/b/blobs/uploads/1?state=x%3D&digest={digest}"),
    ];
    assert_eq!(requests(&fake), expect);
    let put = fake.seen().pop().unwrap();
    assert_eq!(put.body.as_bytes(), BLOB);
    assert_eq!(put.header("content-length"), Some("7"));
    assert_eq!(put.header("content-type"), Some("application/octet-stream"));
    assert_eq!(put.header("transfer-encoding"), None);
}

#[tokio::test]
async fn sends_an_empty_blob() {
    let fake = taking(|_, _| created()).await;
    let sent = fake
        .repository()
        .push_blob(&descriptor(b""), &[], &source(b""))
        .await
        .unwrap();
    assert_eq!(sent, Sent::Uploaded);
    assert_eq!(
        fake.seen().pop().unwrap().header("content-length"),
        Some("0")
    );
}

#[tokio::test]
async fn sends_nothing_that_is_there() {
    let fake = Fake::start(|_, _| answer("200 OK", &[], BLOB)).await;
    let repository = fake.repository();
    let sent = push(&repository, &["c/d"]);
    assert_eq!(sent.await.unwrap(), Sent::Existed);
    assert_eq!(requests(&fake).len(), 1);
}

#[tokio::test]
async fn takes_a_blob_from_another_repository() {
    let fake = Fake::start(|seen, _| match seen.method.as_str() {
        "GET" => ok(b"{}"),
        "HEAD" => missing(),
        _ if seen.target.contains("from=e/f") => created(),
        _ => accepted("/v2/a/b/blobs/uploads/1"),
    })
    .await;
    let repository = fake.repository();
    let sent = push(&repository, &["c/d", "e/f"]);
    let from = "e/f".to_owned();
    assert_eq!(sent.await.unwrap(), Sent::Mounted { from });
    let digest = digest();
    assert_eq!(
        requests(&fake)[1..],
        ["c/d", "e/f"]
            .map(|from| format!("POST /v2/a/b/blobs/uploads/?mount={digest}&from={from}"))
    );
}

#[tokio::test]
async fn uploads_where_nothing_is_mounted() {
    let fake = taking(|_, _| created()).await;
    let repository = fake.repository();
    let sent = push(&repository, &["c/d"]);
    assert_eq!(sent.await.unwrap(), Sent::Uploaded);
    // the answer to the wish to mount is an upload already
    assert_eq!(requests(&fake).len(), 3);
}

#[tokio::test]
async fn goes_on_where_an_upload_broke() {
    let fake = taking(|seen, before| match (seen.method.as_str(), before) {
        ("PUT", 0) if seen.body.len() == BLOB.len() => complaint("503 Busy", "UNAVAILABLE", "busy"),
        ("GET", _) => answer(
            "204 No Content",
            &[
                ("Range", "0-2"),
                ("Location", "/v2/a/b/blobs/uploads/1?state=y"),
            ],
            b"",
        ),
        ("PATCH", _) => accepted("/v2/a/b/blobs/uploads/1?state=z"),
        _ => created(),
    })
    .await;
    let repository = fake.repository();
    let sent = push(&repository, &[]);
    assert_eq!(sent.await.unwrap(), Sent::Uploaded);
    let seen = fake.seen();
    let patch = seen.iter().find(|seen| seen.method == "PATCH").unwrap();
    assert_eq!(patch.target, "/v2/a/b/blobs/uploads/1?state=y");
    assert_eq!(
        (patch.body.as_bytes(), patch.header("content-range")),
        (&BLOB[3..], Some("3-6"))
    );
    let last = seen.last().unwrap();
    assert_eq!((last.method.as_str(), last.body.as_str()), ("PUT", ""));
    let expect = format!("/v2/a/b/blobs/uploads/1?state=z&digest={}", digest());
    assert_eq!(last.target, expect);
}

#[tokio::test]
async fn begins_anew_when_the_registry_has_forgotten_an_upload() {
    let fake = taking(|seen, before| match (seen.method.as_str(), before) {
        ("PUT", 0) => complaint(
            "404 Not Found",
            "BLOB_UPLOAD_UNKNOWN",
            "blob upload unknown",
        ),
        ("PUT", _) => created(),
        _ => missing(),
    })
    .await;
    let repository = fake.repository();
    let sent = push(&repository, &[]);
    assert_eq!(sent.await.unwrap(), Sent::Uploaded);
    let posts = fake.seen().into_iter().filter(|seen| seen.method == "POST");
    assert_eq!(posts.count(), 2);
}

#[tokio::test]
async fn gives_up_at_last() {
    let fake = taking(|seen, _| match seen.method.as_str() {
        "PUT" => complaint("500 Internal Server Error", "UNKNOWN", "disk full"),
        _ => missing(),
    })
    .await;
    let repository = fake.repository();
    let error = repository
        .push_blob(&descriptor(BLOB), &[], &source(BLOB))
        .await
        .unwrap_err();
    assert!(error.message().ends_with("unknown: disk full"), "{error}");
    let puts = fake.seen().into_iter().filter(|seen| seen.method == "PUT");
    assert_eq!(puts.count(), 3);
}

#[tokio::test]
async fn a_source_that_fails_ends_the_upload() {
    let fake = taking(|_, _| created()).await;
    let broken = BlobSource::new(|_| Err(io::Error::other("the disk is gone")));
    let error = fake
        .repository()
        .push_blob(&descriptor(BLOB), &[], &broken)
        .await
        .unwrap_err();
    let expect = format!("read blob {} to push it: the disk is gone", digest());
    assert_eq!(error.message(), expect);
    let puts = fake.seen().into_iter().filter(|seen| seen.method == "PUT");
    assert!(puts.count() <= 1);
}

/// A host that takes a part of a body and then nothing any more, or closes.
async fn choking(close: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut some = vec![0; 100];
                let _client_may_be_gone = stream.read_exact(&mut some).await;
                if !close {
                    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
                }
                let _client_may_be_gone = stream.shutdown().await;
            });
        }
    });
    address
}

#[tokio::test]
async fn a_host_that_takes_no_more_is_given_up() {
    for close in [true, false] {
        let address = choking(close).await;
        let location = format!("http://{address}/upload");
        let fake = Fake::start(move |seen, _| match seen.method.as_str() {
            "GET" => ok(b"{}"),
            "HEAD" => missing(),
            _ => accepted(&location),
        })
        .await;
        let big = vec![b'x'; 64 << 20];
        let repository = fake.repository();
        let begun = std::time::Instant::now();
        let error = repository
            .push_blob(&descriptor(&big), &[], &source(&big))
            .await
            .unwrap_err();
        let taken = begun.elapsed();
        assert!(taken.as_secs() < 50, "{taken:?}");
        let expect = if close {
            address.as_str()
        } else {
            "was taken within"
        };
        assert!(error.message().contains(expect), "{}", error.message());
    }
}

#[tokio::test]
async fn refusals_are_dockers() {
    for (status, code, message, expect, kind) in [
        (
            "403 Forbidden",
            "DENIED",
            "requested access to the resource is denied",
            "denied: requested access to the resource is denied: pushing to ",
            ErrorKind::Unauthorized,
        ),
        (
            "401 Unauthorized",
            "UNAUTHORIZED",
            "authentication required",
            "unauthorized: authentication required: pushing to ",
            ErrorKind::Unauthorized,
        ),
        (
            "404 Not Found",
            "NAME_UNKNOWN",
            "repository name not known to registry",
            "not found: name unknown: repository name not known to registry",
            ErrorKind::NotFound,
        ),
        (
            "400 Bad Request",
            "NAME_INVALID",
            "invalid repository name",
            "400 Bad Request: name invalid: invalid repository name",
            ErrorKind::Unavailable,
        ),
    ] {
        let fake = Fake::start(move |seen, _| match seen.method.as_str() {
            "GET" => ok(b"{}"),
            "HEAD" => missing(),
            _ => complaint(status, code, message),
        })
        .await;
        let error = fake
            .repository()
            .push_blob(&descriptor(BLOB), &[], &source(BLOB))
            .await
            .unwrap_err();
        assert!(error.message().contains(expect), "{}", error.message());
        assert_eq!(error.kind(), kind, "{status}");
    }
}

#[tokio::test]
async fn credentials_stay_with_the_registry() {
    let store = Fake::start(|_, _| created()).await;
    let location = format!("http://{}/bucket/1?signature=s", store.address);
    let fake = Fake::start(move |seen, _| {
        if seen.header("authorization").is_none() {
            return answer(
                "401 Unauthorized",
                &[("WWW-Authenticate", "Basic realm=\"x\"")],
                b"",
            );
        }
        match seen.method.as_str() {
            "GET" => ok(b"{}"),
            "HEAD" => missing(),
            _ => accepted(&location),
        }
    })
    .await;
    let credentials = Credentials {
        username: "u".into(),
        password: "p".into(),
        ..Credentials::default()
    };
    let reference = format!("{}/a/b:tag", fake.address).parse().unwrap();
    let repository = Client::new(quick()).repository(&reference, Some(credentials));
    let sent = push(&repository, &[]);
    assert_eq!(sent.await.unwrap(), Sent::Uploaded);
    let put = store.seen().pop().unwrap();
    assert_eq!(put.header("authorization"), None);
    assert!(put.target.starts_with("/bucket/1?signature=s&digest="));
}

/// A registry that takes pushes from who has the token for them.
fn guarded(seen: &Seen, realm: &str) -> Act {
    if seen.header("authorization") != Some("Bearer may-push") {
        let challenge = format!("Bearer realm=\"{realm}\",service=\"reg\"");
        return answer("401 Unauthorized", &[("WWW-Authenticate", &challenge)], b"");
    }
    match seen.method.as_str() {
        "HEAD" => missing(),
        "POST" => accepted("/v2/a/b/blobs/uploads/1"),
        _ => created(),
    }
}

#[tokio::test]
async fn asks_for_a_token_that_may_push() {
    let tokens = Fake::start(|seen, _| {
        if seen.target.contains("pull,push") {
            ok(br#"{"token":"may-push","expires_in":300}"#)
        } else {
            ok(br#"{"token":"may-read"}"#)
        }
    })
    .await;
    let realm = format!("http://{}/token", tokens.address);
    let fake = Fake::start(move |seen, _| guarded(seen, &realm)).await;
    let repository = fake.repository();
    let elsewhere = ["c/d".to_owned()];
    repository
        .push_blob(&descriptor(BLOB), &elsewhere, &source(BLOB))
        .await
        .unwrap();
    let manifest = Bytes::from(manifest_json().to_string());
    let digest = repository
        .push_manifest(Some("tag"), media_type::OCI_MANIFEST, manifest.clone())
        .await
        .unwrap();
    assert_eq!(digest, digest_of(&manifest));
    let asked: Vec<String> = tokens.seen().into_iter().map(|seen| seen.target).collect();
    let scope = "/token?service=reg&scope=repository:a/b:pull,push";
    assert_eq!(
        asked,
        [
            scope.to_owned(),
            format!("{scope}&scope=repository:c/d:pull")
        ]
    );
}

#[tokio::test]
async fn a_registry_that_stores_something_else_is_told() {
    let other = digest_of(b"something else").to_string();
    let fake =
        taking(move |_, _| answer("201 Created", &[("Docker-Content-Digest", &other)], b"")).await;
    let manifest = Bytes::from(manifest_json().to_string());
    let error = fake
        .repository()
        .push_manifest(Some("tag"), media_type::OCI_MANIFEST, manifest)
        .await
        .unwrap_err();
    let message = error.message();
    assert!(
        message.starts_with("the registry stored sha256:"),
        "{message}"
    );
    assert_eq!(error.kind(), ErrorKind::BadData);
}

/// A blob, an image of it, and the way back, with CNCF distribution.
async fn there_and_back(repository: &Repository) {
    let layer: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let blob = descriptor(&layer);
    let sent = repository.push_blob(&blob, &[], &source(&layer)).await;
    assert_eq!(sent.unwrap(), Sent::Uploaded);
    let again = repository.push_blob(&blob, &[], &source(&layer)).await;
    assert_eq!(again.unwrap(), Sent::Existed);
    let config = descriptor(b"{}");
    let sent = repository.push_blob(&config, &[], &source(b"{}")).await;
    assert_eq!(sent.unwrap(), Sent::Uploaded);
    let mut manifest = manifest_json();
    manifest["layers"] = serde_json::json!([blob]);
    let manifest = Bytes::from(manifest.to_string());
    let digest = repository
        .push_manifest(Some("tag"), media_type::OCI_MANIFEST, manifest)
        .await
        .unwrap();
    let resolved = repository.resolve(&Platform::host()).await.unwrap();
    assert_eq!(resolved.digest(), &digest);
    assert!(read_all(repository, &blob).await.unwrap() == layer);
}

#[tokio::test]
async fn an_open_registry_takes_a_push_and_mounts() {
    let registry = Registry::start().unwrap();
    let name = registry.name();
    let first = repository(&format!("{name}/a/b:tag"), quick());
    there_and_back(&first).await;
    let second = repository(&format!("{name}/c/d:tag"), quick());
    let elsewhere = ["no/such".to_owned(), "a/b".to_owned()];
    let sent = second
        .push_blob(&descriptor(b"{}"), &elsewhere, &source(b"{}"))
        .await
        .unwrap();
    let from = "a/b".to_owned();
    assert_eq!(sent, Sent::Mounted { from });
}

#[tokio::test]
async fn a_registry_with_passwords_takes_a_push() {
    let registry = Registry::start_with(&RegistryOptions {
        authentication: true,
        ..RegistryOptions::default()
    })
    .unwrap();
    let reference = format!("{}/a/b:tag", registry.name()).parse().unwrap();
    let with = |password: &str| {
        let credentials = Credentials {
            username: Registry::USER.into(),
            password: password.into(),
            ..Credentials::default()
        };
        Client::new(quick()).repository(&reference, Some(credentials))
    };
    there_and_back(&with(Registry::PASSWORD)).await;
    let refused = with("wrong")
        .push_blob(&descriptor(BLOB), &[], &source(BLOB))
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unauthorized, "{refused}");
    let nobody = Client::new(quick()).repository(&reference, None);
    let refused = nobody
        .push_blob(&descriptor(BLOB), &[], &source(BLOB))
        .await
        .unwrap_err();
    let message = refused.message();
    assert!(message.ends_with("no basic auth credentials"), "{message}");
}
