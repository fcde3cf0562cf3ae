//! Archives of images: written here, and read from here and from elsewhere.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tar::EntryType;
use testkit::docker::{Client, Session};
use testkit::engine::{Engine, EngineOptions};
use testkit::image::{
    Archive, Built, Compression, Format, TestImage, compress, digest_of, index_of,
};
use testkit::registry::Registry;

use crate::bench::{engine, eventually, options};

fn bare() -> Engine {
    Engine::start(EngineOptions {
        busybox: false,
        ..options()
    })
    .unwrap()
}

fn layer(name: &str, content: &[u8]) -> Vec<u8> {
    let archive = Archive::new().file(name, content, 0o644).unwrap();
    archive.finish().unwrap()
}

/// Two layers on busybox, `cat` of both as command.
fn image() -> TestImage {
    TestImage::busybox()
        .unwrap()
        .with_layer(layer("one", b"one"), Compression::Gzip)
        .with_layer(layer("two", b"two"), Compression::Zstd)
        .with_config("Cmd", json!(["cat", "/one", "/two"]))
}

/// The members of a tar by their names.
fn members(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in tar::Archive::new(archive).entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        let name = entry.path().unwrap().to_string_lossy().into_owned();
        found.insert(name, bytes);
    }
    found
}

/// An archive as Docker before 25 wrote it; `change` may spoil its list.
fn docker_archive(
    image: &Built,
    plain: &[Vec<u8>],
    tags: &[&str],
    change: impl Fn(&mut Value),
) -> Vec<u8> {
    let mut archive = Archive::new();
    let mut layers = Vec::new();
    for (number, bytes) in plain.iter().enumerate() {
        let folder = format!("layer{number}");
        archive = archive
            .directory(&format!("{folder}/"), 0o755)
            .unwrap()
            .file(&format!("{folder}/VERSION"), b"1.0", 0o644)
            .unwrap()
            .file(&format!("{folder}/json"), b"{}", 0o644)
            .unwrap();
        let path = format!("{folder}/layer.tar");
        // a layer that an image has twice is a link
        let earlier = plain[..number].iter().position(|other| other == bytes);
        archive = match earlier {
            Some(earlier) => archive
                .symlink(&path, &format!("../layer{earlier}/layer.tar"))
                .unwrap(),
            None => archive.file(&path, bytes, 0o644).unwrap(),
        };
        layers.push(path);
    }
    let config = format!("{}.json", image.config.digest.hex());
    let mut list = json!([{"Config": config, "RepoTags": tags, "Layers": layers}]);
    change(&mut list);
    archive
        .file(&config, &image.config.bytes, 0o644)
        .unwrap()
        .file("manifest.json", list.to_string().as_bytes(), 0o644)
        .unwrap()
        .finish()
        .unwrap()
}

/// An OCI image layout of images; their entries as `change` leaves them.
fn layout(images: &[&Built], extra: &[Vec<u8>], entries: &[Value]) -> Vec<u8> {
    let mut archive = Archive::new()
        .file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644)
        .unwrap();
    let blobs = images
        .iter()
        .flat_map(|image| {
            let own = [&image.manifest, &image.config].into_iter();
            own.chain(&image.layers).map(|blob| blob.bytes.clone())
        })
        .chain(extra.iter().cloned());
    for bytes in blobs {
        let path = format!("blobs/sha256/{}", digest_of(&bytes).hex());
        archive = archive.file(&path, &bytes, 0o644).unwrap();
    }
    let index = json!({"schemaVersion": 2, "manifests": entries});
    archive
        .file("index.json", index.to_string().as_bytes(), 0o644)
        .unwrap()
        .finish()
        .unwrap()
}

fn named(mut entry: Value, name: &str) -> Value {
    entry["annotations"] = json!({"io.containerd.image.name": name});
    entry
}

fn write(engine: &Engine, name: &str, bytes: &[u8]) -> PathBuf {
    let path = engine.home().join(name);
    fs::write(&path, bytes).unwrap();
    path
}

fn save(engine: &Engine, client: Client, names: &str, file: &Path) -> Vec<u8> {
    let line = format!("save -o {} {names}", file.display());
    engine.run(client, &line).ok();
    fs::read(file).unwrap()
}

