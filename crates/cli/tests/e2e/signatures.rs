//! Signatures: made by the command line, asked for by policy, and what is pulled without one.

use std::fs;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use testkit::docker::Client;
use testkit::engine::{Engine, EngineOptions};
use testkit::image::{Archive, Built, Compression, TestImage};
use testkit::registry::Registry;

use crate::bench::{eventually, options};

/// An engine with a policy in a folder, and the folder.
fn guarded(policy: &str) -> (Engine, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let (file, home) = (folder.path().join("policy.toml"), folder.path());
    for name in ["one", "two"] {
        let (key, pem) = distribution::signature::PrivateKey::generate().unwrap();
        fs::write(home.join(format!("{name}.key")), pem).unwrap();
        fs::write(home.join(format!("{name}.pub")), key.public_pem()).unwrap();
    }
    fs::write(&file, policy).unwrap();
    let options = EngineOptions {
        busybox: false,
        flags: vec!["--signature-policy".to_owned(), file.display().to_string()],
        ..options()
    };
    (Engine::start(options).unwrap(), folder)
}

const STRICT: &str = "[[rule]]\nmatch = '127.0.0.1:*/open/*'\nrequire = 'ignore'\n\
    [[rule]]\nmatch = '127.0.0.1:*/watched/*'\nrequire = 'warn'\nkeys = ['one.pub']\n\
    [[rule]]\nmatch = '**'\nrequire = 'signature'\nkeys = ['one.pub']\n";

fn image(text: &str, architecture: &str) -> Built {
    let archive = Archive::new().file("text", text.as_bytes(), 0o644);
    TestImage::empty()
        .with_architecture(architecture, None)
        .with_layer(archive.unwrap().finish().unwrap(), Compression::Gzip)
        .build()
        .unwrap()
}

fn host() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    }
}

fn sign(engine: &Engine, folder: &Path, key: &str, image: &str) {
    let key = folder.join(format!("{key}.key"));
    let line = format!("image sign --key {} {image}", key.display());
    engine.gorae(&line).shows("Signed ");
}

/// Nothing of an image is in the store any more.
#[track_caller]
fn is_empty(engine: &Engine) {
    let folder = engine.root_folder().join("content/blobs/sha256");
    let blobs = || fs::read_dir(&folder).map_or(0, Iterator::count);
    eventually("the store is empty", || {
        engine.docker("images -aq").ok().is_empty() && blobs() == 0
    });
}

#[test]
fn an_image_without_the_right_signature_is_refused_and_leaves_nothing() {
    let (engine, folder) = guarded(STRICT);
    let registry = Registry::start().unwrap();
    let name = format!("{}/team/app:1", registry.name());
    let digest = registry
        .push("team/app", "1", &image("one", host()))
        .unwrap();
    for client in Client::BOTH {
        engine.run(client, &format!("pull {name}")).says(
            1,
            &format!("image {name} is refused: its signature was not verified: {}/team/app has no signature of {digest} (rule {}:8)",
                registry.name(), folder.path().join("policy.toml").display()),
        );
        is_empty(&engine);
    }
    sign(&engine, folder.path(), "two", &name);
    engine
        .docker(&format!("pull {name}"))
        .says(1, "a signature was made by another key");
    engine
        .docker(&format!("run --rm {name}"))
        .says(125, "a signature was made by another key");
    is_empty(&engine);
    sign(&engine, folder.path(), "one", &name);
    for client in Client::BOTH {
        engine
            .run(client, &format!("pull {name}"))
            .shows(&format!("Digest: {digest}"));
        engine.run(client, &format!("rmi {name}")).ok();
    }
    // a tag that moves to what is not signed is refused, and what is here stays
    engine.docker(&format!("pull {name}")).ok();
    let id = engine.inspect(&name, "{{.Id}}");
    registry
        .push("team/app", "1", &image("two", host()))
        .unwrap();
    engine
        .docker(&format!("pull {name}"))
        .says(1, "has no signature of");
    assert_eq!(engine.inspect(&name, "{{.Id}}"), id);
}

#[test]
fn rules_ignore_and_warn() {
    let (engine, folder) = guarded(STRICT);
    let registry = Registry::start().unwrap();
    for repository in ["open/app", "watched/app"] {
        registry
            .push(repository, "1", &image("one", host()))
            .unwrap();
    }
    let (open, watched) = ("open/app:1", "watched/app:1");
    let out = engine.gorae(&format!("pull {}/{open}", registry.name()));
    assert!(!out.ok().contains("Warning"), "{out:?}");
    let name = format!("{}/{watched}", registry.name());
    engine.gorae(&format!("pull {name}")).shows(&format!(
        "Warning: the signature of {name} was not verified"
    ));
    sign(&engine, folder.path(), "one", &name);
    let out = engine.gorae(&format!("pull {name}"));
    assert!(!out.ok().contains("Warning"), "{out:?}");
}

#[test]
fn an_index_is_signed_as_a_whole() {
    let (engine, folder) = guarded(STRICT);
    let registry = Registry::start().unwrap();
    let images = [
        image("one", "amd64"),
        image("one", "arm64"),
        image("one", "s390x"),
    ];
    registry.push_index("team/app", "1", &images).unwrap();
    let name = format!("{}/team/app", registry.name());
    let own = images.iter().find(|one| {
        let config = String::from_utf8_lossy(&one.config.bytes).into_owned();
        config.contains(host())
    });
    let child = format!("{name}@{}", own.unwrap().manifest.digest);
    // the signature of one platform's manifest says nothing of the index
    sign(&engine, folder.path(), "one", &child);
    engine.docker(&format!("pull {child}")).ok();
    engine.docker(&format!("rmi {child}")).ok();
    engine
        .docker(&format!("pull {name}:1"))
        .says(1, "has no signature of");
    is_empty(&engine);
    sign(&engine, folder.path(), "one", &format!("{name}:1"));
    engine.docker(&format!("pull {name}:1")).ok();
}

