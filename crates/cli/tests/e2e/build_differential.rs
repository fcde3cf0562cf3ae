//! Small Dockerfiles, built by this engine and by dockerd's BuildKit: configuration, layers and files are equal.
//!
//! The cases lie in `build/corpus.txt`. Dockerd runs in the root that the tool `peers` beside the checkout keeps, as a
//! daemon of this test's own.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use testkit::docker::{Client, Outcome, Session, words};
use testkit::engine::{Engine, EngineOptions};
use testkit::image::Archive;

use crate::peers::{self, TOOL};
use crate::service::GORAE;

const CORPUS: &str = include_str!("build/corpus.txt");
/// Cases at a time: a machine of CI has two processors.
const AT_ONCE: usize = 2;
/// What one command may take where everything else runs at the same time.
const LIMIT: Duration = Duration::from_secs(300);

/// What differs on purpose, and why.
const DIFFERENT: &[(&str, &str)] = &[
    ("run-security-sandbox", LABS),
    ("copy-parents", LABS),
    ("copy-parents-pivot", LABS),
    (
        "directive-syntax",
        "dockerd asks Docker Hub for the front end, which is built in here",
    ),
];
const LABS: &str =
    "a flag that dockerd 28.5 has only with the front end docker/dockerfile:1-labs of Docker Hub";

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

/// A dockerd of this test's own, with its processes in namespaces of their own: they end with the first of them.
struct Dockerd {
    child: Child,
    name: String,
    own: PathBuf,
}

impl Dockerd {
    /// Nothing where the tool is missing, which is said.
    fn start() -> Option<Self> {
        // the host's file systems are none of dockerd's, and kept busy by it they could not go
        const INSIDE: &str = "busybox umount -l /mnt/host; \
            exec unshare --net --pid --fork --kill-child --mount-proc sh -c 'ip link set lo up; exec \"$@\"' sh \"$@\"";
        let root = peers::root()?;
        let name = format!("gorae-differ-{}", std::process::id());
        let own = format!("/var/lib/{name}");
        let place = root.join(&own[1..]);
        std::fs::create_dir_all(&place).unwrap();
        let flags = format!(
            "dockerd -H unix://{own}/d.sock --data-root {own}/data --exec-root {own}/exec --pidfile {own}/d.pid \
             --iptables=false --ip6tables=false --bip 10.213.0.1/24 --cgroup-parent /{name}"
        );
        let log = File::create(place.join("log")).unwrap();
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", TOOL, "run", "sh", "-c", INSIDE, "sh"])
            .args(flags.split_whitespace())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Some(Self {
            child,
            name,
            own: place,
        })
    }

    fn socket(&self) -> PathBuf {
        self.own.join("d.sock")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.own.join("log")).unwrap_or_default()
    }

    /// The first process of its namespace, as the host sees it.
    fn first(&self) -> Option<Pid> {
        let pid = self.child.id();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        Pid::from_raw(children.split_whitespace().next()?.parse().ok()?)
    }

    fn has_ended_within(&mut self, limit: Duration) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < limit {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }

    /// Its cgroups, deepest first.
    fn cgroups(&self) -> Vec<PathBuf> {
        let hierarchies = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten();
        let parents = hierarchies
            .flatten()
            .map(|entry| entry.path().join(&self.name));
        let mut all: Vec<PathBuf> = parents.filter(|path| path.is_dir()).collect();
        all.extend(Some(Path::new("/sys/fs/cgroup").join(&self.name)).filter(|path| path.is_dir()));
        let mut next = 0;
        while let Some(folder) = all.get(next).cloned() {
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            all.extend(
                entries
                    .map(|entry| entry.path())
                    .filter(|path| path.is_dir()),
            );
            next += 1;
        }
        all.reverse();
        all
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        // unshare ends after the first process, and that one after all others of its namespace
        for (signal, limit) in [(Signal::TERM, 60), (Signal::KILL, 60)] {
            if let Some(first) = self.first() {
                let _ended = kill_process(first, signal);
            }
            if self.has_ended_within(Duration::from_secs(limit)) {
                break;
            }
        }
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
        let mut stays: Vec<String> = Vec::new();
        // the kernel may hold a moment longer what belonged to the last process
        let begun = Instant::now();
        loop {
            stays.clear();
            for path in self.cgroups() {
                if let Err(error) = std::fs::remove_dir(&path) {
                    stays.push(format!("{}: {error}", path.display()));
                }
            }
            match std::fs::remove_dir_all(&self.own) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    stays.push(format!("{}: {error}", self.own.display()));
                }
                _ => {}
            }
            if stays.is_empty() || begun.elapsed() > Duration::from_secs(60) {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        if std::thread::panicking() {
            println!("what stays: {stays:?}");
        } else {
            assert!(stays.is_empty(), "{stays:?}");
        }
    }
}

/// The files of a layer, and of an archive of images all layers that were read so far.
type Listing = BTreeMap<String, String>;

/// An archive of images as both engines save them.
struct Images {
    file: File,
    /// Where the content of each entry lies, and how long it is.
    entries: HashMap<String, (u64, u64)>,
    manifest: Value,
    layers: HashMap<String, Rc<Listing>>,
}

