//! Folders that outlive the steps that use them: `RUN --mount=type=cache`.
//!
//! `mounts/<name>/data` is what a step sees, `mounts/<name>/record.json` what is known of it. A folder
//! is known by the id that the step gives and by what it is filled from at first.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use storage::{Cancel, Usage};

use crate::error::{Result, Step};
use crate::llb::digest_of;
use crate::snapshot::Snapshot;

/// Who may use a cache mount at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Everybody.
    Shared,
    /// One step a folder: another gets another folder.
    Private,
    /// One step: another waits.
    Locked,
}

/// What is known of a cache mount.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CacheMountRecord {
    /// Its folder's name.
    pub name: String,
    /// The id that steps give.
    pub id: String,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last used.
    pub last_used: Timestamp,
    /// How often it was used.
    pub uses: u64,
}

/// A cache mount as it stands.
#[derive(Clone, Debug)]
pub struct CacheMountState {
    /// What is known of it.
    pub record: CacheMountRecord,
    /// Bytes that it takes.
    pub size: u64,
    /// Whether a step uses it now.
    pub in_use: bool,
}

/// All cache mounts of a builder. Copies share it.
#[derive(Clone, Debug)]
pub struct CacheMounts(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    /// Users of each folder.
    used: Mutex<HashMap<String, usize>>,
    locks: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

/// A cache mount while a step has it.
#[derive(Debug)]
pub struct CacheMount {
    mounts: CacheMounts,
    name: String,
    _turn: Option<tokio::sync::OwnedMutexGuard<()>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for CacheMount {
    fn drop(&mut self) {
        let mut used = lock(&self.mounts.0.used);
        if let Some(count) = used.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                used.remove(&self.name);
            }
        }
    }
}

impl CacheMount {
    /// What the step sees.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.mounts.data(&self.name)
    }
}

impl CacheMounts {
    /// Opens the folder of cache mounts, and removes what a crash left half made.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn open(root: &Path) -> Result<Self> {
        let folder = root.join("mounts");
        let step = || format!("make folder {}", folder.display());
        let mut builder = std::fs::DirBuilder::new();
        builder
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .step(step)?;
        let mounts = Self(Arc::new(Inner {
            folder: folder.clone(),
            used: Mutex::default(),
            locks: Mutex::default(),
        }));
        for entry in std::fs::read_dir(&folder).step(step)?.flatten() {
            if mounts.read(&entry.path()).is_err() {
                storage::trees::remove(&entry.path()).step(step)?;
            }
        }
        Ok(mounts)
    }

    fn data(&self, name: &str) -> PathBuf {
        self.0.folder.join(name).join("data")
    }

    fn read(&self, folder: &Path) -> io::Result<CacheMountRecord> {
        Ok(serde_json::from_slice(&std::fs::read(
            folder.join("record.json"),
        )?)?)
    }

    /// Takes a cache mount, made of `base` when it is new.
    ///
    /// # Errors
    /// When it cannot be made.
    pub async fn take(&self, id: &str, base: &Snapshot, sharing: Sharing) -> Result<CacheMount> {
        let known = format!("{id}\0{}", base.id());
        let name = digest_of(known.as_bytes()).hex()[..32].to_owned();
        let (name, turn) = match sharing {
            Sharing::Shared => (name, None),
            Sharing::Locked => {
                let mutex = Arc::clone(lock(&self.0.locks).entry(name.clone()).or_default());
                (name, Some(mutex.lock_owned().await))
            }
            Sharing::Private => (name, None),
        };
        let mount = self.enter(&name, turn, sharing);
        let (mounts, base, id) = (self.clone(), base.clone(), id.to_owned());
        let name = mount.name.clone();
        super::blocking(move || mounts.fill(&name, &id, &base)).await?;
        Ok(mount)
    }

    /// Counts a user; a private one gets the first folder that nobody uses.
    fn enter(
        &self,
        name: &str,
        turn: Option<tokio::sync::OwnedMutexGuard<()>>,
        sharing: Sharing,
    ) -> CacheMount {
        let mut used = lock(&self.0.used);
        let mut chosen = name.to_owned();
        let mut number = 1_u64;
        while sharing == Sharing::Private && used.contains_key(&chosen) {
            chosen = format!("{name}-{number}");
            number += 1;
        }
        *used.entry(chosen.clone()).or_default() += 1;
        CacheMount {
            mounts: self.clone(),
            name: chosen,
            _turn: turn,
        }
    }

    /// Makes the folder when it is not there, and notes its use.
    fn fill(&self, name: &str, id: &str, base: &Snapshot) -> Result<()> {
        let folder = self.0.folder.join(name);
        let step = || format!("make cache mount {}", folder.display());
        // one at a time: two steps may be the first
        let _turn = lock(&self.0.locks);
        let now = Timestamp::now();
        let mut record = self.read(&folder).unwrap_or_else(|_| CacheMountRecord {
            name: name.to_owned(),
            id: id.to_owned(),
            created: now,
            last_used: now,
            uses: 0,
        });
        if record.uses == 0 && !folder.join("record.json").exists() {
            storage::trees::remove(&folder).step(step)?;
            std::fs::DirBuilder::new()
                .mode(0o700)
                .create(&folder)
                .step(step)?;
            let data = self.data(name);
            std::fs::DirBuilder::new()
                .mode(0o755)
                .create(&data)
                .step(step)?;
            if !base.is_scratch() {
                super::copy::copy_all(base, &data)?;
            }
        }
        record.uses += 1;
        record.last_used = now;
        let fresh = folder.join("record.new");
        let text = serde_json::to_vec(&record).step(step)?;
        std::fs::write(&fresh, text).step(step)?;
        std::fs::rename(fresh, folder.join("record.json")).step(step)
    }

    /// All cache mounts with what they take. It blocks.
    #[must_use]
    pub fn list(&self) -> Vec<CacheMountState> {
        let Ok(entries) = std::fs::read_dir(&self.0.folder) else {
            return Vec::new();
        };
        let state = |entry: io::Result<std::fs::DirEntry>| {
            let path = entry.ok()?.path();
            let record = self.read(&path).ok()?;
            let usage = storage::trees::usage(&path.join("data"), &Cancel::default());
            let in_use = lock(&self.0.used).contains_key(&record.name);
            Some(CacheMountState {
                size: usage.map_or(0, |Usage { allocated, .. }| allocated),
                in_use,
                record,
            })
        };
        entries.filter_map(state).collect()
    }

    /// Removes a cache mount that nobody uses; tells whether it did. It blocks.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn remove(&self, name: &str) -> Result<bool> {
        let folder = self.0.folder.join(name);
        let step = || format!("remove cache mount {}", folder.display());
        let away = self.0.folder.join(crate::id::new());
        let known = self.read(&folder).is_ok_and(|record| record.name == name);
        {
            let _turn = lock(&self.0.locks);
            if !known || lock(&self.0.used).contains_key(name) {
                return Ok(false);
            }
            // a folder without a record is none, whatever happens from here on
            std::fs::remove_file(folder.join("record.json")).step(step)?;
            std::fs::rename(&folder, &away).step(step)?;
        }
        storage::trees::remove(&away).step(step)?;
        Ok(true)
    }
}
