//! What a build gives: images in the store and in registries, from layers that were written as folders.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use engine::{AttestationRequest, BaseMode, BaseRequest, Engine, ProgressSender};
use oci::Digest;
use testkit::registry::Registry;

use super::{Attestation, ExportRequest, Solved, export};
use crate::attest::{Capture, Mode, Provenance, sbom};
use crate::builder::{Builder, Settings};
use crate::cache::{ExportInput, ExportRecord};
use crate::job::{Job, JobOptions, RemoteCache};
use crate::remote_cache;
use crate::snapshot::{LayerFacts, Snapshot};
use crate::source::image::{ConfigRequest, resolve_config};

/// What a test works with.
struct Fixture {
    builder: Arc<Builder>,
    job: Arc<Job>,
    engine: Arc<Engine>,
}

/// The cgroup of a test's engine, which leaves it standing.
struct CgroupParent(PathBuf);

impl CgroupParent {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self(format!("/gorae-export-test-{}-{number}", std::process::id()).into())
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

/// Runs a test with a builder of its own, in a network of its own.
fn with_builder(test: impl AsyncFnOnce(&Fixture) + Send) {
    let base = tempfile::tempdir_in("/var/tmp").unwrap();
    let cgroup = CgroupParent::new();
    let config = engine::Config {
        root: base.path().join("root"),
        run: base.path().join("run"),
        // nothing is started, so any program does
        shim: std::env::current_exe().unwrap(),
        bridge: "gorae-test0".into(),
        cgroup_parent: cgroup.0.clone(),
        warm: 0,
        ..engine::Config::default()
    };
    let root = config.root.clone();
    let keeper = engine::Keeper::new(move || Ok(crate::snapshot::kept(&root)));
    let config = engine::Config {
        keepers: vec![keeper],
        ..config
    };
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
            let job = builder.job(JobOptions::default()).unwrap();
            let fixture = Fixture {
                builder,
                job,
                engine,
            };
            test(&fixture).await;
            fixture.builder.close();
            fixture.engine.close();
        });
    };
    sys::netns::create_with(work).unwrap();
}

fn write(root: &Path, name: &str, content: &str) {
    let path = root.join(name);
    let parent = path.parent().unwrap();
    std::fs::create_dir_all(parent).unwrap();
    std::fs::write(&path, content).unwrap();
    // whatever the umask of the test is
    for (path, mode) in [(parent, 0o755), (path.as_path(), 0o644)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
}

/// A layer on top of a snapshot, with files and their content.
fn layer(fixture: &Fixture, below: &Snapshot, files: &[(&str, &str)]) -> Snapshot {
    let place = fixture.builder.snapshots.prepare(below).unwrap();
    for (name, content) in files {
        write(&place.upper(), name, content);
    }
    place.commit(LayerFacts::new("COPY files")).unwrap()
}

fn two_layers(fixture: &Fixture) -> Snapshot {
    let first = layer(
        fixture,
        &Snapshot::scratch(),
        &[("etc/one", "1"), ("a", "a")],
    );
    layer(
        fixture,
        &first,
        &[("etc/two", "2"), ("big", &"x".repeat(300_000))],
    )
}

fn solved(snapshot: &Snapshot) -> Solved {
    let config = br#"{"architecture":"amd64","os":"linux","config":{"Cmd":["run"]}}"#;
    Solved {
        refs: [(String::new(), snapshot.clone())].into(),
        metadata: [("containerimage.config".to_owned(), config.to_vec())].into(),
        ..Solved::default()
    }
}

async fn exported(
    fixture: &Fixture,
    solved: &Solved,
    attrs: &[(&str, &str)],
) -> BTreeMap<String, String> {
    let attrs = attrs.iter();
    let attrs = attrs.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let request = ExportRequest {
        kind: "image".to_owned(),
        attrs: attrs.collect(),
        ..ExportRequest::default()
    };
    request.check().unwrap();
    export(&fixture.job, &request, solved).await.unwrap()
}

fn digest(answer: &BTreeMap<String, String>, key: &str) -> Digest {
    answer[key].parse().unwrap()
}

/// Nobody listens to how far a pull is.
fn silent() -> ProgressSender {
    let (sender, mut receiver) = tokio::sync::mpsc::channel(16);
    tokio::spawn(async move { while receiver.recv().await.is_some() {} });
    sender
}

/// The members of the archive of an image that `save` gives.
async fn saved(fixture: &Fixture, name: &str) -> BTreeMap<String, Vec<u8>> {
    let names = [name.to_owned()];
    let archive = fixture.engine.image_save(&names, None).await.unwrap();
    let mut bytes = Vec::new();
    archive.write(&mut bytes).unwrap();
    let mut archive = tar::Archive::new(bytes.as_slice());
    let members = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_string_lossy().into_owned();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
        (path, bytes)
    });
    members.collect()
}

