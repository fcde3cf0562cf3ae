//! What builds give beyond one image: several platforms, statements, archives, caches, and how the clients of
//! the image store see them.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::path::Path;

use serde_json::Value;
use testkit::docker::Outcome;
use testkit::engine::Engine;
use testkit::registry::Registry;

use crate::bench::{context, engine, eventually};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const FILES: &[(&str, &str)] = &[
    (
        "Dockerfile",
        "FROM scratch\nARG TARGETARCH\nCOPY f-$TARGETARCH /f\nLABEL arch=$TARGETARCH\nCMD [\"/f\"]\n",
    ),
    ("f-amd64", "amd64\n"),
    ("f-arm64", "arm64\n"),
];

fn build(engine: &Engine, flags: &str, context: &Path) -> Outcome {
    engine.docker(&format!(
        "buildx build --progress plain {flags} {}",
        context.display()
    ))
}

/// The image ids that a list shows, and how many lines it has.
fn listed(engine: &Engine) -> (BTreeSet<String>, usize) {
    let list = engine.docker("images --all --no-trunc --format {{.ID}}");
    let lines: Vec<&str> = list.ok().lines().collect();
    let ids = lines.iter().map(|&line| line.to_owned()).collect();
    (ids, lines.len())
}

/// The platforms of an index's entries as `imagetools` reads it.
fn platforms(engine: &Engine, name: &str) -> BTreeSet<String> {
    let raw = engine.docker(&format!("buildx imagetools inspect --raw {name}"));
    let index: Value = serde_json::from_str(raw.ok()).unwrap();
    assert_eq!(index["mediaType"], INDEX, "{index}");
    let entries = index["manifests"].as_array().unwrap();
    let text = |entry: &Value| {
        let platform = &entry["platform"];
        let part = |name: &str| platform[name].as_str().unwrap_or_default().to_owned();
        format!("{}/{}", part("os"), part("architecture"))
    };
    entries.iter().map(text).collect()
}

const BOTH: [&str; 2] = ["linux/amd64", "linux/arm64"];

fn both() -> BTreeSet<String> {
    BOTH.map(str::to_owned).into()
}

#[test]
fn an_image_of_two_platforms_is_one_image() {
    let engine = engine();
    let registry = Registry::start().unwrap();
    let folder = context(&engine, "two", FILES);
    let (before, _) = listed(&engine);
    let told = engine.home().join("two.json");
    let flags = format!(
        "--platform linux/arm64,linux/amd64 -t two:1 --metadata-file {}",
        told.display()
    );
    build(&engine, &flags, &folder).ok();
    let told: Value = serde_json::from_slice(&fs::read(told).unwrap()).unwrap();
    let index = told["containerimage.digest"].as_str().unwrap();
    assert_eq!(told["containerimage.descriptor"]["mediaType"], INDEX);
    // the name is that of this machine's, and the other goes with it
    let (all, lines) = listed(&engine);
    assert_eq!((all.len(), lines), (before.len() + 1, before.len() + 1));
    let architecture = |arguments: &str| {
        let line = format!("image inspect --format {{{{.Architecture}}}} {arguments}");
        engine.docker(&line).ok().trim().to_owned()
    };
    assert_eq!(architecture("two:1"), "amd64");
    assert_eq!(architecture("--platform linux/arm64 two:1"), "arm64");
    assert_eq!(architecture(index), "amd64");
    let list = engine.api("GET", "/images/json?manifests=1", "").unwrap();
    let list: Value = serde_json::from_slice(&list.body).unwrap();
    let mut images = list.as_array().unwrap().iter();
    let two = images
        .find(|image| image["RepoTags"][0] == "two:1")
        .unwrap();
    let entries = two["Manifests"].as_array().unwrap();
    assert_eq!(entries.len(), 2, "{two}");
    assert!(
        entries.iter().all(|entry| entry["Available"] == true),
        "{two}"
    );

    engine.docker("image prune --force").ok();
    engine
        .docker("create --name other --platform linux/arm64 two:1")
        .ok();
    assert_eq!(
        engine.docker("image rm two:1").code,
        1,
        "a container has the other platform's"
    );
    engine.docker("rm other").ok();

    // all of it goes to a registry, and into an archive and back
    let name = format!("{}/two:1", registry.name());
    engine.docker(&format!("tag two:1 {name}")).ok();
    engine.docker(&format!("push {name}")).ok();
    assert_eq!(platforms(&engine, &name), both());
    let archive = engine.home().join("two.tar");
    engine
        .docker(&format!("save -o {} two:1", archive.display()))
        .ok();
    engine.docker(&format!("rmi {name} two:1")).ok();
    assert_eq!(listed(&engine).0, before);
    engine
        .docker(&format!("load -i {}", archive.display()))
        .ok();
    assert_eq!(listed(&engine).1, before.len() + 1);
    assert_eq!(architecture("--platform linux/arm64 two:1"), "arm64");
    let again = format!("{}/again:1", registry.name());
    engine.docker(&format!("tag two:1 {again}")).ok();
    engine.docker(&format!("push {again}")).ok();
    assert_eq!(platforms(&engine, &again), both());
    engine.docker(&format!("rmi {again} two:1")).ok();
    assert_eq!(listed(&engine).0, before);
}

