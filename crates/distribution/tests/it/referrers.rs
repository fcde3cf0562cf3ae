//! What refers to a manifest: by the registry's own list, and by the tag that clients keep.

use std::collections::BTreeMap;

use bytes::Bytes;
use distribution::{Attachment, BlobSource, ClientConfig, Referrer, empty_config};
use oci::image::media_type;
use serde_json::json;
use testkit::image::{TestImage, digest_of};
use testkit::registry::Registry;

use crate::fake::{
    Fake, answer, complaint, descriptor, manifest_answer, ok, repository, some_digest,
};

fn entry(text: &str, artifact_type: &str) -> Referrer {
    Referrer {
        media_type: media_type::OCI_MANIFEST.to_owned(),
        digest: digest_of(text.as_bytes()),
        size: 7,
        artifact_type: artifact_type.to_owned(),
        annotations: BTreeMap::new(),
    }
}

#[tokio::test]
async fn the_registry_lists_in_pages() {
    let fake = Fake::start(|seen, _| {
        let index = |entries: &[Referrer]| {
            json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": entries})
        };
        match seen.target.as_str() {
            "/v2/" => ok(b"{}"),
            target if target.contains("last=a") => manifest_answer(&index(&[entry("b", "x"), entry("c", "y")])),
            _ => {
                // another host in the link is not followed
                let link = "<http://evil.example/v2/other/referrers/x?last=a>; rel=\"next\"";
                let headers = [("Content-Type", media_type::OCI_INDEX), ("Link", link)];
                answer("200 OK", &headers, index(&[entry("a", "x")]).to_string().as_bytes())
            }
        }
    })
    .await;
    let repository = fake.repository();
    let all = repository.referrers(&some_digest(), None).await.unwrap();
    assert_eq!(all, [entry("a", "x"), entry("b", "x"), entry("c", "y")]);
    // the registry does not say that it has filtered, and it has not
    let some = repository
        .referrers(&some_digest(), Some("y"))
        .await
        .unwrap();
    assert_eq!(some, [entry("c", "y")]);
}

#[tokio::test]
async fn lists_without_end_end() {
    let fake = Fake::start(|seen, before| match seen.target.as_str() {
        "/v2/" => ok(b"{}"),
        _ => {
            let link = format!("</v2/a/b/referrers/x?last={before}>; rel=\"next\"");
            let index = json!({"schemaVersion": 2, "manifests": [entry("a", "x")]});
            answer("200 OK", &[("Link", &link)], index.to_string().as_bytes())
        }
    })
    .await;
    let all = fake
        .repository()
        .referrers(&some_digest(), None)
        .await
        .unwrap();
    assert_eq!(all.len(), 64);
}

#[tokio::test]
async fn no_list_is_an_error_and_no_api_is_none() {
    for (status, body, expect) in [
        ("200 OK", "{", Err(())),
        ("200 OK", "{\"manifests\":[{}]}", Err(())),
        ("500 Internal Server Error", "", Err(())),
        ("404 Not Found", "", Ok(0)),
        ("400 Bad Request", "", Ok(0)),
        ("405 Method Not Allowed", "", Ok(0)),
    ] {
        let fake = Fake::start(move |seen, _| match seen.target.as_str() {
            "/v2/" => ok(b"{}"),
            target if target.contains("/referrers/") => answer(status, &[], body.as_bytes()),
            _ => complaint("404 Not Found", "MANIFEST_UNKNOWN", "manifest unknown"),
        })
        .await;
        let found = fake.repository().referrers(&some_digest(), None).await;
        assert_eq!(
            found.map(|all| all.len()).map_err(drop),
            expect,
            "{status} {body}"
        );
    }
}

#[tokio::test]
async fn an_attachment_is_listed_at_the_tag_where_the_registry_keeps_no_list() {
    let registry = Registry::start().unwrap();
    let image = TestImage::empty().build().unwrap();
    let digest = registry.push("a/b", "1", &image).unwrap();
    let repository = repository(
        &format!("{}/a/b:1", registry.name()),
        ClientConfig::default(),
    );
    let subject = repository.document().await.unwrap().descriptor;
    assert_eq!(subject.digest, digest);
    assert_eq!(repository.referrers(&digest, None).await.unwrap(), []);
    let mut expect = Vec::new();
    for (text, kind) in [("one", "application/spdx+json"), ("two", "text/x")] {
        let content = text.as_bytes();
        let layer = descriptor(content);
        let source = BlobSource::new(move |offset| {
            let from = usize::try_from(offset).unwrap();
            Ok(Box::new(&content[from..]) as Box<dyn std::io::Read + Send>)
        });
        repository.push_blob(&layer, &[], &source).await.unwrap();
        let attachment = Attachment {
            artifact_type: kind.to_owned(),
            config: empty_config(),
            layers: vec![layer],
            annotations: BTreeMap::from([("k".to_owned(), text.to_owned())]),
            subject: subject.clone(),
        };
        let made = repository.attach(&attachment).await.unwrap();
        // a second time adds nothing
        assert_eq!(repository.attach(&attachment).await.unwrap(), made);
        expect.push(Referrer {
            media_type: made.media_type,
            digest: made.digest,
            size: made.size,
            artifact_type: kind.to_owned(),
            annotations: attachment.annotations,
        });
    }
    assert_eq!(repository.referrers(&digest, None).await.unwrap(), expect);
    let some = repository.referrers(&digest, Some("text/x")).await.unwrap();
    assert_eq!(some, expect[1..]);
}

#[tokio::test]
async fn a_registry_that_lists_itself_needs_no_tag() {
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": descriptor(b"{}"),
        "layers": [], "subject": descriptor(b"{}"),
    });
    let fake = Fake::start(|seen, _| match seen.target.as_str() {
        "/v2/" => ok(b"{}"),
        _ => answer("201 Created", &[("OCI-Subject", "sha256:x")], b""),
    })
    .await;
    let bytes = Bytes::from(manifest.to_string());
    let repository = fake.repository();
    let pushed = repository.push_manifest(Some("t"), media_type::OCI_MANIFEST, bytes);
    pushed.await.unwrap();
    assert_eq!(fake.seen_at("/manifests/").len(), 1);
}
