//! Pushing indexes, with annotations, and packed as one asks for.

use serde_json::{Value, json};
use testkit::docker::Client;
use testkit::engine::{Engine, EngineOptions};
use testkit::http;
use testkit::image::{Archive, Blob, Built, Compression, TestImage, index_of};
use testkit::registry::Registry;

use crate::bench::{engine, options};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const PARTIAL: &str = "Not all multiplatform-content is present and only the available single-platform image was pushed";

fn image(architecture: &str) -> Built {
    let archive = Archive::new().file("name", architecture.as_bytes(), 0o644);
    TestImage::empty()
        .with_architecture(architecture, None)
        .with_layer(archive.unwrap().finish().unwrap(), Compression::Gzip)
        .build()
        .unwrap()
}

fn empty() -> Engine {
    let options = EngineOptions {
        busybox: false,
        ..options()
    };
    Engine::start(options).unwrap()
}

/// What a registry has under a tag: the type, the digest and the document.
fn document(registry: &Registry, path: &str) -> (String, String, Value) {
    let (repository, tag) = path.rsplit_once(':').unwrap();
    let path = format!("/v2/{repository}/manifests/{tag}");
    let accept = ("Accept", &*format!("{INDEX}, {MANIFEST}"));
    let answer = http::request(registry.address(), "GET", &path, &[accept], b"").unwrap();
    assert_eq!(answer.status, 200, "{path}");
    let header = |name| answer.header(name).unwrap_or_default().to_owned();
    let document = serde_json::from_slice(&answer.body).unwrap();
    (
        header("content-type"),
        header("docker-content-digest"),
        document,
    )
}

/// The digest that a push tells.
fn pushed(output: &str) -> String {
    let line = output.lines().find(|line| line.contains(": digest: "));
    let line = line.unwrap_or_else(|| panic!("no digest in {output}"));
    let rest = line.split(": digest: ").nth(1).unwrap();
    rest.split(' ').next().unwrap().to_owned()
}

#[test]
fn an_index_goes_where_all_of_it_is_here() {
    let engine = empty();
    let (from, to) = (Registry::start().unwrap(), Registry::start().unwrap());
    let images = [image("amd64"), image("arm64")];
    let index = from.push_index("a/b", "1", &images).unwrap().to_string();
    let source = format!("{}/a/b:1", from.name());
    for (number, client) in Client::BOTH.into_iter().enumerate() {
        let own = format!("c/d{number}");
        let target = format!("{}/{own}:1", to.name());
        // one platform alone goes as itself, and a note says so
        engine
            .docker(&format!("pull --platform linux/arm64 {source}"))
            .ok();
        engine.docker(&format!("tag {source} {target}")).ok();
        let out = engine.run(client, &format!("push {target}"));
        assert_eq!(pushed(out.ok()), images[1].manifest.digest.to_string());
        let told = format!("{}{}", out.stdout, out.stderr);
        assert!(told.contains(PARTIAL), "{out:?}");
        // what is in the registry need not be here
        to.put_manifest(
            &own,
            &images[1].manifest.digest.to_string(),
            &images[1].manifest,
        )
        .unwrap();
        engine
            .docker(&format!("pull --platform linux/amd64 {source}"))
            .ok();
        engine.docker(&format!("tag {source} {target}")).ok();
        let out = engine.run(client, &format!("push {target}"));
        assert_eq!(pushed(out.ok()), index, "{out:?}");
        let told = format!("{}{}", out.stdout, out.stderr);
        assert!(!told.contains(PARTIAL), "{out:?}");
        let (kind, digest, _) = document(&to, &format!("{own}:1"));
        assert_eq!((kind.as_str(), digest), (INDEX, index.clone()));
        for (architecture, one) in [("amd64", 0), ("arm64", 1)] {
            let line = format!("push --platform linux/{architecture} {target}");
            let out = engine.run(client, &line);
            assert_eq!(pushed(out.ok()), images[one].manifest.digest.to_string());
        }
        engine
            .run(client, &format!("push --platform linux/s390x {target}"))
            .says(1, "but its platform (linux/");
        engine.docker("image prune -af").ok();
        assert_eq!(engine.docker("images -aq").ok(), "");
    }
}

