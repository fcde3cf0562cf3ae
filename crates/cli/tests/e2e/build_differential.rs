//! Small Dockerfiles, built by this engine and by dockerd's BuildKit: configuration, layers and files are equal.
//!
//! The cases lie in `build/corpus.txt`. Dockerd runs in the root that the tool `peers` beside the checkout keeps, as a
//! daemon of this test's own.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;
use testkit::engine::{Engine, EngineOptions};
use testkit::image::Archive;

use crate::service::GORAE;

const TOOL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/peers/peers");
const CORPUS: &str = include_str!("build/corpus.txt");
/// Cases at a time: a machine of CI has two processors.
const AT_ONCE: usize = 2;

/// What differs on purpose, and why.
const DIFFERENT: &[(&str, &str)] = &[];

/// One Dockerfile with its context.
#[derive(Debug, Default)]
struct Case {
    name: String,
    arguments: String,
    fails: Option<String>,
    crlf: bool,
    files: Vec<(String, String)>,
    dockerfile: String,
}

fn corpus() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in CORPUS.split_inclusive('\n') {
        let words = line.trim_end_matches('\n');
        if let Some(name) = words.strip_prefix("## ") {
            let name = name.to_owned();
            cases.push(Case {
                name,
                ..Case::default()
            });
            continue;
        }
        let Some(case) = cases.last_mut() else {
            continue;
        };
        if let Some(arguments) = words.strip_prefix("#args ") {
            arguments.clone_into(&mut case.arguments);
        } else if let Some(text) = words.strip_prefix("#fails") {
            case.fails = Some(text.trim().to_owned());
        } else if words == "#crlf" {
            case.crlf = true;
        } else if let Some(file) = words.strip_prefix("#file ") {
            // a blank in a name is written with a backslash
            let marked = file.replace("\\ ", "\u{1}");
            let (name, content) = marked.split_once(' ').unwrap_or((&marked, ""));
            let name = name.replace('\u{1}', " ");
            case.files.push((name, content.replace('\u{1}', "\\ ")));
        } else {
            case.dockerfile.push_str(line);
        }
    }
    cases
}

impl Case {
    /// Writes the context.
    fn write(&self, folder: &Path) {
        std::fs::create_dir_all(folder).unwrap();
        for (name, content) in &self.files {
            let (name, mode) = name.split_once(':').unwrap_or((name, "644"));
            let path = folder.join(name);
            if name.ends_with('/') {
                std::fs::create_dir_all(&path).unwrap();
                continue;
            }
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            match content.as_str() {
                "@tar" => std::fs::write(&path, archive()).unwrap(),
                "@targz" => std::fs::write(&path, gzip(&archive())).unwrap(),
                link if link.starts_with("-> ") => {
                    symlink(&link[3..], &path).unwrap();
                    continue;
                }
                text => std::fs::write(&path, text.replace("\\n", "\n")).unwrap(),
            }
            let mode = u32::from_str_radix(mode, 8).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let dockerfile = self.dockerfile.trim_end_matches('\n');
        let end = if self.crlf { "\r\n" } else { "\n" };
        let text = dockerfile.replace('\n', end);
        std::fs::write(folder.join("Dockerfile"), text).unwrap();
    }

    fn command(&self, folder: &str) -> String {
        let arguments = self.arguments.replace("CONTEXT", folder);
        format!("--progress plain {arguments} -t {}", self.tag())
    }

    fn tag(&self) -> String {
        format!("case-{}:1", self.name)
    }
}

fn archive() -> Vec<u8> {
    let archive = Archive::new().directory("in", 0o750).unwrap();
    let archive = archive.file("in/one", b"1", 0o640).unwrap();
    archive.symlink("in/two", "one").unwrap().finish().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = PathBuf::from(format!("/var/tmp/gorae-differ-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            println!("{} stays: {error}", self.0.display());
        }
    }
}

/// A dockerd of this test's own.
struct Dockerd {
    child: Child,
    socket: String,
    own: PathBuf,
}

impl Dockerd {
    /// Nothing where the tool is missing, which is said.
    fn start() -> Option<Self> {
        if !Path::new(TOOL).is_file() {
            println!("skipped: there is no {TOOL}, which has dockerd");
            return None;
        }
        let ready = Command::new(TOOL).args(["run", "true"]).status().unwrap();
        assert!(ready.success());
        let path = Command::new(TOOL).arg("path").output().unwrap();
        let root = PathBuf::from(String::from_utf8(path.stdout).unwrap().trim());
        let own = format!("/var/lib/gorae-differ-{}", std::process::id());
        std::fs::create_dir_all(root.join(&own[1..])).unwrap();
        let socket = format!("unix://{own}/d.sock");
        let flags = format!(
            "run dockerd -H {socket} --data-root {own}/data --exec-root {own}/exec --pidfile {own}/d.pid \
             --iptables=false --ip6tables=false --bip 10.213.0.1/24"
        );
        let log = std::fs::File::create(root.join(&own[1..]).join("log")).unwrap();
        let child = Command::new(TOOL)
            .args(flags.split_whitespace())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let dockerd = Self {
            child,
            socket,
            own: root.join(&own[1..]),
        };
        let begun = Instant::now();
        while !dockerd.docker("version").0 {
            let log = || std::fs::read_to_string(dockerd.own.join("log")).unwrap_or_default();
            assert!(begun.elapsed() < Duration::from_secs(60), "{}", log());
            std::thread::sleep(Duration::from_millis(100));
        }
        Some(dockerd)
    }