impl Images {
    fn open(path: &Path) -> Self {
        let mut archive = tar::Archive::new(File::open(path).unwrap());
        let mut entries = HashMap::new();
        for entry in archive.entries_with_seek().unwrap() {
            let entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            entries.insert(name, (entry.raw_file_position(), entry.size()));
        }
        let mut images = Self {
            file: File::open(path).unwrap(),
            entries,
            manifest: Value::Null,
            layers: HashMap::new(),
        };
        images.manifest = serde_json::from_slice(&images.bytes("manifest.json")).unwrap();
        images
    }

    fn bytes(&mut self, name: &str) -> Vec<u8> {
        let (place, size) = self.entries[name];
        self.file.seek(SeekFrom::Start(place)).unwrap();
        let mut bytes = Vec::new();
        (&self.file).take(size).read_to_end(&mut bytes).unwrap();
        bytes
    }

    fn image(&mut self, tag: &str) -> Saved {
        let images = self.manifest.as_array().unwrap();
        let has_tag = |image: &&Value| {
            let tags = image["RepoTags"].as_array();
            tags.is_some_and(|tags| tags.iter().any(|name| name == tag))
        };
        let image = images
            .iter()
            .find(has_tag)
            .unwrap_or_else(|| panic!("{tag} was not saved"));
        let config = image["Config"].as_str().unwrap().to_owned();
        let names = image["Layers"].as_array().unwrap().iter();
        let names: Vec<String> = names
            .map(|name| name.as_str().unwrap().to_owned())
            .collect();
        let layers: Vec<_> = names.iter().map(|name| self.layer(name)).collect();
        Saved {
            config: without_times(serde_json::from_slice(&self.bytes(&config)).unwrap()),
            layers: without_unchanged_folders(&layers),
        }
    }

    fn layer(&mut self, name: &str) -> Rc<Listing> {
        if let Some(layer) = self.layers.get(name) {
            return Rc::clone(layer);
        }
        let layer = Rc::new(listing(&self.bytes(name)));
        self.layers.insert(name.to_owned(), Rc::clone(&layer));
        layer
    }
}

/// An image as it was saved.
struct Saved {
    config: Value,
    layers: Vec<Listing>,
}