#[test]
fn what_is_not_here_is_brought_along_from_beside() {
    let engine = empty();
    let registry = Registry::start().unwrap();
    let images = [image("amd64"), image("arm64")];
    for one in &images {
        registry
            .push("a/b", &one.manifest.digest.to_string(), one)
            .unwrap();
    }
    // an attestation, as buildx makes it
    let statement = br#"{"_type":"https://in-toto.io/Statement/v0.1","predicateType":"https://spdx.dev/Document"}"#;
    let blob = |bytes: &[u8], kind: &str| {
        let digest = registry.put_blob("a/b", bytes).unwrap();
        json!({"mediaType": kind, "digest": digest.to_string(), "size": bytes.len()})
    };
    let attestation = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": blob(br#"{"architecture":"unknown","os":"unknown","config":{},"rootfs":{"type":"layers","diff_ids":[]}}"#, "application/vnd.oci.image.config.v1+json"),
        "layers": [blob(statement, "application/vnd.in-toto+json")],
    });
    let attestation = Blob::new(MANIFEST, attestation.to_string().into_bytes());
    registry
        .put_manifest("a/b", &attestation.digest.to_string(), &attestation)
        .unwrap();
    let mut index: Value = serde_json::from_slice(&index_of(&images)).unwrap();
    let mut entry = attestation.descriptor();
    entry["platform"] = json!({"architecture": "unknown", "os": "unknown"});
    entry["annotations"] = json!({
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": images[0].manifest.digest.to_string(),
    });
    index["manifests"].as_array_mut().unwrap().push(entry);
    let index = Blob::new(INDEX, index.to_string().into_bytes());
    registry.put_manifest("a/b", "1", &index).unwrap();
    let (source, target) = (
        format!("{}/a/b:1", registry.name()),
        format!("{}/c/d:1", registry.name()),
    );
    engine
        .docker(&format!("pull --platform linux/amd64 {source}"))
        .ok();
    engine.docker(&format!("tag {source} {target}")).ok();
    let out = engine.docker(&format!("push {target}"));
    assert_eq!(pushed(out.ok()), index.digest.to_string(), "{out:?}");
    let statement = testkit::image::digest_of(statement);
    let path = format!("/v2/c/d/blobs/{statement}");
    let answer = http::request(registry.address(), "GET", &path, &[], b"").unwrap();
    assert_eq!(answer.status, 200);
    // another registry has nothing of it
    let other = Registry::start().unwrap();
    let away = format!("{}/c/d:1", other.name());
    engine.docker(&format!("tag {source} {away}")).ok();
    let out = engine.docker(&format!("push {away}"));
    assert_eq!(pushed(out.ok()), images[0].manifest.digest.to_string());
}

/// An index in an index, with a platform and an index of its own that are not here.
#[test]
fn an_index_within_an_index_is_brought_along() {
    let engine = empty();
    let registry = Registry::start().unwrap();
    let images = [image("amd64"), image("arm64"), image("riscv64")];
    let put = |bytes: Vec<u8>, tag: &str| {
        let index = Blob::new(INDEX, bytes);
        let tag = if tag.is_empty() {
            index.digest.to_string()
        } else {
            tag.to_owned()
        };
        registry.put_manifest("a/b", &tag, &index).unwrap();
        index
    };
    let around = |inner: &[&Blob]| {
        let entries: Vec<Value> = inner.iter().map(|one| one.descriptor()).collect();
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries});
        index.to_string().into_bytes()
    };
    for one in &images {
        let digest = one.manifest.digest.to_string();
        registry.push("a/b", &digest, one).unwrap();
    }
    let innermost = put(index_of(&images[2..]), "");
    let inner = put(around(&[&images[0].manifest, &innermost]), "");
    let mut outer: Value = serde_json::from_slice(&index_of(&images[1..2])).unwrap();
    outer["manifests"]
        .as_array_mut()
        .unwrap()
        .push(inner.descriptor());
    let outer = put(outer.to_string().into_bytes(), "1");
    let source = format!("{}/a/b:1", registry.name());
    let target = format!("{}/c/d:1", registry.name());
    engine
        .docker(&format!("pull --platform linux/arm64 {source}"))
        .ok();
    engine.docker(&format!("tag {source} {target}")).ok();
    let out = engine.docker(&format!("push {target}"));
    assert_eq!(pushed(out.ok()), outer.digest.to_string(), "{out:?}");
    for digest in [&inner.digest, &innermost.digest, &images[2].manifest.digest] {
        let path = format!("/v2/c/d/manifests/{digest}");
        let accept = ("Accept", &*format!("{INDEX}, {MANIFEST}"));
        let answer = http::request(registry.address(), "GET", &path, &[accept], b"").unwrap();
        assert_eq!(answer.status, 200, "{digest}");
    }
    let layer = &images[2].layers[0].digest;
    let path = format!("/v2/c/d/blobs/{layer}");
    let answer = http::request(registry.address(), "GET", &path, &[], b"").unwrap();
    assert_eq!(answer.status, 200);
}

