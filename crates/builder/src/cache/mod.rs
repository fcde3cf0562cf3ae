//! What was built before: records of results, the keys that lead to them, and what they take.
//!
//! A [`Record`] says which layers an operation has left. Keys lead to it: a *fast* one, of what the
//! operation does and how its inputs were made, and *slow* ones, in which some inputs count by what
//! they hold ([`keys`]). Everything is in memory; the database has it for the next start. The files
//! are the [snapshots](crate::snapshot)': a record whose layers are gone is none.

mod docker;
pub mod filter;
pub mod keys;
mod mounts;
mod prune;
mod record;
mod remote;
mod usage;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use jiff::Timestamp;
use oci::Digest;
use tokio::sync::Notify;

use crate::db::{Change, Db, Table};
use crate::error::{Error, Result};
use crate::snapshot::{Snapshot, Snapshots};

pub use prune::PruneRequest;
pub use record::{Record, RecordKind, Uses};
pub use remote::{ExportInput, ExportRecord, ImportedRecord};
pub use usage::Usage;

const RECORDS: Table = Table("cache-records");
const USES: Table = Table("cache-uses");
/// Keys that lead to one record; of more, the oldest are forgotten.
const KEYS: usize = 64;

/// Something else in the builder's folder that is shown and pruned with the cache, such as cache
/// mounts and the folders of contexts. Its methods block.
pub trait OtherStore: Send + Sync {
    /// What is there.
    fn list(&self) -> Vec<Usage>;
    /// Removes one by its id unless it is in use; tells whether it did.
    ///
    /// # Errors
    /// When the disk fails.
    fn remove(&self, id: &str) -> Result<bool>;
}

/// The cache of a builder.
pub struct Cache {
    db: Db,
    snapshots: Snapshots,
    state: Mutex<State>,
    others: Mutex<Vec<Arc<dyn OtherStore>>>,
    /// Told when something was added that the collector may not have room for.
    grown: Arc<Notify>,
    root: PathBuf,
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache").finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct State {
    records: HashMap<String, Known>,
    keys: HashMap<Digest, String>,
    /// How many records have a layer.
    layers: HashMap<String, usize>,
}

/// A record in memory.
#[derive(Debug)]
struct Known {
    record: Arc<Record>,
    uses: Uses,
    used: Weak<InUse>,
}

/// Keeps a record from being removed.
#[derive(Debug)]
pub struct InUse {
    /// The record's id.
    pub id: String,
}

/// A record that was found, with its layers.
#[derive(Clone, Debug)]
pub struct Hit {
    /// The record.
    pub record: Arc<Record>,
    /// Its outputs.
    pub outputs: Vec<Snapshot>,
    /// Keeps it.
    pub used: Arc<InUse>,
}

impl State {
    fn enter(&mut self, record: &Arc<Record>, uses: Uses) {
        self.leave(&record.id);
        for key in &record.keys {
            self.keys.insert(key.clone(), record.id.clone());
        }
        for layer in record.layers() {
            *self.layers.entry(layer.to_owned()).or_default() += 1;
        }
        let known = Known {
            uses,
            used: Weak::new(),
            record: Arc::clone(record),
        };
        self.records.insert(record.id.clone(), known);
    }

    fn leave(&mut self, id: &str) -> Option<Known> {
        let known = self.records.remove(id)?;
        for key in &known.record.keys {
            if self.keys.get(key).is_some_and(|to| to == id) {
                self.keys.remove(key);
            }
        }
        for layer in known.record.layers() {
            if let Some(count) = self.layers.get_mut(layer) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    self.layers.remove(layer);
                }
            }
        }
        Some(known)
    }

    /// Takes a record into use.
    fn take(&mut self, id: &str) -> Option<(Arc<Record>, Arc<InUse>)> {
        let known = self.records.get_mut(id)?;
        let used = known.used.upgrade().unwrap_or_else(|| {
            let used = Arc::new(InUse { id: id.to_owned() });
            known.used = Arc::downgrade(&used);
            used
        });
        Some((Arc::clone(&known.record), used))
    }
}

