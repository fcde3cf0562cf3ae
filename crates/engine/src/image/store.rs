//! What a pull or an import puts into the store, and what keeps it there meanwhile.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use oci::{Digest, Reference};
use storage::failpoint::{self, Point};

use super::collect::Needed;
use super::{Image, Record, Tables};
use crate::container::lock;
use crate::db::{Change, Table};
use crate::engine::Engine;
use crate::error::{Error, Result};

/// Digests of blobs and chains that somebody is at work on: what is leased is not collected.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    held: Arc<Mutex<HashMap<Digest, usize>>>,
    /// Held while unused content is deleted, and for a moment when a lease is taken: a lease that is
    /// taken sees either all of a layer or nothing of it.
    pub(crate) collector: tokio::sync::Mutex<()>,
}

/// A lease; it ends with the value.
#[derive(Debug)]
pub(crate) struct Lease {
    held: Arc<Mutex<HashMap<Digest, usize>>>,
    digests: Vec<Digest>,
}

impl Leases {
    pub(crate) async fn take(&self, digests: Vec<Digest>) -> Lease {
        let _quiet = self.collector.lock().await;
        let mut held = lock(&self.held);
        for digest in &digests {
            *held.entry(digest.clone()).or_default() += 1;
        }
        drop(held);
        Lease {
            held: Arc::clone(&self.held),
            digests,
        }
    }

    /// Adds to a lease, from a thread that may block.
    pub(super) fn extend(&self, lease: &mut Lease, digest: Digest) {
        let _quiet = self.collector.blocking_lock();
        *lock(&self.held).entry(digest.clone()).or_default() += 1;
        lease.digests.push(digest);
    }

    /// Adds what is leased: a digest may be a blob's or a layer's.
    pub(super) fn add_to(&self, needed: &mut Needed) {
        let held = lock(&self.held);
        needed.blobs.extend(held.keys().cloned());
        needed.chains.extend(held.keys().cloned());
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut held = lock(&self.held);
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
        let (answer, changes) = change(&mut self.images.write())?;
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
        self.images.bell.notify_one();
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
    fn register(
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
