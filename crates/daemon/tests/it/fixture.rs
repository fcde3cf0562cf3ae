//! An engine with its API, for one test.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use api::client::{Client, Endpoint};
use daemon::Config;
use engine::Engine;

/// The cgroup above a test's containers; the engine leaves its parent standing, so it goes here.
struct CgroupParent(PathBuf);

impl CgroupParent {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self(format!("/gorae-daemon-test-{}-{number}", std::process::id()).into())
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

/// Runs a test against an engine of its own, and takes everything down after it.
///
/// The engine has a network namespace of its own, in which its bridge and rules are: they go with
/// it. No shim is started ahead, so that a test that starts no container needs no shim either.
pub(crate) fn with_engine(test: impl AsyncFnOnce(&Client) + Send) {
    let base = tempfile::tempdir().unwrap();
    let cgroup = CgroupParent::new();
    let config = Config {
        engine: engine::Config {
            root: base.path().join("root"),
            run: base.path().join("run"),
            shim: shim(),
            bridge: "gorae-test0".into(),
            cgroup_parent: cgroup.0.clone(),
            warm: 0,
            ..engine::Config::default()
        },
        ..Config::default()
    };
    let work = || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(serve_while(&config, test));
    };
    sys::netns::create_with(work).unwrap();
}

async fn serve_while(config: &Config, test: impl AsyncFnOnce(&Client)) {
    let engine = Engine::open(config.engine.clone()).await.unwrap();
    let builder = builder::Builder::open(
        engine.clone(),
        &config.engine.root,
        builder::Settings::default(),
    )
    .unwrap();
    let socket = config.engine.run.join("gorae.sock");
    let client = Client::new(Endpoint::Unix(socket.clone()));
    let answered = async {
        let patience = Instant::now() + Duration::from_secs(60);
        while !socket.exists() {
            assert!(Instant::now() < patience, "the engine does not listen");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        test(&client).await;
    };
    tokio::select! {
        () = answered => {}
        result = daemon::serve(engine.clone(), builder, config, Vec::new()) => panic!("the daemon ended: {result:?}"),
    }
    engine.close();
}

/// The shim that stands beside the test's own program, or this program where there is none.
fn shim() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let built = own.ancestors().nth(2).unwrap().join("gorae-shim");
    if built.exists() { built } else { own }
}

/// Whether containers can be started here; says so where they cannot.
pub(crate) fn can_run() -> bool {
    let able = shim().ends_with("gorae-shim");
    if !able {
        eprintln!("SKIPPED: gorae-shim is not built (cargo build -p shim)");
    }
    able
}
