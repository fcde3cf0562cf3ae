//! kill -9 between any two steps of writing to the store of images: what is there is whole, what is not
//! needed goes, and what was interrupted works when it is done again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use storage::failpoint::Point;
use testkit::docker::Outcome;
use testkit::engine::{Engine, EngineOptions};
use testkit::image::{Archive, Built, Compression, TestImage};
use testkit::registry::Registry;

use crate::bench::{LIMIT, options};

/// An engine, and what the work on it needs.
struct World {
    engine: Engine,
    registry: Registry,
    image: Built,
}

/// Work that writes, with what brings it about and takes it back.
struct Work {
    /// The points that it passes at least.
    points: &'static [Point],
    /// Makes what it needs; done before each time.
    prepare: fn(&World),
    act: fn(&World) -> Outcome,
    /// Removes what it made.
    undo: fn(&World),
}

const PULL: Work = Work {
    points: &[
        Point::BlobPlaced,
        Point::LayerStaged,
        Point::LayerPlaced,
        Point::ImageComplete,
        Point::ImageNoted,
    ],
    prepare: |_| {},
    act: |world| world.engine.docker(&format!("pull {}", world.name())),
    undo: |world| world.forget(&world.name()),
};

const LOAD: Work = Work {
    points: &[
        Point::BlobBegun,
        Point::BlobWritten,
        Point::BlobPlaced,
        Point::LayerPlaced,
        Point::ImageNoted,
    ],
    prepare: |world| world.save_once(),
    act: |world| {
        let file = world.archive();
        world.engine.docker(&format!("load -i {}", file.display()))
    },
    undo: |world| world.forget(&world.name()),
};

const IMPORT: Work = Work {
    points: &[Point::BlobBegun, Point::BlobPlaced, Point::LayerPlaced],
    prepare: |world| {
        let file = world.engine.home().join("files.tar");
        std::fs::write(file, files("imported")).unwrap();
    },
    act: |world| {
        let file = world.engine.home().join("files.tar");
        let line = format!("import {} made:1", file.display());
        world.engine.docker(&line)
    },
    undo: |world| world.forget("made:1"),
};

const COMMIT: Work = Work {
    points: &[Point::BlobBegun, Point::LayerStaged, Point::ImageComplete],
    prepare: |world| {
        if world.engine.docker("inspect writer").code != 0 {
            let line = "run --name writer busybox sh -c 'echo x > /new'";
            world.engine.docker(line).ok();
        }
    },
    act: |world| world.engine.docker("commit writer made:1"),
    undo: |world| world.forget("made:1"),
};

const TAG: Work = Work {
    points: &[Point::ImageNoted],
    prepare: |_| {},
    act: |world| world.engine.docker("tag busybox made:1"),
    undo: |world| world.forget("made:1"),
};

const UNTAG: Work = Work {
    points: &[Point::ImageUntagged],
    prepare: |world| {
        world.engine.docker("tag busybox made:1").ok();
    },
    act: |world| {
        // the name may be gone already when the engine died behind that
        let gone = world.engine.docker("rmi made:1");
        if gone.stderr.contains("No such image") {
            return world.engine.docker("version");
        }
        gone
    },
    undo: |_| {},
};

const REMOVE: Work = Work {
    points: &[
        Point::ImageForgotten,
        Point::LayerDetached,
        Point::BlobDetached,
        Point::Collected,
    ],
    prepare: |world| {
        if !world.has(&world.name()) {
            (LOAD.prepare)(world);
            (LOAD.act)(world).ok();
        }
    },
    act: |world| {
        let gone = world.engine.docker(&format!("rmi -f {}", world.name()));
        if gone.stderr.contains("No such image") {
            return world.engine.docker("version");
        }
        gone
    },
    undo: |_| {},
};

const PRUNE: Work = Work {
    points: &[
        Point::ImageForgotten,
        Point::LayerDetached,
        Point::BlobDetached,
    ],
    prepare: |world| {
        let file = world.engine.home().join("nameless.tar");
        std::fs::write(&file, files("nameless")).unwrap();
        let line = format!("import {}", file.display());
        world.engine.docker(&line).ok();
    },
    act: |world| world.engine.docker("image prune -f"),
    undo: |_| {},
};

const PUSH: Work = Work {
    points: &[],
    prepare: |world| {
        let name = world.pushed();
        if !world.has(&name) {
            (COMMIT.prepare)(world);
            let line = format!("commit writer {name}");
            world.engine.docker(&line).ok();
        }
    },
    act: |world| world.engine.docker(&format!("push {}", world.pushed())),
    undo: |world| world.forget(&world.pushed()),
};

const ALL: [&Work; 9] = [
    &PULL, &LOAD, &IMPORT, &COMMIT, &TAG, &UNTAG, &REMOVE, &PRUNE, &PUSH,
];

/// A layer of one file and some more.
fn files(content: &str) -> Vec<u8> {
    let mut archive = Archive::new()
        .file("content", content.as_bytes(), 0o644)
        .unwrap();
    for number in 0..20 {
        let name = format!("dir{}/file{number}", number % 3);
        archive = archive.file(&name, content.as_bytes(), 0o644).unwrap();
    }
    archive.finish().unwrap()
}

impl World {
    fn start() -> Self {
        let engine = Engine::start(EngineOptions::new(options().gorae)).unwrap();
        let registry = Registry::start().unwrap();
        let image = TestImage::busybox()
            .unwrap()
            .with_layer(files("one"), Compression::Gzip)
            .with_layer(files("two"), Compression::Zstd)
            .with_config("Cmd", json!(["cat", "/content"]))
            .build()
            .unwrap();
        registry.push("a/b", "1", &image).unwrap();
        Self {
            engine,
            registry,
            image,
        }
    }

