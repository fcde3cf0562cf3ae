//! Archives that are unpacked while they are read, and what stays of one when its engine dies in between.

use std::io::Write as _;
use std::process::{Child, ChildStdin, Stdio};

use testkit::docker::Client;
use testkit::engine::{Engine, EngineOptions};
use testkit::image::{Archive, Compression, TestImage};
use testkit::registry::Registry;

use crate::bench::{eventually, options};

/// An archive of an image with one large layer, and the image's name.
fn archive(format: Compression) -> (Vec<u8>, String) {
    let maker = Engine::start(options()).unwrap();
    let registry = Registry::start().unwrap();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let noise: Vec<u8> = std::iter::repeat_with(&mut next)
        .take(500_000)
        .flatten()
        .collect();
    let layer = Archive::new().file("noise", &noise, 0o644).unwrap();
    let image = TestImage::busybox()
        .unwrap()
        .with_layer(layer.finish().unwrap(), format);
    registry
        .push("a/big", "1", &image.build().unwrap())
        .unwrap();
    let name = format!("{}/a/big:1", registry.name());
    maker.docker(&format!("pull {name}")).ok();
    let file = maker.home().join("big.tar");
    let line = format!("save -o {} {name}", file.display());
    maker.docker(&line).ok();
    (std::fs::read(file).unwrap(), name)
}

fn bare() -> Engine {
    Engine::start(EngineOptions {
        busybox: false,
        ..options()
    })
    .unwrap()
}

/// A load that gets its archive from the test.
struct Feed {
    load: Child,
    input: ChildStdin,
}

impl Feed {
    fn start(engine: &Engine) -> Self {
        let mut command = engine.command(Client::Docker, ["load"]);
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut load = command.stderr(Stdio::null()).spawn().unwrap();
        let input = load.stdin.take().unwrap();
        Self { load, input }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.input.write_all(bytes).unwrap();
    }

    fn finish(self) -> String {
        drop(self.input);
        let output = self.load.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Ends the archive where it must not end.
    fn fail(self) {
        drop(self.input);
        let output = self.load.wait_with_output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!told.contains("Loaded"), "{told}");
    }

    fn end(mut self) {
        drop(self.input);
        drop(self.load.kill());
        drop(self.load.wait());
    }
}

/// Layers that are unpacked, and belong to no image yet.
fn staged(engine: &Engine) -> usize {
    let folder = std::fs::read_dir(engine.root_folder().join("tmp")).unwrap();
    let names = folder.flatten().map(|entry| entry.file_name());
    names
        .filter(|name| name.to_string_lossy().starts_with("layer"))
        .count()
}

fn blobs(engine: &Engine) -> usize {
    let folder = engine.root_folder().join("content/blobs/sha256");
    std::fs::read_dir(folder).unwrap().count()
}

/// The documents of an archive, which are at its end, are not sent before its layers are being unpacked.
#[test]
fn layers_are_unpacked_before_the_archive_has_ended() {
    for format in [Compression::Gzip, Compression::None] {
        let (bytes, name) = archive(format);
        let engine = bare();
        let mut feed = Feed::start(&engine);
        let (most, rest) = bytes.split_at(bytes.len() - (2 << 10));
        feed.send(most);
        eventually("a layer is unpacked", || staged(&engine) > 0);
        feed.send(rest);
        let told = feed.finish();
        assert!(told.contains(&format!("Loaded image: {name}")), "{told}");
        assert_eq!(staged(&engine), 0);
        let run = format!("run --rm {name} sh -c 'wc -c < /noise'");
        engine.docker(&run).prints("4000000");
        // what is there is not unpacked again
        let mut feed = Feed::start(&engine);
        feed.send(&bytes);
        feed.finish();
        engine.gorae("system check --deep").prints("All is well.");
        engine.docker(&format!("rmi {name}")).ok();
        // an archive that ends too soon leaves nothing
        let mut feed = Feed::start(&engine);
        feed.send(&bytes[..bytes.len() / 2]);
        feed.fail();
        assert_eq!(staged(&engine), 0);
        eventually("nothing is left", || blobs(&engine) == 0);
    }
}

#[test]
fn what_a_killed_load_has_stored_is_there_for_the_next() {
    let (bytes, name) = archive(Compression::Gzip);
    let mut engine = bare();
    for again in [true, false] {
        let mut feed = Feed::start(&engine);
        feed.send(&bytes[..bytes.len() - (2 << 10)]);
        eventually("a layer is unpacked", || staged(&engine) > 0);
        engine.kill9().unwrap();
        feed.end();
        engine.restart().unwrap();
        assert!(blobs(&engine) > 0);
        let found = engine.gorae("system check --deep");
        found.shows("Interrupted: load; ");
        found.shows("All is well.");
        if again {
            let mut feed = Feed::start(&engine);
            feed.send(&bytes);
            feed.finish();
            eventually("the lease has ended", || {
                engine.gorae("system check").ok() == "All is well."
            });
            let run = format!("run --rm {name} sh -c 'wc -c < /noise'");
            engine.docker(&run).prints("4000000");
            engine.docker(&format!("rmi {name}")).ok();
            assert_eq!(blobs(&engine), 0);
        } else {
            engine.docker("image prune -f").ok();
            assert_eq!(blobs(&engine), 0);
            engine.gorae("system check").prints("All is well.");
        }
    }
}
