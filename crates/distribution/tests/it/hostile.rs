//! A registry that lies, breaks off, hangs and sends around.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use distribution::{ErrorKind, RegistryError};
use oci::Platform;
use oci::image::media_type;
use serde_json::{Value, json};
use testkit::image::digest_of;

use crate::fake::{
    Act, Fake, answer, complaint, descriptor, manifest_answer, manifest_json, ok, quick, raw,
    read_all, repository, some_digest,
};

fn content() -> Vec<u8> {
    (0..200_000_u32).flat_map(u32::to_le_bytes).collect()
}

/// A registry whose blobs are answered by `act`.
async fn blobs<F>(act: F) -> Fake
where
    F: Fn(&crate::fake::Seen, usize) -> Act + Send + Sync + 'static,
{
    Fake::start(move |seen, before| match seen.target.as_str() {
        "/v2/" => ok(b"{}"),
        _ => act(seen, before),
    })
    .await
}

async fn blob_failure(fake: &Fake) -> RegistryError {
    read_all(&fake.repository(), &descriptor(&content()))
        .await
        .unwrap_err()
}

async fn manifest_failure(document: impl Into<Value>) -> RegistryError {
    let document = document.into();
    let fake = blobs(move |_, _| manifest_answer(&document)).await;
    fake.repository()
        .resolve(&Platform::host())
        .await
        .unwrap_err()
}

#[tokio::test]
async fn reads_an_honest_blob() {
    let fake = blobs(|_, _| ok(&content())).await;
    let all = read_all(&fake.repository(), &descriptor(&content())).await;
    assert!(all.unwrap() == content());
}

/// dockerd takes digests of SHA-512; here they are refused, and who pulls is told why.
#[tokio::test]
async fn other_digests_than_sha256_are_refused_by_name() {
    let other = format!("sha512:{}", "0123456789abcdef".repeat(8));
    for place in ["/config/digest", "/layers/0/digest"] {
        let mut document = manifest_json();
        document["layers"] = json!([descriptor(b"layer")]);
        *document.pointer_mut(place).unwrap() = other.clone().into();
        let error = manifest_failure(document).await;
        let text = distribution::chain(&error);
        assert!(text.contains("only sha256 is supported"), "{place}: {text}");
    }
}

#[tokio::test]
async fn finds_a_wrong_digest() {
    let fake = blobs(|_, _| {
        let mut wrong = content();
        wrong[100] ^= 1;
        ok(&wrong)
    })
    .await;
    let error = blob_failure(&fake).await;
    let expected = format!(
        "filesystem layer verification failed for digest {}",
        digest_of(&content())
    );
    assert!(
        error.message().starts_with(&expected),
        "{}",
        error.message()
    );
    assert_eq!(error.kind(), ErrorKind::BadData);
}

#[tokio::test]
async fn refuses_an_announced_length_that_is_not_the_descriptors() {
    for (length, body) in [("5", b"12345".to_vec()), ("9000000000000", content())] {
        let fake =
            blobs(move |_, _| Act::Send(raw("200 OK", &[("Content-Length", length)], &body))).await;
        let error = blob_failure(&fake).await;
        assert!(
            matches!(error, RegistryError::WrongLength { .. }),
            "{error}"
        );
        assert!(error.message().contains(length), "{error}");
    }
}

#[tokio::test]
async fn refuses_more_bytes_than_the_descriptor_says() {
    let fake = blobs(|_, _| {
        let mut long = content();
        long.extend_from_slice(b"more");
        Act::Send(raw("200 OK", &[], &long))
    })
    .await;
    let error = blob_failure(&fake).await;
    assert!(error.message().contains("the registry has more"), "{error}");
}

#[tokio::test]
async fn tells_a_blob_that_stays_short() {
    let fake = blobs(|_, _| Act::Send(raw("200 OK", &[], &content()[..1000]))).await;
    let error = blob_failure(&fake).await;
    assert!(
        error.message().contains("sent 1000 of 800000 bytes"),
        "{error}"
    );
}

