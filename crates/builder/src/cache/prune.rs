//! What goes: on a client's word, and by itself when there is no room.
//!
//! A record goes only when nothing is made from it any more: what it has are the lower layers of
//! those. So each round takes those at the end, what was not used for longest first.

use std::collections::{BinaryHeap, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::filter::Filter;
use super::{Cache, RecordKind, Usage};
use crate::builder::Settings;
use crate::error::{Error, Result, Step};

/// How often the collector looks when nothing was added.
const INTERVAL: Duration = Duration::from_secs(60);
/// How long it gathers what was added.
const GATHER: Duration = Duration::from_millis(500);

/// What a client wants to go.
#[derive(Clone, Debug, Default)]
pub struct PruneRequest {
    /// Also what images share, and what no client has asked for by name.
    pub all: bool,
    /// Filters as [`Filter`] reads them.
    pub filters: Vec<String>,
    /// Only what was not used for so long.
    pub unused_for: Option<Duration>,
    /// Stop when no more than so many bytes are left.
    pub reserved_space: Option<u64>,
    /// Remove only until no more than so many bytes are left.
    pub max_used: Option<u64>,
    /// Remove only until so many bytes are free on the file system.
    pub min_free: Option<u64>,
}

/// How many bytes are to go; everything where it is absent.
#[derive(Clone, Copy, Debug, Default)]
struct Goal {
    bytes: Option<u64>,
}

impl Cache {
    /// Removes what nobody uses and the request selects; gives what went, with the bytes it took.
    ///
    /// # Errors
    /// When a filter is malformed, or the disk fails.
    pub async fn prune(self: &Arc<Self>, request: PruneRequest) -> Result<Vec<Usage>> {
        let filter = Filter::parse(&request.filters)?;
        let cache = Arc::clone(self);
        let work = move || cache.prune_now(&request, &filter);
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(|e| Error::system("prune the build cache", &e))?
    }

    fn prune_now(&self, request: &PruneRequest, filter: &Filter) -> Result<Vec<Usage>> {
        let list = self.usage();
        let goal = self.goal(request, &list)?;
        let before = request
            .unused_for
            .and_then(|d| Timestamp::now().checked_sub(d).ok());
        let meant = |usage: &Usage| {
            let hidden = matches!(usage.kind, RecordKind::Internal | RecordKind::Frontend);
            let old = before.is_none_or(|before| last(usage) <= before);
            (request.all || !(hidden || usage.shared)) && old && filter.matches(usage)
        };
        let meant: HashSet<String> = {
            let chosen = list.iter().filter(|u| !u.in_use && meant(u));
            chosen.map(|u| u.id.clone()).collect()
        };
        let gone = self.remove(list, &meant, goal)?;
        if !gone.is_empty() {
            self.collect_layers()?;
        }
        Ok(gone)
    }

    fn goal(&self, request: &PruneRequest, list: &[Usage]) -> Result<Goal> {
        let used: u64 = list.iter().filter(|u| !u.shared).map(|u| u.size).sum();
        let mut bytes = None;
        let mut want = |n: u64| bytes = Some(bytes.unwrap_or(0).max(n));
        if let Some(max) = request.max_used {
            want(used.saturating_sub(max));
        }
        if let Some(min) = request.min_free {
            want(min.saturating_sub(free(&self.root)?));
        }
        if let Some(reserved) = request.reserved_space {
            let most = used.saturating_sub(reserved);
            bytes = Some(bytes.map_or(most, |n| n.min(most)));
        }
        Ok(Goal { bytes })
    }

    /// Removes of what is meant the ends, what was not used for longest first, until enough is gone.
    fn remove(&self, list: Vec<Usage>, meant: &HashSet<String>, goal: Goal) -> Result<Vec<Usage>> {
        let mut children: HashMap<String, usize> = HashMap::new();
        for parent in list.iter().flat_map(|u| &u.parents) {
            *children.entry(parent.clone()).or_default() += 1;
        }
        let mut all: HashMap<String, Usage> = list.into_iter().map(|u| (u.id.clone(), u)).collect();
        let place = |usage: &Usage| (std::cmp::Reverse(last(usage)), usage.id.clone());
        let is_end = |children: &HashMap<String, usize>, id: &str| {
            meant.contains(id) && children.get(id).is_none_or(|n| *n == 0)
        };
        let ends = all.values().filter(|u| is_end(&children, &u.id));
        let mut ends: BinaryHeap<_> = ends.map(place).collect();
        let mut gone = Vec::new();
        let mut freed = 0_u64;
        while let Some((_, id)) = ends.pop() {
            if goal.bytes.is_some_and(|bytes| freed >= bytes) {
                break;
            }
            if !self.remove_one(&id)? {
                continue;
            }
            let Some(usage) = all.remove(&id) else {
                continue;
            };
            for parent in &usage.parents {
                if let Some(count) = children.get_mut(parent) {
                    *count = count.saturating_sub(1);
                }
                if let Some(usage) = all.get(parent).filter(|_| is_end(&children, parent)) {
                    ends.push(place(usage));
                }
            }
            if !usage.shared {
                freed = freed.saturating_add(usage.size);
            }
            gone.push(usage);
        }
        Ok(gone)
    }

    fn remove_one(&self, id: &str) -> Result<bool> {
        if self.forget(id).is_some() {
            return Ok(true);
        }
        if self.state().records.contains_key(id) {
            return Ok(false);
        }
        for other in self.others() {
            if other.remove(id)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Removes the layers that no record has and nobody uses.
    fn collect_layers(&self) -> Result<u64> {
        let wanted = |id: &str| self.state().layers.contains_key(id);
        let freed = self.snapshots.retain(wanted);
        freed.step(|| "remove layers of the build cache")
    }

    /// Keeps the cache within its limits as long as the builder lives.
    pub(crate) async fn keep_small(
        cache: std::sync::Weak<Self>,
        settings: tokio::sync::watch::Receiver<Settings>,
    ) {
        loop {
            let Some(now) = cache.upgrade() else {
                return;
            };
            let settings = settings.borrow().clone();
            if let Err(error) = now.collect(&settings).await {
                tracing::warn!(%error, "the build cache is not collected");
            }
            let grown = Arc::clone(&now.grown);
            drop(now);
            // an error is the interval's end
            let _late = tokio::time::timeout(INTERVAL, grown.notified()).await;
            tokio::time::sleep(GATHER).await;
        }
    }

    /// One round of the collector: with a limit that is passed, what was not used for longest goes.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn collect(self: &Arc<Self>, settings: &Settings) -> Result<Vec<Usage>> {
        let max_used = match settings.cache_max_size {
            Some(0) => None,
            Some(max) => Some(max),
            None => Some(disk(&self.root)? / 10),
        };
        let min_free = settings.cache_min_free.filter(|min| *min > 0);
        if max_used.is_none() && min_free.is_none() {
            return Ok(Vec::new());
        }
        let gone = self
            .prune(PruneRequest {
                all: true,
                max_used,
                min_free,
                ..PruneRequest::default()
            })
            .await?;
        if !gone.is_empty() {
            let bytes: u64 = gone.iter().map(|u| u.size).sum();
            tracing::info!(records = gone.len(), bytes, "the build cache was collected");
        }
        Ok(gone)
    }
}

fn last(usage: &Usage) -> Timestamp {
    usage.uses.map_or(usage.created, |uses| uses.last)
}

/// Bytes of a folder's file system.
fn disk(folder: &Path) -> Result<u64> {
    let stat = rustix::fs::statvfs(folder)
        .step(|| format!("ask how large the disk at {} is", folder.display()))?;
    Ok(stat.f_blocks.saturating_mul(stat.f_frsize))
}

/// Bytes that are free for us on a folder's file system.
fn free(folder: &Path) -> Result<u64> {
    let stat = rustix::fs::statvfs(folder)
        .step(|| format!("ask how much is free at {}", folder.display()))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}
