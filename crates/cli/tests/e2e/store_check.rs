//! What of the store is lost, damaged or left over is named, and mended where that is possible.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use serde_json::json;
use testkit::engine::{Engine, EngineOptions};
use testkit::image::{Archive, Built, Compression, TestImage};
use testkit::registry::Registry;

use crate::bench::options;

/// What is done to a file or folder.
type Damage<'a> = &'a dyn Fn(&Path);

/// An engine with an image of three layers from a registry.
struct Scene {
    engine: Engine,
    registry: Registry,
    image: Built,
}

impl Scene {
    fn new() -> Self {
        let options = EngineOptions {
            busybox: false,
            ..options()
        };
        let engine = Engine::start(options).unwrap();
        let registry = Registry::start().unwrap();
        let layer = |name: &str| {
            let archive = Archive::new().file(name, name.as_bytes(), 0o644).unwrap();
            archive.finish().unwrap()
        };
        let image = TestImage::busybox()
            .unwrap()
            .with_layer(layer("one"), Compression::Gzip)
            .with_layer(layer("two"), Compression::Zstd)
            .with_config("Cmd", json!(["cat", "/one", "/two"]))
            .build()
            .unwrap();
        registry.push("a/b", "1", &image).unwrap();
        let scene = Self {
            engine,
            registry,
            image,
        };
        scene.pull();
        scene
    }

    fn name(&self) -> String {
        format!("{}/a/b:1", self.registry.name())
    }

    fn pull(&self) {
        self.engine.docker(&format!("pull {}", self.name())).ok();
    }

    fn runs(&self) {
        let ran = self.engine.docker(&format!("run --rm {}", self.name()));
        ran.prints("onetwo");
    }

    fn blob(&self, digest: &oci::Digest) -> PathBuf {
        let folder = self.engine.root_folder().join("content/blobs/sha256");
        folder.join(digest.hex())
    }

    /// The folder of the layer with this number.
    fn layer(&self, number: usize) -> PathBuf {
        let mut parent = None;
        for diff_id in &self.image.diff_ids[..=number] {
            parent = Some(storage::chain_id(parent.as_ref(), diff_id));
        }
        let folder = self.engine.root_folder().join("snapshots");
        folder.join(parent.unwrap().hex())
    }

    fn check(&self, query: &str) -> String {
        let path = format!("/gorae/system/check{query}");
        let answer = self.engine.api("POST", &path, "").unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        String::from_utf8(answer.body).unwrap()
    }

    /// What is found names these words, and is mended when that is asked for.
    #[track_caller]
    fn finds_and_mends(&self, words: &[&str], flags: &str) {
        let found = self.engine.gorae(&format!("system check {flags}"));
        assert_eq!(found.code, 1, "{words:?}: {found:?}");
        for word in words {
            assert!(found.stdout.contains(word), "{word}: {found:?}");
        }
        let line = format!("system check --repair {flags}");
        let mended = self.engine.gorae(&line);
        assert_eq!(mended.code, 0, "{words:?}: {mended:?}");
        for word in words {
            assert!(mended.stdout.contains(word), "{word}: {mended:?}");
        }
    }

    #[track_caller]
    fn is_well(&self) {
        let found = self.engine.gorae("system check --deep");
        assert_eq!(
            (found.code, found.stdout.trim()),
            (0, "All is well."),
            "{found:?}"
        );
    }
}

fn spoil(path: &Path) {
    let file = fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let middle = file.metadata().unwrap().len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, middle).unwrap();
    file.write_all_at(&[byte[0] ^ 1], middle).unwrap();
}