impl Saved {
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
        let counts = (self.layers.len(), other.layers.len());
        if counts.0 != counts.1 {
            all.push(format!("layers: {} and {}", counts.0, counts.1));
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

/// What is in a file: a short text as it is.
fn shown(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.len() <= 256 => format!("{text:?}"),
        _ => testkit::image::digest_of(bytes).to_string(),
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

/// The layers without the folders that one of them lists though they are as below: for dockerd, that something was
/// mounted in a folder is reason enough.
fn without_unchanged_folders(layers: &[Rc<Listing>]) -> Vec<Listing> {
    let mut folders = Listing::new();
    let mut all = Vec::new();
    for layer in layers {
        let mut own = (**layer).clone();
        own.retain(|path, what| !what.starts_with("Directory") || folders.get(path) != Some(what));
        folders.extend(own.clone());
        all.push(own);
    }
    all
}

/// The files of a layer: type, mode, owner, link, content. Marks of what is not there any more have no mode.
fn listing(layer: &[u8]) -> Listing {
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
        let is_mark = path
            .rsplit('/')
            .next()
            .is_some_and(|name| name.starts_with(".wh."));
        if is_mark {
            files.insert(path, "mark".to_owned());
            continue;
        }
        let text = format!(
            "{:?} {:o} {}:{} {} {}",
            header.entry_type(),
            header.mode().unwrap(),
            header.uid().unwrap(),
            header.gid().unwrap(),
            link.unwrap_or_default(),
            shown(&bytes),
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

/// What came of a case.
enum Verdict {
    /// Both made an image.
    Built,
    /// Both refused.
    Refused,
    /// What is wrong.
    Wrong(String),
}

impl Pair {
    fn start() -> Option<Self> {
        let dockerd = Dockerd::start()?;
        let pair = Self {
            engine: Engine::start(EngineOptions::new(GORAE)).unwrap(),
            dockerd,
            folder: Folder::new(),
        };
        let begun = Instant::now();
        while pair.theirs("version").code != 0 {
            assert!(begun.elapsed() < LIMIT, "{}", pair.dockerd.log());
            std::thread::sleep(Duration::from_millis(100));
        }
        pair.make_base();
        Some(pair)
    }

    fn make_base(&self) {
        let base = self.folder.0.join("base.tar").display().to_string();
        // dockerd gives a file the mode of its last hard link in the archive: export writes the same for all
        self.engine.import("raw").unwrap();
        let raw = self.folder.0.join("raw.tar").display().to_string();
        for line in [
            "create --name raw raw".to_owned(),
            format!("export -o {raw} raw"),
            "rm raw".to_owned(),
            format!("import {raw} base"),
            format!("save -o {base} base"),
        ] {
            self.ours(Client::Docker, &line).ok();
        }
        self.theirs(&format!("load -i {base}")).ok();
    }

    fn ours(&self, client: Client, line: &str) -> Outcome {
        self.engine.session(client, line).finish_within(LIMIT)
    }

    /// The same command line of docker's, with dockerd.
    fn theirs(&self, line: &str) -> Outcome {
        let mut command = self.engine.command(Client::Docker, words(line));
        let socket = format!("unix://{}", self.dockerd.socket().display());
        command.env("DOCKER_HOST", socket);
        Session::pipes(command).unwrap().finish_within(LIMIT)
    }

    fn build(&self, case: &Case) -> Verdict {
        let context = self.folder.0.join(&case.name);
        case.write(&context);
        let path = context.display().to_string();
        let line = format!("build {} {path}", case.command(&path));
        let ours = self.ours(Client::Gorae, &line);
        let theirs = self.theirs(&line);
        std::fs::remove_dir_all(&context).unwrap();
        let said = |outcome: &Outcome| format!("{}{}", outcome.stdout, outcome.stderr);
        let (our, their) = (said(&ours), said(&theirs));
        let wrong =
            |what: &str| Verdict::Wrong(format!("{what}\n--- ours\n{our}--- theirs\n{their}"));
        match (&case.fails, ours.code == 0, theirs.code == 0) {
            (_, true, false) => wrong("ours does not fail"),
            (_, false, true) => wrong("ours fails"),
            (None, false, false) => wrong("it fails"),
            (None, true, true) => Verdict::Built,
            (Some(_), true, true) => wrong("it does not fail"),
            (Some(text), false, false) if !our.contains(text) => {
                wrong(&format!("the reason lacks {text:?}"))
            }
            (Some(text), false, false) if !their.contains(text) => {
                wrong(&format!("their reason lacks {text:?}"))
            }
            (Some(_), false, false) => Verdict::Refused,
        }
    }

    /// All images of one engine in one archive.
    fn save(&self, cases: &[&Case], ours: bool) -> Images {
        let path = self
            .folder
            .0
            .join(if ours { "ours.tar" } else { "theirs.tar" });
        let tags: Vec<String> = cases.iter().map(|case| case.tag()).collect();
        let line = format!("save -o {} {}", path.display(), tags.join(" "));
        let saved = if ours {
            self.ours(Client::Docker, &line)
        } else {
            self.theirs(&line)
        };
        saved.ok();
        Images::open(&path)
    }

    /// What is wrong with the cases, in words; nothing where all is well.
    fn check(&self, cases: &[Case]) -> Vec<(String, String)> {
        let next = Mutex::new(cases.iter());
        let built: Mutex<Vec<&Case>> = Mutex::default();
        let wrong: Mutex<Vec<(String, String)>> = Mutex::default();
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(|| {
                    while let Some(case) = { next.lock().unwrap().next() } {
                        match self.build(case) {
                            Verdict::Built => built.lock().unwrap().push(case),
                            Verdict::Refused => {}
                            Verdict::Wrong(what) => {
                                wrong.lock().unwrap().push((case.name.clone(), what));
                            }
                        }
                    }
                });
            }
        });
        let (built, mut wrong) = (built.into_inner().unwrap(), wrong.into_inner().unwrap());
        if !built.is_empty() {
            let (mut ours, mut theirs) = (self.save(&built, true), self.save(&built, false));
            for case in built {
                let (our, their) = (ours.image(&case.tag()), theirs.image(&case.tag()));
                let differences = our.differences(&their);
                if !differences.is_empty() {
                    wrong.push((case.name.clone(), differences.join("\n  ")));
                }
            }
        }
        wrong
    }
}

/// The cases that are to run: of `GORAE_CASES` those whose names contain one of its words.
fn wanted() -> Vec<Case> {
    let filter = std::env::var("GORAE_CASES").unwrap_or_default();
    let words: Vec<&str> = filter.split(',').filter(|word| !word.is_empty()).collect();
    let mut cases = corpus();
    assert!(cases.len() >= 150, "{}", cases.len());
    for (name, _) in DIFFERENT {
        assert!(
            cases.iter().any(|case| case.name == *name),
            "no case {name}"
        );
    }
    cases.retain(|case| words.is_empty() || words.iter().any(|word| case.name.contains(word)));
    cases
}

#[test]
fn small_dockerfiles_give_what_dockerd_gives() {
    let Some(pair) = Pair::start() else {
        return;
    };
    let cases = wanted();
    let wrong = pair.check(&cases);
    let reason = |name: &str| DIFFERENT.iter().find(|(case, _)| *case == name);
    let mut failed: Vec<String> = Vec::new();
    for (name, what) in &wrong {
        if reason(name).is_none() {
            failed.push(format!("## {name}:\n  {what}"));
        }
    }
    for case in &cases {
        if let Some((name, why)) = reason(&case.name)
            && !wrong.iter().any(|(wrong, _)| wrong == name)
        {
            failed.push(format!("## {name}: no longer differs ({why})"));
        }
    }
    assert!(
        failed.is_empty(),
        "{} of {} differ:\n{}",
        failed.len(),
        cases.len(),
        failed.join("\n")
    );
}
