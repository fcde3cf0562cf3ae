//! Records, the keys that lead to them, and what goes first.

use std::time::Duration;

use super::*;
use crate::builder::Settings;
use crate::snapshot::LayerFacts;

struct Fixture {
    // removed last
    folder: tempfile::TempDir,
    cache: Arc<Cache>,
}

fn digest(n: u8) -> Digest {
    Digest::from_sha256(&[n; 32])
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cache = open(folder.path());
        Self { folder, cache }
    }

    /// A record of a layer of its own, with a file of that many bytes, on another record's layers.
    fn add(&self, n: u8, bytes: usize, parent: Option<&Record>) -> Arc<Record> {
        let below = parent.map(|p| self.cache.snapshots.restore(&p.outputs[0]).unwrap());
        let below = below.unwrap_or_else(Snapshot::scratch);
        let writable = self.cache.snapshots.prepare(&below).unwrap();
        std::fs::write(writable.upper().join("file"), vec![b'x'; bytes]).unwrap();
        let snapshot = writable.commit(LayerFacts::new("a layer")).unwrap();
        let record = Record {
            id: crate::id::new(),
            kind: RecordKind::Regular,
            primary: digest(n),
            keys: vec![digest(n)],
            outputs: vec![snapshot.layer_ids().unwrap()],
            parents: parent.map(|p| p.id.clone()).into_iter().collect(),
            content: Vec::new(),
            description: format!("step {n}"),
            created: Timestamp::now(),
            size: u64::try_from(bytes).unwrap(),
        };
        self.cache.store(record).unwrap().0
    }

    fn layers(&self) -> usize {
        let entries = std::fs::read_dir(self.folder.path().join("layers")).unwrap();
        entries
            .filter(|e| e.as_ref().unwrap().path().is_dir())
            .count()
    }
}

fn open(root: &Path) -> Arc<Cache> {
    let until = std::time::Instant::now() + Duration::from_secs(60);
    let db = loop {
        // the writer of one that was closed may still hold the file
        match Db::open(&root.join("builder.db")) {
            Err(_) if std::time::Instant::now() < until => std::thread::yield_now(),
            other => break other.unwrap(),
        }
    };
    let options = storage::StoreOptions {
        snapshotter: storage::SnapshotterChoice::Auto,
        mounts: root.join("run"),
        limits: storage::LayerLimits::default(),
    };
    let store = Arc::new(storage::Store::open(&root.join("store"), options).unwrap());
    let snapshots = Snapshots::open(root, store).unwrap();
    Arc::new(Cache::open(root, db, snapshots).unwrap())
}

fn ids(gone: &[Usage]) -> Vec<&str> {
    gone.iter().map(|u| u.description.as_str()).collect()
}

#[tokio::test]
async fn finds_what_was_stored_after_a_restart() {
    let fixture = Fixture::new();
    let record = fixture.add(1, 10, None);
    fixture.cache.add_key(&record.id, &digest(2));
    fixture.cache.db.flush().await;
    let folder = fixture.folder;
    drop(fixture.cache);
    let cache = open(folder.path());
    for key in [1, 2] {
        let hit = cache.find(&digest(key)).await.unwrap();
        assert_eq!(hit.record.id, record.id);
        assert_eq!(hit.outputs[0].layers().len(), 1);
    }
    assert!(cache.find(&digest(3)).await.is_none());
    let usage = cache.disk_usage(&[]).await.unwrap();
    assert_eq!(usage[0].uses.unwrap().count, 3);
}

#[tokio::test]
async fn a_record_without_its_layer_is_none() {
    let fixture = Fixture::new();
    let record = fixture.add(1, 10, None);
    fixture.cache.snapshots.retain(|_| false).unwrap();
    assert!(fixture.cache.knows(&record.keys));
    assert!(fixture.cache.find(&digest(1)).await.is_none());
    assert!(!fixture.cache.knows(&record.keys));
}

#[tokio::test]
async fn the_later_of_two_records_is_found() {
    let fixture = Fixture::new();
    fixture.add(1, 10, None);
    let second = fixture.add(1, 10, None);
    let hit = fixture.cache.find(&digest(1)).await.unwrap();
    assert_eq!(hit.record.id, second.id);
}

