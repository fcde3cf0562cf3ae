//! Layers that tell more than their content: zstd:chunked and eStargz. Who does not need that takes them for
//! ordinary ones, as dockerd does.

use std::io::Read as _;

use serde_json::{Value, json};
use testkit::docker::Client;
use testkit::engine::{Engine, EngineOptions};
use testkit::estargz;
use testkit::image::{Blob, Built, Compression, TestImage, digest_of};
use testkit::registry::Registry;

use crate::bench::options;

/// As buildah 1.43 pushed it with `--compression-format zstd:chunked`: a frame a file, and three that
/// readers skip, with the table of contents, the archive's headers, and where these are.
const CHUNKED: &[u8] = include_bytes!("../corpus/zstd-chunked.layer");

/// What buildah wrote about the layer into the manifest.
fn chunked_annotations() -> Value {
    json!({
        "io.github.containers.zstd-chunked.manifest-checksum":
            "sha256:7e52219433552ae5fac95e6fdf63692d354f32e54bb6b84a1e44854039e9e708",
        "io.github.containers.zstd-chunked.manifest-position": "621:430:1126:1",
        "io.github.containers.zstd-chunked.tarsplit-position": "1059:487:8541",
    })
}

/// Busybox with a layer on top that inflates to this archive.
fn image(archive: Vec<u8>, blob: &Blob, annotations: &Value) -> Built {
    let image = TestImage::busybox().unwrap();
    let image = image.with_layer(archive, Compression::None);
    let built = image.build().unwrap();
    built.with_blob(1, blob, annotations).unwrap()
}

fn engine(snapshotter: &str) -> Engine {
    let options = EngineOptions {
        busybox: false,
        flags: vec!["--snapshotter".to_owned(), snapshotter.to_owned()],
        ..options()
    };
    Engine::start(options).unwrap()
}

/// Pulls an image by both clients, looks into it, and pushes it again: the layer is what it was.
fn check(image: &Built, script: &str, expect: &str) {
    for snapshotter in ["erofs", "overlayfs"] {
        let engine = engine(snapshotter);
        let registry = Registry::start().unwrap();
        registry.push("a/b", "1", image).unwrap();
        let (name, again) = (
            format!("{}/a/b:1", registry.name()),
            format!("{}/c/d:2", registry.name()),
        );
        for client in Client::BOTH {
            engine.run(client, &format!("pull {name}")).ok();
            engine
                .docker(&format!("run --rm {name} sh -c '{script}'"))
                .prints(expect);
            engine.docker(&format!("tag {name} {again}")).ok();
            let pushed = engine.run(client, &format!("push {again}"));
            assert_eq!(pushed.code, 0, "{pushed:?}");
            let digest = image.manifest.digest.to_string();
            let shown = engine.docker(&format!("inspect -f '{{{{.RepoDigests}}}}' {again}"));
            shown.shows(&format!("/c/d@{digest}"));
            engine.docker(&format!("rmi {name} {again}")).ok();
        }
        engine.gorae("system check --deep").ok();
    }
}

#[test]
fn zstd_chunked() {
    let mut archive = Vec::new();
    let mut decoder = zstd::Decoder::new(CHUNKED).unwrap();
    decoder.read_to_end(&mut archive).unwrap();
    let known = "sha256:818bfe28fff401e8c2f1f3d6b929467d2b5da9bf45663aa6ff2d0ce9f2a12d66";
    assert_eq!(digest_of(&archive).to_string(), known);
    let blob = Blob::new(
        "application/vnd.oci.image.layer.v1.tar+zstd",
        CHUNKED.to_vec(),
    );
    let image = image(archive, &blob, &chunked_annotations());
    check(
        &image,
        "cat /hello; readlink /link; stat -c %h /d/hard; wc -c < /d/zeros; ls -d /d/sub; grep -c same /d/text; stat -c %s /empty",
        "hellohello\n2\n65536\n/d/sub\n60\n0",
    );
}

/// The table of contents and the landmark are files as any other to who does not know them.
#[test]
fn estargz_layers() {
    let large = vec![b'x'; 100_000];
    let layer = estargz::layer(&[("hello", b"hello"), ("d/large", &large)]).unwrap();
    let image = image(layer.archive, &layer.blob, &layer.annotations);
    check(
        &image,
        "cat /hello; wc -c < /d/large; ls -a / | grep -e stargz -e landmark; grep -o version /stargz.index.json",
        "hello100000\n.no.prefetch.landmark\nstargz.index.json\nversion",
    );
}