impl Cache {
    /// Opens the cache. It blocks.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn open(root: &Path, db: Db, snapshots: Snapshots) -> Result<Self> {
        let mut state = State::default();
        let mut uses: HashMap<String, Uses> = db.load(USES)?.into_iter().collect();
        for (id, record) in db.load::<Record>(RECORDS)? {
            let used = uses.remove(&id).unwrap_or(Uses {
                last: record.created,
                count: 1,
            });
            state.enter(&Arc::new(record), used);
        }
        Ok(Self {
            db,
            snapshots,
            state: Mutex::new(state),
            others: Mutex::default(),
            grown: Arc::new(Notify::new()),
            root: root.to_owned(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn others(&self) -> Vec<Arc<dyn OtherStore>> {
        let others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        others.clone()
    }

    /// Shows and prunes something else, too.
    pub fn add_store(&self, store: Arc<dyn OtherStore>) {
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        others.push(store);
    }

    /// Whether one of some keys leads to a record. Its layers may still be gone.
    #[must_use]
    pub fn knows(&self, keys: &[Digest]) -> bool {
        let state = self.state();
        keys.iter().any(|key| state.keys.contains_key(key))
    }

    /// The record that a key leads to, with its layers, and notes the use; none when there is no such
    /// record or its layers are gone.
    pub async fn find(&self, key: &Digest) -> Option<Hit> {
        let (record, used) = {
            let mut state = self.state();
            let id = state.keys.get(key)?.clone();
            state.take(&id)?
        };
        let (snapshots, wanted) = (self.snapshots.clone(), Arc::clone(&record));
        let restore = move || {
            let outputs = wanted.outputs.iter();
            outputs.map(|ids| snapshots.restore(ids)).collect()
        };
        // it fails only when it panics, and then nothing is found
        let outputs: Option<Vec<Snapshot>> =
            tokio::task::spawn_blocking(restore).await.unwrap_or(None);
        let Some(outputs) = outputs else {
            drop(used);
            self.forget(&record.id);
            return None;
        };
        self.touch(&record.id);
        Some(Hit {
            record,
            outputs,
            used,
        })
    }

    /// Notes a use.
    fn touch(&self, id: &str) {
        let mut state = self.state();
        if let Some(known) = state.records.get_mut(id) {
            known.uses.last = Timestamp::now();
            known.uses.count += 1;
            self.db.put(USES, id, &known.uses);
        }
    }

    /// Notes that another key leads to a record.
    pub fn add_key(&self, id: &str, key: &Digest) {
        let mut state = self.state();
        let Some(known) = state.records.get_mut(id) else {
            return;
        };
        if known.record.keys.contains(key) {
            return;
        }
        let record = Arc::make_mut(&mut known.record);
        record.keys.push(key.clone());
        let forgotten = (record.keys.len() > KEYS).then(|| record.keys.remove(1));
        let record = Arc::clone(&known.record);
        if let Some(forgotten) = forgotten
            && state.keys.get(&forgotten).is_some_and(|to| to == id)
        {
            state.keys.remove(&forgotten);
        }
        state.keys.insert(key.clone(), id.to_owned());
        self.db.put(RECORDS, id, &*record);
    }

    /// Stores what an operation has left. A record that the same keys led to is found no more.
    ///
    /// # Errors
    /// When it has no form in JSON.
    pub fn store(&self, record: Record) -> Result<(Arc<Record>, Arc<InUse>)> {
        let uses = Uses {
            last: record.created,
            count: 1,
        };
        let changes = vec![
            Change::put(RECORDS, &record.id, &record)?,
            Change::put(USES, &record.id, &uses)?,
        ];
        let id = record.id.clone();
        let taken = {
            let mut state = self.state();
            state.enter(&Arc::new(record), uses);
            self.db.write(changes);
            state.take(&id)
        };
        self.grown.notify_one();
        taken.ok_or_else(|| Error::internal(format!("the record {id} of the build cache is gone")))
    }

    /// Says what a record's layers take, once that is measured.
    pub fn set_size(&self, id: &str, size: u64) {
        let mut state = self.state();
        if let Some(known) = state.records.get_mut(id) {
            let record = Arc::make_mut(&mut known.record);
            record.size = size;
            self.db.put(RECORDS, id, record);
        }
        drop(state);
        self.grown.notify_one();
    }

    /// Removes a record; its layers go with the next collection.
    fn forget(&self, id: &str) -> Option<Arc<Record>> {
        let known = {
            let mut state = self.state();
            if state.records.get(id)?.used.strong_count() > 0 {
                return None;
            }
            state.leave(id)?
        };
        self.db
            .write(vec![Change::remove(RECORDS, id), Change::remove(USES, id)]);
        Some(known.record)
    }
}

#[cfg(test)]
mod tests;
