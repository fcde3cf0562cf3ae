//! The pull-through mode, with another registry of ours as the upstream.

use std::time::Duration;

use registry::config::{Proxy, Span};

use crate::client::{MANIFEST, Registry, code, json, text};

fn proxy_of(upstream: &Registry, ttl: Duration) -> Registry {
    let upstream = upstream.address.to_string();
    Registry::start_with(|config, _| {
        config.proxy = Some(Proxy {
            upstream,
            username: String::new(),
            password_file: None,
            ttl: Span(ttl),
            insecure: true,
        });
    })
}

#[test]
fn what_is_asked_for_is_kept() {
    let mut upstream = Registry::start();
    let layer: Vec<u8> = (0..=255).cycle().take(2 << 20).collect();
    let image = upstream.image("a/b", "one", &layer);
    let proxy = proxy_of(&upstream, Duration::ZERO);
    let get = |path: &str| proxy.ask("GET", path, &[("Accept", MANIFEST)], b"");
    let blob = format!("/v2/a/b/blobs/{}", image.layer);
    assert_eq!(get(&blob).status, 404, "nothing names it yet");
    let manifest = get("/v2/a/b/manifests/one");
    assert_eq!(manifest.status, 200, "{}", text(&manifest));
    assert_eq!(manifest.body, image.manifest.as_bytes());
    let head = proxy.ask("HEAD", &blob, &[], b"");
    assert_eq!(head.header("content-length"), Some("2097152"));
    assert!(get(&blob).body == layer);
    let none = get("/v2/a/b/manifests/two");
    assert_eq!(
        (none.status, code(&none)),
        (404, "MANIFEST_UNKNOWN".to_owned())
    );
    let push = proxy.ask("POST", "/v2/a/b/blobs/uploads/", &[], b"");
    assert_eq!((push.status, code(&push)), (405, "UNSUPPORTED".to_owned()));
    let newer = upstream.image("a/b", "one", b"newer");
    assert_eq!(get("/v2/a/b/manifests/one").body, newer.manifest.as_bytes());
    let by_digest = format!("/v2/a/b/manifests/{}", image.digest);
    upstream.halt();
    assert_eq!(
        get("/v2/a/b/manifests/one").body,
        newer.manifest.as_bytes(),
        "the upstream is away"
    );
    assert_eq!(get(&by_digest).body, image.manifest.as_bytes());
    assert!(get(&blob).body == layer);
    let away = get("/v2/a/b/manifests/three");
    assert_eq!(away.status, 502, "{}", text(&away));
    let tags = json(&get("/v2/a/b/tags/list"));
    assert_eq!(tags["tags"], serde_json::json!(["one"]));
}

#[test]
fn a_tag_is_believed_for_a_while() {
    let upstream = Registry::start();
    let image = upstream.image("a", "one", b"layer");
    let proxy = proxy_of(&upstream, Duration::from_secs(3600));
    assert_eq!(
        proxy.get("/v2/a/manifests/one").body,
        image.manifest.as_bytes()
    );
    upstream.image("a", "one", b"newer");
    assert_eq!(
        proxy.get("/v2/a/manifests/one").body,
        image.manifest.as_bytes()
    );
}

/// Many who want the same at once are one to the upstream.
#[test]
fn equal_requests_are_one() {
    let upstream = Registry::start_with(|config, folder| {
        config.access_log = Some(folder.join("log"));
    });
    let layer: Vec<u8> = (0..=250).cycle().take(5 << 20).collect();
    let image = upstream.image("a", "one", &layer);
    let proxy = proxy_of(&upstream, Duration::from_secs(3600));
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let manifest = proxy.get("/v2/a/manifests/one");
                assert_eq!(manifest.status, 200, "{}", text(&manifest));
                assert!(proxy.get(&format!("/v2/a/blobs/{}", image.layer)).body == layer);
            });
        }
    });
    let log = std::fs::read_to_string(upstream.config.access_log.as_ref().unwrap()).unwrap();
    let count = |part: &str| {
        let lines = log
            .lines()
            .filter(|line| line.contains(r#""method":"GET""#));
        lines.filter(|line| line.contains(part)).count()
    };
    assert_eq!(count("/v2/a/manifests/one"), 1, "{log}");
    assert_eq!(count(&image.layer), 1, "{log}");
}
