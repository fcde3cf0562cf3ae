//! Collecting: content that no image, no container and no work in progress needs goes.
//!
//! What is needed is read from the records of images and containers at each collection, so there is no
//! count that a crash could leave wrong. Work that is not a record yet holds [leases](super::Leases): those
//! in memory end with the engine, and those that are [written down](super::lease) stay for the next try.

use std::collections::HashSet;
use std::sync::Arc;

use oci::Digest;
use storage::Waste;
use storage::failpoint::{self, Point};

use crate::engine::Engine;
use crate::error::{Result, Step};

/// Less than this is little room for an image.
const LITTLE: u64 = 8 << 30;

/// Layers and blobs that have a reason to be there.
#[derive(Debug, Default)]
pub(crate) struct Needed {
    pub(crate) chains: HashSet<Digest>,
    pub(crate) blobs: HashSet<Digest>,
    /// Of either kind.
    pub(crate) leased: HashSet<Digest>,
}

impl Needed {
    /// Whether a blob has a reason to be there.
    pub(crate) fn has_blob(&self, digest: &Digest) -> bool {
        self.blobs.contains(digest) || self.leased.contains(digest)
    }

    /// Whether a layer has a reason to be there.
    pub(crate) fn has_layer(&self, chain: &Digest) -> bool {
        self.chains.contains(chain) || self.leased.contains(chain)
    }
}

impl Engine {
    /// Takes the layers and blobs away that nobody needs. They vanish by a rename each, under the lock that
    /// leases wait for; the store's trash gives their space back, which takes much longer.
    pub(crate) async fn collect(self: &Arc<Self>) {
        let waste = {
            let _quiet = self.images.leases.collector.lock().await;
            self.images.leases.clean();
            // an image that is being forgotten is still in the database: a crash would bring it back
            let _settled = self.images.order().await;
            let engine = Arc::clone(self);
            self.blocking(move || Ok(engine.detach_unneeded())).await
        };
        match waste {
            Ok(waste) => self.store.trash().put(waste),
            Err(error) => {
                tracing::error!(%error, "content that nobody needs could not be taken away");
            }
        }
    }

    /// The same, and waits until the space is free.
    pub(crate) async fn collect_and_free(self: &Arc<Self>) {
        self.collect().await;
        self.empty_trash().await;
    }

    /// Waits until nothing takes space that is removed.
    pub(crate) async fn empty_trash(self: &Arc<Self>) {
        if self.store.trash().is_empty() {
            return;
        }
        let store = Arc::clone(&self.store);
        let wait = move || {
            store.trash().wait();
            Ok(())
        };
        if let Err(error) = self.blocking(wait).await {
            tracing::error!(%error, "the trash could not be waited for");
        }
    }

    /// Waits for the trash where the disk has little room: what is removed is of use to what comes.
    pub(crate) async fn make_room(self: &Arc<Self>) {
        if !self.store.trash().is_empty() && self.is_nearly_full() {
            self.empty_trash().await;
        }
    }

    fn is_nearly_full(&self) -> bool {
        rustix::fs::statvfs(self.store.root()).is_ok_and(|found| {
            let (all, free) = (found.f_blocks, found.f_bavail);
            free < all / 8 || free.saturating_mul(found.f_frsize) < LITTLE
        })
    }

    /// What has to stay. Read after the content was listed: what comes later was not listed.
    pub(crate) fn needed(&self) -> Result<Needed> {
        let mut needed = Needed::default();
        for image in self.images.all() {
            needed.chains.extend(image.chain_ids());
            needed.blobs.extend(image.blobs().cloned());
        }
        for container in self.containers.all() {
            needed
                .chains
                .extend(container.record().layers.iter().cloned());
        }
        for keeper in &self.config.keepers {
            let kept = keeper.kept().step(|| "ask who else keeps content")?;
            // a chain id is no blob's digest, but that of the lowest layer, which may be one
            needed.chains.extend(kept.iter().cloned());
            needed.blobs.extend(kept);
        }
        needed.leased = self.images.leases.leased();
        Ok(needed)
    }

    fn detach_unneeded(&self) -> Vec<Waste> {
        let mut waste = Vec::new();
        if let Err(error) = self.detach_into(&mut waste) {
            // what is out of sight already is deleted nevertheless
            tracing::error!(%error, "content that nobody needs stays");
        }
        if !waste.is_empty() {
            failpoint::reach(Point::Collected);
        }
        waste
    }

    fn detach_into(&self, waste: &mut Vec<Waste>) -> Result<()> {
        let blobs = self.store.content().list().step(|| "list blobs")?;
        let needed = self.needed()?;
        self.detach_layers(&needed, waste);
        for (digest, _) in blobs {
            if needed.leased.contains(&digest) && !needed.blobs.contains(&digest) {
                self.images.leases.owe();
            } else if !needed.has_blob(&digest) {
                let blob = self.store.content().detach(&digest);
                let step = || format!("remove blob {digest}");
                waste.extend(blob.step(step)?.map(Waste::from));
            }
        }
        Ok(())
    }

    /// Takes unused layers away, children before their parents.
    pub(crate) fn detach_layers(&self, needed: &Needed, waste: &mut Vec<Waste>) {
        loop {
            let layers = self.store.layers().list();
            let parents: HashSet<&Digest> =
                layers.iter().filter_map(|l| l.parent.as_ref()).collect();
            let unused = layers.iter().map(|layer| &layer.chain);
            let unused = unused.filter(|c| !needed.has_layer(c) && !parents.contains(*c));
            let mut leased = layers.iter().map(|layer| &layer.chain);
            if leased.any(|c| needed.leased.contains(c) && !needed.chains.contains(c)) {
                self.images.leases.owe();
            }
            let mut any = false;
            for chain in unused {
                match self.store.layers().detach(chain) {
                    Ok(layer) => {
                        any = true;
                        waste.extend(layer.map(Waste::from));
                    }
                    Err(error) => {
                        tracing::error!(%chain, %error, "a layer that nobody needs stays");
                    }
                }
            }
            if !any {
                return;
            }
        }
    }
}
