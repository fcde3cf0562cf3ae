//! A builder over an engine of its own, for one test.

use std::collections::HashMap;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use builder::job::{Job, JobOptions};
use builder::llb::{Edge, Vertex, pb};
use builder::op::OpContext;
use builder::snapshot::{LayerFacts, Snapshot};
use builder::{Builder, Error, Settings};
use engine::Engine;

/// The cgroup above a test's steps; the engine leaves its parent standing, so it goes here.
struct CgroupParent(PathBuf);

impl CgroupParent {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self(format!("/gorae-builder-test-{}-{number}", std::process::id()).into())
    }
}

impl Drop for CgroupParent {
    fn drop(&mut self) {
        let name = self.0.strip_prefix("/").unwrap();
        let root = Path::new("/sys/fs/cgroup");
        let hierarchies = std::fs::read_dir(root).into_iter().flatten().flatten();
        for folder in hierarchies.map(|entry| entry.path()).chain([root.into()]) {
            // only folders of cgroups that are empty can be removed, and only some are there
            drop(std::fs::remove_dir(folder.join(name)));
        }
    }
}

/// What a test works with.
pub(crate) struct Fixture {
    pub(crate) builder: Arc<Builder>,
    pub(crate) job: Arc<Job>,
    pub(crate) engine: Arc<Engine>,
    pub(crate) folder: PathBuf,
}

/// Runs a test with a builder of its own, and takes everything down after it.
pub(crate) fn with_builder(test: impl AsyncFnOnce(&Fixture) + Send) {
    granted(&[], test);
}

/// The same with entitlements.
pub(crate) fn granted(entitlements: &[&str], test: impl AsyncFnOnce(&Fixture) + Send) {
    let base = tempfile::tempdir_in("/var/tmp").unwrap();
    let cgroup = CgroupParent::new();
    let config = engine::Config {
        root: base.path().join("root"),
        run: base.path().join("run"),
        shim: shim(),
        bridge: "gorae-test0".into(),
        cgroup_parent: cgroup.0.clone(),
        warm: 0,
        ..engine::Config::default()
    };
    let entitlements = entitlements.iter().map(|&e| e.to_owned()).collect();
    let work = || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let engine = Engine::open(config.clone()).await.unwrap();
            let root = config.root.clone();
            let builder = Builder::open(Arc::clone(&engine), &root, Settings::default()).unwrap();
            let options = JobOptions {
                entitlements,
                ..JobOptions::default()
            };
            let job = builder.job(options).unwrap();
            let fixture = Fixture {
                builder,
                job,
                engine,
                folder: base.path().to_owned(),
            };
            test(&fixture).await;
            fixture.nothing_left().await;
            fixture.builder.close();
            fixture.engine.close();
        });
    };
    sys::netns::create_with(work).unwrap();
}

/// The shim that stands beside the test's own program, or this program where there is none.
fn shim() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let built = own.ancestors().nth(2).unwrap().join("gorae-shim");
    if built.exists() { built } else { own }
}

/// Whether steps can be started here; says so where they cannot.
pub(crate) fn can_run() -> bool {
    let able = shim().ends_with("gorae-shim") && Path::new(BUSYBOX).exists();
    if !able {
        eprintln!(
            "SKIPPED: gorae-shim is not built (cargo build -p shim), or there is no busybox-static"
        );
    }
    able
}

const BUSYBOX: &str = "/bin/busybox";
const APPLETS: &[&str] = &[
    "sh", "cat", "ls", "echo", "true", "false", "mkdir", "rm", "touch", "stat", "id", "ip", "env",
    "pwd", "sleep", "mount", "dd", "test", "grep", "hostname", "ln", "chmod", "chown", "kill",
    "ulimit", "find", "cp", "mv", "readlink",
];

impl Fixture {
    /// A snapshot with busybox in it, a user and a group.
    pub(crate) fn busybox(&self) -> Snapshot {
        self.snapshot(&Snapshot::scratch(), |root| {
            for folder in ["bin", "etc", "tmp"] {
                std::fs::create_dir(root.join(folder)).unwrap();
            }
            std::fs::copy(BUSYBOX, root.join("bin/busybox")).unwrap();
            for applet in APPLETS {
                std::fs::hard_link(root.join("bin/busybox"), root.join("bin").join(applet))
                    .unwrap();
            }
            let users = "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1001:user:/home/user:/bin/sh\n";
            std::fs::write(root.join("etc/passwd"), users).unwrap();
            std::fs::write(
                root.join("etc/group"),
                "root:x:0:\npeople:x:1001:\nothers:x:1002:\n",
            )
            .unwrap();
        })
    }

