//! A store that must not grow: the collector and its settings, and disks that are full.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use testkit::engine::{Engine, EngineOptions};
use testkit::image::{Archive, Compression, TestImage};
use testkit::registry::Registry;

use crate::bench::{eventually, options};

/// An engine without images, with these settings.
fn engine(flags: &[&str], disk: Option<u32>) -> Engine {
    Engine::start(EngineOptions {
        busybox: false,
        disk,
        flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
        ..options()
    })
    .unwrap()
}

/// Bytes that nothing packs, other ones for each seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn tarball(seed: u64, length: usize) -> Vec<u8> {
    let archive = Archive::new().file("noise", &noise(seed, length), 0o644);
    archive.unwrap().finish().unwrap()
}

fn import(engine: &Engine, seed: u64, length: usize, name: &str) {
    let mut words = vec!["import", "-"];
    words.extend(Some(name).filter(|name| !name.is_empty()));
    engine.import_with(&words, &tarball(seed, length)).unwrap();
}

fn images(engine: &Engine) -> Vec<String> {
    let all = engine.docker("images -a --format '{{.Repository}}:{{.Tag}}'");
    let mut names: Vec<String> = all.ok().lines().map(str::to_owned).collect();
    names.sort();
    names
}

#[test]
fn a_capped_store_lets_unused_images_go() {
    // an image is twice there, as it came and unpacked
    let flags = ["--store-max-size", "12m", "--store-interval", "1"];
    let engine = engine(&flags, None);
    import(&engine, 1, 1 << 20, "kept:1");
    import(&engine, 2, 1 << 20, "");
    import(&engine, 3, 1 << 20, "");
    assert_eq!(
        images(&engine),
        ["<none>:<none>", "<none>:<none>", "kept:1"]
    );
    import(&engine, 4, 3 << 20, "kept:2");
    // one of the nameless ones was enough
    eventually("room is made", || images(&engine).len() == 3);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(images(&engine), ["<none>:<none>", "kept:1", "kept:2"]);
    // tags keep images, so beyond the cap nothing can be written
    let tar = tarball(5, 8 << 20);
    let refused = engine.import_with(&["import", "-", "big"], &tar);
    let message = refused.unwrap_err().to_string();
    assert!(message.contains("no space left in the store"), "{message}");
    engine.gorae("system check --deep").ok();
}

#[test]
fn tagged_images_go_when_the_settings_say_so() {
    let flags = [
        "--store-max-size",
        "12m",
        "--store-interval",
        "1",
        "--store-collect-tagged",
    ];
    let engine = engine(&flags, None);
    engine.import("busybox").unwrap();
    import(&engine, 1, 1 << 20, "one:1");
    import(&engine, 2, 1 << 20, "two:1");
    engine.docker("rmi busybox").ok();
    // in use by a container that does not run
    engine.docker("create --name box one:1 /nothing").ok();
    for seed in 3..6 {
        import(&engine, seed, 3 << 20, &format!("more:{seed}"));
        eventually("room is made", || {
            let names = images(&engine);
            names.len() <= 3 && names.contains(&format!("more:{seed}"))
        });
    }
    let names = images(&engine);
    assert!(names.contains(&"one:1".to_owned()), "{names:?}");
    assert!(!names.contains(&"two:1".to_owned()), "{names:?}");
    engine.gorae("system check --deep").ok();
    engine.docker("rm box").ok();
}

#[test]
fn a_disk_keeps_some_room() {
    // 64 MiB, of which 40 are to be free
    let flags = ["--store-min-free", "40m", "--store-interval", "1"];
    let engine = engine(&flags, Some(64 << 10));
    import(&engine, 1, 4 << 20, "kept:1");
    for seed in 2..8 {
        import(&engine, seed, 4 << 20, "");
    }
    eventually("room is made", || {
        let names = images(&engine);
        names.len() <= 3 && names.contains(&"kept:1".to_owned())
    });
    engine.gorae("system check --deep").ok();
}

/// An image with a large layer in a registry and in an archive.
struct Large {
    registry: Registry,
    archive: PathBuf,
}

impl Large {
    fn make(engine: &Engine) -> Self {
        let image = TestImage::busybox()
            .unwrap()
            .with_layer(tarball(9, 12 << 20), Compression::None)
            .build()
            .unwrap();
        let registry = Registry::start().unwrap();
        registry.push("a/large", "1", &image).unwrap();
        let mut archive = Archive::new();
        let all = [&image.config].into_iter().chain(&image.layers);
        for blob in all.clone() {
            let path = format!("blobs/sha256/{}", blob.digest.hex());
            archive = archive.file(&path, &blob.bytes, 0o644).unwrap();
        }
        let path = |digest: &oci::Digest| format!("blobs/sha256/{}", digest.hex());
        let layers: Vec<String> = image.layers.iter().map(|one| path(&one.digest)).collect();
        let config = path(&image.config.digest);
        let list =
            serde_json::json!([{"Config": config, "RepoTags": ["large:1"], "Layers": layers}]);
        let archive = archive
            .file("manifest.json", list.to_string().as_bytes(), 0o644)
            .unwrap();
        let file = engine.home().join("large.tar");
        fs::write(&file, archive.finish().unwrap()).unwrap();
        Self {
            registry,
            archive: file,
        }
    }
}

#[test]
fn a_full_disk_is_named_and_leaves_the_store_whole() {
    // room for busybox and for what a container writes, but for nothing large twice
    let engine = engine(&[], Some(24 << 10));
    engine.import("busybox").unwrap();
    let large = Large::make(&engine);
    let name = format!("{}/a/large:1", large.registry.name());
    let file = engine.home().join("layer.tar");
    fs::write(&file, tarball(10, 24 << 20)).unwrap();
    let write = "head -c 10000000 /dev/urandom > /noise";
    engine
        .docker(&format!("run --name writer busybox sh -c '{write}'"))
        .ok();
    let lines = [
        format!("pull {name}"),
        format!("load -i {}", large.archive.display()),
        format!("import {} large:1", file.display()),
        "commit writer large:1".to_owned(),
    ];
    for _ in 0..2 {
        for line in &lines {
            let failed = engine.docker(line);
            let text = format!("{}{}", failed.stdout, failed.stderr);
            assert!(failed.code != 0, "{line}: {failed:?}");
            assert!(
                text.contains("o space left on device"),
                "{line}: {failed:?}"
            );
            engine.gorae("system check --deep").ok();
            assert_eq!(images(&engine), ["busybox:latest"], "{line}");
        }
    }
    // what an interrupted download has left is in nobody's way
    engine.docker("image prune -f").ok();
    engine.docker("rm writer").ok();
    engine.docker("run --rm busybox echo fine").prints("fine");
    let small = TestImage::empty()
        .with_layer(tarball(11, 1000), Compression::Gzip)
        .build()
        .unwrap();
    large.registry.push("a/small", "1", &small).unwrap();
    let name = format!("{}/a/small:1", large.registry.name());
    engine.docker(&format!("pull {name}")).ok();
    engine.gorae("system check --deep").ok();
}
