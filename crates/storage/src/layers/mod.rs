//! Unpacked layers: `snapshots/<chain id>/`, each a folder `fs` with its files or one image
//! `layer.erofs`; both are lower directories of overlayfs, the image once it is mounted.
//!
//! A layer is unpacked in private, without its parents, and becomes visible by one rename. That
//! rename does not wait for the disk: every reader of this boot sees the page cache, so killing
//! the engine loses nothing. A thread behind it flushes the file system and then marks the layer
//! as durable; a layer without the mark that was unpacked before the last boot may have lost
//! data in a power failure, and is dropped when the store is opened ([`LayerStore::lost`]).

mod adopt;
mod check;
mod flush;
mod record;
mod remove;
mod tar;

use std::collections::HashMap;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use oci::Digest;
use sha2::{Digest as _, Sha256};

use crate::erofs::mount::Mounts;
use crate::erofs::probe::{self, Unusable};
use crate::erofs::{self, Erofs};
use crate::failpoint::{self, Point};
use crate::fsutil::{self, temp::TempDir};
use crate::snapshotter::{Folder, Format, Snapshotter, SnapshotterChoice};
use crate::unpack::{self, Applied, ApplyOptions, Finish, LayerLimits, UnpackError};
pub use adopt::FolderLayer;
pub use check::Damage;
use record::Record;
pub use remove::DetachedLayer;
pub use tar::{LayerTar, LayerTarError};

/// The folder with a layer's files, in the layer's own folder.
pub(crate) const FILES: &str = "fs";

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
    /// Images were asked for, and the kernel does not take them.
    #[error(transparent)]
    Unusable(#[from] ErofsUnusable),
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
    /// How it lies on the disk.
    pub format: Format,
    /// Length of its tar, if that can be made again from its files.
    pub tar_size: Option<u64>,
}

/// Why the kernel does not take EROFS images as layers.
#[derive(Clone, Debug, thiserror::Error)]
#[error(transparent)]
pub struct ErofsUnusable(#[from] Unusable);

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
    choice: SnapshotterChoice,
    limits: LayerLimits,
    mounts: Mounts,
    /// Whether images can be used; looked for when it is first asked.
    usable: OnceLock<Result<(), Unusable>>,
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

    /// The folder that has a layer's files, which may not be mounted yet.
    fn files(&self, chain: &Digest, format: Format) -> PathBuf {
        match format {
            Format::Folder => self.folder(chain).join(FILES),
            Format::Erofs => self.mounts.place(chain),
        }
    }

    /// The same, mounted.
    fn ready_files(&self, chain: &Digest, format: Format) -> Result<PathBuf, LayerError> {
        match format {
            Format::Folder => Ok(self.files(chain, format)),
            Format::Erofs => {
                let image = self.folder(chain).join(erofs::IMAGE);
                let failed = LayerError::io("mount layer", &image);
                self.mounts.ensure(chain, &image).map_err(failed)
            }
        }
    }

    fn usable(&self) -> Result<(), Unusable> {
        let probe = || {
            let found = probe::probe(&self.temporary, &self.mounts);
            if let (Err(error), SnapshotterChoice::Auto) = (&found, self.choice) {
                tracing::info!(%error, "layers are unpacked into folders");
            }
            found
        };
        self.usable.get_or_init(probe).clone()
    }
}