#[test]
fn a_copy_is_signed_under_the_name_of_its_origin() {
    let (engine, folder) = guarded(STRICT);
    let registry = Registry::start().unwrap();
    let built = image("one", host());
    registry.push("team/app", "1", &built).unwrap();
    let digest = registry.push("copy/app", "1", &built).unwrap();
    let (origin, copy) = (
        format!("{}/team/app", registry.name()),
        format!("{}/copy/app", registry.name()),
    );
    sign(&engine, folder.path(), "one", &format!("{origin}:1"));
    // the signature is copied, too
    let tag = format!("sha256-{}.sig", digest.hex());
    let signed = testkit::http::request(
        registry.address(),
        "GET",
        &format!("/v2/team/app/manifests/{tag}"),
        &[("Accept", "application/vnd.oci.image.manifest.v1+json")],
        b"",
    )
    .unwrap();
    let document: serde_json::Value = serde_json::from_slice(&signed.body).unwrap();
    for blob in [&document["config"], &document["layers"][0]] {
        let path = format!("/v2/team/app/blobs/{}", blob["digest"].as_str().unwrap());
        let answer = testkit::http::request(registry.address(), "GET", &path, &[], b"").unwrap();
        registry.put_blob("copy/app", &answer.body).unwrap();
    }
    let manifest =
        testkit::image::Blob::new("application/vnd.oci.image.manifest.v1+json", signed.body);
    registry.put_manifest("copy/app", &tag, &manifest).unwrap();
    engine.docker(&format!("pull {copy}:1")).says(
        1,
        &format!("it signs the image as \"{origin}\", another repository"),
    );
    let policy = folder.path().join("policy.toml");
    let identity = format!(
        "[[rule]]\nmatch = '**'\nrequire = 'signature'\nkeys = ['one.pub']\nidentity = '{origin}'\n"
    );
    fs::write(&policy, identity).unwrap();
    reload(&engine);
    eventually("the policy is read again", || {
        engine.docker(&format!("pull {copy}:1")).code == 0
    });
    let key = folder.path().join("one.pub");
    for (identity, code) in [
        ("repository", 1),
        ("any", 0),
        (origin.as_str(), 0),
        ("r.example/x", 1),
    ] {
        let line = format!(
            "image verify --key {} --identity {identity} {copy}:1",
            key.display()
        );
        assert_eq!(engine.gorae(&line).code, code, "{identity}");
    }
}

fn reload(engine: &Engine) {
    let pid = i32::try_from(engine.pid().unwrap()).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::HUP).unwrap();
}

#[test]
fn a_policy_that_makes_no_sense_changes_nothing() {
    let (engine, folder) = guarded(STRICT);
    let registry = Registry::start().unwrap();
    let name = format!("{}/team/app:1", registry.name());
    registry
        .push("team/app", "1", &image("one", host()))
        .unwrap();
    let policy = folder.path().join("policy.toml");
    fs::write(&policy, "[[rule]]\nmatch = '**'\nrequre = 'ignore'\n").unwrap();
    reload(&engine);
    let complaint = format!("{}:3: unknown key \\\"requre\\\"", policy.display());
    eventually("the log tells what is wrong", || {
        let log = engine.log();
        log.contains(&complaint) || log.contains(&complaint.replace('\\', ""))
    });
    engine
        .docker(&format!("pull {name}"))
        .says(1, "has no signature of");
    // nor does an engine start with it
    let line = format!("daemon --validate --signature-policy {}", policy.display());
    engine.gorae(&line).says(
        1,
        "unknown key \"requre\": a rule has match, require, keys, identity",
    );
    fs::write(&policy, "").unwrap();
    reload(&engine);
    eventually("nothing is asked any more", || {
        engine.docker(&format!("pull {name}")).code == 0
    });
}

#[test]
fn keys_are_made_and_never_overwritten() {
    let engine = Engine::start(EngineOptions {
        busybox: false,
        ..options()
    })
    .unwrap();
    let registry = Registry::start().unwrap();
    registry
        .push("team/app", "1", &image("one", host()))
        .unwrap();
    let name = format!("{}/team/app:1", registry.name());
    let base = engine.home().join("release");
    let base = base.display();
    engine
        .gorae(&format!("image keygen {base}"))
        .prints(&format!("Wrote {base}.key and {base}.pub"));
    engine
        .gorae(&format!("image keygen {base}"))
        .complains(1, "is there already");
    engine
        .gorae(&format!("image verify --key {base}.pub {name}"))
        .complains(1, "has no signature of");
    engine
        .gorae(&format!("image sign --key {base}.key --referrer {name}"))
        .shows("Signed ");
    engine
        .gorae(&format!("image verify --key {base}.pub {name}"))
        .shows(" is signed by ");
    // the tags of signatures are no images
    engine
        .gorae(&format!("image sign --key {base}.key {name}"))
        .ok();
    let all = format!("{}/team/app", registry.name());
    engine.docker(&format!("pull -a {all}")).ok();
    let tags = engine.docker(&format!("images --format {{{{.Tag}}}} {all}"));
    assert_eq!(tags.ok(), "1");
    engine
        .gorae(&format!("image sign --key {base}.pub {name}"))
        .complains(1, "it is a public key");
    engine
        .gorae(&format!("image sign {name}"))
        .complains(1, "needs --key FILE");
    engine
        .gorae(&format!(
            "image verify --key {base}.pub {}/none:1",
            registry.name()
        ))
        .complains(1, "no such manifest");
}