#[test]
fn new_layers_are_packed_as_one_asks_for() {
    let engine = engine();
    let registry = Registry::start().unwrap();
    let name = registry.name();
    engine.docker("create --name new busybox true").ok();
    for (number, (flag, kind)) in [
        (
            "--compression zstd:5",
            "application/vnd.oci.image.layer.v1.tar+zstd",
        ),
        (
            "--compression gzip:1",
            "application/vnd.oci.image.layer.v1.tar+gzip",
        ),
        ("", "application/vnd.oci.image.layer.v1.tar+gzip"),
    ]
    .into_iter()
    .enumerate()
    {
        let target = format!("{name}/app{number}:1");
        engine.docker(&format!("commit new {target}")).ok();
        let digest = pushed(engine.gorae(&format!("push {flag} {target}")).ok());
        let (_, found, manifest) = document(&registry, &format!("app{number}:1"));
        assert_eq!(found, digest);
        let layers = manifest["layers"].as_array().unwrap();
        assert_eq!(layers.last().unwrap()["mediaType"], kind, "{manifest}");
        // packed once: another wish comes too late
        let again = engine.gorae(&format!("push --compression zstd:19 {target}"));
        assert_eq!(pushed(again.ok()), digest);
        engine.docker(&format!("rmi {target}")).ok();
        engine
            .docker(&format!("pull {target}"))
            .shows(&format!("Digest: {digest}"));
        engine
            .docker(&format!("run --rm {target} echo hello"))
            .prints("hello");
        engine.docker(&format!("rmi {target}")).ok();
    }
    engine
        .gorae(&format!("push --compression xz {name}/app:1"))
        .says(
            1,
            "invalid compression \"xz\": must be \"gzip\" or \"zstd\"",
        );
    engine.docker("rm new").ok();
}

#[test]
fn annotations_are_added_to_what_gets_the_tag() {
    let engine = engine();
    let registry = Registry::start().unwrap();
    let target = format!("{}/app:1", registry.name());
    engine.docker(&format!("tag busybox {target}")).ok();
    let plain = pushed(engine.docker(&format!("push {target}")).ok());
    let out = engine.gorae(&format!(
        "push --annotation a.b/c=1 --annotation d=e=f {target}"
    ));
    let digest = pushed(out.ok());
    assert_ne!(digest, plain);
    let (_, found, manifest) = document(&registry, "app:1");
    assert_eq!(found, digest);
    assert_eq!(manifest["annotations"], json!({"a.b/c": "1", "d": "e=f"}));
    let digests = engine.inspect("busybox", "{{json .RepoDigests}}");
    assert!(
        digests.contains(&digest) && digests.contains(&plain),
        "{digests}"
    );
    assert_eq!(pushed(engine.docker(&format!("push {target}")).ok()), plain);
    engine
        .gorae(&format!("push --annotation x {target}"))
        .says(1, "invalid annotation \"x\": it must be key=value");
}