#[test]
fn a_platform_that_cannot_run_is_told() {
    let engine = engine();
    let emulated = fs::read_dir("/proc/sys/fs/binfmt_misc").is_ok_and(|entries| {
        let names = entries.flatten().map(|entry| entry.file_name());
        names
            .into_iter()
            .any(|name| name.to_string_lossy().contains("s390x"))
    });
    if emulated {
        eprintln!("SKIPPED: this machine runs programs for s390x");
        return;
    }
    let dockerfile = "FROM scratch\nCOPY Dockerfile /Dockerfile\nRUN [\"/Dockerfile\"]\n";
    let folder = context(&engine, "foreign", &[("Dockerfile", dockerfile)]);
    let told = build(&engine, "--platform linux/s390x", &folder);
    assert_eq!(told.code, 1, "{told:?}");
    let why = "the step is for linux/s390x, and no emulator for it is registered";
    assert!(told.stderr.contains(why), "{told:?}");
}

/// The types of the statements in an archive that is an OCI image layout.
fn statements(archive: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut archive = tar::Archive::new(fs::File::open(archive).unwrap());
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        let Ok(value) = serde_json::from_slice::<Value>(&bytes) else {
            continue;
        };
        if let Some(predicate) = value["predicateType"].as_str() {
            found.insert(predicate.to_owned());
        }
    }
    found
}

