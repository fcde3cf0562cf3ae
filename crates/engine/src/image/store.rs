//! What a pull or an import puts into the store, and what keeps it there meanwhile.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use oci::{Digest, Reference};

use super::{Image, Record};
use crate::container::lock;
use crate::db::Table;
use crate::engine::Engine;
use crate::error::Result;

/// Digests of blobs and chains that somebody is at work on: what is leased is not collected.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    held: Arc<Mutex<HashMap<Digest, usize>>>,
    /// Held while unused content is deleted, and for a moment when a lease is taken: a lease that is
    /// taken sees either all of a layer or nothing of it.
    pub(super) collector: tokio::sync::Mutex<()>,
}

/// A lease; it ends with the value.
#[derive(Debug)]
pub(crate) struct Lease {
    held: Arc<Mutex<HashMap<Digest, usize>>>,
    digests: Vec<Digest>,
}

impl Leases {
    pub(super) async fn take(&self, digests: Vec<Digest>) -> Lease {
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

    pub(super) fn holds(&self, digest: &Digest) -> bool {
        lock(&self.held).contains_key(digest)
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
    /// Makes an image known, gives it its names, and takes them from those that had them.
    pub(super) async fn register_image(
        &self,
        record: Record,
        tag: Option<&Reference>,
        digest: Option<&Reference>,
    ) -> Result<Registered> {
        let tag = tag.map(ToString::to_string);
        let digest = digest.map(ToString::to_string);
        let (saved, others, registered) = {
            let mut tables = self.images.write();
            let known = tables.by_id.get(&record.id).cloned();
            let mut record = match &known {
                // the names it has stay; the layers are the same by content
                Some(image) => Record {
                    tags: image.record.tags.clone(),
                    digests: image.record.digests.clone(),
                    ..record
                },
                None => record,
            };
            let had = |list: &[String], name: &Option<String>| {
                name.as_ref().is_none_or(|name| list.contains(name))
            };
            let same = known.is_some() && had(&record.tags, &tag) && had(&record.digests, &digest);
            let mut others = Vec::new();
            if let Some(tag) = &tag {
                if let Some(owner) = tables
                    .by_name
                    .get(tag)
                    .filter(|owner| **owner != record.id)
                    .cloned()
                    && let Some(image) = tables.by_id.get(&owner).cloned()
                {
                    let mut other = image.record.clone();
                    other.tags.retain(|name| name != tag);
                    others.push(other.clone());
                    tables.insert(Image::new(other));
                }
                if !record.tags.contains(tag) {
                    record.tags.push(tag.clone());
                }
            }
            if let Some(digest) = digest.filter(|name| !record.digests.contains(name)) {
                record.digests.push(digest);
            }
            if !same {
                record.tagged = Some(Timestamp::now());
            }
            tables.insert(Image::new(record.clone()));
            (
                record,
                others,
                if same {
                    Registered::Known
                } else {
                    Registered::New
                },
            )
        };
        for other in others {
            self.db
                .put(Table::Images, &other.id.to_string(), &other)
                .await?;
        }
        self.db
            .put(Table::Images, &saved.id.to_string(), &saved)
            .await?;
        Ok(registered)
    }
}
