//! The builder's folder of layers.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use jiff::Timestamp;
use oci::Digest;
use sha2::{Digest as _, Sha256};

use super::Snapshot;
use super::error::{Result, SnapshotError};
use super::flush::Unflushed;
use super::layer::{ImageLayer, Layer};
use super::record::Record;
use super::writable::LayerFacts;

/// All snapshots of a builder: `layers/<id>/` and `layers/<id>.json`, and in `new/` what is written.
#[derive(Clone, Debug)]
pub struct Snapshots {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) store: Arc<storage::Store>,
    /// The folder of layers.
    pub(super) layers: PathBuf,
    /// The folder of what is being written.
    pub(super) fresh: PathBuf,
    /// A folder in which there never is anything.
    pub(super) empty: PathBuf,
    pub(super) boot: String,
    /// So many layers are read for their digests at once.
    pub(super) archives: tokio::sync::Semaphore,
    pub(super) unflushed: Mutex<Unflushed>,
    /// The right to change what is written of layers.
    pub(super) records: Mutex<()>,
    known: Mutex<HashMap<String, Weak<Layer>>>,
}

pub(super) fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn layer_folder(&self, id: &str) -> PathBuf {
        self.layers.join(id)
    }

    pub(super) fn files(&self, id: &str) -> PathBuf {
        self.layer_folder(id).join(storage::LayerStore::FILES)
    }

    /// Makes a layer known; one that is known by its id already is the one.
    pub(super) fn enter(&self, layer: Layer) -> Arc<Layer> {
        let mut known = guard(&self.known);
        if let Some(there) = known.get(layer.id()).and_then(Weak::upgrade) {
            return there;
        }
        let layer = Arc::new(layer);
        known.insert(layer.id().to_owned(), Arc::downgrade(&layer));
        layer
    }

    fn get(&self, id: &str) -> Option<Arc<Layer>> {
        guard(&self.known).get(id).and_then(Weak::upgrade)
    }
}

impl Snapshots {
    /// Opens the folder, makes it when it is not there, and removes what a crash left. It blocks.
    ///
    /// # Errors
    ///
    /// The disk fails.
    pub fn open(root: &Path, store: Arc<storage::Store>) -> Result<Self> {
        let dir = |name: &str| {
            let path = root.join(name);
            let made = std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&path);
            made.map(|()| path.clone())
                .map_err(SnapshotError::io("make folder", &path))
        };
        let (layers, fresh, empty) = (dir("layers")?, dir("new")?, dir("empty")?);
        let boot = Path::new("/proc/sys/kernel/random/boot_id");
        let boot_id = std::fs::read_to_string(boot).map_err(SnapshotError::io("read", boot))?;
        clear(&fresh)?;
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let shared = Arc::new(Shared {
            store,
            layers,
            fresh,
            empty,
            boot: boot_id.trim().to_owned(),
            archives: tokio::sync::Semaphore::new(threads),
            unflushed: Mutex::default(),
            records: Mutex::default(),
            known: Mutex::default(),
        });
        let snapshots = Self { shared };
        snapshots.sweep()?;
        Ok(snapshots)
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The engine's store.
    #[must_use]
    pub fn store(&self) -> &Arc<storage::Store> {
        &self.shared.store
    }

    /// Removes layers that a power failure may have damaged, and what has no record or no folder.
    fn sweep(&self) -> Result<()> {
        let failed = || SnapshotError::io("read folder", &self.shared.layers);
        let mut folders = HashSet::new();
        let mut records = Vec::new();
        for entry in std::fs::read_dir(&self.shared.layers).map_err(failed())? {
            let path = entry.map_err(failed())?.path();
            if path.extension() == Some(OsStr::new("json")) {
                records.push(path);
            } else {
                folders.insert(path);
            }
        }
        for path in records {
            let record = Record::read(&path).ok();
            let record = record.filter(|r| r.durable || r.boot == self.shared.boot);
            let Some(record) = record.filter(|record| self.is_there(record)) else {
                discard(&path);
                continue;
            };
            if folders.remove(&self.shared.layer_folder(&record.id)) && !record.durable {
                super::flush::later(&self.shared, record.id);
            }
        }
        folders.iter().for_each(|path| discard(path));
        Ok(())
    }

    fn is_there(&self, record: &Record) -> bool {
        let in_store = |chain| self.shared.store.layers().exists(chain);
        self.shared.files(&record.id).is_dir() || record.chain.as_ref().is_some_and(in_store)
    }

    /// The layer of an image, which the engine's store has or gets by its [`super::Fetch`].
    #[must_use]
    pub fn image_layer(&self, image: ImageLayer, facts: LayerFacts) -> Arc<Layer> {
        let id = image.chain.to_string();
        if let Some(known) = self.shared.get(&id) {
            return known;
        }
        let record = Record {
            id: id.clone(),
            created: facts.created.to_string(),
            description: facts.description.clone(),
            boot: self.shared.boot.clone(),
            // the engine's store says itself whether it has the layer
            durable: true,
            below: Vec::new(),
            diff_id: Some(image.diff_id.clone()),
            tar_size: None,
            chain: Some(image.chain.clone()),
            blob: image.blob.clone(),
        };
        if !Record::path(&self.shared.layers, &id).exists()
            && let Err(error) = record.write(&self.shared.layers)
        {
            tracing::warn!(id, %error, "the origin of a layer is not noted");
        }
        let layer = Layer::of_image(Arc::clone(&self.shared), id, facts, image);
        self.shared.enter(layer)
    }