#[test]
fn blobs() {
    let scene = Scene::new();
    scene.is_well();
    let layer = scene.blob(&scene.image.layers[1].digest);
    let config = scene.blob(&scene.image.config.digest);
    let manifest = scene.blob(&scene.image.manifest.digest);
    let name = scene.name();
    // a length or a document that is wrong is seen at once, other content by a deep look
    let cut = |path: &Path| {
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_len(7).unwrap();
    };
    let damages: [(&Path, Damage<'_>, &str, &str); 4] = [
        (&layer, &cut, "a layer of image", ""),
        (&layer, &spoil, "a layer of image", "--deep"),
        (&config, &spoil, "the configuration of image", ""),
        (&manifest, &spoil, "the manifest of image", ""),
    ];
    for (path, damage, what, flags) in damages {
        damage(path);
        if flags == "--deep" {
            let quick = scene.check("");
            assert_eq!(quick.trim(), r#"{"Findings":[]}"#);
        }
        scene.finds_and_mends(&["blob", what, &name], flags);
        // it is gone now, and nothing here can bring it back
        let found = scene.engine.gorae("system check --repair");
        assert_eq!(found.code, 1, "{found:?}");
        assert!(found.stdout.contains("is missing"), "{found:?}");
        assert!(found.stdout.contains("pull or load"), "{found:?}");
        scene.runs();
        scene.pull();
        scene.is_well();
    }
    // what nobody needs
    let content = b"nobody knows me";
    let stranger = scene.blob(&storage::digest_of(content));
    fs::write(&stranger, content).unwrap();
    scene.finds_and_mends(&["no image needs the blob"], "");
    assert!(!stranger.exists());
    let junk = scene
        .blob(&storage::digest_of(content))
        .with_file_name("junk");
    fs::create_dir(&junk).unwrap();
    fs::write(junk.join("file"), "").unwrap();
    scene.finds_and_mends(&["junk", "the file is no blob"], "");
    assert!(!junk.exists());
    scene.is_well();
    scene.runs();
}

#[test]
fn layers() {
    let scene = Scene::new();
    let gone = |path: &Path| fs::remove_dir_all(path).unwrap();
    let record = |path: &Path| fs::write(path.join("layer.json"), "{}").unwrap();
    let damages: [(usize, Damage<'_>, &str); 3] = [
        (1, &gone, "the folder of the layer is gone"),
        (2, &gone, "the folder of the layer is gone"),
        (
            0,
            &record,
            "the record beside the files of the layer is wrong",
        ),
    ];
    for (number, damage, what) in damages {
        damage(&scene.layer(number));
        scene.finds_and_mends(&["layer", what, "unpack it again"], "");
        scene.is_well();
        scene.runs();
    }
    // all at once, also those that others lie on
    for number in 0..3 {
        gone(&scene.layer(number));
    }
    scene.finds_and_mends(&["the folder of the layer is gone"], "");
    scene.is_well();
    scene.runs();
    // without its blob it cannot be mended, and that is said
    gone(&scene.layer(2));
    fs::remove_file(scene.blob(&scene.image.layers[2].digest)).unwrap();
    let found = scene.engine.gorae("system check --repair");
    assert_eq!(found.code, 1, "{found:?}");
    assert!(found.stdout.contains("mending failed"), "{found:?}");
    // the engine's next start finds out that it is gone
    let mut scene = scene;
    scene.engine.stop().unwrap();
    scene.engine.restart().unwrap();
    scene.pull();
    scene.is_well();
    scene.runs();
    // what nobody needs
    let junk = scene.layer(0).with_file_name("junk");
    fs::create_dir(&junk).unwrap();
    let lost = scene.layer(0).with_file_name("1".repeat(64));
    fs::create_dir_all(lost.join("fs/etc")).unwrap();
    scene.finds_and_mends(&["junk", "is no layer of the store"], "");
    assert!(!junk.exists() && !lost.exists());
    scene.is_well();
}

#[test]
fn folders_of_containers_and_volumes() {
    let scene = Scene::new();
    let name = scene.name();
    let run = format!("run --name box -v data:/data {name} sh -c 'echo x > /file; cat /one'");
    scene.engine.docker(&run).prints("one");
    let id = scene.engine.inspect("box", "{{.Id}}");
    let containers = scene.engine.root_folder().join("containers");
    let folder = containers.join(&id);
    fs::remove_dir_all(folder.join("upper")).unwrap();
    scene.finds_and_mends(&["container", "box", "its writable layer is gone"], "");
    scene.engine.docker("start -a box").prints("one");
    fs::remove_dir_all(&folder).unwrap();
    scene.finds_and_mends(&["container", "box", "its folder is gone"], "");
    scene.engine.docker("start -a box").prints("one");
    let stranger = containers.join("a".repeat(64));
    fs::create_dir_all(stranger.join("upper/etc")).unwrap();
    scene.finds_and_mends(&["the folder belongs to no container"], "");
    assert!(!stranger.exists() && folder.exists());

    let volumes = scene.engine.root_folder().join("volumes");
    fs::remove_dir_all(volumes.join("data")).unwrap();
    scene.finds_and_mends(&["volume", "data", "its folder is gone"], "");
    scene.engine.docker("start -a box").prints("one");
    fs::create_dir_all(volumes.join("found/_data")).unwrap();
    fs::write(volumes.join("found/_data/file"), "kept").unwrap();
    scene.finds_and_mends(&["found", "does not know the volume"], "");
    let line = format!("run --rm -v found:/found {name} cat /found/file");
    scene.engine.docker(&line).prints("kept");
    scene.is_well();
    scene.engine.docker("rm box").ok();
    scene.engine.docker("volume rm data found").ok();
}

/// Something that is mounted as long as the test goes on, at most.
struct Mounted(PathBuf);

impl Mounted {
    fn at(path: PathBuf) -> Self {
        fs::create_dir_all(&path).unwrap();
        rustix::mount::mount(
            "gorae-test",
            &path,
            "tmpfs",
            rustix::mount::MountFlags::empty(),
            None,
        )
        .unwrap();
        Self(path)
    }

    fn is_there(&self) -> bool {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        table.contains(self.0.to_str().unwrap())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _gone = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

#[test]
fn mounts() {
    let scene = Scene::new();
    let root = scene.engine.root_folder();
    scene
        .engine
        .docker("volume create --opt type=tmpfs --opt device=tmpfs used")
        .ok();
    let run = format!(
        "run -d --name box -v used:/data {} sleep 1000",
        scene.name()
    );
    scene.engine.docker(&run).ok();
    scene.engine.docker("volume create idle").ok();
    let id = scene.engine.inspect("box", "{{.Id}}");
    let left = [
        Mounted::at(root.join("content/left")),
        Mounted::at(root.join("containers").join(&id).join("left over")),
        Mounted::at(root.join("volumes/idle/_data")),
    ];
    scene.finds_and_mends(
        &["mount", "content/left", "left over", "volumes/idle/_data"],
        "",
    );
    assert!(!left.iter().take(2).any(Mounted::is_there));
    let used = root.join("volumes/used/_data");
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(table.contains(used.to_str().unwrap()), "{table}");
    fs::remove_dir(root.join("content/left")).unwrap();
    scene.engine.docker("rm -f box").ok();
    scene.engine.docker("volume rm used idle").ok();
    scene.is_well();
}