/// A folder of the store has nothing in it any more.
#[track_caller]
fn is_emptied(engine: &Engine, folder: &str) {
    let path = engine.root_folder().join(folder);
    eventually(folder, || fs::read_dir(&path).unwrap().count() == 0);
}

#[test]
fn a_pulled_image_is_saved_as_it_is() {
    let engine = bare();
    let registry = Registry::start().unwrap();
    let built = image().build().unwrap();
    registry.push("a/b", "1", &built).unwrap();
    let name = format!("{}/a/b:1", registry.name());
    engine.docker(&format!("pull {name}")).ok();
    engine.docker(&format!("tag {name} short:x")).ok();
    let file = engine.home().join("image.tar");
    let archive = save(&engine, Client::Docker, &format!("{name} short"), &file);
    let by_gorae = save(&engine, Client::Gorae, &format!("{name} short"), &file);
    assert!(archive == by_gorae, "the same images give the same bytes");
    let members = members(&archive);
    for blob in [&built.manifest, &built.config]
        .into_iter()
        .chain(&built.layers)
    {
        let path = format!("blobs/sha256/{}", blob.digest.hex());
        assert_eq!(members.get(&path), Some(&blob.bytes), "{path}");
    }
    let read = |name: &str| -> Value { serde_json::from_slice(&members[name]).unwrap() };
    let list = read("manifest.json");
    assert_eq!(list[0]["RepoTags"], json!([name, "short:x"]));
    let path = |digest: &oci::Digest| format!("blobs/sha256/{}", digest.hex());
    assert_eq!(list[0]["Config"], path(&built.config.digest));
    let layers: Vec<String> = built
        .layers
        .iter()
        .map(|layer| path(&layer.digest))
        .collect();
    assert_eq!(list[0]["Layers"], json!(layers));
    let source = &list[0]["LayerSources"][built.diff_ids[1].to_string()];
    assert_eq!(*source, built.layers[1].descriptor());
    let index = read("index.json");
    assert_eq!(index["manifests"].as_array().unwrap().len(), 2);
    let entry = &index["manifests"][1];
    assert_eq!(entry["digest"], built.manifest.digest.to_string());
    let expect = json!({
        "io.containerd.image.name": "docker.io/library/short:x",
        "org.opencontainers.image.ref.name": "x",
    });
    assert_eq!(entry["annotations"], expect);
    assert_eq!(read("oci-layout")["imageLayoutVersion"], "1.0.0");
    assert_eq!(
        read("repositories")["short"]["x"],
        built.layers[2].digest.hex()
    );
}

#[test]
fn archives_of_every_kind_are_loaded() {
    let engine = bare();
    let image = image();
    let plain: Vec<Vec<u8>> = image
        .layers
        .iter()
        .map(|(bytes, _)| bytes.clone())
        .collect();
    let built = image.build().unwrap();
    let docker = image.clone().with_format(Format::Docker).build().unwrap();
    let old = docker_archive(&built, &plain, &["a/old:1"], |_| {});
    let oci = layout(
        &[&built],
        &[],
        &[named(built.manifest.descriptor(), "docker.io/a/oci:1")],
    );
    let other = image
        .clone()
        .with_architecture("s390x", None)
        .build()
        .unwrap();
    let both = index_of(&[other.clone(), docker.clone()]);
    let entry = json!({
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "digest": digest_of(&both),
        "size": both.len(),
    });
    let nested = layout(
        &[&docker, &other],
        &[both],
        &[named(entry, "docker.io/a/nested:1")],
    );
    for (name, archive, id) in [
        ("a/old:1", old.clone(), &built),
        ("a/oci:1", oci.clone(), &built),
        ("a/nested:1", nested, &docker),
        (
            "a/old:1",
            compress(&old, Compression::Gzip).unwrap(),
            &built,
        ),
        (
            "a/oci:1",
            compress(&oci, Compression::Zstd).unwrap(),
            &built,
        ),
    ] {
        let file = write(&engine, "in.tar", &archive);
        for client in Client::BOTH {
            engine
                .run(client, &format!("load -i {}", file.display()))
                .prints(&format!("Loaded image: {name}"));
            assert_eq!(
                engine.inspect(name, "{{.Id}}"),
                id.config.digest.to_string()
            );
            engine
                .run(client, &format!("run --rm {name}"))
                .prints("onetwo");
            // once more: all is there
            engine
                .run(client, &format!("load -q -i {}", file.display()))
                .prints(&format!("Loaded image: {name}"));
            engine.run(client, &format!("rmi {name}")).ok();
        }
    }
    is_emptied(&engine, "content/blobs/sha256");
}

