//! The registry of an engine's configuration: served with the engine, and there again after its restart.

use std::path::Path;

use serde_json::Value;
use testkit::docker::Client;
use testkit::engine::{Engine, EngineOptions};
use testkit::http::request;

use crate::bench::{eventually, options};

/// The default address, in the network of the engine.
const NAME: &str = "127.0.0.1:5000/team/app";

fn engine(folder: &Path) -> Engine {
    let file = folder.join("config.toml");
    let root = folder.join("registry");
    let text = format!("[registry]\nroot = '{}'\n", root.display());
    std::fs::write(&file, text).unwrap();
    let options = EngineOptions {
        flags: vec!["--config-file".to_owned(), file.display().to_string()],
        ..options()
    };
    Engine::start(options).unwrap()
}

/// The tags of the repository; this thread is in the engine's network.
fn tags() -> Vec<String> {
    let address = ([127, 0, 0, 1], 5000).into();
    let answer = request(address, "GET", "/v2/team/app/tags/list", &[], b"").unwrap();
    let list: Value = serde_json::from_slice(&answer.body).unwrap();
    let tags = list["tags"].as_array().cloned().unwrap_or_default();
    tags.iter()
        .map(|tag| tag.as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn what_was_pushed_outlives_the_engine() {
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let mut engine = engine(folder.path());
    for client in Client::BOTH {
        let image = format!("{NAME}:{client:?}").to_lowercase();
        engine.run(client, &format!("tag busybox {image}")).ok();
        engine.run(client, &format!("push {image}")).ok();
        engine.docker(&format!("rmi {image}")).ok();
    }
    engine.docker("rmi -f busybox").ok();
    engine.docker("image prune -af").ok();
    engine.docker("images -q").prints("");
    for kill in [false, true] {
        if kill {
            engine.kill9().unwrap();
        } else {
            engine.stop().unwrap();
            assert!(request(([127, 0, 0, 1], 5000).into(), "GET", "/v2/", &[], b"").is_err());
        }
        engine.restart().unwrap();
        assert_eq!(tags(), ["docker", "gorae"]);
        for (client, tag) in [(Client::Gorae, "docker"), (Client::Docker, "gorae")] {
            let image = format!("{NAME}:{tag}");
            engine.run(client, &format!("pull {image}")).ok();
            engine
                .docker(&format!("run --rm {image} echo fine"))
                .prints("fine");
            engine.docker(&format!("rmi {image}")).ok();
        }
    }
    eventually("nothing is left of the images", || {
        engine.docker("images -q").ok().is_empty()
    });
}

/// A configuration that cannot be served keeps the engine from starting, with the reason.
#[test]
fn an_address_that_is_taken_is_named() {
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let mut engine = engine(folder.path());
    engine.stop().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:5000").unwrap();
    let refused = engine.restart().unwrap_err().to_string();
    assert!(refused.contains("127.0.0.1:5000"), "{refused}");
    drop(taken);
    engine.restart().unwrap();
}
