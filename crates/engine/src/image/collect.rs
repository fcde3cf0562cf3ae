//! Collecting: content that no image, no container and no work in progress needs goes.
//!
//! What is needed is read from the records of images and containers at each collection, so there is no
//! count that a crash could leave wrong. Work that is not a record yet holds [leases](super::Leases), which
//! live in memory: they end with the engine, and what they held is collected at the next start.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex};

use oci::Digest;
use storage::failpoint::{self, Point};
use storage::{DetachedBlob, DetachedLayer};

use crate::container::lock;
use crate::engine::Engine;
use crate::error::{Result, Step, chain};

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

/// What is out of sight, and is to be deleted.
#[derive(Debug, Default)]
struct Waste {
    layers: Vec<DetachedLayer>,
    blobs: Vec<DetachedBlob>,
}

impl Engine {
    /// Deletes the layers and blobs that nobody needs, and returns when their space is free.
    ///
    /// They vanish by a rename each, under the lock that leases wait for; deleting them, which takes much
    /// longer, holds nobody up.
    pub(crate) async fn collect(self: &Arc<Self>) {
        let waste = {
            let _quiet = self.images.leases.collector.lock().await;
            self.images.leases.clean();
            // an image that is being forgotten is still in the database: a crash would bring it back
            let _settled = self.images.order().await;
            let engine = Arc::clone(self);
            self.blocking(move || Ok(engine.detach_unneeded())).await
        };
        let delete = move || {
            waste?.delete();
            Ok(())
        };
        if let Err(error) = self.blocking(delete).await {
            tracing::error!(%error, "content that nobody needs could not be deleted");
        }
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

    fn detach_unneeded(&self) -> Waste {
        let mut waste = Waste::default();
        if let Err(error) = self.detach_into(&mut waste) {
            // what is out of sight already is deleted nevertheless
            tracing::error!(%error, "content that nobody needs stays");
        }
        if !waste.layers.is_empty() || !waste.blobs.is_empty() {
            failpoint::reach(Point::Collected);
        }
        waste
    }

    fn detach_into(&self, waste: &mut Waste) -> Result<()> {
        let blobs = self.store.content().list().step(|| "list blobs")?;
        let needed = self.needed()?;
        self.detach_layers(&needed, &mut waste.layers);
        for (digest, _) in blobs {
            if needed.leased.contains(&digest) && !needed.blobs.contains(&digest) {
                self.images.leases.owe();
            } else if !needed.has_blob(&digest) {
                let blob = self.store.content().detach(&digest);
                let step = || format!("remove blob {digest}");
                waste.blobs.extend(blob.step(step)?);
            }
        }
        Ok(())
    }

    /// Takes unused layers away, children before their parents.
    pub(crate) fn detach_layers(&self, needed: &Needed, waste: &mut Vec<DetachedLayer>) {
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
                        waste.extend(layer);
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

/// Threads that delete; more of them wait for the file system's journal only.
const THREADS: usize = 3;

impl Waste {
    /// Deletes everything, several things at a time: to give a large file's space back is one long call.
    fn delete(self) {
        let (layers, blobs) = (self.layers, self.blobs);
        let layers = layers.into_iter().map(|layer| -> Delete {
            Box::new(move || layer.delete().map_err(|error| chain(&error)))
        });
        let blobs = blobs.into_iter().map(|blob| -> Delete {
            Box::new(move || blob.delete().map_err(|error| chain(&error)))
        });
        let work: VecDeque<Delete> = layers.chain(blobs).collect();
        let threads = THREADS.min(work.len());
        let work = Mutex::new(work);
        let run = || {
            loop {
                let Some(delete) = lock(&work).pop_front() else {
                    return;
                };
                if let Err(error) = delete() {
                    tracing::error!(
                        error,
                        "content that nobody needs stays until the next start"
                    );
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..threads {
                let helper = std::thread::Builder::new().name("collect".into());
                // without a helper, the others do its part
                drop(helper.spawn_scoped(scope, run));
            }
            run();
        });
    }
}

type Delete = Box<dyn FnOnce() -> std::result::Result<(), String> + Send>;