#[test]
fn several_images_go_from_engine_to_engine_through_a_pipe() {
    let (from, to) = (engine(), bare());
    from.docker("tag busybox box/one:1").ok();
    from.docker("tag busybox box/one:2").ok();
    let other = image().build().unwrap();
    let archive = layout(
        &[&other],
        &[],
        &[named(other.manifest.descriptor(), "docker.io/box/two:1")],
    );
    let file = write(&from, "two.tar", &archive);
    from.docker(&format!("load -i {}", file.display())).ok();
    for (saver, loader) in [
        (Client::Docker, Client::Gorae),
        (Client::Gorae, Client::Docker),
    ] {
        let saved = from
            .command(saver, ["save", "box/one", "box/two:1"])
            .output()
            .unwrap();
        assert!(saved.status.success(), "{saved:?}");
        let mut load = to.command(loader, ["load"]);
        load.stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped());
        let mut load = load.spawn().unwrap();
        load.stdin.take().unwrap().write_all(&saved.stdout).unwrap();
        let output = load.wait_with_output().unwrap();
        let told = String::from_utf8(output.stdout).unwrap();
        assert_eq!(
            told.trim(),
            "Loaded image: box/one:1\nLoaded image: box/one:2\nLoaded image: box/two:1"
        );
        let id = from.inspect("busybox", "{{.Id}}");
        assert_eq!(to.inspect("box/one:2", "{{.Id}}"), id);
        to.docker("run --rm box/two:1").prints("onetwo");
        to.docker("run --rm box/one:1 echo x").prints("x");
        to.docker("rmi box/one:1 box/one:2 box/two:1").ok();
        // by id there are no names
        let saved = from.command(saver, ["save", &id[7..19]]).output().unwrap();
        let list: Value = serde_json::from_slice(&members(&saved.stdout)["manifest.json"]).unwrap();
        assert_eq!(list[0]["RepoTags"], Value::Null);
        let file = write(&to, "id.tar", &saved.stdout);
        to.run(loader, &format!("load -i {}", file.display()))
            .prints(&format!("Loaded image ID: {id}"));
        to.docker(&format!("rmi {id}")).ok();
    }
}

#[test]
fn platforms_choose_images() {
    let engine = bare();
    let image = image();
    let (own, other) = (
        image.build().unwrap(),
        image
            .clone()
            .with_architecture("s390x", None)
            .build()
            .unwrap(),
    );
    let archive = layout(
        &[&own, &other],
        &[],
        &[
            named(own.manifest.descriptor(), "docker.io/a/own:1"),
            named(other.manifest.descriptor(), "docker.io/a/other:1"),
        ],
    );
    let file = write(&engine, "in.tar", &archive);
    let shown = file.display();
    for client in Client::BOTH {
        engine
            .run(client, &format!("load --platform linux/s390x -i {shown}"))
            .prints("Loaded image: a/other:1");
        engine
            .run(client, &format!("load --platform linux/riscv64 -i {shown}"))
            .says(
                1,
                "no suitable image found in the archive for platform linux/riscv64",
            );
        let out = engine.home().join("out.tar");
        let save =
            |platform: &str| format!("save --platform {platform} -o {} a/other:1", out.display());
        engine.run(client, &save("linux/s390x")).ok();
        engine.run(client, &save("linux/arm64")).complains(
            1,
            "its platform (linux/s390x) does not match the specified platform (linux/arm64)",
        );
        engine.run(client, "rmi a/other:1").ok();
    }
}

/// The last message of a load that fails.
fn refused(engine: &Engine, archive: &[u8]) -> String {
    let file = write(engine, "bad.tar", archive);
    let command = engine.command(Client::Gorae, ["load", "-i", &file.display().to_string()]);
    let outcome = Session::pipes(command).unwrap().finish();
    assert_eq!(outcome.code, 1, "{outcome:?}");
    outcome.stderr.trim().to_owned()
}

