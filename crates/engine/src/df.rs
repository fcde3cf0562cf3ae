//! Where the disk space went, and how it is measured.
//!
//! A walk over a large tree is slow and others want the disk too. So a walk is off the async threads,
//! only a few go on at a time, all who want the same wait for one, and it ends when the one who asked has
//! gone; the next who waits begins anew. What was found stands for a while that grows with what it took.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use api::query::{ContainerList, DiskUsageTypes, ImageList};
use api::system::{Account, ContainerAccount, DiskUsage};
use oci::{ContainerId, Digest};
use storage::Cancel;
use tokio::sync::Semaphore;

use crate::engine::Engine;
use crate::error::{Error, Result, Step};

/// Walks that go on at the same time.
const AT_ONCE: usize = 2;
/// A result stands for so many times what its walk took.
const STANDS: u32 = 10;
/// Results kept; beyond that, those that stand no more are let go.
const KEPT: usize = 1024;

/// The results of walks, and the places of those that go on.
#[derive(Debug)]
pub(crate) struct Measured {
    places: Arc<Semaphore>,
    slots: Mutex<HashMap<PathBuf, Slot>>,
}

type Slot = Arc<tokio::sync::Mutex<Option<Kept>>>;

/// A result and how long it stands.
#[derive(Clone, Debug)]
struct Kept {
    until: Instant,
    account: Arc<storage::account::Account>,
    bytes: u64,
}

/// What a walk gives: an account of the whole folder, or the bytes of one tree.
type Walk = Box<dyn FnOnce(&Cancel) -> Result<(storage::account::Account, u64)> + Send>;

impl Default for Measured {
    fn default() -> Self {
        Self {
            places: Arc::new(Semaphore::new(AT_ONCE)),
            slots: Mutex::default(),
        }
    }
}

/// Ends a walk when nobody waits for it any more.
struct EndOnDrop(Cancel);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Measured {
    fn slot(&self, path: &Path) -> Slot {
        let mut slots = self
            .slots
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if slots.len() >= KEPT {
            let now = Instant::now();
            slots.retain(|_, slot| {
                let stands = |kept: &Option<Kept>| kept.as_ref().is_some_and(|k| k.until > now);
                Arc::strong_count(slot) > 1 || slot.try_lock().is_ok_and(|kept| stands(&kept))
            });
        }
        Arc::clone(slots.entry(path.to_owned()).or_default())
    }