#[test]
fn an_image_in_the_store_has_no_blobs_until_it_is_saved() {
    with_builder(async |fixture| {
        let snapshot = two_layers(fixture);
        let solved = solved(&snapshot);
        let answer = exported(fixture, &solved, &[("name", "t/one:1,t/two")]).await;
        let id = digest(&answer, "containerimage.config.digest");
        assert_eq!(
            answer["image.name"],
            "docker.io/t/one:1,docker.io/t/two:latest"
        );
        assert_eq!(answer["containerimage.digest"], id.to_string());
        let image = fixture.engine.image_inspect("t/two", None, false).unwrap();
        assert_eq!(image.id, id.to_string());
        assert_eq!(image.repo_tags.unwrap(), ["t/one:1", "t/two:latest"]);
        assert_eq!(image.root_fs.layers.len(), 2);
        let content = fixture.engine.store().content();
        for diff_id in &image.root_fs.layers {
            assert!(
                !content.has(&diff_id.parse().unwrap()),
                "the layer is a folder alone"
            );
        }
        // the builder goes on with what it has: the layers are where they were, under other names
        let _view = snapshot.open().unwrap();
        let members = saved(fixture, "t/one:1").await;
        for diff_id in &image.root_fs.layers {
            let digest: Digest = diff_id.parse().unwrap();
            let bytes = &members[&format!("blobs/sha256/{}", digest.hex())];
            assert_eq!(storage::digest_of(bytes), digest);
        }
        // the same again is the same image
        let again = exported(fixture, &solved, &[("name", "t/one:1")]).await;
        assert_eq!(digest(&again, "containerimage.config.digest"), id);
        let findings = fixture
            .engine
            .system_check(engine::CheckRequest::default())
            .await;
        let findings = findings.unwrap().findings;
        assert!(findings.is_empty(), "{findings:?}");
    });
}

#[test]
fn an_image_goes_to_a_registry_and_comes_back() {
    with_builder(async |fixture| {
        let Some(registry) = registry() else { return };
        let name = format!("{}/built/image:1", registry.name());
        let snapshot = two_layers(fixture);
        let attrs = [
            ("name", name.as_str()),
            ("push", "true"),
            ("annotation.org.example.a", "b"),
        ];
        let answer = exported(fixture, &solved(&snapshot), &attrs).await;
        let id = digest(&answer, "containerimage.config.digest");
        let pushed = digest(&answer, "containerimage.digest");
        assert_ne!(id, pushed);
        let image = fixture.engine.image_inspect(&name, None, false).unwrap();
        let digests = image.repo_digests.unwrap();
        assert!(digests[0].ends_with(&pushed.to_string()), "{digests:?}");
        // as a base of a build it is found without its layers
        let request = BaseRequest {
            reference: name.parse().unwrap(),
            platform: "linux/amd64".parse().unwrap(),
            mode: BaseMode::Pull,
            auth: None,
        };
        let base = fixture
            .engine
            .image_for_build(&request, &silent())
            .await
            .unwrap();
        assert_eq!(*base.digest(), pushed);
        let diff_ids: Vec<String> = base
            .layers()
            .iter()
            .map(|layer| layer.diff_id.to_string())
            .collect();
        assert_eq!(diff_ids, image.root_fs.layers);
        let config: serde_json::Value = serde_json::from_slice(base.config()).unwrap();
        assert_eq!(config["config"]["Cmd"][0], "run");
        assert_eq!(config["history"].as_array().unwrap().len(), 2);
        let wanted = ConfigRequest {
            name: name.clone(),
            platform: None,
            mode: BaseMode::PreferLocal,
            log_name: "[internal] load metadata".to_owned(),
        };
        let found = resolve_config(&fixture.job, &wanted).await.unwrap();
        assert_eq!(found.config, *base.config());
    });
}

