//! One layer: an image's, or what a step has written.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use jiff::Timestamp;
use oci::Digest;
use oci::image::Descriptor;
use storage::{Cancel, FolderLayer, Usage};

use super::error::{Result, SnapshotError, blocking};
use super::record::Record;
use super::store::Shared;
use super::writable::LayerFacts;

/// A fetch that goes on.
pub type Fetching<'a> =
    Pin<Box<dyn Future<Output = Result<(), Box<dyn std::error::Error + Send + Sync>>> + Send + 'a>>;

/// Whoever can bring an image's layer to the engine's store when it is first needed.
pub trait Fetch: Send + Sync {
    /// Brings the layer, and all below it; returns when the store has it.
    fn fetch<'a>(&'a self, chain: &'a Digest) -> Fetching<'a>;
}

/// A layer of an image, which the engine's store has or gets.
#[derive(Clone, Debug)]
pub struct ImageLayer {
    /// Its identity with all below it.
    pub chain: Digest,
    /// The identity of what lies below it.
    pub parent: Option<Digest>,
    /// Digest of its uncompressed tar.
    pub diff_id: Digest,
    /// The blob that it comes from.
    pub blob: Option<Descriptor>,
}

/// A layer of the engine's store that an image can be made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adopted {
    /// Its identity with all below it.
    pub chain: Digest,
    /// Digest of its uncompressed tar.
    pub diff_id: Digest,
    /// Bytes of file content.
    pub size: u64,
    /// The blob that it came from, if it came from one.
    pub blob: Option<Descriptor>,
}

/// A layer of snapshots.
pub struct Layer {
    pub(super) id: String,
    pub(super) facts: LayerFacts,
    pub(super) below: Vec<Arc<Layer>>,
    pub(super) shared: Arc<Shared>,
    place: Mutex<Place>,
    free: Condvar,
    fetch: Mutex<Option<Arc<dyn Fetch>>>,
    fetching: tokio::sync::Mutex<()>,
    archive: tokio::sync::OnceCell<Archive>,
    measured: OnceLock<Usage>,
}

impl std::fmt::Debug for Layer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Layer")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// A layer's uncompressed tar.
#[derive(Clone, Debug)]
struct Archive {
    digest: Digest,
    /// Its length, where it is known.
    size: Option<u64>,
}

/// Where a layer is.
#[derive(Debug)]
enum Place {
    /// In a folder of the builder.
    Own { holders: usize },
    /// In the engine's store.
    Store(Box<ImageLayer>),
}

/// Keeps a layer where it is.
#[derive(Debug)]
pub struct HeldPath(Option<Arc<Layer>>);

impl Drop for HeldPath {
    fn drop(&mut self) {
        let Some(layer) = &self.0 else { return };
        if let Place::Own { holders } = &mut *layer.place() {
            *holders = holders.saturating_sub(1);
        }
        layer.free.notify_all();
    }
}

impl Layer {
    pub(super) fn own(
        shared: Arc<Shared>,
        id: String,
        facts: LayerFacts,
        below: Vec<Arc<Self>>,
    ) -> Self {
        Self::new(shared, id, facts, below, Place::Own { holders: 0 })
    }

    pub(super) fn of_image(
        shared: Arc<Shared>,
        id: String,
        facts: LayerFacts,
        image: ImageLayer,
    ) -> Self {
        Self::new(shared, id, facts, Vec::new(), Place::Store(Box::new(image)))
    }