#[test]
fn statements_go_with_their_image() {
    let engine = engine();
    let registry = Registry::start().unwrap();
    let dockerfile = "FROM busybox\nRUN echo stated >/stated\nCMD cat /stated\n";
    let folder = context(&engine, "stated", &[("Dockerfile", dockerfile)]);
    let (before, _) = listed(&engine);
    let flags = "--provenance mode=max --sbom true -t stated:1";
    build(&engine, flags, &folder).ok();
    let (_, lines) = listed(&engine);
    assert_eq!(lines, before.len() + 1);
    engine.docker("run --rm stated:1").prints("stated");
    engine.docker("history stated:1").ok();
    let name = format!("{}/stated:1", registry.name());
    engine.docker(&format!("tag stated:1 {name}")).ok();
    engine.docker(&format!("push {name}")).ok();
    let expect: BTreeSet<String> = ["linux/amd64", "unknown/unknown"].map(str::to_owned).into();
    assert_eq!(platforms(&engine, &name), expect);
    let read = |field: &str| {
        let line = format!("buildx imagetools inspect {name} --format '{{{{json {field}}}}}'");
        let value: Value = serde_json::from_str(engine.docker(&line).ok()).unwrap();
        value
    };
    assert!(read(".Provenance")["SLSA"].is_object());
    assert!(read(".SBOM")["SPDX"].is_object());
    // out of an archive, too
    let archive = engine.home().join("stated.tar");
    let line = format!("save -o {} stated:1", archive.display());
    engine.docker(&line).ok();
    assert_eq!(statements(&archive).len(), 2);
    engine.docker(&format!("rmi {name} stated:1")).ok();
    engine
        .docker(&format!("load -i {}", archive.display()))
        .ok();
    engine.docker("run --rm stated:1").prints("stated");
    let line = format!("save -o {} stated:1", archive.display());
    engine.docker(&line).ok();
    assert_eq!(statements(&archive).len(), 2);
    // an image that stays here and of which nothing was asked is one manifest
    build(&engine, "-t plain:1", &folder).ok();
    engine.docker("run --rm plain:1").prints("stated");
    // what is pushed by the build has its provenance as by dockerd
    let pushed = format!("{}/pushed:1", registry.name());
    build(&engine, &format!("--push -t {pushed}"), &folder).ok();
    assert_eq!(platforms(&engine, &pushed), expect);
    // two names become one by imagetools
    let both = format!("{}/created:1", registry.name());
    // buildx sometimes sends the index while the registry does not know all that it names yet
    let line = format!("buildx imagetools create -t {both} {name} {pushed}");
    eventually("both are one", || engine.docker(&line).code == 0);
    assert!(platforms(&engine, &both).contains("linux/amd64"));
}

#[test]
fn archives_and_caches_are_given_to_the_client() {
    let engine = engine();
    let registry = Registry::start().unwrap();
    let dockerfile = "FROM busybox\nRUN echo kept >/kept\nCMD cat /kept\n";
    let folder = context(&engine, "given", &[("Dockerfile", dockerfile)]);
    for kind in ["oci", "docker"] {
        let archive = engine.home().join(format!("{kind}.tar"));
        let flags = format!("-o type={kind},dest={} -t given:{kind}", archive.display());
        build(&engine, &flags, &folder).ok();
        engine
            .docker(&format!("load -i {}", archive.display()))
            .ok();
        engine
            .docker(&format!("run --rm given:{kind}"))
            .prints("kept");
    }
    let archive = engine.home().join("two.tar");
    let two = context(&engine, "two", FILES);
    let flags = format!(
        "--platform linux/amd64,linux/arm64 -o type=oci,dest={} -t two:1",
        archive.display()
    );
    build(&engine, &flags, &two).ok();
    engine
        .docker(&format!("load -i {}", archive.display()))
        .ok();
    let line = "image inspect --platform linux/arm64 --format {{.Architecture}} two:1";
    engine.docker(line).prints("arm64");
    // and straight into the store
    build(
        &engine,
        "--platform linux/amd64,linux/arm64 --load -t two:2",
        &two,
    )
    .ok();
    engine
        .docker(&line.replace("two:1", "two:2"))
        .prints("arm64");

    let name = registry.name();
    for (to, from) in [
        (
            format!("--cache-to type=registry,ref={name}/cache:1,mode=max"),
            format!("{name}/cache:1"),
        ),
        (
            format!("--cache-to type=inline --push -t {name}/inline:1"),
            format!("{name}/inline:1"),
        ),
    ] {
        build(&engine, &to, &folder).ok();
        // the base image stays
        for image in ["cached:1", &from] {
            if engine.docker(&format!("image inspect {image}")).code == 0 {
                engine.docker(&format!("rmi {image}")).ok();
            }
        }
        engine.docker("image prune --force").ok();
        engine.docker("buildx prune --all --force").ok();
        let flags = format!("--cache-from type=registry,ref={from} -t cached:1");
        let told = build(&engine, &flags, &folder);
        told.ok();
        assert!(told.stderr.contains("CACHED"), "{from}: {told:?}");
    }
}
