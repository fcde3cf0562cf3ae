//! What a pull or an import puts into the store, and what keeps it there meanwhile.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use jiff::Timestamp;
use oci::{Digest, Reference};
use storage::failpoint::{self, Point};
use tokio::sync::Notify;

use super::lease::Rows;
use super::{Image, Record, Tables};
use crate::container::lock;
use crate::db::{Change, Table};
use crate::engine::Engine;
use crate::error::{Error, Result};

/// Digests of blobs and chains that somebody is at work on: what is leased is not collected. Leases that
/// outlive the engine are in the [database](super::lease).
#[derive(Debug, Default)]
pub(crate) struct Leases {
    held: Arc<Held>,
    /// Held while unused content is taken out of sight, and for a moment when a lease is taken: a lease
    /// that is taken sees either all of a layer or nothing of it.
    pub(crate) collector: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Held {
    digests: Mutex<HashMap<Digest, usize>>,
    /// Those that are in the database.
    rows: Mutex<Rows>,
    /// Something may have lost its last reason to be there since it was last looked for.
    dirty: AtomicBool,
    /// A lease alone has kept something from going.
    owing: AtomicBool,
    /// Wakes the collector.
    bell: Notify,
}

impl Held {
    fn mark(&self) {
        self.dirty.store(true, Ordering::SeqCst);
        self.bell.notify_one();
    }
}

/// What its holder does with the digests of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// Brings content, some of which may turn out to be of no use.
    Bring,
    /// Uses content that is there.
    Use,
}

/// A lease; it ends with the value.
#[derive(Debug)]
pub(crate) struct Lease {
    held: Arc<Held>,
    digests: Vec<Digest>,
    purpose: Purpose,
    /// The name of its row in the database, if it has one.
    pub(super) row: OnceLock<String>,
}

impl Lease {
    /// What it holds.
    pub(super) fn digests(&self) -> &[Digest] {
        &self.digests
    }
}

impl Leases {
    /// Leases content that is to come.
    pub(crate) async fn take(&self, digests: Vec<Digest>) -> Lease {
        self.take_for(Purpose::Bring, digests).await
    }

    /// Leases content that is there.
    pub(crate) async fn take_there(&self, digests: Vec<Digest>) -> Lease {
        self.take_for(Purpose::Use, digests).await
    }

    async fn take_for(&self, purpose: Purpose, digests: Vec<Digest>) -> Lease {
        let _quiet = self.collector.lock().await;
        let mut held = lock(&self.held.digests);
        for digest in &digests {
            *held.entry(digest.clone()).or_default() += 1;
        }
        drop(held);
        Lease {
            held: Arc::clone(&self.held),
            digests,
            purpose,
            row: OnceLock::new(),
        }
    }

    /// Adds to a lease, from a thread that may block.
    pub(super) fn extend(&self, lease: &mut Lease, digest: Digest) {
        let _quiet = self.collector.blocking_lock();
        *lock(&self.held.digests).entry(digest.clone()).or_default() += 1;
        lease.digests.push(digest);
    }

    /// What is leased: a digest may be a blob's or a layer's.
    pub(super) fn leased(&self) -> HashSet<Digest> {
        let mut leased: HashSet<Digest> = lock(&self.held.digests).keys().cloned().collect();
        leased.extend(lock(&self.held.rows).kept().cloned());
        leased
    }

    /// The leases of the database.
    pub(super) fn all_rows(&self) -> &Mutex<Rows> {
        &self.held.rows
    }

    /// Notes that something may be of no use from now on. Done before it is so where others can see it,
    /// under the lock that they see it by.
    pub(crate) fn mark(&self) {
        self.held.mark();
    }

    /// Notes that what a lease alone has kept is to be looked for when it ends.
    pub(super) fn owe(&self) {
        self.held.owing.store(true, Ordering::SeqCst);
    }

    /// Whether something may be there that is of no use and has not been looked for.
    pub(crate) fn is_dirty(&self) -> bool {
        self.held.dirty.load(Ordering::SeqCst)
    }

    /// Says that the search has begun.
    pub(super) fn clean(&self) {
        self.held.dirty.store(false, Ordering::SeqCst);
    }

    /// Asks the collector for a look before its time.
    pub(super) fn ring(&self) {
        self.held.bell.notify_one();
    }