#[tokio::test]
async fn gives_up_a_blob_that_always_breaks() {
    let fake = blobs(|_, _| {
        let length = content().len().to_string();
        Act::Send(raw(
            "200 OK",
            &[("Content-Length", &length)],
            &content()[..10],
        ))
    })
    .await;
    let error = blob_failure(&fake).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let host = fake.address.to_string();
    assert!(
        error
            .message()
            .contains(&format!("reading the answer of {host}")),
        "{}",
        error.message()
    );
    assert_eq!(fake.seen_at("/blobs/").len(), 3);
}

#[tokio::test]
async fn resumes_where_the_connection_broke() {
    let fake = blobs(|seen, _| {
        let all = content();
        let start: usize = seen.header("range").map_or(0, |range| {
            let from = range.strip_prefix("bytes=").unwrap();
            from.strip_suffix('-').unwrap().parse().unwrap()
        });
        let length = (all.len() - start).to_string();
        let range = format!("bytes {start}-{}/{}", all.len() - 1, all.len());
        let status = if start == 0 {
            "200 OK"
        } else {
            "206 Partial Content"
        };
        let headers = [
            ("Content-Length", length.as_str()),
            ("Content-Range", &range),
        ];
        let end = all.len().min(start + 300_000);
        Act::Send(raw(status, &headers, &all[start..end]))
    })
    .await;
    let all = read_all(&fake.repository(), &descriptor(&content())).await;
    assert!(all.unwrap() == content());
    let requests = fake.seen_at("/blobs/");
    let ranges: Vec<_> = requests.iter().map(|seen| seen.header("range")).collect();
    assert_eq!(ranges, [None, Some("bytes=300000-"), Some("bytes=600000-")]);
}

#[tokio::test]
async fn resumes_without_ranges() {
    let fake = blobs(|_, before| {
        let all = content();
        let length = all.len().to_string();
        let end = if before == 0 { 123_457 } else { all.len() };
        Act::Send(raw("200 OK", &[("Content-Length", &length)], &all[..end]))
    })
    .await;
    let all = read_all(&fake.repository(), &descriptor(&content())).await;
    assert!(all.unwrap() == content());
}

#[tokio::test]
async fn refuses_another_range() {
    let fake = blobs(|_, before| {
        let all = content();
        let length = all.len().to_string();
        match before {
            0 => Act::Send(raw("200 OK", &[("Content-Length", &length)], &all[..50])),
            _ => answer(
                "206 Partial Content",
                &[("Content-Range", "bytes 7-9/10")],
                b"abc",
            ),
        }
    })
    .await;
    let error = blob_failure(&fake).await;
    assert!(matches!(error, RegistryError::Protocol { .. }), "{error}");
}

#[tokio::test]
async fn names_host_and_step_of_a_hang() {
    let silent = blobs(|_, _| Act::SendAndHang(Vec::new())).await;
    let error = blob_failure(&silent).await;
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let message = error.message();
    assert!(message.starts_with("Get \"http://127.0.0.1:"), "{message}");
    assert!(
        message.contains("timeout awaiting response headers"),
        "{message}"
    );
    assert!(message.contains(&silent.address.to_string()), "{message}");

    let stuck = blobs(|_, _| Act::SendAndHang(raw("200 OK", &[], &content()[..70]))).await;
    let error = blob_failure(&stuck).await;
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(
        error.message().contains("nothing came within 2s"),
        "{}",
        error.message()
    );
}

#[tokio::test]
async fn gives_up_a_trickle() {
    let fake = blobs(|_, _| Act::Drip(raw("200 OK", &[], b""), Duration::from_millis(100))).await;
    let started = Instant::now();
    let error = blob_failure(&fake).await;
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(
        error.message().contains("bytes came within"),
        "{}",
        error.message()
    );
    assert!(started.elapsed() < Duration::from_secs(60));
}

