//! Pushing to registries, and pulling again what was pushed.

use std::collections::HashSet;
use std::fs;

use serde_json::Value;
use testkit::docker::Client;
use testkit::engine::{Engine, EngineOptions};
use testkit::image::{Archive, Compression, Format, TestImage};
use testkit::registry::{Registry, RegistryOptions};

use crate::bench::{engine, options};

fn layer(name: &str, content: &[u8]) -> Vec<u8> {
    let archive = Archive::new().file(name, content, 0o644).unwrap();
    archive.finish().unwrap()
}

/// The digest that a push tells.
fn pushed(output: &str) -> String {
    let line = output.lines().find(|line| line.contains(": digest: "));
    let line = line.unwrap_or_else(|| panic!("no digest in {output}"));
    let rest = line.split(": digest: ").nth(1).unwrap();
    rest.split(' ').next().unwrap().to_owned()
}

/// The messages of a push over the API.
fn push(engine: &Engine, path: &str) -> (u16, Vec<Value>) {
    let answer = engine.api("POST", path, "").unwrap();
    let lines = String::from_utf8(answer.body).unwrap();
    let messages = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    (answer.status, messages.collect())
}

#[test]
fn what_was_made_here_is_pushed_and_pulled() {
    let engine = engine();
    let registry = Registry::start().unwrap();
    let name = registry.name();
    for (number, client) in Client::BOTH.into_iter().enumerate() {
        let target = format!("{name}/made/box{number}");
        engine.run(client, &format!("tag busybox {target}:1")).ok();
        let first = engine.run(client, &format!("push {target}:1"));
        first.shows(&format!("The push refers to repository [{target}]"));
        let digest = pushed(first.ok());
        first.shows(if number == 0 {
            ": Pushed"
        } else {
            ": Mounted from made/box0"
        });
        let second = engine.run(client, &format!("push {target}:1"));
        second.shows(": Layer already exists");
        assert_eq!(pushed(second.ok()), digest);
        let digests = engine.inspect("busybox", "{{json .RepoDigests}}");
        assert!(digests.contains(&format!("{target}@{digest}")), "{digests}");
        engine
            .run(client, &format!("push -q {target}:1"))
            .prints(&format!("{target}:1"));
        let id = engine.inspect("busybox", "{{.Id}}");
        engine.run(client, &format!("rmi {target}:1")).ok();
        engine
            .run(client, &format!("pull {target}:1"))
            .shows(&format!("Digest: {digest}"));
        assert_eq!(engine.inspect(&format!("{target}:1"), "{{.Id}}"), id);
        engine
            .run(client, &format!("run --rm {target}:1 echo hello"))
            .prints("hello");
    }
}

#[test]
fn a_pulled_image_keeps_its_digests() {
    let engine = Engine::start(EngineOptions {
        busybox: false,
        ..options()
    })
    .unwrap();
    let (from, to) = (Registry::start().unwrap(), Registry::start().unwrap());
    for format in [Format::Oci, Format::Docker] {
        let image = TestImage::empty()
            .with_layer(layer("a", b"plain"), Compression::None)
            .with_layer(layer("b", b"gzip"), Compression::Gzip)
            .with_layer(layer("c", b"zstd"), Compression::Zstd)
            .with_format(format)
            .build()
            .unwrap();
        let digest = from.push("a/b", "1", &image).unwrap().to_string();
        let (source, target) = (
            format!("{}/a/b:1", from.name()),
            format!("{}/c/d:1", to.name()),
        );
        engine.docker(&format!("pull {source}")).ok();
        engine.docker(&format!("tag {source} {target}")).ok();
        let out = engine.docker(&format!("push {target}"));
        assert_eq!(pushed(out.ok()), digest);
        engine.docker(&format!("rmi {source} {target}")).ok();
        engine
            .docker(&format!("pull {target}"))
            .shows(&format!("Digest: {digest}"));
        engine.docker(&format!("rmi {target}")).ok();
    }
}

#[test]
fn all_tags_are_pushed_and_layers_are_mounted() {
    let engine = engine();
    let registry = Registry::start().unwrap();
    let name = registry.name();
    engine.docker(&format!("tag busybox {name}/one:1")).ok();
    engine.docker(&format!("push {name}/one:1")).ok();
    for tag in ["x", "y"] {
        engine.docker(&format!("tag busybox {name}/two:{tag}")).ok();
    }
    let (status, messages) = push(&engine, &format!("/images/{name}/two/push"));
    assert_eq!(status, 200);
    let statuses: Vec<&str> = messages
        .iter()
        .filter_map(|message| message["status"].as_str())
        .collect();
    assert_eq!(
        statuses[..3],
        [
            format!("The push refers to repository [{name}/two]").as_str(),
            "Preparing",
            "Mounted from one"
        ]
    );
    assert!(statuses.contains(&"Layer already exists"), "{statuses:?}");
    let results: Vec<&Value> = messages
        .iter()
        .map(|message| &message["aux"])
        .filter(|aux| !aux.is_null())
        .collect();
    assert_eq!(results.len(), 2);
    assert_eq!(
        (&results[0]["Tag"], &results[1]["Tag"]),
        (&"x".into(), &"y".into())
    );
    assert_eq!(results[0]["Digest"], results[1]["Digest"]);
    let size = results[0]["Size"].as_i64().unwrap();
    let digest = results[0]["Digest"].as_str().unwrap();
    let last = format!("y: digest: {digest} size: {size}");
    assert!(statuses.contains(&last.as_str()), "{statuses:?}");
    for client in Client::BOTH {
        let out = engine.run(client, &format!("push -a {name}/two"));
        assert_eq!(out.ok().matches(": digest: ").count(), 2, "{out:?}");
        engine
            .run(client, &format!("push -a {name}/two:x"))
            .complains(1, "tag can't be used with --all-tags/-a");
        engine
            .run(client, &format!("rmi {name}/two:x {name}/two:y"))
            .ok();
        let pulled = engine.run(client, &format!("pull -a {name}/two"));
        pulled.shows("x: Pulling from two");
        pulled.shows("y: Pulling from two");
        pulled.shows(&format!("for {name}/two"));
        let tags = engine.run(client, &format!("images --format {{{{.Tag}}}} {name}/two"));
        assert_eq!(tags.ok().lines().count(), 2, "{tags:?}");
    }
}

