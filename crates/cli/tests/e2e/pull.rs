//! Pulling from real and from lying registries.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::Duration;

use tar::EntryType;
use testkit::docker::Client;
use testkit::engine::{Engine, EngineOptions};
use testkit::image::{Archive, Built, Compression, Format, TestImage, digest_of};
use testkit::registry::{Registry, RegistryOptions};

use crate::bench::{Checks, engine, eventually, options};

/// An engine without images, as most pulls want it.
fn bare() -> Engine {
    Engine::start(EngineOptions {
        busybox: false,
        ..options()
    })
    .unwrap()
}

fn layer(name: &str, content: &[u8]) -> Vec<u8> {
    Archive::new()
        .file(name, content, 0o644)
        .unwrap()
        .finish()
        .unwrap()
}

#[test]
fn every_compression_and_format_is_pulled_and_runs() {
    let engine = bare();
    let registry = Registry::start().unwrap();
    let name = registry.name();
    for (tag, format) in [("oci", Format::Oci), ("docker", Format::Docker)] {
        let image = TestImage::busybox()
            .unwrap()
            .with_layer(layer("plain", b"plain"), Compression::None)
            .with_layer(layer("zstd", b"zstd"), Compression::Zstd)
            .with_layer(layer("gzip", b"gzip"), Compression::Gzip)
            .with_config(
                "Cmd",
                serde_json::json!(["cat", "/plain", "/zstd", "/gzip"]),
            )
            .with_format(format);
        registry
            .push("test/all", tag, &image.build().unwrap())
            .unwrap();
        for client in Client::BOTH {
            let pulled = engine.run(client, &format!("pull {name}/test/all:{tag}"));
            pulled.shows("Status: Downloaded newer image for");
            pulled.shows("Digest: sha256:");
            engine
                .run(client, &format!("pull {name}/test/all:{tag}"))
                .shows("Status: Image is up to date for");
            engine
                .run(client, &format!("run --rm {name}/test/all:{tag}"))
                .prints("plainzstdgzip");
            engine
                .run(client, &format!("rmi {name}/test/all:{tag}"))
                .shows("Untagged: ");
            // run pulls what is missing
            let run = engine.run(client, &format!("run --rm {name}/test/all:{tag}"));
            run.prints("plainzstdgzip");
            assert!(run.stderr.contains("Unable to find image"), "{run:?}");
            engine
                .run(
                    client,
                    &format!("run --rm --pull always {name}/test/all:{tag} true"),
                )
                .ok();
            engine
                .run(client, &format!("rmi -f {name}/test/all:{tag}"))
                .ok();
        }
    }
}

#[test]
fn an_index_gives_the_image_of_the_platform() {
    let engine = bare();
    let registry = Registry::start().unwrap();
    let name = registry.name();
    let image = |architecture: &str, variant| {
        let image = TestImage::empty()
            .with_layer(layer("which", architecture.as_bytes()), Compression::Gzip);
        image
            .with_architecture(architecture, variant)
            .build()
            .unwrap()
    };
    let host = oci::Platform::host().architecture;
    let digest = registry
        .push_index(
            "test/multi",
            "v1",
            &[
                image("s390x", None),
                image("arm", Some("v7")),
                image(&host, None),
            ],
        )
        .unwrap();
    let shown = |reference: &str| {
        engine.inspect(
            reference,
            "{{.Os}}/{{.Architecture}}{{with .Variant}}/{{.}}{{end}}",
        )
    };
    for client in Client::BOTH {
        engine
            .run(client, &format!("pull -q {name}/test/multi:v1"))
            .prints(&format!("{name}/test/multi:v1"));
        assert_eq!(
            shown(&format!("{name}/test/multi:v1")),
            format!("linux/{host}")
        );
        engine
            .run(
                client,
                &format!("pull --platform linux/arm/v7 {name}/test/multi:v1"),
            )
            .ok();
        assert_eq!(shown(&format!("{name}/test/multi:v1")), "linux/arm/v7");
        engine
            .run(client, &format!("pull {name}/test/multi@{digest}"))
            .shows("Digest: ");
        assert_eq!(
            shown(&format!("{name}/test/multi@{digest}")),
            format!("linux/{host}")
        );
        engine
            .run(
                client,
                &format!("pull --platform linux/riscv64 {name}/test/multi:v1"),
            )
            .complains(
                1,
                "no matching manifest for linux/riscv64 in the manifest list entries",
            );
        engine
            .run(
                client,
                &format!("rmi -f {name}/test/multi:v1 {name}/test/multi@{digest}"),
            )
            .ok();
    }
}

