//! What the tests share: engines, and waiting for something to become true.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use testkit::docker::{Client, Outcome};
use testkit::engine::{Engine, EngineOptions};

/// More than anything takes that comes at all: other tests, unoptimized, share the processors.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// Docker's default capabilities as `/proc/<pid>/status` shows them.
pub(crate) const DEFAULT_CAPABILITIES: &str = "00000000a80425fb";

/// An engine with the image `busybox`, and this thread in its network.
pub(crate) fn engine() -> Engine {
    Engine::start(options()).unwrap()
}

/// The options of [`engine`].
pub(crate) fn options() -> EngineOptions {
    EngineOptions::new(env!("CARGO_BIN_EXE_gorae"))
}

/// Checks of one test that go on after one has failed, so that a run tells all of them.
#[derive(Default)]
pub(crate) struct Checks {
    wrong: Vec<String>,
}

impl Checks {
    /// Notes what a check found wrong.
    pub(crate) fn note(&mut self, is_so: bool, wrong: impl FnOnce() -> String) {
        if !is_so {
            self.wrong.push(wrong());
        }
    }

    /// Notes a command that did not end with this code and these words, in whichever case: Docker's
    /// command lines differ in that.
    pub(crate) fn complains(&mut self, outcome: &Outcome, code: i32, text: &str) {
        let is_so =
            outcome.code == code && outcome.stderr.to_lowercase().contains(&text.to_lowercase());
        self.note(is_so, || format!("expected {code} {text:?}\n{outcome:?}"));
    }

    /// Notes a command that did not print exactly this.
    pub(crate) fn prints(&mut self, outcome: &Outcome, text: &str) {
        let is_so = outcome.code == 0 && outcome.stdout.replace('\r', "").trim() == text.trim();
        self.note(is_so, || format!("expected {text:?}\n{outcome:?}"));
    }
}

impl Drop for Checks {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let count = self.wrong.len();
            assert!(count == 0, "{count} wrong:\n\n{}", self.wrong.join("\n\n"));
        }
    }
}

/// Waits until something is true, on a machine that may be busy.
#[track_caller]
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < LIMIT, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Lets this process have as many open files as it may: some tests are thousands of clients.
pub(crate) fn many_files() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, raised).unwrap();
}

/// Reads the head of an HTTP answer, its last empty line included.
pub(crate) fn read_head(stream: &mut impl Read) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// The time as the engine's events take it, in seconds and nanoseconds.
pub(crate) fn now() -> String {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap();
    format!("{}.{:09}", now.as_secs(), now.subsec_nanos())
}

/// What the engine has told so far of what these filters choose, each in this format.
pub(crate) fn told(engine: &Engine, filters: &[&str], format: &str) -> Vec<String> {
    // the engine goes on to tell until that second has come
    let until = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() + 1;
    let until = until.to_string();
    let mut words = vec!["events", "--since", "1", "--until", &until];
    words.extend(filters.iter().flat_map(|filter| ["--filter", filter]));
    words.extend(["--format", format]);
    let output = engine.command(Client::Docker, words).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().map(|line| line.replace(" <no value>", ""));
    lines.map(|line| line.trim_end().to_owned()).collect()
}

/// A context of a build with these files, below the engine's home, which goes with the engine.
pub(crate) fn context(engine: &Engine, name: &str, files: &[(&str, &str)]) -> PathBuf {
    let folder = engine.home().join(name);
    fs::create_dir_all(&folder).unwrap();
    for (path, content) in files {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    folder
}

/// Whether a file has this text in it.
pub(crate) fn holds(path: &Path, text: &str) -> bool {
    let bytes = fs::read(path).unwrap_or_default();
    let text = text.as_bytes();
    bytes.windows(text.len()).any(|window| window == text)
}

/// The files below a folder that have this text in them.
pub(crate) fn found_below(folder: &Path, text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            // what is written meanwhile may be gone
            let Ok(kind) = entry.file_type() else {
                continue;
            };
            if kind.is_dir() {
                open.push(entry.path());
            } else if kind.is_file() && holds(&entry.path(), text) {
                found.push(entry.path());
            }
        }
    }
    found
}

/// The parent of a process: of a container's first one, its shim.
pub(crate) fn parent_of(pid: &str) -> i32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let mut fields = stat.rsplit(')').next().unwrap().split_whitespace();
    fields.nth(1).unwrap().parse().unwrap()
}

/// Kills a process as a crash does.
pub(crate) fn kill9(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

/// The file below `/sys/fs/cgroup` of a running container, with v1 and v2.
pub(crate) fn cgroup_file(pid: &str, v1: (&str, &str), v2: &str) -> String {
    let table = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let (controller, v1_file) = v1;
    for line in table.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (names, place) = (parts.next().unwrap(), parts.next().unwrap());
        if names.split(',').any(|name| name == controller) {
            let folder = Path::new("/sys/fs/cgroup").join(controller);
            return read(&folder.join(place.trim_start_matches('/')).join(v1_file));
        }
    }
    let place = table
        .lines()
        .find_map(|line| line.strip_prefix("0::/"))
        .unwrap();
    read(&Path::new("/sys/fs/cgroup").join(place).join(v2))
}

fn read(path: &Path) -> String {
    let text = std::fs::read_to_string(path);
    text.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        .trim()
        .to_owned()
}