impl LayerStore {
    pub(crate) fn open(
        root: PathBuf,
        temporary: PathBuf,
        mounts: PathBuf,
        choice: SnapshotterChoice,
        limits: LayerLimits,
    ) -> io::Result<Self> {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        let boot = boot.trim().to_owned();
        let found = record::load_all(&root, &temporary, &boot)?;
        let images = found
            .layers
            .iter()
            .filter(|(_, r)| r.format == Format::Erofs);
        let image = |chain: &Digest| root.join(chain.hex()).join(erofs::IMAGE);
        let images = images
            .map(|(chain, _)| (chain.clone(), image(chain)))
            .collect();
        let mounts = Mounts::open(mounts, &images)?;
        if choice != SnapshotterChoice::Overlayfs || !images.is_empty() {
            // without the right to mount there are no containers, and layers are still folders
            if let Err(error) = mounts.prepare() {
                tracing::debug!(%error, "the folder for mounted layers is not ready");
            }
        }
        let shared = Arc::new(Shared {
            choice,
            limits,
            mounts,
            usable: OnceLock::new(),
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

    /// How a layer of an image is unpacked: within the store's limits, with this diff id where one is known.
    #[must_use]
    pub fn options(&self, expected_diff_id: Option<Digest>) -> ApplyOptions {
        let limits = self.shared.limits;
        ApplyOptions {
            expected_diff_id,
            max_bytes: limits.bytes,
            max_ratio: limits.ratio,
            max_entries: limits.entries,
            ..ApplyOptions::default()
        }
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
        let snapshotter = self.snapshotter()?;
        let (applied, layer) = unpack::apply(snapshotter, folder.path(), source, options)?;
        Ok(StagedLayer {
            store: self.clone(),
            format: snapshotter.format(),
            folder,
            applied,
            layer,
        })
    }

    fn snapshotter(&self) -> Result<&'static dyn Snapshotter, LayerError> {
        match self.shared.choice {
            SnapshotterChoice::Overlayfs => Ok(&Folder),
            SnapshotterChoice::Auto if self.shared.usable().is_err() => Ok(&Folder),
            SnapshotterChoice::Auto => Ok(&Erofs),
            SnapshotterChoice::Erofs => {
                self.shared.usable().map_err(ErofsUnusable)?;
                Ok(&Erofs)
            }
        }
    }

    /// What new layers are made of, which is tried out when it is first asked.
    ///
    /// # Errors
    ///
    /// [`LayerError::Unusable`] when images were asked for.
    pub fn format(&self) -> Result<Format, LayerError> {
        Ok(self.snapshotter()?.format())
    }

    /// The folder with a layer's files, or where it would be; there is nothing in it while the layer
    /// is an image that is not mounted. [`Self::mounted`] is for those who look into it.
    #[must_use]
    pub fn path(&self, chain: &Digest) -> PathBuf {
        let format = self.shared.read().get(chain).map(|record| record.format);
        self.shared.files(chain, format.unwrap_or_default())
    }

    /// The folder with a layer's files, mounted if it needs to be.
    ///
    /// # Errors
    ///
    /// [`LayerError::Missing`], or an image that the kernel does not mount.
    pub fn mounted(&self, chain: &Digest) -> Result<PathBuf, LayerError> {
        let format = self.shared.read().get(chain).map(|record| record.format);
        let format = format.ok_or_else(|| missing(chain))?;
        self.shared.ready_files(chain, format)
    }

    /// Unmounts all layers. What stands on one keeps it, and whoever asks next has it mounted again.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn unmount(&self) -> Result<(), LayerError> {
        let failed = LayerError::io("unmount the layers of", &self.shared.root);
        self.shared.mounts.close().map_err(failed)
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
    /// [`LayerError::Missing`] when one of them is gone, or an image that the kernel does not mount.
    pub fn lowers(&self, top: &Digest) -> Result<Vec<PathBuf>, LayerError> {
        let known = self.shared.read();
        let mut layers = Vec::new();
        let mut next = Some(top);
        while let Some(chain) = next {
            let record = known.get(chain).ok_or_else(|| missing(chain))?;
            layers.push((chain.clone(), record.format));
            // An opaque root hides all below; overlayfs itself does not look for that mark there.
            next = record.parent.as_ref().filter(|_| !record.opaque_root);
        }
        drop(known);
        let ready = |(chain, format): &(Digest, Format)| self.shared.ready_files(chain, *format);
        layers.iter().map(ready).collect()
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
    format: Format,
    layer: Box<dyn Finish>,
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
        let lowers = match parent {
            Some(parent) => self.lowers(parent)?,
            None => Vec::new(),
        };
        let Self {
            store: _,
            folder,
            applied,
            format,
            layer,
        } = self;
        let staged = folder.path().to_owned();
        layer
            .finish(&lowers)
            .map_err(LayerError::io("complete layer", &staged))?;
        let record = Record::new(&applied, parent, &shared.boot, format);
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
                return Err(missing_parent(parent, &applied.diff_id));
            }
            failpoint::reach(Point::LayerStaged);
            folder
                .persist(&target)
                .map_err(LayerError::io("rename layer to", &target))?;
            known.insert(chain.clone(), record);
        }
        failpoint::reach(Point::LayerPlaced);
        flush::later(&shared, chain.clone());
        Ok(chain)
    }

    /// Opens what lies below, as far as the layer shows any of it.
    fn lowers(&self, parent: &Digest) -> Result<Vec<OwnedFd>, LayerError> {
        if !self.store.exists(parent) {
            return Err(missing_parent(parent, &self.applied.diff_id));
        }
        if !self.applied.wants_lower || self.applied.opaque_root {
            return Ok(Vec::new());
        }
        let lowers = match self.store.lowers(parent) {
            Err(LayerError::Missing { .. }) => {
                return Err(missing_parent(parent, &self.applied.diff_id));
            }
            other => other?,
        };
        let open =
            |path: &PathBuf| fsutil::open_dir(path).map_err(LayerError::io("open layer", path));
        lowers.iter().map(open).collect()
    }
}

fn missing_parent(parent: &Digest, diff_id: &Digest) -> LayerError {
    LayerError::MissingParent {
        parent: parent.clone(),
        diff_id: diff_id.clone(),
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