/// An image of two layers, and those layers as plain tars.
fn two_layers() -> (Built, Vec<Vec<u8>>) {
    let image = TestImage::empty()
        .with_layer(layer("one", b"one"), Compression::Gzip)
        .with_layer(layer("two", b"two"), Compression::Gzip);
    let plain = image.layers.iter().map(|(bytes, _)| bytes.clone());
    (image.build().unwrap(), plain.collect())
}

/// Archives whose list of images is wrong, and what is told of them.
fn wrong_lists() -> Vec<(Vec<u8>, &'static str)> {
    let (built, plain) = two_layers();
    let bad = |change: &dyn Fn(&mut Value)| docker_archive(&built, &plain, &["a/b:1"], change);
    vec![
        (
            bad(&|list| list[0]["Config"] = "nope.json".into()),
            "invalid manifest.json: \"nope.json\" is not in the archive",
        ),
        (
            bad(&|list| list[0]["Config"] = "../../etc/passwd".into()),
            "is not in the archive",
        ),
        (
            bad(&|list| list[0]["Config"] = "layer0/layer.tar".into()),
            "invalid image configuration",
        ),
        (
            bad(&|list| list[0]["Layers"] = json!(["layer0/layer.tar"])),
            "invalid manifest, layers length mismatch: expected 1, got 2",
        ),
        (
            bad(&|list| list[0]["Layers"] = json!(["layer1/layer.tar", "layer0/layer.tar"])),
            "failed to register layer",
        ),
        (
            bad(&|list| list[0]["Layers"] = json!(["x", "y"])),
            "is not in the archive",
        ),
        (
            bad(&|list| list[0]["RepoTags"] = json!(["a/b"])),
            "invalid tag \"a/b\"",
        ),
        (
            bad(&|list| list[0]["RepoTags"] = json!(["a/B:1"])),
            "must be lowercase",
        ),
        (bad(&|list| *list = json!([1])), "invalid manifest.json"),
        (bad(&|list| *list = json!({})), "invalid manifest.json"),
    ]
}

/// Archives with wrong members, and what is told of them.
fn wrong_members() -> Vec<(Vec<u8>, &'static str)> {
    let (built, _) = two_layers();
    let entry = named(built.manifest.descriptor(), "docker.io/a/b:1");
    let mut long = entry.clone();
    long["size"] = 1.into();
    let manifest = format!("blobs/sha256/{}", built.manifest.digest.hex());
    let single = |name: &str, bytes: &[u8]| Archive::new().file(name, bytes, 0o644).unwrap();
    vec![
        (
            b"garbage".to_vec(),
            "unexpected EOF: the archive ends in the middle of entry",
        ),
        (
            Vec::new(),
            "the archive is neither one of docker save nor an OCI image layout",
        ),
        (
            layer("file", b"x"),
            "the archive is neither one of docker save nor an OCI image layout",
        ),
        (single("../evil", b"x").finish().unwrap(), "leads out of it"),
        (single("/evil", b"x").finish().unwrap(), "leads out of it"),
        (
            single(&manifest, b"something else").finish().unwrap(),
            "blob verification failed",
        ),
        (
            single("manifest.json", &vec![b' '; 9 << 20])
                .finish()
                .unwrap(),
            "manifest.json has 9437184 bytes, more than the 8388608 allowed",
        ),
        (
            layout(&[], &[], std::slice::from_ref(&entry)),
            "is not in the archive",
        ),
        (layout(&[&built], &[], &[long]), "its descriptor says 1"),
        (
            Archive::new()
                .symlink("a", "b")
                .unwrap()
                .symlink("b", "a")
                .unwrap()
                .file(
                    "manifest.json",
                    br#"[{"Config":"a","RepoTags":null,"Layers":[]}]"#,
                    0o644,
                )
                .unwrap()
                .finish()
                .unwrap(),
            "\"a\" is not in the archive",
        ),
        (
            Archive::new()
                .entry(
                    EntryType::Symlink,
                    "x.json",
                    Some("/etc/passwd"),
                    b"",
                    0o777,
                )
                .unwrap()
                .file(
                    "manifest.json",
                    br#"[{"Config":"x.json","RepoTags":null,"Layers":[]}]"#,
                    0o644,
                )
                .unwrap()
                .finish()
                .unwrap(),
            "\"x.json\" is not in the archive",
        ),
    ]
}