#[test]
fn login_pull_logout() {
    let engine = bare();
    let registry = Registry::start_with(&RegistryOptions {
        authentication: true,
        ..RegistryOptions::default()
    })
    .unwrap();
    registry
        .push(
            "test/secret",
            "v1",
            &TestImage::busybox().unwrap().build().unwrap(),
        )
        .unwrap();
    let (name, user, password) = (registry.name(), Registry::USER, Registry::PASSWORD);
    for client in Client::BOTH {
        let pull = format!("pull {name}/test/secret:v1");
        engine
            .run(client, &pull)
            .complains(1, "no basic auth credentials");
        let login = |password: &str| {
            let mut session =
                engine.session(client, &format!("login -u {user} --password-stdin {name}"));
            session.write(password).unwrap();
            session.finish()
        };
        let wrong = login("wrong");
        assert_eq!(wrong.code, 1, "{wrong:?}");
        assert!(wrong.stderr.contains("unauthorized"), "{wrong:?}");
        login(password).shows("Login Succeeded");
        let kept = std::fs::read_to_string(engine.home().join(".docker/config.json")).unwrap();
        assert!(kept.contains(&name), "{kept}");
        engine.run(client, &pull).ok();
        engine
            .run(client, &format!("rmi {name}/test/secret:v1"))
            .ok();
        engine
            .run(client, &format!("logout {name}"))
            .shows("Removing login credentials");
        engine
            .run(client, &pull)
            .complains(1, "no basic auth credentials");
    }
}

#[test]
fn https_with_an_authority_that_the_host_trusts() {
    let mut engine = bare();
    // an address that is not loopback, where plain http would be allowed
    let _other = engine.network().neighbour().unwrap();
    let options = RegistryOptions {
        tls_names: vec!["10.9.0.1".to_owned()],
        listen: [10, 9, 0, 1].into(),
        ..RegistryOptions::default()
    };
    let registry = Registry::start_with(&options).unwrap();
    registry
        .push(
            "test/tls",
            "v1",
            &TestImage::busybox().unwrap().build().unwrap(),
        )
        .unwrap();
    let name = registry.name();
    for client in Client::BOTH {
        let refused = engine.run(client, &format!("pull {name}/test/tls:v1"));
        assert_eq!(refused.code, 1, "{refused:?}");
        assert!(refused.stderr.contains("certificate"), "{refused:?}");
    }
    engine.stop().unwrap();
    engine.set_environment("SSL_CERT_FILE", registry.ca().unwrap().to_str().unwrap());
    engine.restart().unwrap();
    for client in Client::BOTH {
        engine.run(client, &format!("pull {name}/test/tls:v1")).ok();
        engine.run(client, &format!("rmi {name}/test/tls:v1")).ok();
    }
}

#[test]
fn hostile_layers_are_refused_and_write_nowhere() {
    let engine = bare();
    let registry = Registry::start().unwrap();
    let name = registry.name();
    let outside = engine.home().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let at = outside.display().to_string();
    let entry = |kind, name: &str, target: Option<&str>| {
        Archive::new().entry(kind, name, target, b"", 0o644)
    };
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("dotdot", layer("../../../../escape", b"x")),
        ("inner-dotdot", layer("a/../../../b", b"x")),
        (
            "hardlink-out",
            Archive::new()
                .hardlink("link", "../../../../etc/shadow")
                .unwrap()
                .finish()
                .unwrap(),
        ),
        (
            "hardlink-absolute",
            Archive::new()
                .symlink("dir", "/etc")
                .unwrap()
                .hardlink("link", "dir/shadow")
                .unwrap()
                .finish()
                .unwrap(),
        ),
        ("whiteout-dotdot", layer(".wh...", b"")),
        (
            "device-type",
            entry(EntryType::new(b'Z'), "odd", None)
                .unwrap()
                .finish()
                .unwrap(),
        ),
    ];
    let mut checks = Checks::default();
    for (tag, archive) in cases {
        let image = TestImage::empty().with_layer(archive, Compression::Gzip);
        registry
            .push("test/hostile", tag, &image.build().unwrap())
            .unwrap();
        let outcome = engine.docker(&format!("pull {name}/test/hostile:{tag}"));
        checks.note(outcome.code == 1, || format!("{tag}: {outcome:?}"));
    }
    // links out of the layer are only text: what is below them stays inside
    let through = Archive::new()
        .symlink("out", &at)
        .unwrap()
        .file("out/file", b"x", 0o644)
        .unwrap()
        .finish()
        .unwrap();
    let absolute = layer(&format!("{at}/absolute"), b"x");
    for (tag, archive) in [("through", through), ("absolute", absolute)] {
        let image = TestImage::empty().with_layer(archive, Compression::Gzip);
        registry
            .push("test/hostile", tag, &image.build().unwrap())
            .unwrap();
        let _either_way = engine.docker(&format!("pull {name}/test/hostile:{tag}"));
        checks.note(
            std::fs::read_dir(&outside).unwrap().next().is_none(),
            || format!("{tag} wrote outside"),
        );
    }
    drop(checks);
    no_partial_layers(&engine);
}

