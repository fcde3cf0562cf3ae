//! Many who pull, load, run, prune and remove the same images at once: an image that is there is whole,
//! and nothing is left when all are gone.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::engine::{Engine, EngineOptions};
use testkit::http::Response;
use testkit::image::{Archive, Compression, TestImage};
use testkit::registry::Registry;

use crate::bench::{LIMIT, options};

const ROUNDS: usize = 8;

fn text(answer: &Response) -> String {
    String::from_utf8_lossy(&answer.body).into_owned()
}

fn layer(name: &str) -> Vec<u8> {
    let mut archive = Archive::new();
    for number in 0..50 {
        let path = format!("{name}/{number}");
        archive = archive.file(&path, name.as_bytes(), 0o644).unwrap();
    }
    archive.finish().unwrap()
}

/// Two images that have all but one layer in common.
fn publish(registry: &Registry) -> [String; 2] {
    ["one", "two"].map(|name| {
        let image = TestImage::busybox()
            .unwrap()
            .with_layer(layer("common"), Compression::Gzip)
            .with_layer(layer(name), Compression::Zstd)
            .with_config("Cmd", json!(["cat", "/common/7", format!("/{name}/42")]))
            .build()
            .unwrap();
        registry.push(name, "1", &image).unwrap();
        format!("{}/{name}", registry.name())
    })
}

fn pull(engine: &Engine, name: &str) {
    let path = format!("/images/create?fromImage={name}&tag=1");
    let answer = engine.api("POST", &path, "").unwrap();
    let told = text(&answer);
    assert_eq!(answer.status, 200, "{told}");
    assert!(!told.contains("\"error\""), "{told}");
}

fn remove(engine: &Engine, name: &str) {
    let path = format!("/images/{name}:1?force=1");
    let answer = engine.api("DELETE", &path, "").unwrap();
    // it is gone already, or a container that runs needs it
    assert!([200, 404, 409].contains(&answer.status), "{answer:?}");
}

/// Runs the image, if it is there: then it works.
fn run(engine: &Engine, name: &str) -> bool {
    let body = json!({"Image": format!("{name}:1")}).to_string();
    let made = engine.api("POST", "/containers/create", &body).unwrap();
    if made.status == 404 {
        return false;
    }
    assert_eq!(made.status, 201, "{}", text(&made));
    let made: Value = serde_json::from_slice(&made.body).unwrap();
    let path = format!("/containers/{}", made["Id"].as_str().unwrap());
    let begun = engine.api("POST", &format!("{path}/start"), "").unwrap();
    assert_eq!(begun.status, 204, "{}", text(&begun));
    let ended = engine.api("POST", &format!("{path}/wait"), "").unwrap();
    assert!(
        text(&ended).contains("\"StatusCode\":0"),
        "{}",
        text(&ended)
    );
    let gone = engine
        .api("DELETE", &format!("{path}?force=1"), "")
        .unwrap();
    assert_eq!(gone.status, 204, "{}", text(&gone));
    true
}

fn prune(engine: &Engine) {
    let path = "/images/prune?filters=%7B%22dangling%22%3A%5B%22false%22%5D%7D";
    let answer = engine.api("POST", path, "").unwrap();
    assert_eq!(answer.status, 200, "{}", text(&answer));
}

#[test]
fn many_want_and_remove_the_same_images() {
    let engine = Engine::start(EngineOptions {
        busybox: false,
        ..options()
    })
    .unwrap();
    let registry = Registry::start().unwrap();
    let names = publish(&registry);
    let [one, two] = &names;
    let archive = engine.home().join("both.tar");
    for name in &names {
        pull(&engine, name);
    }
    let line = format!("save -o {} {one}:1 {two}:1", archive.display());
    engine.docker(&line).ok();
    let each = |work: &(dyn Fn(&str) + Sync)| {
        for round in 0..ROUNDS {
            work(&names[round % 2]);
        }
    };
    thread::scope(|scope| {
        let engine = &engine;
        for _ in 0..2 {
            scope.spawn(|| each(&|name| pull(engine, name)));
            scope.spawn(|| {
                each(&|name| {
                    run(engine, name);
                });
            });
        }
        scope.spawn(|| each(&|name| remove(engine, name)));
        scope.spawn(|| each(&|_| prune(engine)));
        scope.spawn(|| {
            for _ in 0..ROUNDS / 2 {
                let line = format!("load -q -i {}", archive.display());
                engine.docker(&line).ok();
            }
        });
        scope.spawn(|| {
            each(&|name| {
                // it may be gone
                let path = format!("/images/{name}:1/tag?repo=third&tag=x");
                let answer = engine.api("POST", &path, "").unwrap();
                assert!([201, 404].contains(&answer.status), "{answer:?}");
            });
        });
        scope.spawn(|| {
            each(&|_| {
                let found = engine.api("POST", "/gorae/system/check", "").unwrap();
                assert_eq!(text(&found).trim(), r#"{"Findings":[]}"#);
            });
        });
    });
    engine.gorae("system check --deep").ok();
    for name in &names {
        pull(&engine, name);
        assert!(run(&engine, name));
    }
    // what the database says is what the next engine finds
    let mut engine = engine;
    engine.kill9().unwrap();
    engine.restart().unwrap();
    engine.gorae("system check --deep").ok();
    for name in &names {
        assert!(run(&engine, name));
        remove(&engine, name);
    }
    prune(&engine);
    assert_eq!(engine.docker("images -aq").ok(), "");
    // one whose end was not on the disk when the engine died is there again
    for id in engine.docker("ps -aq").ok().lines() {
        engine.docker(&format!("rm -f {id}")).ok();
    }
    let begun = Instant::now();
    for folder in ["content/blobs/sha256", "content/ingest", "snapshots", "tmp"] {
        let path = engine.root_folder().join(folder);
        loop {
            let left: Vec<_> = fs::read_dir(&path).unwrap().flatten().collect();
            if left.is_empty() {
                break;
            }
            assert!(begun.elapsed() < LIMIT, "{folder}: {left:?}");
            thread::sleep(Duration::from_millis(50));
        }
    }
}
