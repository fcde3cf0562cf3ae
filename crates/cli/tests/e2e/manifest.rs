//! `manifest`: lists of manifests, the same as Docker's command line makes of the same images.

use testkit::docker::Client;
use testkit::engine::{Engine, EngineOptions};
use testkit::image::{Archive, Compression, Format, TestImage};
use testkit::registry::Registry;

use crate::bench::{Checks, options};

fn engine() -> Engine {
    let options = EngineOptions {
        busybox: false,
        ..options()
    };
    Engine::start(options).unwrap()
}

/// Three images: two of Docker's format, one of OCI's.
fn images(registry: &Registry) {
    for (repository, architecture, format) in [
        ("a/x", "amd64", Format::Docker),
        ("b/y", "arm64", Format::Docker),
        ("c/z", "riscv64", Format::Oci),
    ] {
        let archive = Archive::new().file("name", architecture.as_bytes(), 0o644);
        let image = TestImage::empty()
            .with_architecture(architecture, None)
            .with_layer(archive.unwrap().finish().unwrap(), Compression::Gzip)
            .with_format(format)
            .build()
            .unwrap();
        registry.push(repository, "1", &image).unwrap();
    }
}

/// What both clients say to the same lines, in which `LIST` is a list of their own and `R` the registry.
fn compare(engine: &Engine, registry: &Registry, lines: &[&str]) {
    let mut checks = Checks::default();
    let name = registry.name();
    for line in lines {
        let [docker, gorae] =
            [(Client::Docker, "docker"), (Client::Gorae, "gorae")].map(|(client, own)| {
                let list = format!("{name}/{own}/list");
                let line = line
                    .replace("LIST", &list)
                    .replace("R/", &format!("{name}/"));
                let out = engine.run(client, &line);
                let same = |text: &str| text.replace(&list, "LIST").trim().to_owned();
                (out.code, same(&out.stdout), same(&out.stderr))
            });
        checks.note(docker == gorae, || {
            format!("{line}\ndocker: {docker:?}\ngorae: {gorae:?}")
        });
    }
}

#[test]
fn lists_are_docker_s() {
    let engine = engine();
    let registry = Registry::start().unwrap();
    images(&registry);
    compare(
        &engine,
        &registry,
        &[
            "manifest create --insecure LIST:1 R/a/x:1 R/b/y:1 R/c/z:1",
            "manifest create --insecure LIST:1 R/a/x:1",
            "manifest annotate --variant v8 --os-features f1,f2 --os-features f1 LIST:1 R/b/y:1",
            "manifest annotate --os-version 10.0 LIST:1 R/a/x:1",
            "manifest annotate --arch xx LIST:1 R/b/y:1",
            "manifest annotate --os linux LIST:1 R/b/y:none",
            "manifest annotate --os linux LIST:none R/b/y:1",
            "manifest inspect LIST:1",
            "manifest inspect -v LIST:1",
            "manifest inspect LIST:1 R/c/z:1",
            "manifest inspect -v LIST:1 R/a/x:1",
            "manifest inspect LIST:1 R/c/z:none",
            "manifest push --insecure LIST:1",
            "manifest create --insecure --amend LIST:1 R/c/z:1",
            "manifest inspect LIST:1",
            "manifest rm LIST:1",
            "manifest rm LIST:1 LIST:2 R/x/Y",
            // what is left is in the registry
            "manifest inspect --insecure LIST:1",
            "manifest inspect --insecure -v LIST:1",
            "manifest inspect --insecure R/a/x:1",
            "manifest inspect --insecure -v R/c/z:1",
            "manifest inspect --insecure R/none/none",
            "manifest push --insecure LIST:1",
            // an OCI image in front makes an OCI index
            "manifest create --insecure LIST:2 R/c/z:1",
            "manifest push --insecure --purge LIST:2",
            "manifest push --insecure LIST:2",
            "manifest inspect --insecure LIST:2",
            // lists hold no lists, and nothing of other registries
            "manifest create --insecure LIST:3 LIST:1",
            "manifest create --insecure LIST:3 R/none/none:1",
            "manifest create --insecure localhost:9/LIST:3 R/a/x:1",
            "manifest push --insecure localhost:9/LIST:3",
        ],
    );
}

#[test]
fn either_client_goes_on_where_the_other_left_off() {
    let engine = engine();
    let registry = Registry::start().unwrap();
    images(&registry);
    let name = registry.name();
    let (x, y) = (format!("{name}/a/x:1"), format!("{name}/b/y:1"));
    let mut digests = Vec::new();
    for (first, second) in [
        (Client::Docker, Client::Gorae),
        (Client::Gorae, Client::Docker),
    ] {
        let list = format!("{name}/both/list:1");
        engine
            .run(first, &format!("manifest create --insecure {list} {x}"))
            .prints(&format!("Created manifest list {list}"));
        engine
            .run(second, &format!("manifest create --insecure -a {list} {y}"))
            .ok();
        engine
            .run(first, &format!("manifest annotate --variant v8 {list} {y}"))
            .ok();
        let pushed = engine.run(second, &format!("manifest push --insecure -p {list}"));
        digests.push(pushed.ok().lines().last().unwrap_or_default().to_owned());
    }
    assert_eq!(digests[0], digests[1]);
    // and what the list names can be pulled
    engine
        .gorae(&format!(
            "pull --platform linux/arm64/v8 {name}/both/list:1"
        ))
        .shows(&format!("Digest: {}", digests[0]));
}