    /// Waits until somebody rings.
    pub(super) fn rung(&self) -> impl Future<Output = ()> + Send + 'static {
        let held = Arc::clone(&self.held);
        async move { held.bell.notified().await }
    }

    /// Something that rings from any thread.
    pub(super) fn ringer(&self) -> impl Fn() + Send + Sync + 'static {
        let held = Arc::clone(&self.held);
        move || held.bell.notify_one()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(row) = self.row.get() {
            lock(&self.held.rows).end(row, &self.digests);
        }
        let mut held = lock(&self.held.digests);
        if self.purpose == Purpose::Bring || self.held.owing.swap(false, Ordering::SeqCst) {
            self.held.mark();
        }
        for digest in &self.digests {
            if let Some(count) = held.get_mut(digest) {
                *count -= 1;
                if *count == 0 {
                    held.remove(digest);
                }
            }
        }
    }
}

/// What happened to an image's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Registered {
    /// The image or its name is new.
    New,
    /// The name stood at this image before.
    Known,
}

impl Engine {
    /// Changes the images in memory and on the disk, or nowhere: a disk that is full leaves all as it was.
    pub(super) async fn change_images<T>(
        &self,
        change: impl FnOnce(&mut Tables) -> Result<(T, Vec<Change>)> + Send,
    ) -> Result<T> {
        let _order = self.images.order.lock().await;
        let before = self.images.read().clone();
        let (answer, changes) = {
            let mut tables = self.images.write();
            self.images.leases.mark();
            change(&mut tables)?
        };
        if changes.is_empty() {
            return Ok(answer);
        }
        let saved = match self.db.begin(changes).await {
            Ok(saved) => saved.wait().await,
            Err(error) => Err(error),
        };
        if saved.is_err() {
            *self.images.write() = before;
        }
        saved.map(|()| answer)
    }

    /// Makes an image known, gives it its names, and takes them from those that had them.
    pub(super) async fn register_image(
        &self,
        record: Record,
        tag: Option<&Reference>,
        digest: Option<&Reference>,
    ) -> Result<Registered> {
        let tag = tag.map(ToString::to_string);
        let digest = digest.map(ToString::to_string);
        let id = record.id.clone();
        failpoint::reach(Point::ImageComplete);
        let registered = self
            .change_images(|tables| tables.register(record, tag, digest))
            .await?;
        failpoint::reach(Point::ImageNoted);
        self.image_used(&id).await;
        self.images.leases.ring();
        Ok(registered)
    }

    /// Gives an image one more name; `shown` is what the client called it.
    pub(super) async fn name_image(&self, shown: &str, id: &Digest, tag: &Reference) -> Result<()> {
        self.change_images(|tables| {
            // it may have been removed since it was looked up
            let image = tables.by_id.get(id);
            let image = image.ok_or_else(|| Error::not_found(format!("No such image: {shown}")))?;
            let record = image.record.clone();
            tables.register(record, Some(tag.to_string()), None)
        })
        .await?;
        failpoint::reach(Point::ImageNoted);
        self.image_used(id).await;
        Ok(())
    }
}

impl Tables {
    pub(super) fn register(
        &mut self,
        mut record: Record,
        tag: Option<String>,
        digest: Option<String>,
    ) -> Result<(Registered, Vec<Change>)> {
        let known = self.by_id.get(&record.id);
        if let Some(known) = known {
            // the names it has stay; the layers are the same by content
            record.tags.clone_from(&known.record.tags);
            record.digests.clone_from(&known.record.digests);
        }
        let is_known = known.is_some();
        let had =
            |list: &[String], name: &Option<String>| name.as_ref().is_none_or(|n| list.contains(n));
        let same = is_known && had(&record.tags, &tag) && had(&record.digests, &digest);
        let mut changes = Vec::new();
        if let Some(tag) = tag.filter(|tag| !record.tags.contains(tag)) {
            changes.extend(self.take_tag(&tag, &record.id)?);
            record.tags.push(tag);
        }
        if let Some(digest) = digest.filter(|name| !record.digests.contains(name)) {
            record.digests.push(digest);
        }
        if !same {
            record.tagged = Some(Timestamp::now());
        }
        let key = record.id.to_string();
        changes.push(Change::put(Table::Images, &key, &record)?);
        self.insert(Image::new(record));
        let registered = if same {
            Registered::Known
        } else {
            Registered::New
        };
        Ok((registered, changes))
    }

    /// Takes a tag from the image that has it, if that is another one.
    fn take_tag(&mut self, tag: &str, new_owner: &Digest) -> Result<Option<Change>> {
        let owner = self.by_name.get(tag).filter(|owner| *owner != new_owner);
        let Some(owner) = owner.and_then(|owner| self.by_id.get(owner)) else {
            return Ok(None);
        };
        let mut other = owner.record.clone();
        other.tags.retain(|name| name != tag);
        let change = Change::put(Table::Images, &other.id.to_string(), &other)?;
        self.insert(Image::new(other));
        Ok(Some(change))
    }
}