    fn name(&self) -> String {
        format!("{}/a/b:1", self.registry.name())
    }

    fn pushed(&self) -> String {
        format!("{}/a/pushed:1", self.registry.name())
    }

    fn archive(&self) -> PathBuf {
        self.engine.home().join("image.tar")
    }

    fn save_once(&self) {
        if !self.archive().exists() {
            let (name, file) = (self.name(), self.archive());
            self.engine.docker(&format!("pull {name}")).ok();
            let line = format!("save -o {} {name}", file.display());
            self.engine.docker(&line).ok();
            self.forget(&name);
        }
    }

    fn has(&self, name: &str) -> bool {
        self.engine.docker(&format!("image inspect {name}")).code == 0
    }

    fn forget(&self, name: &str) {
        if self.has(name) {
            self.engine.docker(&format!("rmi -f {name}")).ok();
        }
        // what was made twice has lost its name to the second
        self.engine.docker("image prune -f").ok();
    }

    /// Stops the engine, and starts one that does this at its failpoints.
    fn arm(&mut self, order: &str) {
        self.engine.stop().unwrap();
        self.engine.set_environment("GORAE_FAILPOINT", order);
        self.engine.restart().unwrap();
    }

    /// Waits until the engine has killed itself, and starts another.
    fn revive(&mut self, point: &str) {
        let begun = Instant::now();
        while self.engine.api("GET", "/_ping", "").is_ok() {
            assert!(begun.elapsed() < LIMIT, "{point} was not reached");
            std::thread::sleep(Duration::from_millis(10));
        }
        self.engine.kill9().unwrap();
        self.engine.set_environment("GORAE_FAILPOINT", "");
        self.engine.restart().unwrap();
    }

    fn account(&self) -> Value {
        let answer = self.engine.api("GET", "/v1.51/system/df", "").unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        let mut found: Value = serde_json::from_slice(&answer.body).unwrap();
        found["Gorae"].take()
    }

    /// The store is whole, holds nothing that nobody needs, and its sizes are those of the disk.
    fn check(&self, when: &str) {
        let found = self.engine.gorae("system check --deep");
        assert_eq!(found.code, 0, "{when}: {found:?}");
        let folder = self.engine.root_folder().join("tmp");
        crate::bench::eventually(&format!("{when}: no temporary file"), || {
            std::fs::read_dir(&folder).unwrap().count() == 0
        });
        let begun = Instant::now();
        loop {
            let total = self.account()["Total"].as_u64().unwrap();
            let disk = du(&self.engine.root_folder());
            // the database may have written a page in between
            if total.abs_diff(disk) <= 64 << 10 {
                return;
            }
            assert!(begun.elapsed() < LIMIT, "{when}: {total} is not {disk}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Bytes that `du` counts.
fn du(path: &std::path::Path) -> u64 {
    let mut command = std::process::Command::new("du");
    let output = command.args(["-s", "-B1"]).arg(path).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

/// How often the work passes each point.
fn trace(world: &mut World, work: &Work) -> BTreeMap<String, usize> {
    let file = world.engine.home().join("trace");
    (work.prepare)(world);
    world.arm(&format!("trace={}", file.display()));
    (work.act)(world).ok();
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    world.arm("");
    (work.undo)(world);
    let mut counts = BTreeMap::new();
    for name in text.lines() {
        *counts.entry(name.to_owned()).or_insert(0) += 1;
    }
    for point in work.points {
        assert!(counts.contains_key(point.name()), "{point:?}: {counts:?}");
    }
    counts
}

/// Kills the engine at each point that the work passes, the first and the last time.
fn killed_everywhere(work: &Work) {
    let mut world = World::start();
    for (name, count) in trace(&mut world, work) {
        for number in BTreeSet::from([1, count]) {
            let point = format!("{name}:{number}");
            (work.prepare)(&world);
            world.arm(&point);
            let cut_off = (work.act)(&world);
            world.revive(&point);
            world.check(&format!("after {point} ({cut_off:?})"));
            (work.act)(&world).ok();
            world.check(&format!("after {point} and once more"));
            (work.undo)(&world);
        }
    }
    // all that was interrupted so often is still of use
    (PULL.act)(&world).ok();
    let name = world.name();
    let ran = world.engine.docker(&format!("run --rm {name}"));
    ran.prints("two");
    assert_eq!(world.image.layers.len(), 3);
    world
        .engine
        .docker("run --rm busybox echo fine")
        .prints("fine");
}

#[test]
fn every_point_is_passed_by_some_work() {
    let passed: BTreeSet<Point> = ALL.iter().flat_map(|work| work.points).copied().collect();
    let all: BTreeSet<Point> = Point::ALL.iter().copied().collect();
    assert_eq!(passed, all);
}

#[test]
fn killed_while_it_pulls() {
    killed_everywhere(&PULL);
}

#[test]
fn killed_while_it_loads() {
    killed_everywhere(&LOAD);
}

#[test]
fn killed_while_it_imports() {
    killed_everywhere(&IMPORT);
}

#[test]
fn killed_while_it_commits() {
    killed_everywhere(&COMMIT);
}

#[test]
fn killed_while_it_names() {
    killed_everywhere(&TAG);
    killed_everywhere(&UNTAG);
}

#[test]
fn killed_while_it_removes() {
    killed_everywhere(&REMOVE);
}

#[test]
fn killed_while_it_prunes() {
    killed_everywhere(&PRUNE);
}

#[test]
fn killed_while_it_pushes() {
    killed_everywhere(&PUSH);
}