#[tokio::test]
async fn keys_of_one_record_are_bounded() {
    let fixture = Fixture::new();
    let record = fixture.add(0, 10, None);
    for n in 1..=u8::try_from(KEYS).unwrap() {
        fixture.cache.add_key(&record.id, &digest(n));
    }
    assert!(fixture.cache.knows(&[digest(0)]), "the primary key stays");
    assert!(!fixture.cache.knows(&[digest(1)]));
    assert!(fixture.cache.knows(&[digest(2)]));
}

#[tokio::test]
async fn prune_takes_the_ends_and_what_they_stood_on() {
    let fixture = Fixture::new();
    let base = fixture.add(1, 10, None);
    let step = fixture.add(2, 10, Some(&base));
    let other = fixture.add(3, 10, Some(&base));
    let hit = fixture.cache.find(&digest(2)).await.unwrap();
    let gone = fixture.cache.prune(PruneRequest::default()).await.unwrap();
    // the base is needed by what is in use
    assert_eq!(ids(&gone), [&other.description]);
    assert_eq!(fixture.layers(), 2);
    drop(hit);
    let gone = fixture.cache.prune(PruneRequest::default()).await.unwrap();
    assert_eq!(ids(&gone), [&step.description, &base.description]);
    assert_eq!(fixture.layers(), 0);
    assert!(fixture.cache.disk_usage(&[]).await.unwrap().is_empty());
}

#[tokio::test]
async fn prune_goes_by_filters_and_age() {
    let fixture = Fixture::new();
    let one = fixture.add(1, 10, None);
    fixture.add(2, 10, None);
    let ask = |filter: String, unused_for| PruneRequest {
        filters: vec![filter],
        unused_for,
        ..PruneRequest::default()
    };
    let hour = Some(Duration::from_secs(3600));
    let none = fixture.cache.prune(ask(String::new(), hour)).await.unwrap();
    assert!(none.is_empty());
    let gone = fixture
        .cache
        .prune(ask(format!("id=={}", one.id), None))
        .await
        .unwrap();
    assert_eq!(ids(&gone), ["step 1"]);
    assert!(fixture.cache.prune(ask("==".into(), None)).await.is_err());
}

#[tokio::test]
async fn the_collector_keeps_what_was_used_last() {
    let fixture = Fixture::new();
    for n in 1..=4 {
        fixture.add(n, 1000, None);
    }
    // the first is used again, so the second is the oldest
    fixture.cache.find(&digest(1)).await.unwrap();
    let limits = |max, free| Settings {
        cache_max_size: max,
        cache_min_free: free,
        ..Settings::default()
    };
    let within = fixture
        .cache
        .collect(&limits(Some(4000), Some(1)))
        .await
        .unwrap();
    assert!(within.is_empty());
    let gone = fixture
        .cache
        .collect(&limits(Some(2500), None))
        .await
        .unwrap();
    assert_eq!(ids(&gone), ["step 2", "step 3"]);
    assert_eq!(fixture.layers(), 2);
    // more than any disk has: everything goes
    let gone = fixture
        .cache
        .collect(&limits(None, Some(u64::MAX)))
        .await
        .unwrap();
    assert_eq!(gone.len(), 2);
}

struct Others(Mutex<Vec<Usage>>);

impl OtherStore for Others {
    fn list(&self) -> Vec<Usage> {
        self.0.lock().unwrap().clone()
    }

    fn remove(&self, id: &str) -> Result<bool> {
        let mut list = self.0.lock().unwrap();
        let before = list.len();
        list.retain(|usage| usage.id != id);
        Ok(list.len() < before)
    }
}

#[tokio::test]
async fn other_stores_are_shown_and_pruned() {
    let fixture = Fixture::new();
    let usage = |id: &str, kind, in_use| Usage {
        id: id.into(),
        kind,
        in_use,
        description: id.into(),
        ..Usage::default()
    };
    let others = Arc::new(Others(Mutex::new(vec![
        usage("mount", RecordKind::CacheMount, false),
        usage("used", RecordKind::Local, true),
        usage("front", RecordKind::Frontend, false),
    ])));
    fixture.cache.add_store(others);
    let filter = ["type==exec.cachemount".to_owned()];
    assert_eq!(fixture.cache.disk_usage(&filter).await.unwrap().len(), 1);
    let gone = fixture.cache.prune(PruneRequest::default()).await.unwrap();
    assert_eq!(ids(&gone), ["mount"]);
    let all = PruneRequest {
        all: true,
        ..PruneRequest::default()
    };
    assert_eq!(ids(&fixture.cache.prune(all).await.unwrap()), ["front"]);
}
