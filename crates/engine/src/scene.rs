//! For tests: an engine in a network of its own, which starts no container.

use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use oci::Digest;

use crate::config::Config;
use crate::engine::Engine;
use crate::image::{ImportRequest, ImportSource};

/// Runs a test against an engine of its own, whose bridge and rules go with its network.
pub(crate) fn with_engine(
    change: impl FnOnce(&mut Config),
    test: impl AsyncFnOnce(&Arc<Engine>) + Send,
) {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let base = tempfile::tempdir().unwrap();
    let cgroup = format!("gorae-engine-test-{}-{number}", std::process::id());
    let mut config = Config {
        root: base.path().join("root"),
        run: base.path().join("run"),
        // nothing is started, so any program does
        shim: std::env::current_exe().unwrap(),
        bridge: "gorae-test0".into(),
        cgroup_parent: Path::new("/").join(&cgroup),
        warm: 0,
        ..Config::default()
    };
    change(&mut config);
    let work = || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let engine = Engine::open(config).await.unwrap();
            test(&engine).await;
            engine.close();
        });
    };
    sys::netns::create_with(work).unwrap();
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten();
    for folder in hierarchies.flatten().map(|entry| entry.path()) {
        // only some have it, and only an empty one goes
        drop(std::fs::remove_dir(folder.join(&cgroup)));
    }
}

/// Imports an image of one file.
pub(crate) async fn import(engine: &Arc<Engine>, name: &str) -> Digest {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(name.len() as u64);
    header.set_mode(0o644);
    archive
        .append_data(&mut header, "name", name.as_bytes())
        .unwrap();
    let bytes = archive.into_inner().unwrap();
    let request = ImportRequest {
        repository: name.to_owned(),
        ..ImportRequest::default()
    };
    let source = ImportSource::Reader(Box::new(Cursor::new(bytes)));
    engine.image_import(request, source, None).await.unwrap()
}