#[test]
fn a_base_is_brought_when_it_is_needed() {
    with_builder(async |fixture| {
        let Some(registry) = registry() else { return };
        let archive = testkit::image::Archive::new();
        let archive = archive.file("hello", b"world", 0o644).unwrap();
        let image = testkit::image::TestImage::empty()
            .with_layer(archive.finish().unwrap(), testkit::image::Compression::Gzip)
            .build()
            .unwrap();
        registry.push("base", "1", &image).unwrap();
        let request = BaseRequest {
            reference: format!("{}/base:1", registry.name()).parse().unwrap(),
            platform: oci::Platform::host(),
            mode: BaseMode::PreferLocal,
            auth: None,
        };
        let base = fixture
            .engine
            .image_for_build(&request, &silent())
            .await
            .unwrap();
        assert!(!base.is_here() && !base.is_local());
        // many who want it at once
        let (one, two) = (silent(), silent());
        let (first, second) = tokio::join!(base.bring(&one), base.bring(&two));
        first.unwrap();
        second.unwrap();
        assert!(base.is_here());
        let layers = fixture.engine.store().layers();
        let folder = layers.mounted(&base.layers()[0].chain).unwrap();
        assert_eq!(std::fs::read(folder.join("hello")).unwrap(), b"world");
        let missing = BaseRequest {
            reference: format!("{}/none:1", registry.name()).parse().unwrap(),
            ..request
        };
        let missing = fixture.engine.image_for_build(&missing, &silent()).await;
        assert_eq!(missing.unwrap_err().kind(), engine::Kind::NotFound);
    });
}

