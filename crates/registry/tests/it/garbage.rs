//! Collection: what goes, what stays, and pushes that run meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use registry::config::{Quota, Size, Span};

use crate::client::{Registry, code, text};

#[test]
fn what_nothing_refers_to_goes() {
    let registry = Registry::start_with(|config, _| config.gc.grace = Span(Duration::ZERO));
    let kept = registry.image("a", "one", b"kept");
    let gone = registry.image("a", "two", b"gone");
    let loose = registry.blob("b", b"loose");
    let path = format!("/v2/a/manifests/{}", gone.digest);
    assert_eq!(registry.ask("DELETE", &path, &[], b"").status, 202);
    let taken = registry.collect(Duration::from_secs(3600));
    assert_eq!(
        (taken.blobs, taken.links),
        (1, 0),
        "the manifest alone: blobs are in grace"
    );
    let taken = registry.collect(Duration::ZERO);
    assert_eq!((taken.blobs, taken.links), (2, 2), "{taken:?}");
    assert_eq!(taken.bytes, 9);
    assert_eq!(
        registry.get("/v2/a/manifests/one").body,
        kept.manifest.as_bytes()
    );
    assert_eq!(
        registry.get(&format!("/v2/a/blobs/{}", kept.layer)).body,
        b"kept"
    );
    assert_eq!(registry.get(&format!("/v2/b/blobs/{loose}")).status, 404);
    assert_eq!(
        registry.get("/v2/b/tags/list").status,
        404,
        "nothing is left of it"
    );
    assert_eq!(registry.files(), 3);
    let taken = registry.collect(Duration::ZERO);
    assert_eq!(taken, registry::Collected::default());
}

#[test]
fn files_that_the_database_does_not_know() {
    let registry = Registry::start_with(|config, _| config.gc.grace = Span(Duration::ZERO));
    registry.image("a", "one", b"kept");
    let stray = storage::digest_of(b"stray");
    let blobs = registry.config.root.join("content/blobs/sha256");
    std::fs::write(blobs.join(stray.hex()), b"stray").unwrap();
    assert_eq!(
        registry.collect(Duration::from_secs(3600)).blobs,
        0,
        "it is young"
    );
    assert_eq!(registry.collect(Duration::ZERO).blobs, 1);
    assert_eq!(registry.files(), 3);
}

#[test]
fn manifests_without_a_tag() {
    let registry = Registry::start_with(|config, _| {
        config.gc.grace = Span(Duration::ZERO);
        config.gc.untagged = Some(Span(Duration::ZERO));
    });
    let old = registry.image("a", "one", b"old");
    let new = registry.image("a", "one", b"new");
    let taken = registry.collect(Duration::ZERO);
    assert_eq!(taken.manifests, 1, "{taken:?}");
    assert_eq!(
        registry
            .get(&format!("/v2/a/manifests/{}", old.digest))
            .status,
        404
    );
    assert_eq!(
        registry
            .get(&format!("/v2/a/manifests/{}", new.digest))
            .status,
        200
    );
}

/// A push finds blobs there, is told so, and refers to them: no collection comes between.
#[test]
fn pushes_while_it_runs() {
    let registry = Registry::start_with(|config, _| {
        config.gc.grace = Span(Duration::from_secs(60));
    });
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (registry, over) = (&registry, &over);
        let collector = scope.spawn(move || {
            let mut rounds = 0;
            while !over.load(Ordering::Relaxed) {
                registry.collect(Duration::ZERO);
                rounds += 1;
            }
            rounds
        });
        let pushers: Vec<_> = (0..4_u8)
            .map(|pusher| {
                scope.spawn(move || {
                    for round in 0..30_u8 {
                        let layer = [round % 3; 1000];
                        let digest = storage::digest_of(&layer).to_string();
                        let name = format!("r{pusher}");
                        let head = format!("/v2/{name}/blobs/{digest}");
                        if registry.ask("HEAD", &head, &[], b"").status == 404 {
                            registry.blob(&name, &layer);
                        }
                        registry.blob(&name, b"{}");
                        let config = storage::digest_of(b"{}").to_string();
                        let layers = [(&*digest, layer.len())];
                        let manifest = crate::client::manifest(&config, &layers, "");
                        let pushed = registry.manifest(&name, "t", &manifest);
                        let path = format!("/v2/{name}/manifests/{pushed}");
                        assert_eq!(registry.get(&path).status, 200);
                        assert_eq!(registry.get(&head).body, layer);
                        assert_eq!(registry.ask("DELETE", &path, &[], b"").status, 202);
                    }
                })
            })
            .collect();
        for pusher in pushers {
            pusher.join().unwrap();
        }
        over.store(true, Ordering::Relaxed);
        assert!(collector.join().unwrap() > 0);
    });
}

#[test]
fn quotas() {
    let registry = Registry::start_with(|config, _| {
        config.gc.grace = Span(Duration::ZERO);
        let quota = |prefix: &str, size| Quota {
            prefix: prefix.to_owned(),
            size: Size(size),
        };
        config.quota = vec![quota("team/", 1000), quota("", 5000)];
    });
    let push = |name: &str, byte: u8, size: usize| {
        let bytes = vec![byte; size];
        let digest = storage::digest_of(&bytes);
        let path = format!("/v2/{name}/blobs/uploads/?digest={digest}");
        registry.ask("POST", &path, &[], &bytes)
    };
    assert_eq!(push("team/a", 1, 600).status, 201);
    let over = push("team/b", 2, 600);
    assert_eq!(
        (over.status, code(&over)),
        (403, "DENIED".to_owned()),
        "{}",
        text(&over)
    );
    assert_eq!(push("team/b", 2, 400).status, 201);
    assert_eq!(push("other", 3, 3000).status, 201);
    assert_eq!(push("other", 4, 2000).status, 403, "the whole");
    assert_eq!(push("third", 3, 3000).status, 201, "content counts once");
    registry.collect(Duration::ZERO);
    assert_eq!(push("team/b", 2, 600).status, 201, "there is room again");
}
