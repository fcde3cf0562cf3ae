//! What stands beside images in their indexes: listed, printed, and in nobody's way.

use serde_json::{Value, json};
use testkit::docker::Client;
use testkit::engine::{Engine, EngineOptions};
use testkit::image::{Archive, Blob, Built, Compression, TestImage, digest_of};
use testkit::registry::Registry;

use crate::bench::options;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const IN_TOTO: &str = "application/vnd.in-toto+json";
const SPDX: &str = "https://spdx.dev/Document";
const SLSA: &str = "https://slsa.dev/provenance/v0.2";

fn image(architecture: &str) -> Built {
    let layer = Archive::new()
        .file("which", architecture.as_bytes(), 0o644)
        .unwrap()
        .finish()
        .unwrap();
    TestImage::empty()
        .with_layer(layer, Compression::Gzip)
        .with_architecture(architecture, None)
        .build()
        .unwrap()
}

fn statement(predicate_type: &str, predicate: &Value) -> Value {
    json!({
        "_type": "https://in-toto.io/Statement/v0.1",
        "predicateType": predicate_type,
        "subject": [],
        "predicate": predicate,
    })
}

/// Puts statements about an image, as BuildKit lays them out; gives the index's entry.
fn attest(registry: &Registry, repository: &str, about: &Built, statements: &[Value]) -> Value {
    let config = br#"{"architecture":"unknown","os":"unknown","config":{},"rootfs":{"type":"layers","diff_ids":[]}}"#;
    registry.put_blob(repository, config).unwrap();
    let mut layers = Vec::new();
    for statement in statements {
        let bytes = statement.to_string().into_bytes();
        registry.put_blob(repository, &bytes).unwrap();
        layers.push(json!({
            "mediaType": IN_TOTO,
            "digest": digest_of(&bytes).to_string(),
            "size": bytes.len(),
            "annotations": {"in-toto.io/predicate-type": statement["predicateType"]},
        }));
    }
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": digest_of(config).to_string(),
            "size": config.len(),
        },
        "layers": layers,
    });
    let bytes = manifest.to_string().into_bytes();
    let (digest, size) = (digest_of(&bytes).to_string(), bytes.len());
    let blob = Blob::new(MANIFEST, bytes);
    registry.put_manifest(repository, &digest, &blob).unwrap();
    json!({
        "mediaType": MANIFEST,
        "digest": digest,
        "size": size,
        "platform": {"architecture": "unknown", "os": "unknown"},
        "annotations": {
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": about.manifest.digest.to_string(),
        },
    })
}

/// An index of two platforms, whose statements stand in front of the images.
fn push(registry: &Registry, repository: &str) {
    let host = oci::Platform::host().architecture;
    let images = [image("s390x"), image(&host)];
    registry.push_index(repository, "plain", &images).unwrap();
    let spdx = |name: &str| statement(SPDX, &json!({"name": name, "packages": []}));
    let slsa = statement(SLSA, &json!({"builder": {"id": "b"}}));
    let mut entries = vec![
        attest(registry, repository, &images[0], &[spdx("other")]),
        attest(registry, repository, &images[1], &[spdx("own"), slsa]),
    ];
    for (image, architecture) in images.iter().zip(["s390x", host.as_str()]) {
        entries.push(json!({
            "mediaType": image.manifest.media_type,
            "digest": image.manifest.digest.to_string(),
            "size": image.manifest.bytes.len(),
            "platform": {"architecture": architecture, "os": "linux"},
        }));
    }
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries});
    let index = Blob::new(INDEX, index.to_string().into_bytes());
    registry.put_manifest(repository, "v1", &index).unwrap();
}

#[test]
fn statements_are_read_here_and_remotely_and_disturb_no_pull() {
    let engine = Engine::start(EngineOptions {
        busybox: false,
        ..options()
    })
    .unwrap();
    let registry = Registry::start().unwrap();
    push(&registry, "test/said");
    let name = format!("{}/test/said:v1", registry.name());
    let gorae = |line: &str| engine.run(Client::Gorae, line);
    let list = "--format '{{.PredicateType}}'";
    // remotely, before anything is here
    let both = format!("{SPDX}\n{SLSA}");
    gorae(&format!("image attestations {list} {name}")).prints(&both);
    for client in Client::BOTH {
        let pulled = engine.run(client, &format!("pull {name}"));
        pulled.shows("Status: ");
    }
    let host = oci::Platform::host().architecture;
    assert_eq!(engine.inspect(&name, "{{.Architecture}}"), host);
    gorae(&format!("image attestations {name}")).shows("PREDICATE TYPE");
    gorae(&format!("image attestations {list} {name}")).prints(&both);
    gorae(&format!("image attestations --remote {list} {name}")).prints(&both);
    let printed = gorae(&format!("image attestations --predicate {SPDX} {name}"));
    let predicate: Value = serde_json::from_str(&printed.stdout).unwrap();
    assert_eq!(predicate["name"], "own");
    let other = gorae(&format!(
        "image attestations --platform linux/s390x --predicate {SPDX} {name}"
    ));
    other.shows("\"other\"");
    gorae(&format!(
        "image attestations --predicate https://x/y {name}"
    ))
    .prints("");
    let plain = format!("{}/test/said:plain", registry.name());
    gorae(&format!("image attestations {list} {plain}")).prints("");
    gorae(&format!(
        "image attestations {}/test/none:v1",
        registry.name()
    ))
    .complains(1, "not found");
    engine.docker(&format!("rmi {name}")).ok();
}