    fn new(
        shared: Arc<Shared>,
        id: String,
        facts: LayerFacts,
        below: Vec<Arc<Self>>,
        place: Place,
    ) -> Self {
        Self {
            id,
            facts,
            below,
            shared,
            place: Mutex::new(place),
            free: Condvar::new(),
            fetch: Mutex::new(None),
            fetching: tokio::sync::Mutex::new(()),
            archive: tokio::sync::OnceCell::new(),
            measured: OnceLock::new(),
        }
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its id: that of the chain for an image's, a random one otherwise.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// When it was made.
    #[must_use]
    pub fn created_at(&self) -> Timestamp {
        self.facts.created
    }

    /// What made it.
    #[must_use]
    pub fn description(&self) -> &str {
        &self.facts.description
    }

    /// What it is in the engine's store, if it is one of it or has become one.
    #[must_use]
    pub fn image(&self) -> Option<ImageLayer> {
        match &*self.place() {
            Place::Own { .. } => None,
            Place::Store(image) => Some((**image).clone()),
        }
    }

    /// Says who brings the layer when it is needed, unless that is known or it is there.
    pub fn set_fetch(&self, fetch: Arc<dyn Fetch>) {
        let mut own = self.fetch.lock().unwrap_or_else(PoisonError::into_inner);
        own.get_or_insert(fetch);
    }

    /// Whether it is still to be fetched.
    #[must_use]
    pub fn is_lazy(&self) -> bool {
        self.image()
            .is_some_and(|image| !self.shared.store.layers().exists(&image.chain))
    }

    /// Fetches it if it is not there.
    ///
    /// # Errors
    ///
    /// It cannot be fetched.
    pub async fn ready(&self) -> Result<()> {
        if !self.is_lazy() {
            return Ok(());
        }
        let _turn = self.fetching.lock().await;
        let Some(image) = self.image().filter(|_| self.is_lazy()) else {
            return Ok(());
        };
        let fetch = {
            let own = self.fetch.lock().unwrap_or_else(PoisonError::into_inner);
            own.clone()
        };
        let fetch = fetch.ok_or_else(|| self.gone())?;
        let failed = |source| SnapshotError::Fetch {
            id: self.id.clone(),
            source,
        };
        fetch.fetch(&image.chain).await.map_err(failed)
    }

    fn gone(&self) -> SnapshotError {
        SnapshotError::Gone {
            id: self.id.clone(),
        }
    }

    /// The folder with its files, in overlayfs' own way of writing. While the guard lives it is
    /// neither moved nor removed; a mount of it needs no guard any more.
    ///
    /// # Errors
    ///
    /// The layer is not there.
    pub fn folder(self: &Arc<Self>) -> Result<(PathBuf, HeldPath)> {
        let chain = match &mut *self.place() {
            Place::Own { holders } => {
                *holders += 1;
                None
            }
            Place::Store(image) => Some(image.chain.clone()),
        };
        match chain {
            None => {
                let held = HeldPath(Some(Arc::clone(self)));
                let path = self.shared.files(&self.id);
                if !path.is_dir() {
                    return Err(self.gone());
                }
                Ok((path, held))
            }
            Some(chain) => Ok((self.shared.store.layers().mounted(&chain)?, HeldPath(None))),
        }
    }

    /// Whether it lies on a file system of its own.
    #[must_use]
    pub fn is_own_device(&self) -> bool {
        self.image()
            .is_some_and(|image| !self.shared.store.layers().is_folder(&image.chain))
    }

    pub(super) fn hides_all_below(&self) -> Result<bool> {
        match self.image() {
            None => Ok(false),
            Some(image) => Ok(self.shared.store.layers().hides_all_below(&image.chain)?),
        }
    }

    /// Bytes that it takes. It blocks when it is first asked.
    #[must_use]
    pub fn size(&self) -> u64 {
        match self.image() {
            Some(image) => self.shared.store.layers().size(&image.chain).unwrap_or(0),
            None => self.usage().apparent,
        }
    }

    fn usage(&self) -> Usage {
        let measure = || {
            let path = self.shared.files(&self.id);
            storage::trees::usage(&path, &Cancel::default()).unwrap_or_else(|error| {
                tracing::warn!(id = self.id, %error, "a layer of the build cache cannot be measured");
                Usage::default()
            })
        };
        *self.measured.get_or_init(measure)
    }

    /// Digest of its uncompressed tar, which is computed once.
    ///
    /// # Errors
    ///
    /// A file that cannot be read or be part of a layer.
    pub async fn diff_id(self: &Arc<Self>) -> Result<Digest> {
        if let Some(image) = self.image() {
            return Ok(image.diff_id);
        }
        let archive = self
            .archive
            .get_or_try_init(|| self.digest_archive())
            .await?;
        Ok(archive.digest.clone())
    }

    async fn digest_archive(self: &Arc<Self>) -> Result<Archive> {
        let _permit = self.shared.archives.acquire().await;
        let layer = Arc::clone(self);
        blocking("digest a layer", move || {
            let mut output = super::store::Hasher::default();
            layer.write_archive(&mut output)?;
            let (digest, size) = output.finish();
            layer.note(|record| {
                record.diff_id = Some(digest.clone());
                record.tar_size = Some(size);
            });
            Ok(Archive {
                digest,
                size: Some(size),
            })
        })
        .await
    }

    /// Notes a digest that was computed before.
    pub(super) fn set_diff_id(&self, digest: Digest, size: Option<u64>) {
        // computed meanwhile, it is the same
        let _same = self.archive.set(Archive { digest, size });
    }

    /// Writes the layer as an uncompressed tar, always the same bytes. It blocks.
    ///
    /// # Errors
    ///
    /// A file that cannot be read or be part of a layer, or an output that takes no more.
    pub fn write_archive(self: &Arc<Self>, output: impl std::io::Write) -> Result<()> {
        let (path, _held) = self.folder()?;
        let flags = rustix::fs::OFlags::RDONLY
            | rustix::fs::OFlags::DIRECTORY
            | rustix::fs::OFlags::CLOEXEC;
        let upper = rustix::fs::open(&path, flags, rustix::fs::Mode::empty())
            .map_err(SnapshotError::io("open layer", &path))?;
        let below = super::Snapshot::of_layers(self.below.clone());
        let trees = storage::diff::Trees {
            upper,
            lower: below.open()?,
            places: std::collections::HashSet::new(),
        };
        storage::diff::write_layer(trees, output).map_err(|source| SnapshotError::Archive {
            id: self.id.clone(),
            source: Box::new(source),
        })
    }

    /// Makes it a layer of the engine's store on another of it, by a rename where it has not been
    /// made one yet.
    ///
    /// # Errors
    ///
    /// The parent is not in the store, or the layer cannot be read.
    pub async fn adopt(self: &Arc<Self>, parent: Option<&Digest>) -> Result<Adopted> {
        self.ready().await?;
        let diff_id = self.diff_id().await?;
        let layer = Arc::clone(self);
        let parent = parent.cloned();
        blocking("adopt a layer", move || {
            layer.adopt_now(diff_id, parent.as_ref())
        })
        .await
    }

    fn adopt_now(self: &Arc<Self>, diff_id: Digest, parent: Option<&Digest>) -> Result<Adopted> {
        let layers = self.shared.store.layers();
        let chain = storage::chain_id(parent, &diff_id);
        let Usage {
            apparent, inodes, ..
        } = match self.image() {
            None => self.usage(),
            Some(_) => Usage::default(),
        };
        let mut place = self.place();
        if !layers.exists(&chain) {
            match &*place {
                Place::Own { .. } => {
                    while matches!(&*place, Place::Own { holders } if *holders > 0) {
                        place = self
                            .free
                            .wait(place)
                            .unwrap_or_else(PoisonError::into_inner);
                    }
                    if matches!(&*place, Place::Own { .. }) {
                        self.move_to_store(
                            &mut place,
                            diff_id.clone(),
                            parent,
                            (apparent, inodes),
                        )?;
                    }
                }
                Place::Store(_) => {}
            }
            drop(place);
            if !layers.exists(&chain) {
                self.copy_to_store(parent)?;
            }
        } else {
            drop(place);
        }
        let own = self.image().filter(|image| image.diff_id == diff_id);
        Ok(Adopted {
            size: layers.size(&chain)?,
            blob: own.and_then(|image| image.blob),
            chain,
            diff_id,
        })
    }

    /// The layer is found by its id whether it was moved or not: the record says first where it goes.
    fn move_to_store(
        &self,
        place: &mut Place,
        diff_id: Digest,
        parent: Option<&Digest>,
        (size, entries): (u64, u64),
    ) -> Result<()> {
        let chain = storage::chain_id(parent, &diff_id);
        self.note(|record| {
            record.diff_id = Some(diff_id.clone());
            record.chain = Some(chain.clone());
        });
        let layer = FolderLayer {
            diff_id: diff_id.clone(),
            size,
            entries,
            tar_size: self.tar_size_over(parent),
        };
        let folder = self.shared.layer_folder(&self.id);
        self.shared
            .store
            .layers()
            .adopt_folder(&folder, &layer, parent)?;
        *place = Place::Store(Box::new(ImageLayer {
            chain,
            parent: parent.cloned(),
            diff_id,
            blob: None,
        }));
        Ok(())
    }

    /// Length of the tar that the folder gives on a parent, if that is what it was written on.
    fn tar_size_over(&self, parent: Option<&Digest>) -> Option<u64> {
        let below = self.below.last().map(|layer| layer.image());
        let same = match (below, parent) {
            (None, None) => true,
            (Some(Some(below)), Some(parent)) => below.chain == *parent,
            _ => false,
        };
        self.archive.get().filter(|_| same)?.size
    }

    /// A layer that lies on another parent already is unpacked once more for this one.
    fn copy_to_store(self: &Arc<Self>, parent: Option<&Digest>) -> Result<()> {
        let (reader, writer) =
            std::io::pipe().map_err(SnapshotError::io("make a pipe for", &self.shared.layers))?;
        let layers = self.shared.store.layers();
        std::thread::scope(|scope| {
            let written = scope.spawn(|| {
                let mut writer = std::io::BufWriter::with_capacity(256 << 10, writer);
                self.write_archive(&mut writer)?;
                std::io::Write::flush(&mut writer)
                    .map_err(SnapshotError::io("copy layer", &self.shared.layers))
            });
            let staged = layers.apply(reader, &storage::ApplyOptions::default());
            let broken = |_| SnapshotError::Broken {
                step: "copy a layer",
            };
            written.join().map_err(broken)??;
            staged?.commit(parent)?;
            Ok(())
        })
    }

    /// Changes what is written of the layer.
    pub(super) fn note(&self, change: impl FnOnce(&mut Record)) {
        let _turn = super::store::guard(&self.shared.records);
        let path = Record::path(&self.shared.layers, &self.id);
        let noted = Record::read(&path).and_then(|mut record| {
            change(&mut record);
            record.write(&self.shared.layers)
        });
        if let Err(error) = noted {
            tracing::warn!(id = self.id, %error, "what is known of a layer is not noted");
        }
    }
}