#[test]
fn a_registry_with_passwords() {
    let engine = engine();
    let registry = Registry::start_with(&RegistryOptions {
        authentication: true,
        ..RegistryOptions::default()
    })
    .unwrap();
    let name = registry.name();
    let (user, password) = (Registry::USER, Registry::PASSWORD);
    engine
        .docker(&format!("tag busybox {name}/team/app:1"))
        .ok();
    for client in Client::BOTH {
        engine
            .run(client, &format!("push {name}/team/app:1"))
            .says(1, "no basic auth credentials");
        let mut login = engine.session(client, &format!("login -u {user} --password-stdin {name}"));
        login.write(password).unwrap();
        login.finish().ok();
        engine
            .run(client, &format!("push {name}/team/app:1"))
            .shows(": digest: sha256:");
        engine.run(client, &format!("logout {name}")).ok();
    }
}

#[test]
fn wrong_pushes_are_refused_as_by_docker() {
    let engine = engine();
    engine.docker("tag busybox 127.0.0.1:1/here:1").ok();
    let digest = format!("sha256:{}", "a".repeat(64));
    let amd64 = "%7B%22os%22%3A%22linux%22%2C%22architecture%22%3A%22s390x%22%7D";
    for (path, status, message) in [
        (
            "/images/NONE/push".to_owned(),
            400,
            "invalid reference format: repository name (library/NONE) must be lowercase".to_owned(),
        ),
        (
            "/images/none/push?tag=a:b".to_owned(),
            400,
            "invalid tag format".to_owned(),
        ),
        (
            format!("/images/none@{digest}/push"),
            400,
            "cannot push a digest reference".to_owned(),
        ),
        (
            "/images/busybox/push?platform=x".to_owned(),
            400,
            "failed to parse platform: ".to_owned(),
        ),
        (
            format!("/images/busybox/push?tag=latest&platform={amd64}"),
            404,
            "image with reference busybox:latest was found but its platform (linux/".to_owned(),
        ),
        (
            "/images/none/push".to_owned(),
            200,
            "An image does not exist locally with the tag: none".to_owned(),
        ),
        (
            "/images/127.0.0.1:1/here/push?tag=2".to_owned(),
            200,
            "tag does not exist: 127.0.0.1:1/here:2".to_owned(),
        ),
        (
            "/images/127.0.0.1:1/here/push?tag=1".to_owned(),
            200,
            "Get \"http://127.0.0.1:1/v2/\": dial tcp 127.0.0.1:1: connect: connection refused"
                .to_owned(),
        ),
    ] {
        let (found, messages) = push(&engine, &path);
        assert_eq!(found, status, "{path}: {messages:?}");
        let told = if status == 200 {
            assert!(
                messages[0]["status"]
                    .as_str()
                    .unwrap()
                    .starts_with("The push refers to repository ["),
                "{messages:?}"
            );
            let last = messages.last().unwrap();
            assert_eq!(last["error"], last["errorDetail"]["message"]);
            last["error"].as_str().unwrap()
        } else {
            messages[0]["message"].as_str().unwrap()
        };
        assert!(told.starts_with(&message), "{path}: {told}");
    }
}

#[test]
fn plain_layers_are_packed_once_and_always_the_same() {
    let engine = engine();
    let registries = [Registry::start().unwrap(), Registry::start().unwrap()];
    let before = blobs(&engine);
    let mut digests = Vec::new();
    for registry in &registries {
        let target = format!("{}/app:1", registry.name());
        engine.docker(&format!("tag busybox {target}")).ok();
        digests.push(pushed(engine.docker(&format!("push {target}")).ok()));
    }
    assert_eq!(digests[0], digests[1]);
    let packed = blobs(&engine);
    // the packed layer has taken the plain one's place
    assert_eq!(packed.len(), before.len());
    engine.docker("run --rm busybox true").ok();
    let other = crate::bench::engine();
    let registry = Registry::start().unwrap();
    let target = format!("{}/app:2", registry.name());
    other.docker(&format!("tag busybox {target}")).ok();
    other.docker(&format!("push {target}")).ok();
    // another engine's packing of the same layer is the same blob; the rest tells when it was made
    assert_eq!(blobs(&other).intersection(&packed).count(), 1);
}

/// The names of an engine's blobs.
fn blobs(engine: &Engine) -> HashSet<String> {
    let folder = engine.root_folder().join("content/blobs/sha256");
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}