#[tokio::test]
async fn stops_a_redirect_loop() {
    let fake = blobs(|_, _| {
        answer(
            "307 Temporary Redirect",
            &[("Location", "/v2/a/b/blobs/x")],
            b"",
        )
    })
    .await;
    let error = blob_failure(&fake).await;
    assert!(
        error.message().ends_with("stopped after 10 redirects"),
        "{}",
        error.message()
    );
    assert_eq!(fake.seen_at("/blobs/").len(), 11);
}

#[tokio::test]
async fn refuses_redirects_to_other_protocols() {
    let fake = blobs(|_, _| answer("302 Found", &[("Location", "file:///etc/passwd")], b"")).await;
    let error = blob_failure(&fake).await;
    assert!(
        error.message().contains("refused a redirect"),
        "{}",
        error.message()
    );
}

#[tokio::test]
async fn waits_as_long_as_the_registry_asks() {
    let fake = blobs(|_, before| match before {
        0 => answer("429 Too Many Requests", &[("Retry-After", "1")], b""),
        _ => ok(&content()),
    })
    .await;
    let started = Instant::now();
    read_all(&fake.repository(), &descriptor(&content()))
        .await
        .unwrap();
    assert!(started.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn does_not_wait_for_hours() {
    let fake = blobs(|_, _| {
        let body = br#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit."}]}"#;
        answer("429 Too Many Requests", &[("Retry-After", "21600")], body)
    })
    .await;
    let error = fake
        .repository()
        .resolve(&Platform::host())
        .await
        .unwrap_err();
    assert_eq!(
        error.message(),
        "toomanyrequests: You have reached your pull rate limit."
    );
    assert_eq!(error.kind(), ErrorKind::TooManyRequests);
    assert_eq!(fake.seen_at("/manifests/").len(), 1);
}

#[tokio::test]
async fn repeats_after_a_failure_of_the_server() {
    let count = Arc::new(AtomicUsize::new(0));
    let counter = count.clone();
    let fake = blobs(move |_, _| match counter.fetch_add(1, Ordering::Relaxed) {
        0 => answer("503 Service Unavailable", &[], b""),
        1 => Act::Send(Vec::new()),
        _ => ok(&content()),
    })
    .await;
    read_all(&fake.repository(), &descriptor(&content()))
        .await
        .unwrap();
    assert_eq!(count.load(Ordering::Relaxed), 3);
    let broken = blobs(|_, _| {
        complaint(
            "500 Internal Server Error",
            "UNKNOWN",
            "disk\u{1b}[31m full",
        )
    })
    .await;
    let error = blob_failure(&broken).await;
    let message = error.message();
    assert!(
        message.contains("received unexpected HTTP status: 500 Internal Server Error"),
        "{message}"
    );
    assert!(message.ends_with("unknown: disk [31m full"), "{message}");
}

#[tokio::test]
async fn refuses_huge_manifests() {
    let announced =
        blobs(|_, _| Act::SendAndHang(raw("200 OK", &[("Content-Length", "99999999999")], b"{")))
            .await;
    let endless = blobs(|_, _| Act::Send(raw("200 OK", &[], &vec![b' '; 5 << 20]))).await;
    for fake in [announced, endless] {
        let error = fake
            .repository()
            .resolve(&Platform::host())
            .await
            .unwrap_err();
        assert!(
            error
                .message()
                .contains("larger than the limit of 4194304 bytes"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn refuses_documents_that_can_be_read_in_two_ways() {
    let mut both = manifest_json();
    both["manifests"] = json!([]);
    let mut lying = manifest_json();
    lying["mediaType"] = media_type::OCI_INDEX.into();
    for document in [both, lying, json!({"schemaVersion": 2})] {
        let error = manifest_failure(document.clone()).await;
        assert!(
            error.message().contains("ambiguous document"),
            "{document}: {}",
            error.message()
        );
        assert_eq!(error.kind(), ErrorKind::BadData);
    }
    let index = json!({"schemaVersion": 2, "manifests": []}).to_string();
    let header = [("Content-Type", media_type::OCI_MANIFEST)];
    let fake = blobs(move |_, _| answer("200 OK", &header, index.as_bytes())).await;
    let error = fake
        .repository()
        .resolve(&Platform::host())
        .await
        .unwrap_err();
    assert!(
        error.message().contains("ambiguous document"),
        "{}",
        error.message()
    );
}

#[tokio::test]
async fn refuses_what_is_no_image() {
    let schema1 = json!({"schemaVersion": 1, "name": "a/b", "fsLayers": []});
    let message = manifest_failure(schema1).await.message();
    assert!(message.contains("schema 1 is not supported"), "{message}");
    let mut version = manifest_json();
    version["schemaVersion"] = 3.into();
    let message = manifest_failure(version).await.message();
    assert!(
        message.contains("unsupported schema version 3"),
        "{message}"
    );
    let mut traversal = manifest_json();
    traversal["config"]["digest"] = "sha256:../../../etc/passwd".into();
    let message = manifest_failure(traversal).await.message();
    assert!(message.contains("parse image manifest"), "{message}");
    let mut many = manifest_json();
    many["layers"] = vec![json!(descriptor(b"x")); 501].into();
    let message = manifest_failure(many).await.message();
    assert!(
        message.contains("501 layers are more than the limit of 500"),
        "{message}"
    );
    let message = manifest_failure("text").await.message();
    assert!(message.contains("parse manifest"), "{message}");
}

#[tokio::test]
async fn checks_the_digest_of_manifests() {
    let digest = some_digest().to_string();
    let body = manifest_json().to_string();
    let fake = blobs(move |_, _| {
        answer(
            "200 OK",
            &[("Docker-Content-Digest", &digest)],
            body.as_bytes(),
        )
    })
    .await;
    let error = fake
        .repository()
        .resolve(&Platform::host())
        .await
        .unwrap_err();
    assert!(
        error
            .message()
            .starts_with("manifest verification failed for digest"),
        "{error}"
    );

    let fake = blobs(|_, _| manifest_answer(&manifest_json())).await;
    let reference = format!("{}/a/b@{}", fake.address, some_digest());
    let by_digest = repository(&reference, quick());
    let error = by_digest.resolve(&Platform::host()).await.unwrap_err();
    assert!(
        matches!(error, RegistryError::DigestMismatch { .. }),
        "{error}"
    );
}

/// A chain of indexes that ends in a manifest, `depth` indexes long.
fn chain(depth: usize) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    let mut last = manifest_json();
    for _ in 0..depth {
        let text = last.to_string();
        let mut entry = json!(descriptor(text.as_bytes()));
        entry["mediaType"] = last["mediaType"].clone();
        entry["platform"] = json!(Platform::host());
        all.push((digest_of(text.as_bytes()).to_string(), last));
        last = json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_INDEX,
            "manifests": [entry],
        });
    }
    all.push(("tag".into(), last));
    all
}

#[tokio::test]
async fn follows_nested_indexes_only_so_far() {
    for (depth, good) in [(1, true), (3, true), (4, false), (9, false)] {
        let documents = chain(depth);
        let fake = blobs(move |seen, _| {
            let name = seen.target.rsplit('/').next().unwrap();
            let found = documents.iter().find(|(key, _)| key == name).unwrap();
            manifest_answer(&found.1)
        })
        .await;
        let result = fake.repository().resolve(&Platform::host()).await;
        match result {
            Ok(resolved) => {
                assert!(good, "{depth}");
                assert_eq!(resolved.manifest.layers.len(), 0);
                assert_ne!(resolved.digest(), &resolved.manifest_descriptor.digest);
            }
            Err(error) => {
                assert!(!good, "{depth}: {}", error.message());
                assert!(
                    error.message().contains("nested more than 3 deep"),
                    "{error}"
                );
            }
        }
    }
}

#[tokio::test]
async fn says_what_is_not_there() {
    let fake = blobs(|seen, _| match seen.target.contains("/blobs/") {
        true => complaint("404 Not Found", "BLOB_UNKNOWN", "blob unknown to registry"),
        false => complaint("404 Not Found", "MANIFEST_UNKNOWN", "manifest unknown"),
    })
    .await;
    let name = format!("{}/a/b", fake.address);
    let error = fake
        .repository()
        .resolve(&Platform::host())
        .await
        .unwrap_err();
    let expected = format!("manifest for {name}:tag not found: manifest unknown: manifest unknown");
    assert_eq!(error.message(), expected);
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let error = blob_failure(&fake).await;
    assert!(
        error
            .message()
            .ends_with("not found: blob unknown: blob unknown to registry"),
        "{error}"
    );
    let fake = blobs(|_, _| {
        complaint(
            "403 Forbidden",
            "DENIED",
            "requested access to the resource is denied",
        )
    })
    .await;
    let error = fake
        .repository()
        .resolve(&Platform::host())
        .await
        .unwrap_err();
    let expected = format!(
        "pull access denied for {}/a/b, repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
        fake.address
    );
    assert_eq!(error.message(), expected);
}

#[tokio::test]
async fn ignores_addresses_in_descriptors() {
    let elsewhere = Fake::start(|_, _| ok(b"evil")).await;
    let mut document = manifest_json();
    let mut layer = json!(descriptor(b"layer"));
    layer["urls"] = json!([format!("http://{}/layer", elsewhere.address)]);
    document["layers"] = json!([layer]);
    let fake = blobs(move |seen, _| match seen.target.contains("/manifests/") {
        true => manifest_answer(&document),
        false => ok(b"layer"),
    })
    .await;
    let resolved = fake.repository().resolve(&Platform::host()).await.unwrap();
    let layer = &resolved.manifest.layers[0];
    assert_eq!(
        read_all(&resolved.repository, layer).await.unwrap(),
        b"layer"
    );
    assert!(elsewhere.seen().is_empty());
}

#[tokio::test]
async fn refuses_huge_configurations_unread() {
    let fake = blobs(|_, _| ok(b"")).await;
    let mut config = descriptor(b"{}");
    config.size = 9 << 20;
    let error = fake.repository().fetch_config(&config).await.unwrap_err();
    assert!(
        error
            .message()
            .contains("larger than the limit of 8388608 bytes"),
        "{error}"
    );
    assert!(fake.seen().is_empty());
}

#[tokio::test]
async fn streams_no_more_blobs_at_once_than_configured() {
    let fake = blobs(|_, _| ok(&content())).await;
    let mut config = quick();
    config.max_connections_per_host = 1;
    let repository = repository(&format!("{}/a/b", fake.address), config);
    let blob = descriptor(&content());
    let first = repository.fetch_blob(&blob).await.unwrap();
    let second = repository.fetch_blob(&blob);
    let mut second = std::pin::pin!(second);
    let wait = tokio::time::timeout(Duration::from_millis(100), &mut second).await;
    assert!(wait.is_err());
    drop(first);
    assert!(second.await.is_ok());
}

#[tokio::test]
async fn reads_tags_page_by_page_from_the_same_registry() {
    let elsewhere = Fake::start(|_, _| ok(br#"{"tags":["evil"]}"#)).await;
    let link = format!(
        "<http://{}/v2/x/tags/list?n=1&last=a>; rel=\"next\"",
        elsewhere.address
    );
    let fake = blobs(move |seen, _| match seen.target.contains("last=a") {
        true => ok(br#"{"name":"a/b","tags":["b"]}"#),
        false => answer(
            "200 OK",
            &[("Link", &link)],
            br#"{"name":"a/b","tags":["a"]}"#,
        ),
    })
    .await;
    assert_eq!(fake.repository().tags().await.unwrap(), ["a", "b"]);
    assert!(elsewhere.seen().is_empty());
    let endless =
        blobs(|_, _| answer("200 OK", &[("Link", "</x?n=1>")], br#"{"tags":null}"#)).await;
    assert!(endless.repository().tags().await.unwrap().is_empty());
}