    /// Whether it went well, and what was said.
    fn docker(&self, line: &str) -> (bool, String) {
        let output = Command::new(TOOL)
            .args(["run", "docker", "-H", &self.socket])
            .args(testkit::docker::words(line))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        (output.status.success(), text)
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        let pid = std::fs::read_to_string(self.own.join("d.pid")).unwrap_or_default();
        if let Ok(pid) = pid.trim().parse::<i32>()
            && let Some(pid) = rustix::process::Pid::from_raw(pid)
        {
            // it may have ended by itself
            let _ended = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        drop(self.child.wait());
        if let Err(error) = std::fs::remove_dir_all(&self.own) {
            println!("{} stays: {error}", self.own.display());
        }
    }
}

/// An image as both engines save it.
#[derive(Debug)]
struct Saved {
    config: Value,
    layers: Vec<BTreeMap<String, String>>,
}

impl Saved {
    fn read(path: &Path) -> Self {
        let mut blobs = BTreeMap::new();
        let mut archive = tar::Archive::new(std::fs::File::open(path).unwrap());
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            blobs.insert(name, bytes);
        }
        let manifest: Value = serde_json::from_slice(&blobs["manifest.json"]).unwrap();
        let config = &blobs[manifest[0]["Config"].as_str().unwrap()];
        let layers = manifest[0]["Layers"].as_array().unwrap().iter();
        let layers = layers.map(|name| listing(&blobs[name.as_str().unwrap()]));
        Self {
            config: without_times(serde_json::from_slice(config).unwrap()),
            layers: layers.collect(),
        }
    }

    /// What is not equal, in words.
    fn differences(&self, other: &Self) -> Vec<String> {
        let mut all = Vec::new();
        let keys = |value: &Value| {
            value
                .as_object()
                .unwrap()
                .keys()
                .cloned()
                .collect::<Vec<_>>()
        };
        let mut names = keys(&self.config);
        names.extend(keys(&other.config));
        names.sort();
        names.dedup();
        for name in names {
            let (ours, theirs) = (&self.config[&name], &other.config[&name]);
            if ours != theirs {
                all.push(format!(
                    "config {name}:\n    ours   {ours}\n    theirs {theirs}"
                ));
            }
        }
        if self.layers.len() != other.layers.len() {
            all.push(format!(
                "layers: {} and {}",
                self.layers.len(),
                other.layers.len()
            ));
        }
        for (number, (ours, theirs)) in self.layers.iter().zip(&other.layers).enumerate() {
            let mut paths: Vec<_> = ours.keys().chain(theirs.keys()).collect();
            paths.sort();
            paths.dedup();
            for path in paths {
                let (our, their) = (ours.get(path), theirs.get(path));
                if our != their {
                    all.push(format!(
                        "layer {number} {path}: ours {our:?}, theirs {their:?}"
                    ));
                }
            }
        }
        all
    }
}

/// A configuration without what every build has of its own.
fn without_times(mut config: Value) -> Value {
    let object = config.as_object_mut().unwrap();
    for name in [
        "created",
        "rootfs",
        "moby.buildkit.buildinfo.v1",
        "moby.buildkit.cache.v0",
    ] {
        object.remove(name);
    }
    if let Some(history) = object.get_mut("history").and_then(Value::as_array_mut) {
        for entry in history {
            entry.as_object_mut().unwrap().remove("created");
        }
    }
    config
}

/// The files of a layer: type, mode, owner, link, content.
fn listing(layer: &[u8]) -> BTreeMap<String, String> {
    let mut plain = Vec::new();
    if layer.starts_with(b"\x1f\x8b") {
        flate2::read::MultiGzDecoder::new(layer)
            .read_to_end(&mut plain)
            .unwrap();
    } else {
        plain.extend(layer);
    }
    let mut files = BTreeMap::new();
    let mut archive = tar::Archive::new(plain.as_slice());
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let header = entry.header().clone();
        let path = String::from_utf8_lossy(&entry.path_bytes())
            .trim_matches('/')
            .to_owned();
        let link = entry
            .link_name_bytes()
            .map(|name| String::from_utf8_lossy(&name).into_owned());
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        let text = format!(
            "{:?} {:o} {}:{} {} {}",
            header.entry_type(),
            header.mode().unwrap(),
            header.uid().unwrap(),
            header.gid().unwrap(),
            link.unwrap_or_default(),
            testkit::image::digest_of(&bytes),
        );
        files.insert(path, text);
    }
    files
}