/// A failed pull leaves no blob, no layer, and no half-written file.
#[track_caller]
fn no_partial_layers(engine: &Engine) {
    engine.docker("image prune -a -f").ok();
    let is_empty = |folder: &str| {
        let left = std::fs::read_dir(engine.root_folder().join(folder));
        left.map_or(0, Iterator::count) == 0
    };
    for folder in ["content/blobs/sha256", "content/ingest", "snapshots", "tmp"] {
        eventually(folder, || is_empty(folder));
    }
}

/// A registry that serves one image and lies or tarries as it is told.
struct Liar {
    address: String,
}

impl Liar {
    /// Serves `image`, whose first layer is answered with `layer`, raw.
    fn serve(image: &Built, layer: Option<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let image = image.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (Ok(mut stream), image, layer) = (stream, image.clone(), layer.clone()) else {
                    return;
                };
                std::thread::spawn(move || {
                    let mut request = [0; 4096];
                    let count = stream.read(&mut request).unwrap_or(0);
                    let head = String::from_utf8_lossy(&request[..count]).into_owned();
                    let path = head.split(' ').nth(1).unwrap_or_default();
                    let blob = |kind: &str, bytes: &[u8]| {
                        let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nDocker-Content-Digest: {}\r\nConnection: close\r\n\r\n", bytes.len(), digest_of(bytes)).into_bytes();
                        if !head.starts_with("HEAD") {
                            answer.extend_from_slice(bytes);
                        }
                        answer
                    };
                    let answer = if path.contains("/manifests/") {
                        blob(&image.manifest.media_type, &image.manifest.bytes)
                    } else if path.ends_with(&image.config.digest.to_string()) {
                        blob("application/octet-stream", &image.config.bytes)
                    } else if path.contains("/blobs/") {
                        match layer {
                            Some(raw) => raw,
                            // silence, until the client goes away
                            None => {
                                let _gone = stream.read(&mut request);
                                return;
                            }
                        }
                    } else {
                        blob("application/json", b"{}")
                    };
                    let _gone = stream.write_all(&answer);
                });
            }
        });
        Self { address }
    }
}

#[test]
fn lies_about_digest_and_length_are_found_out() {
    let engine = bare();
    let image = TestImage::empty()
        .with_layer(layer("file", &[7; 5000]), Compression::None)
        .build()
        .unwrap();
    let bytes = &image.layers[0].bytes;
    let raw = |length: usize, body: &[u8]| {
        let mut answer =
            format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")
                .into_bytes();
        answer.extend_from_slice(body);
        Some(answer)
    };
    let mut corrupt = bytes.clone();
    corrupt[600] ^= 1;
    let mut longer = bytes.clone();
    longer.extend_from_slice(b"more");
    let mut checks = Checks::default();
    for (what, answer) in [
        ("corrupt", raw(corrupt.len(), &corrupt)),
        ("shorter", raw(1000, &bytes[..1000])),
        ("cut", raw(bytes.len(), &bytes[..1000])),
        ("longer", raw(longer.len(), &longer)),
        (
            "missing",
            Some(
                b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                    .to_vec(),
            ),
        ),
    ] {
        let liar = Liar::serve(&image, answer);
        for client in Client::BOTH {
            let outcome = engine.run(client, &format!("pull {}/test/lie:v1", liar.address));
            checks.note(outcome.code == 1, || format!("{what}: {outcome:?}"));
        }
        engine.docker("images -aq").prints("");
    }
    drop(checks);
    no_partial_layers(&engine);
}