#[test]
fn times_can_be_rewritten_so_that_two_builds_are_one() {
    with_builder(async |fixture| {
        let attrs = [
            ("source-date-epoch", "1000000000"),
            ("rewrite-timestamp", "true"),
        ];
        let mut ids = Vec::new();
        for _ in 0..2 {
            let snapshot = two_layers(fixture);
            let answer = exported(fixture, &solved(&snapshot), &attrs).await;
            ids.push(digest(&answer, "containerimage.config.digest"));
            // files of another time
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        assert_eq!(ids[0], ids[1]);
        let image = fixture
            .engine
            .image_inspect(&ids[0].to_string(), None, false);
        assert_eq!(image.unwrap().created, "2001-09-09T01:46:40Z");
    });
}

#[test]
fn statements_stand_beside_their_image() {
    with_builder(async |fixture| {
        let snapshot = two_layers(fixture);
        let mut solved = solved(&snapshot);
        let capture = Capture {
            id: "a-build".to_owned(),
            frontend: "dockerfile.v0".to_owned(),
            ..Capture::default()
        };
        let wanted = Provenance {
            mode: Mode::Max,
            ..Provenance::default()
        };
        let view = snapshot.open().unwrap();
        let software = sbom::scan(&view, "t/stated", jiff::Timestamp::UNIX_EPOCH);
        let statements: Vec<Attestation> = vec![capture.state(&wanted), software.unwrap()];
        solved.attestations.insert(String::new(), statements);
        let answer = exported(fixture, &solved, &[("name", "t/stated")]).await;
        let id = digest(&answer, "containerimage.config.digest");
        let image = fixture
            .engine
            .image_inspect("t/stated", None, false)
            .unwrap();
        assert_eq!(image.id, id.to_string());
        let request = AttestationRequest {
            name: "t/stated".to_owned(),
            statements: true,
            ..AttestationRequest::default()
        };
        let found = fixture
            .engine
            .image_attestations(&request, None)
            .await
            .unwrap();
        let kinds: Vec<&str> = found
            .iter()
            .map(|one| one.predicate_type.as_str())
            .collect();
        assert_eq!(
            kinds,
            [
                "https://slsa.dev/provenance/v0.2",
                "https://spdx.dev/Document"
            ]
        );
        let statement = found[0].statement.as_ref().unwrap();
        let subject = &statement["subject"][0];
        assert_eq!(
            subject["name"],
            "pkg:docker/t/stated@latest?platform=linux%2Famd64"
        );
        // one that nobody has asked for stays away where the image stays here
        for one in solved.attestations.values_mut().flatten() {
            one.inline_only = true;
        }
        let other = br#"{"architecture":"amd64","os":"linux","config":{"Cmd":["other"]}}"#;
        let key = "containerimage.config".to_owned();
        solved.metadata.insert(key, other.to_vec());
        exported(fixture, &solved, &[("name", "t/plain")]).await;
        let request = AttestationRequest {
            name: "t/plain".to_owned(),
            ..request
        };
        let none = fixture
            .engine
            .image_attestations(&request, None)
            .await
            .unwrap();
        assert!(none.is_empty());
    });
}

#[test]
fn a_cache_goes_to_a_registry_and_brings_results() {
    with_builder(async |fixture| {
        let Some(registry) = registry() else { return };
        let first = layer(fixture, &Snapshot::scratch(), &[("a", "a")]);
        let second = layer(fixture, &first, &[("b", "b")]);
        let record = |operation: u8, inputs: Vec<ExportInput>, output: &Snapshot| ExportRecord {
            operation: Digest::from_sha256(&[operation; 32]),
            inputs,
            outputs: vec![output.clone()],
            description: format!("step {operation}"),
            created: None,
            result: operation == 2,
        };
        let input = ExportInput {
            record: 0,
            output: 0,
            content: Some(Digest::from_sha256(&[9; 32])),
        };
        let records = [
            record(1, Vec::new(), &first),
            record(2, vec![input], &second),
        ];
        let cache = RemoteCache {
            kind: "registry".to_owned(),
            attrs: BTreeMap::from([
                ("ref".to_owned(), format!("{}/cache:1", registry.name())),
                ("mode".to_owned(), "max".to_owned()),
            ]),
        };
        let answer = remote_cache::export(&fixture.job, &cache, &records)
            .await
            .unwrap();
        assert!(answer["cache.manifest"].contains("sha256:"));
        let found = remote_cache::import(&fixture.job, &cache).await;
        assert_eq!(found.len(), 2);
        assert_eq!(found[1].keys.len(), 2);
        assert_eq!(found[1].description, "step 2");
        assert_eq!(found[1].outputs[0].layers().len(), 2);
        // inside an image it is found by the image's name
        let mut solved = solved(&second);
        let inline = remote_cache::inline(&fixture.job, &records).await.unwrap();
        solved.inline_caches.insert(String::new(), inline.unwrap());
        let name = format!("{}/image:1", registry.name());
        exported(fixture, &solved, &[("name", &name), ("push", "true")]).await;
        let inside = RemoteCache {
            kind: "registry".to_owned(),
            attrs: BTreeMap::from([("ref".to_owned(), name)]),
        };
        assert_eq!(remote_cache::import(&fixture.job, &inside).await.len(), 2);
        // one that is not there brings nothing
        let none = RemoteCache {
            attrs: BTreeMap::from([("ref".to_owned(), format!("{}/none:1", registry.name()))]),
            ..cache
        };
        assert!(remote_cache::import(&fixture.job, &none).await.is_empty());
    });
}

/// A registry in the test's own network; none where the machine has no program for it.
fn registry() -> Option<Registry> {
    let up = std::process::Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status();
    assert!(up.unwrap().success());
    match Registry::start() {
        Ok(registry) => Some(registry),
        Err(error) => {
            eprintln!("SKIPPED: {error}");
            None
        }
    }
}