    async fn get(&self, path: &Path, walk: Walk) -> Result<Kept> {
        let slot = self.slot(path);
        let mut kept = slot.lock().await;
        if let Some(kept) = kept.as_ref().filter(|kept| kept.until > Instant::now()) {
            return Ok(kept.clone());
        }
        let place = Arc::clone(&self.places).acquire_owned().await;
        let cancel = Cancel::default();
        let _end = EndOnDrop(cancel.clone());
        let begun = Instant::now();
        let work = tokio::task::spawn_blocking(move || {
            let found = walk(&cancel);
            drop(place);
            found
        });
        let (account, bytes) = work
            .await
            .map_err(|e| Error::internal(format!("a measurement failed: {e}")))??;
        let took: Duration = begun.elapsed();
        let found = Kept {
            until: Instant::now() + took * STANDS,
            account: Arc::new(account),
            bytes,
        };
        *kept = Some(found.clone());
        Ok(found)
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

impl Engine {
    /// Bytes of what a container has written; none when it is gone.
    pub(crate) async fn container_size(&self, id: &ContainerId) -> Result<u64> {
        let folder = self.store.containers().get(id);
        let path = folder.upper();
        let walk: Walk = Box::new(move |cancel| {
            let bytes = folder.usage(cancel).map_or(0, |usage| usage.files);
            Ok((storage::account::Account::default(), bytes))
        });
        Ok(self.measured.get(&path, walk).await?.bytes)
    }

    /// Bytes of a volume's files.
    pub(crate) async fn volume_size(&self, name: &str) -> Result<u64> {
        let step = || format!("measure volume {name}");
        let volume = self.store.volumes().get(name).step(step)?;
        let (path, name) = (volume.data(), name.to_owned());
        let walk: Walk = Box::new(move |cancel| {
            let usage = volume
                .usage(cancel)
                .step(|| format!("measure volume {name}"))?;
            Ok((storage::account::Account::default(), usage.files))
        });
        Ok(self.measured.get(&path, walk).await?.bytes)
    }

    /// Every byte below the engine's folder.
    async fn account(&self) -> Result<Account> {
        let root = self.config.root.clone();
        let walk: Walk = {
            let root = root.clone();
            Box::new(move |cancel| {
                let found = storage::account::account(&root, cancel)
                    .step(|| "account for the engine's folder")?;
                Ok((found, 0))
            })
        };
        let found = self.measured.get(&root, walk).await?.account;
        let details = found.containers.iter().map(|one| {
            let name = self.containers.get(&one.id);
            ContainerAccount {
                id: one.id.clone(),
                name: name.map_or_else(|_| String::new(), |c| c.record().name.clone()),
                rw: signed(one.writable),
                logs: signed(one.logs),
                metadata: signed(one.metadata),
            }
        });
        Ok(Account {
            blobs: signed(found.blobs),
            snapshots: signed(found.snapshots),
            containers: signed(found.writable),
            logs: signed(found.logs),
            volumes: signed(found.volumes),
            build_cache: signed(found.build_cache),
            metadata: signed(found.metadata),
            other: signed(found.other),
            total: signed(found.total),
            container_details: Some(details.collect()),
        })
    }

    /// Where the disk space went.
    ///
    /// # Errors
    /// When something cannot be measured.
    pub async fn disk_usage(self: &Arc<Self>, types: &DiskUsageTypes) -> Result<DiskUsage> {
        let mut usage = DiskUsage::default();
        if types.images {
            usage.layers_size = self.layers_size();
            usage.images = Some(self.image_usage()?);
        }
        if types.containers {
            let all = ContainerList {
                all: true,
                size: true,
                ..ContainerList::default()
            };
            usage.containers = Some(self.container_list(&all).await?);
        }
        if types.volumes {
            usage.volumes = Some(self.volume_usage().await?);
        }
        if types.build_cache {
            usage.build_cache = Some(Vec::new());
        }
        if types.is_everything() {
            usage.gorae = Some(self.account().await?);
        }
        Ok(usage)
    }

    /// Bytes of the files of all layers, each layer once.
    fn layers_size(&self) -> i64 {
        let mut seen = HashSet::new();
        let mut sum = 0_u64;
        for image in self.images.all() {
            for layer in &image.record.layers {
                if seen.insert(layer.chain.clone()) {
                    sum = sum.saturating_add(layer.size);
                }
            }
        }
        signed(sum)
    }

    /// The images with what each shares with others.
    fn image_usage(&self) -> Result<Vec<api::image::Summary>> {
        let all = self.images.all();
        let mut users: HashMap<&Digest, u32> = HashMap::new();
        for layer in all.iter().flat_map(|image| &image.record.layers) {
            *users.entry(&layer.chain).or_default() += 1;
        }
        let shared: HashMap<String, u64> = all
            .iter()
            .map(|image| {
                let shared = image.record.layers.iter();
                let shared = shared.filter(|layer| users.get(&layer.chain).is_some_and(|n| *n > 1));
                (image.id.to_string(), shared.map(|layer| layer.size).sum())
            })
            .collect();
        let mut images = self.image_list(&ImageList::default())?;
        for image in &mut images {
            image.shared_size = signed(shared.get(&image.id).copied().unwrap_or(0));
            // unlike in the list of images, what is empty is null here
            image.repo_tags.take_if(|tags| tags.is_empty());
            image.repo_digests.take_if(|digests| digests.is_empty());
        }
        Ok(images)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn walk(count: &Arc<AtomicU32>, takes: Duration) -> Walk {
        let count = Arc::clone(count);
        Box::new(move |_| {
            std::thread::sleep(takes);
            let n = count.fetch_add(1, Ordering::Relaxed) + 1;
            Ok((storage::account::Account::default(), n.into()))
        })
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn those_who_want_the_same_wait_for_one_walk() {
        let measured = Measured::default();
        let count = Arc::new(AtomicU32::new(0));
        let takes = Duration::from_millis(50);
        let one = || measured.get(Path::new("/a"), walk(&count, takes));
        let (a, b, c) = tokio::join!(one(), one(), one());
        let bytes: Vec<u64> = [a, b, c].map(|found| found.unwrap().bytes).into();
        assert_eq!(bytes, [1, 1, 1]);
        let other = measured.get(Path::new("/b"), walk(&count, takes)).await;
        assert_eq!(other.unwrap().bytes, 2);
        // what was quick to find is soon looked for again
        let quick = Duration::ZERO;
        measured
            .get(Path::new("/c"), walk(&count, quick))
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        let again = measured.get(Path::new("/c"), walk(&count, quick)).await;
        assert_eq!(again.unwrap().bytes, 4);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_walk_ends_with_those_who_wait() {
        let measured = Measured::default();
        let (tell, told) = std::sync::mpsc::channel();
        let walk: Walk = Box::new(move |cancel| {
            let folder = tempfile::tempdir().unwrap();
            while storage::account::account(folder.path(), cancel).is_ok() {
                // nothing in it: only a walk that steps notices that it is over
                std::fs::create_dir_all(folder.path().join("volumes/x")).unwrap();
            }
            tell.send(()).unwrap();
            Err(Error::internal("over"))
        });
        let waiting = measured.get(Path::new("/a"), walk);
        let gone = tokio::time::timeout(Duration::from_millis(50), waiting).await;
        assert!(gone.is_err());
        told.recv_timeout(Duration::from_secs(5)).unwrap();
    }
}