#[test]
fn hostile_archives_are_refused_and_leave_nothing() {
    let engine = bare();
    for (archive, expect) in wrong_lists().into_iter().chain(wrong_members()) {
        let told = refused(&engine, &archive);
        assert!(told.contains(expect), "{told} is not {expect}");
    }
    let file = write(&engine, "bad.tar", b"garbage");
    engine
        .docker(&format!("load -i {}", file.display()))
        .says(1, "read the archive");
    engine.docker("images -aq").prints("");
    for folder in ["content/blobs/sha256", "snapshots", "tmp"] {
        is_emptied(&engine, folder);
    }
}

#[test]
fn no_names_are_no_images() {
    let engine = bare();
    let answer = engine.api("GET", "/images/get", "").unwrap();
    assert_eq!(answer.header("content-type"), Some("application/x-tar"));
    let empty = members(&answer.body);
    assert_eq!(empty["manifest.json"], b"null");
    let file = write(&engine, "empty.tar", &answer.body);
    engine
        .gorae(&format!("load -i {}", file.display()))
        .prints("");
}

#[test]
fn lists_tell_what_is_asked_for() {
    let engine = engine();
    let registry = Registry::start().unwrap();
    let built = image().build().unwrap();
    let digest = registry
        .push_index("a/b", "1", std::slice::from_ref(&built))
        .unwrap();
    let name = format!("{}/a/b", registry.name());
    engine.docker(&format!("pull {name}:1")).ok();
    let list = |query: &str| -> Vec<Value> {
        let answer = engine
            .api("GET", &format!("/images/json{query}"), "")
            .unwrap();
        serde_json::from_slice(&answer.body).unwrap()
    };
    let pulled = |list: &[Value]| -> Value {
        let found = list
            .iter()
            .find(|one| one["Id"] == built.config.digest.to_string());
        found.unwrap().clone()
    };
    let all = list("");
    assert_eq!(all.len(), 2);
    let one = pulled(&all);
    assert_eq!(
        (&one["RepoTags"], &one["RepoDigests"]),
        (
            &json!([format!("{name}:1")]),
            &json!([format!("{name}@{digest}")])
        )
    );
    assert_eq!(
        (&one["SharedSize"], &one["Containers"]),
        (&json!(-1), &json!(0))
    );
    assert!(one.get("Manifests").is_none() && one["Labels"].is_null());
    // busybox's layer is in both images
    let shared = list("?shared-size=1");
    assert!(pulled(&shared)["SharedSize"].as_i64().unwrap() > 100_000);
    let with = pulled(&list("?manifests=1"));
    assert_eq!(with["Descriptor"]["digest"], digest.to_string());
    let manifest = &with["Manifests"][0];
    assert_eq!(manifest["ID"], built.manifest.digest.to_string());
    assert_eq!(
        (&manifest["Available"], &manifest["Kind"]),
        (&json!(true), &json!("image"))
    );
    let filter = |key: &str, value: &str| {
        let filters = json!({key: [value]}).to_string();
        let encoded: String = filters.bytes().map(|byte| format!("%{byte:02X}")).collect();
        list(&format!("?filters={encoded}")).len()
    };
    for (key, value, expect) in [
        ("reference", "busybox", 1),
        ("reference", "busy[a-c]ox:*", 1),
        ("reference", "*/a/b", 1),
        ("reference", "*/a/b@sha256:*", 1),
        ("reference", "none", 0),
        ("before", "busybox", 1),
        ("since", "busybox", 0),
        ("dangling", "true", 0),
        ("dangling", "false", 2),
        ("until", "1h", 1),
        ("label", "x", 0),
    ] {
        assert_eq!(filter(key, value), expect, "{key}={value}");
    }
    let answer = engine
        .api("GET", &format!("/distribution/{name}:1/json"), "")
        .unwrap();
    let found: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(found["Descriptor"]["digest"], digest.to_string());
    assert_eq!(found["Platforms"][0]["os"], "linux");
    let answer = engine
        .api("GET", &format!("/distribution/{name}:none/json"), "")
        .unwrap();
    assert_eq!(answer.status, 404);
    assert!(String::from_utf8_lossy(&answer.body).contains("manifest unknown: manifest unknown"));
}