    /// Finds a snapshot by the ids of its layers; none when one of them is gone. It blocks.
    #[must_use]
    pub fn restore(&self, layer_ids: &[String]) -> Option<Snapshot> {
        let layers = layer_ids.iter().map(|id| self.layer(id));
        Some(Snapshot::of_layers(layers.collect::<Option<_>>()?))
    }

    /// Finds a layer by its id.
    fn layer(&self, id: &str) -> Option<Arc<Layer>> {
        if let Some(layer) = self.shared.get(id) {
            return Some(layer);
        }
        let record = Record::read(&Record::path(&self.shared.layers, id)).ok()?;
        let facts = LayerFacts {
            description: record.description.clone(),
            created: record.created.parse().unwrap_or(Timestamp::UNIX_EPOCH),
        };
        let shared = || Arc::clone(&self.shared);
        let in_store = record.chain.as_ref().and_then(|chain| {
            let info = self.shared.store.layers().info(chain).ok()?;
            Some(ImageLayer {
                chain: info.chain,
                parent: info.parent,
                diff_id: info.diff_id,
                blob: record.blob.clone(),
            })
        });
        if let Some(image) = in_store {
            let layer = Layer::of_image(shared(), id.to_owned(), facts, image);
            return Some(self.shared.enter(layer));
        }
        if !self.shared.files(id).is_dir() {
            return None;
        }
        // a layer below that is gone was only needed to tell what was changed from what was there
        let below = record
            .below
            .iter()
            .filter_map(|id| self.layer(id))
            .collect();
        let layer = Layer::own(shared(), id.to_owned(), facts, below);
        if let Some(digest) = record.diff_id {
            layer.set_diff_id(digest, record.tar_size);
        }
        let layer = self.shared.enter(layer);
        // removed in between, before it was in use
        (layer.image().is_some() || self.shared.files(id).is_dir()).then_some(layer)
    }

    /// Removes the layers that are neither in use nor wanted; returns how many bytes they took. It blocks.
    ///
    /// # Errors
    ///
    /// The disk fails.
    pub fn retain(&self, wanted: impl Fn(&str) -> bool) -> Result<u64> {
        let failed = || SnapshotError::io("read folder", &self.shared.layers);
        let mut freed = 0;
        for entry in std::fs::read_dir(&self.shared.layers).map_err(failed())? {
            let path = entry.map_err(failed())?.path();
            if path.extension() != Some(OsStr::new("json")) {
                continue;
            }
            let Ok(record) = Record::read(&path) else {
                continue;
            };
            if !wanted(&record.id) {
                freed += self.remove(&record.id, &path)?;
            }
        }
        Ok(freed)
    }

    /// Removes a layer unless it is in use.
    fn remove(&self, id: &str, record: &Path) -> Result<u64> {
        let away = self.shared.fresh.join(draw_id()?);
        let folder = self.shared.layer_folder(id);
        {
            let mut known = guard(&self.shared.known);
            if known.get(id).is_some_and(|layer| layer.strong_count() > 0) {
                return Ok(0);
            }
            known.remove(id);
            std::fs::remove_file(record).map_err(SnapshotError::io("remove", record))?;
            match std::fs::rename(&folder, &away) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
                other => other.map_err(SnapshotError::io("move away", &folder))?,
            }
        }
        let usage = storage::trees::usage(&away, &storage::Cancel::default());
        storage::trees::remove(&away).map_err(SnapshotError::io("remove", &away))?;
        Ok(usage.map_or(0, |usage| usage.allocated))
    }

    /// What of the engine's store snapshots of the cache are made of: its collector is to keep that.
    #[must_use]
    pub fn chains(&self) -> HashSet<Digest> {
        kept_in(&self.shared.layers)
    }
}

/// What of an engine's store the build cache below its folder needs, layers and their blobs. It is told
/// from the folder alone, for the engine begins to collect before the build engine is there.
#[must_use]
pub fn kept(root: &Path) -> HashSet<Digest> {
    kept_in(&root.join("builder/layers"))
}

fn kept_in(layers: &Path) -> HashSet<Digest> {
    let Ok(entries) = std::fs::read_dir(layers) else {
        return HashSet::new();
    };
    let records = entries.filter_map(|entry| {
        let path = entry.ok()?.path();
        (path.extension() == Some(OsStr::new("json"))).then(|| Record::read(&path).ok())?
    });
    let both = records.flat_map(|record| [record.chain, record.blob.map(|blob| blob.digest)]);
    both.flatten().collect()
}

fn clear(folder: &Path) -> Result<()> {
    let failed = || SnapshotError::io("clean folder", folder);
    for entry in std::fs::read_dir(folder).map_err(failed())? {
        discard(&entry.map_err(failed())?.path());
    }
    Ok(())
}

fn discard(path: &Path) {
    if let Err(error) = storage::trees::remove(path) {
        tracing::warn!(path = %path.display(), %error, "a leftover of the build cache stays");
    }
}

/// A new id: 25 digits and letters, as BuildKit's are.
pub(crate) fn draw_id() -> Result<String> {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut bytes = [0_u8; 25];
    rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty()).map_err(
        SnapshotError::io("draw an id from", Path::new("/dev/urandom")),
    )?;
    let digit = |byte: &u8| char::from(DIGITS[usize::from(*byte) % DIGITS.len()]);
    Ok(bytes.iter().map(digit).collect())
}

/// Hashes what is written to it.
#[derive(Default)]
pub(super) struct Hasher {
    hash: Sha256,
    size: u64,
}

impl Hasher {
    /// The digest of all that came, and its length.
    pub(super) fn finish(self) -> (Digest, u64) {
        (Digest::from_sha256(&self.hash.finalize().into()), self.size)
    }
}

impl Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
