//! Unpacked layers: `snapshots/<chain id>/fs`, one folder a layer, lower directories of overlayfs.
//!
//! A layer is unpacked in private, without its parents, and becomes visible by one rename. That
//! rename does not wait for the disk: every reader of this boot sees the page cache, so killing
//! the engine loses nothing. A thread behind it flushes the file system and then marks the layer
//! as durable; a layer without the mark that was unpacked before the last boot may have lost
//! data in a power failure, and is dropped when the store is opened ([`LayerStore::lost`]).

mod check;
mod flush;
mod record;
mod remove;

use std::collections::HashMap;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use oci::Digest;
use sha2::{Digest as _, Sha256};

use crate::failpoint::{self, Point};
use crate::fsutil::{self, temp::TempDir};
use crate::unpack::{self, Applied, ApplyOptions, UnpackError};
pub use check::Damage;
use record::Record;
pub use remove::DetachedLayer;

/// The folder with a layer's files, in the layer's own folder.
const FILES: &str = "fs";

/// A failed step on a layer.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The layer's content cannot be unpacked.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// The layer below is not in the store.
    #[error("layer {parent}, the parent of {diff_id}, is not in the store")]
    MissingParent {
        /// Chain id of the layer below.
        parent: Digest,
        /// Diff id of the layer that was to be put on it.
        diff_id: Digest,
    },
    /// The layer is not in the store.
    #[error("layer {chain} is not in the store")]
    Missing {
        /// Its chain id.
        chain: Digest,
    },
    /// Another layer needs the layer.
    #[error("layer {chain} is the parent of {child}")]
    HasChild {
        /// Its chain id.
        chain: Digest,
        /// Chain id of the layer on top of it.
        child: Digest,
    },
    /// A system call failed.
    #[error("{step} {}", path.display())]
    Io {
        /// What was done.
        step: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

impl LayerError {
    fn io(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            step,
            path: path.to_owned(),
            source,
        }
    }
}

/// The identity of a layer on its parents (OCI image specification, config.md, "Layer ChainID").
#[must_use]
pub fn chain_id(parent: Option<&Digest>, diff_id: &Digest) -> Digest {
    match parent {
        None => diff_id.clone(),
        Some(parent) => {
            let text = format!("{parent} {diff_id}");
            Digest::from_sha256(&Sha256::digest(text.as_bytes()).into())
        }
    }
}

/// What the store knows of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerInfo {
    /// Its identity.
    pub chain: Digest,
    /// The layer below.
    pub parent: Option<Digest>,
    /// Digest of its uncompressed tar.
    pub diff_id: Digest,
    /// Bytes of file content.
    pub size: u64,
    /// Number of entries in its tar.
    pub entries: u64,
}

/// The layers of a store.
#[derive(Clone, Debug)]
pub struct LayerStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    root: PathBuf,
    temporary: PathBuf,
    boot: String,
    known: RwLock<HashMap<Digest, Record>>,
    lost: Vec<Digest>,
    unflushed: flush::Unflushed,
}

impl Shared {
    fn read(&self) -> RwLockReadGuard<'_, HashMap<Digest, Record>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<Digest, Record>> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn folder(&self, chain: &Digest) -> PathBuf {
        self.root.join(chain.hex())
    }
}

impl LayerStore {
    pub(crate) fn open(root: PathBuf, temporary: PathBuf) -> io::Result<Self> {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        let boot = boot.trim().to_owned();
        let found = record::load_all(&root, &temporary, &boot)?;
        let shared = Arc::new(Shared {
            root,
            temporary,
            boot,
            known: RwLock::new(found.layers),
            lost: found.lost,
            unflushed: flush::Unflushed::default(),
        });
        for chain in found.unflushed {
            flush::later(&shared, chain);
        }
        Ok(Self { shared })
    }

    /// Layers that were dropped at opening because a power failure may have damaged them. The
    /// blobs are there, so they can be unpacked again.
    #[must_use]
    pub fn lost(&self) -> &[Digest] {
        &self.shared.lost
    }

    /// Unpacks a layer, packed in any known way, into a private folder.
    ///
    /// Reads the source to its end, on a thread of its own. It takes no lock and needs no parent,
    /// so that all layers of an image can be unpacked at once. A layer that is refused early still
    /// waits for the source's next answer: a source of the network needs a time limit of its own.
    ///
    /// # Errors
    ///
    /// The first entry that is refused or fails; nothing is left then.
    pub fn apply<R: Read + Send>(
        &self,
        source: R,
        options: &ApplyOptions,
    ) -> Result<StagedLayer, LayerError> {
        let temporary = &self.shared.temporary;
        let failed = || LayerError::io("make the folder of a layer in", temporary);
        let folder = TempDir::new(temporary, "layer").map_err(failed())?;
        let files = folder.path().join(FILES);
        fsutil::ensure_dir(&files, 0o755).map_err(failed())?;
        let root = fsutil::open_dir(&files).map_err(failed())?;
        let applied = unpack::apply(root, source, options)?;
        Ok(StagedLayer {
            store: self.clone(),
            folder,
            applied,
        })
    }

    /// The folder with a layer's files, or where it would be.
    #[must_use]
    pub fn path(&self, chain: &Digest) -> PathBuf {
        self.shared.folder(chain).join(FILES)
    }