#[test]
fn a_pull_from_a_silent_registry_can_be_given_up() {
    let mut engine = bare();
    let image = TestImage::empty()
        .with_layer(layer("file", b"x"), Compression::None)
        .build()
        .unwrap();
    let liar = Liar::serve(&image, None);
    for client in Client::BOTH {
        let session = engine.session(client, &format!("pull {}/test/silent:v1", liar.address));
        std::thread::sleep(Duration::from_millis(300));
        session.kill();
    }
    // the engine answers, ends and starts as always
    engine.docker("images -q").prints("");
    engine.stop().unwrap();
    engine.restart().unwrap();
    no_partial_layers(&engine);
}

#[test]
fn a_full_disk_is_told_and_leaves_nothing() {
    let engine = Engine::start(EngineOptions {
        busybox: false,
        disk: Some(16 * 1024),
        ..options()
    })
    .unwrap();
    let registry = Registry::start().unwrap();
    let name = registry.name();
    let mut noise = Vec::with_capacity(24 << 20);
    let mut state = 88_172_645_463_325_252_u64;
    while noise.len() < 24 << 20 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        noise.extend_from_slice(&state.to_le_bytes());
    }
    let big = TestImage::empty()
        .with_layer(layer("big", &noise), Compression::None)
        .build()
        .unwrap();
    registry.push("test/big", "v1", &big).unwrap();
    let small = TestImage::empty()
        .with_layer(layer("small", b"x"), Compression::Gzip)
        .build()
        .unwrap();
    registry.push("test/small", "v1", &small).unwrap();
    for client in Client::BOTH {
        engine
            .run(client, &format!("pull {name}/test/big:v1"))
            .complains(1, "no space left on device");
        engine.run(client, "images -q").prints("");
        eventually("there is room again", || {
            let small = engine.run(client, &format!("pull {name}/test/small:v1"));
            small.code == 0
        });
        engine
            .run(client, &format!("rmi {name}/test/small:v1"))
            .ok();
    }
}

#[test]
fn a_kill_during_a_pull_leaves_nothing_and_the_next_pull_works() {
    let mut engine = bare();
    let registry = Registry::start().unwrap();
    let name = registry.name();
    let mut image = TestImage::busybox().unwrap();
    for number in 0..6_u8 {
        let content: Vec<u8> = (0..3_000_000_u32)
            .map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[1] ^ number)
            .collect();
        image = image.with_layer(layer(&format!("file{number}"), &content), Compression::Gzip);
    }
    registry
        .push("test/many", "v1", &image.build().unwrap())
        .unwrap();
    for moment in [20_u64, 60, 120, 200, 300] {
        let session = engine.session(Client::Docker, &format!("pull {name}/test/many:v1"));
        std::thread::sleep(Duration::from_millis(moment));
        engine.kill9().unwrap();
        session.kill();
        engine.restart().unwrap();
    }
    engine.docker(&format!("pull {name}/test/many:v1")).ok();
    engine
        .docker(&format!(
            "run --rm {name}/test/many:v1 sh -c 'wc -c < /file5'"
        ))
        .prints("3000000");
    engine.docker(&format!("rmi {name}/test/many:v1")).ok();
    no_partial_layers(&engine);
}

#[test]
fn a_registry_that_is_not_there_is_named() {
    let engine = engine();
    for client in Client::BOTH {
        engine
            .run(client, "pull 127.0.0.1:9/none:v1")
            .complains(1, "connection refused");
        engine
            .run(client, "run --rm 127.0.0.1:9/none:v1")
            .complains(125, "connection refused");
        engine
            .run(client, "pull nosuch.invalid/none:v1")
            .complains(1, "nosuch.invalid");
    }
    let registry = Registry::start().unwrap();
    for client in Client::BOTH {
        let name = registry.name();
        engine
            .run(client, &format!("pull {name}/test/nosuch:v1"))
            .complains(
                1,
                &format!("manifest for {name}/test/nosuch:v1 not found: manifest unknown"),
            );
    }
}