/// Both engines with the same base.
struct Pair {
    engine: Engine,
    dockerd: Dockerd,
    folder: Folder,
}

impl Pair {
    fn start() -> Option<Self> {
        let dockerd = Dockerd::start()?;
        let folder = Folder::new();
        let engine = Engine::start(EngineOptions::new(GORAE)).unwrap();
        let base = folder.0.join("base.tar");
        // dockerd gives a file the mode of its last hard link in the archive: export writes the same for all
        engine.import("raw").unwrap();
        let raw = folder.0.join("raw.tar").display().to_string();
        for line in [
            "docker create --name raw raw".to_owned(),
            format!("docker export -o {raw} raw"),
            "docker rm raw".to_owned(),
            format!("docker import {raw} base"),
        ] {
            let done = engine.docker(line.trim_start_matches("docker "));
            assert_eq!(done.code, 0, "{done:?}");
        }
        let saved = engine.docker(&format!("save -o {} base", base.display()));
        assert_eq!(saved.code, 0, "{saved:?}");
        let loaded = dockerd.docker(&format!("load -i /mnt/host{}", base.display()));
        assert!(loaded.0, "{}", loaded.1);
        Some(Self {
            engine,
            dockerd,
            folder,
        })
    }

    /// What is wrong with a case.
    fn check(&self, case: &Case) -> Vec<String> {
        let context = self.folder.0.join(&case.name);
        case.write(&context);
        let path = context.display().to_string();
        let inside = format!("/mnt/host{path}");
        let ours = self
            .engine
            .gorae(&format!("build {} {path}", case.command(&path)));
        let theirs = self
            .dockerd
            .docker(&format!("build {} {inside}", case.command(&inside)));
        let said = format!("{}{}", ours.stdout, ours.stderr);
        let mut wrong = Vec::new();
        if (ours.code == 0) != theirs.0 {
            wrong.push(format!("ours said:\n{said}\ntheirs said:\n{}", theirs.1));
            return wrong;
        }
        if let Some(text) = &case.fails {
            if theirs.0 {
                wrong.push("it does not fail".to_owned());
            } else if !said.contains(text.as_str()) {
                wrong.push(format!(
                    "the reason lacks {text:?}: {said}\ntheirs: {}",
                    theirs.1
                ));
            }
            return wrong;
        }
        if !theirs.0 {
            wrong.push(format!("it fails: {}", theirs.1));
            return wrong;
        }
        self.compare(case, &context)
    }

    fn compare(&self, case: &Case, context: &Path) -> Vec<String> {
        let (ours, theirs) = (
            context.with_extension("ours"),
            context.with_extension("theirs"),
        );
        let saved = self
            .engine
            .docker(&format!("save -o {} {}", ours.display(), case.tag()));
        assert_eq!(saved.code, 0, "{saved:?}");
        let line = format!("save -o /mnt/host{} {}", theirs.display(), case.tag());
        let saved = self.dockerd.docker(&line);
        assert!(saved.0, "{}", saved.1);
        let differences = Saved::read(&ours).differences(&Saved::read(&theirs));
        for path in [ours, theirs] {
            std::fs::remove_file(path).unwrap();
        }
        differences
    }
}

#[test]
#[ignore = "takes minutes, and the cases that differ are not all sorted out: run it with --ignored"]
fn small_dockerfiles_give_what_dockerd_gives() {
    let Some(pair) = Pair::start() else {
        return;
    };
    let wanted = std::env::var("GORAE_CASES").unwrap_or_default();
    let cases: Vec<Case> = corpus()
        .into_iter()
        .filter(|case| case.name.contains(&wanted))
        .collect();
    assert!(!wanted.is_empty() || cases.len() >= 150, "{}", cases.len());
    let next = Mutex::new(cases.iter());
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(case) = { next.lock().unwrap().next() } {
                    let wrong = pair.check(case);
                    let expected = DIFFERENT.iter().find(|(name, _)| *name == case.name);
                    match expected {
                        None if !wrong.is_empty() => {
                            let text = format!("{}:\n  {}", case.name, wrong.join("\n  "));
                            failed.lock().unwrap().push(text);
                        }
                        Some((_, why)) if wrong.is_empty() => {
                            let text = format!("{}: no longer differs ({why})", case.name);
                            failed.lock().unwrap().push(text);
                        }
                        _ => {}
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(
        failed.is_empty(),
        "{} of {} differ:\n{}",
        failed.len(),
        cases.len(),
        failed.join("\n")
    );
}