    /// Whether the layer is there.
    #[must_use]
    pub fn exists(&self, chain: &Digest) -> bool {
        self.shared.read().contains_key(chain)
    }

    /// What is known of a layer.
    ///
    /// # Errors
    ///
    /// [`LayerError::Missing`].
    pub fn info(&self, chain: &Digest) -> Result<LayerInfo, LayerError> {
        let known = self.shared.read();
        let record = known.get(chain).ok_or_else(|| missing(chain))?;
        Ok(record.info(chain))
    }

    /// Bytes of file content in a layer.
    ///
    /// # Errors
    ///
    /// [`LayerError::Missing`].
    pub fn size(&self, chain: &Digest) -> Result<u64, LayerError> {
        Ok(self.info(chain)?.size)
    }

    /// All layers, in no order.
    #[must_use]
    pub fn list(&self) -> Vec<LayerInfo> {
        let known = self.shared.read();
        known
            .iter()
            .map(|(chain, record)| record.info(chain))
            .collect()
    }

    /// The folders of a layer and those below it, topmost first: overlayfs' lower directories.
    ///
    /// # Errors
    ///
    /// [`LayerError::Missing`] when one of them is gone.
    pub fn lowers(&self, top: &Digest) -> Result<Vec<PathBuf>, LayerError> {
        let known = self.shared.read();
        let mut folders = Vec::new();
        let mut next = Some(top);
        while let Some(chain) = next {
            let record = known.get(chain).ok_or_else(|| missing(chain))?;
            folders.push(self.path(chain));
            // An opaque root hides all below; overlayfs itself does not look for that mark there.
            next = record.parent.as_ref().filter(|_| !record.opaque_root);
        }
        Ok(folders)
    }
}

fn missing(chain: &Digest) -> LayerError {
    LayerError::Missing {
        chain: chain.clone(),
    }
}

/// A layer that is unpacked but not visible; dropped, it is removed.
#[derive(Debug)]
pub struct StagedLayer {
    store: LayerStore,
    folder: TempDir,
    applied: Applied,
}

impl StagedLayer {
    /// What was unpacked.
    #[must_use]
    pub fn applied(&self) -> &Applied {
        &self.applied
    }

    /// Puts the layer on its parent and makes it visible; returns its chain id.
    ///
    /// A layer that is there already stays, and this one is removed.
    ///
    /// # Errors
    ///
    /// The parent is not in the store, or the disk fails.
    pub fn commit(self, parent: Option<&Digest>) -> Result<Digest, LayerError> {
        let shared = Arc::clone(&self.store.shared);
        let chain = chain_id(parent, &self.applied.diff_id);
        if self.store.exists(&chain) {
            return Ok(chain);
        }
        if let Some(parent) = parent {
            self.complete(parent)?;
        }
        let record = Record::new(&self.applied, parent, &shared.boot);
        let staged = self.folder.path().to_owned();
        record
            .write(&staged)
            .map_err(LayerError::io("write the record of layer", &staged))?;
        let target = shared.folder(&chain);
        {
            let mut known = shared.write();
            if known.contains_key(&chain) {
                return Ok(chain);
            }
            // Its parent may have been removed while this layer was unpacked.
            if let Some(parent) = parent.filter(|parent| !known.contains_key(*parent)) {
                return Err(self.missing_parent(parent));
            }
            failpoint::reach(Point::LayerStaged);
            self.folder
                .persist(&target)
                .map_err(LayerError::io("rename layer to", &target))?;
            known.insert(chain.clone(), record);
        }
        failpoint::reach(Point::LayerPlaced);
        flush::later(&shared, chain.clone());
        Ok(chain)
    }

    /// Gives directories that the layer does not describe the attributes that lie below.
    fn complete(&self, parent: &Digest) -> Result<(), LayerError> {
        let lowers = match self.store.lowers(parent) {
            Err(LayerError::Missing { .. }) => return Err(self.missing_parent(parent)),
            other => other?,
        };
        if self.applied.implicit.is_empty() || self.applied.opaque_root {
            return Ok(());
        }
        let open =
            |path: &PathBuf| fsutil::open_dir(path).map_err(LayerError::io("open layer", path));
        let opened: Result<Vec<OwnedFd>, LayerError> = lowers.iter().map(open).collect();
        let files = self.folder.path().join(FILES);
        let layer = open(&files)?;
        unpack::complete_implicit(&layer, &self.applied.implicit, &opened?)
            .map_err(LayerError::io("complete the directories of layer", &files))
    }

    fn missing_parent(&self, parent: &Digest) -> LayerError {
        LayerError::MissingParent {
            parent: parent.clone(),
            diff_id: self.applied.diff_id.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_ids_are_those_of_the_specification() {
        let layer = |byte: u8| Digest::from_sha256(&[byte; 32]);
        let first = chain_id(None, &layer(1));
        assert_eq!(first, layer(1));
        // printf 'sha256:0101... sha256:0202...' | sha256sum
        let text = format!("sha256:{} sha256:{}", "01".repeat(32), "02".repeat(32));
        let sum: [u8; 32] = Sha256::digest(text.as_bytes()).into();
        assert_eq!(chain_id(Some(&first), &layer(2)), Digest::from_sha256(&sum));
    }
}
