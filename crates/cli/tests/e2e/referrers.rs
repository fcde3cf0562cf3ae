//! What is attached to images in a registry, and listed.

use std::fs;

use testkit::engine::{Engine, EngineOptions};
use testkit::image::TestImage;
use testkit::registry::{Registry, RegistryOptions};

use crate::bench::options;

#[test]
fn files_are_attached_and_listed() {
    let engine = Engine::start(EngineOptions {
        busybox: false,
        ..options()
    })
    .unwrap();
    let registry = Registry::start_with(&RegistryOptions {
        authentication: true,
        ..RegistryOptions::default()
    })
    .unwrap();
    let name = format!("{}/team/app:1", registry.name());
    registry
        .push("team/app", "1", &TestImage::empty().build().unwrap())
        .unwrap();
    engine
        .gorae(&format!("image referrers {name}"))
        .complains(1, "no basic auth credentials");
    let line = format!(
        "login -u {} --password-stdin {}",
        Registry::USER,
        registry.name()
    );
    let mut login = engine.session(testkit::docker::Client::Gorae, &line);
    login.write(Registry::PASSWORD).unwrap();
    login.finish().ok();
    engine
        .gorae(&format!("image referrers {name}"))
        .prints("DIGEST    ARTIFACT TYPE   SIZE");
    let file = engine.home().join("app.spdx.json");
    fs::write(&file, "{}").unwrap();
    let file = file.display();
    let out = engine.gorae(&format!(
        "image attach --artifact-type application/spdx+json --annotation made=here {name} {file}"
    ));
    let attached = out.ok().rsplit('@').next().unwrap().to_owned();
    assert!(attached.starts_with("sha256:"), "{out:?}");
    engine
        .gorae(&format!(
            "image attach --artifact-type text/x {name} {file}"
        ))
        .ok();
    let out = engine.gorae(&format!(
        "image referrers --format json --artifact-type application/spdx+json {name}"
    ));
    let found: serde_json::Value = serde_json::from_str(out.ok()).unwrap();
    assert_eq!(found["digest"], attached);
    assert_eq!(found["annotations"]["made"], "here");
    let table = engine.gorae(&format!("image referrers {name}"));
    assert_eq!(table.ok().lines().count(), 3, "{table:?}");
    engine
        .gorae(&format!("image attach {name} {file}"))
        .complains(1, "needs --artifact-type TYPE");
    engine
        .gorae(&format!("image attach --artifact-type a/b {name} /none"))
        .complains(1, "cannot read /none");
    engine
        .gorae(&format!("image referrers --format x {name}"))
        .complains(1, "unknown format \"x\"");
}