    /// A snapshot on another with what is written into its folder.
    pub(crate) fn snapshot(&self, parent: &Snapshot, write: impl FnOnce(&Path)) -> Snapshot {
        let writable = self.builder.snapshots.prepare(parent).unwrap();
        write(&writable.upper());
        writable.commit(LayerFacts::new("a test")).unwrap()
    }

    /// Where an operation works.
    pub(crate) fn context(&self, op: pb::op::Op, inputs: usize) -> OpContext {
        use prost::Message as _;
        let op = pb::Op {
            op: Some(op),
            ..pb::Op::default()
        };
        let digest = builder::llb::digest_of(&op.encode_to_vec());
        let edge = |output: u32| Edge {
            vertex: digest.clone(),
            output,
        };
        let vertex = Arc::new(Vertex {
            digest: digest.clone(),
            inputs: (0..inputs)
                .map(|n| edge(u32::try_from(n).unwrap()))
                .collect(),
            metadata: pb::OpMetadata::default(),
            name: "a test".to_owned(),
            locations: Vec::new(),
            op,
        });
        OpContext {
            builder: Arc::clone(&self.builder),
            job: Arc::clone(&self.job),
            progress: self.job.progress.vertex(&vertex),
            sessions: self.job.sessions.clone(),
            cancel: builder::cancel::Cancel::default(),
            vertex,
        }
    }

    /// Runs an operation.
    pub(crate) async fn run(
        &self,
        op: pb::op::Op,
        inputs: &[Snapshot],
    ) -> Result<Vec<Snapshot>, Error> {
        builder::ops::run(&self.context(op, inputs.len()), inputs).await
    }

    /// Waits until steps have let go of everything, and finds nothing of them.
    async fn nothing_left(&self) {
        let patience = std::time::Instant::now() + std::time::Duration::from_secs(60);
        loop {
            let left: Vec<String> = ["run/containers", "run/steps", "root/builder/new"]
                .iter()
                .flat_map(|place| names(&self.folder.join(place)))
                .collect();
            if left.is_empty() {
                break;
            }
            assert!(
                std::time::Instant::now() < patience,
                "left behind: {left:?}"
            );
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let folder = self.folder.join("run/steps");
        assert!(
            !table.contains(folder.to_str().unwrap()),
            "a mount is left behind"
        );
    }
}

fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

/// Reads a file of a snapshot.
pub(crate) fn read(snapshot: &Snapshot, path: &str) -> String {
    let root = snapshot.open().unwrap();
    let bytes = sys::tree::read_bounded(root.as_fd(), Path::new(path), 1 << 20);
    String::from_utf8(bytes.unwrap_or_else(|error| panic!("{path}: {error}"))).unwrap()
}

/// Everything in a snapshot: path to kind, mode, owner and what a link points to or a file holds.
pub(crate) fn tree(snapshot: &Snapshot) -> HashMap<String, String> {
    let root = snapshot.open().unwrap();
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
    let root = sys::tree::open(root.as_fd(), Path::new("/"), flags).unwrap();
    let mut found = HashMap::new();
    walk(&root, "", &mut found);
    found
}

fn walk(folder: &std::os::fd::OwnedFd, path: &str, found: &mut HashMap<String, String>) {
    use rustix::fs::{AtFlags, FileType, Mode, OFlags};
    for (name, _) in storage::trees::list(folder.as_fd()).unwrap() {
        let path = format!("{path}/{}", name.to_str().unwrap());
        let stat = rustix::fs::statat(folder, &name, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        let head = format!(
            "{:o} {}:{}",
            stat.st_mode & 0o7777,
            stat.st_uid,
            stat.st_gid
        );
        let nofollow = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let text = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let below = rustix::fs::openat(folder, &name, nofollow, Mode::empty()).unwrap();
                walk(&below, &path, found);
                format!("d {head}")
            }
            FileType::Symlink => {
                let link = rustix::fs::readlinkat(folder, &name, Vec::new()).unwrap();
                format!(
                    "l {}:{} {}",
                    stat.st_uid,
                    stat.st_gid,
                    link.to_str().unwrap()
                )
            }
            FileType::RegularFile => {
                let file = rustix::fs::openat(folder, &name, nofollow, Mode::empty()).unwrap();
                let mut text = String::new();
                let mut file = std::io::Read::take(std::fs::File::from(file), 1 << 16);
                if std::io::Read::read_to_string(&mut file, &mut text).is_err() {
                    text = "binary".to_owned();
                }
                format!("f {head} {text}")
            }
            other => format!("{other:?} {head}"),
        };
        found.insert(path, text);
    }
}
