//! States of a file system: what an operation starts from, and what it leaves.
//!
//! A [`Snapshot`] is an ordered list of [`Layer`]s, or a folder of somebody else. A layer is an
//! image's, which the engine's store has or is still to fetch, or what one step has written, in a
//! folder of the builder. The layer of a step becomes an image's by one rename when it is exported.

mod diff;
mod error;
mod flush;
mod layer;
mod record;
mod store;
mod writable;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use std::os::fd::OwnedFd;

pub use diff::diff;
pub use error::{Result, SnapshotError};
pub use layer::{Adopted, Fetch, Fetching, HeldPath, ImageLayer, Layer};
pub use store::{Snapshots, kept};
pub use writable::{LayerFacts, Writable};

/// Whoever keeps a folder as it is while a snapshot shows it.
pub type Guard = Arc<dyn std::any::Any + Send + Sync>;

/// A state of a file system, which never changes.
#[derive(Clone, Debug)]
pub struct Snapshot(Arc<State>);

#[derive(Debug)]
enum State {
    Layers { id: String, layers: Vec<Arc<Layer>> },
    Folder(Folder),
}

/// A folder that is no layer of an image: a local context.
struct Folder {
    id: String,
    path: PathBuf,
    /// The file system whose files a view shows.
    shows: Option<u64>,
    _guard: Guard,
}

impl std::fmt::Debug for Folder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Folder")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// The folders of a snapshot for overlayfs, which nobody moves while this lives.
#[derive(Debug)]
pub struct Lowers {
    /// The topmost first.
    pub paths: Vec<PathBuf>,
    _held: Vec<HeldPath>,
    _snapshot: Snapshot,
}

impl Snapshot {
    /// The file system that has nothing in it.
    #[must_use]
    pub fn scratch() -> Self {
        Self::of_layers(Vec::new())
    }

    /// Layers on top of each other, the lowest first.
    #[must_use]
    pub fn of_layers(layers: Vec<Arc<Layer>>) -> Self {
        let id = match layers.as_slice() {
            [] => "scratch".to_owned(),
            [only] => only.id().to_owned(),
            many => {
                let ids: Vec<&str> = many.iter().map(|layer| layer.id()).collect();
                storage::digest_of(ids.join("\n").as_bytes()).to_string()
            }
        };
        Self(Arc::new(State::Layers { id, layers }))
    }

    /// A folder of somebody else, which is only read and never becomes a layer as it stands. It does
    /// not change as long as the guard is kept; the same id says that its content is the same.
    #[must_use]
    pub fn of_folder(id: String, path: PathBuf, guard: Guard) -> Self {
        Self(Arc::new(State::Folder(Folder {
            id,
            path,
            shows: None,
            _guard: guard,
        })))
    }

    /// A view of a folder, as [`Self::of_folder`]: overlayfs has a device number of its own for each
    /// mount, and `device` is that of the folder whose files it shows.
    #[must_use]
    pub fn of_view(id: String, path: PathBuf, device: u64, guard: Guard) -> Self {
        Self(Arc::new(State::Folder(Folder {
            id,
            path,
            shows: Some(device),
            _guard: guard,
        })))
    }

    /// The device whose files a view shows; none for what is no view.
    #[must_use]
    pub fn shows(&self) -> Option<u64> {
        match &*self.0 {
            State::Layers { .. } => None,
            State::Folder(folder) => folder.shows,
        }
    }

    /// The layers, the lowest first; none for a folder.
    #[must_use]
    pub fn layers(&self) -> &[Arc<Layer>] {
        match &*self.0 {
            State::Layers { layers, .. } => layers,
            State::Folder(_) => &[],
        }
    }

    /// The folder, if it is one.
    #[must_use]
    pub fn folder(&self) -> Option<&Path> {
        match &*self.0 {
            State::Layers { .. } => None,
            State::Folder(folder) => Some(&folder.path),
        }
    }

    /// Whether there is nothing in it by its definition.
    #[must_use]
    pub fn is_scratch(&self) -> bool {
        self.folder().is_none() && self.layers().is_empty()
    }

    /// A name for exactly this state.
    #[must_use]
    pub fn id(&self) -> &str {
        match &*self.0 {
            State::Layers { id, .. } => id,
            State::Folder(folder) => &folder.id,
        }
    }

    /// The ids of its layers, by which [`Snapshots::restore`] finds it again; none for a folder,
    /// which cannot be found again.
    #[must_use]
    pub fn layer_ids(&self) -> Option<Vec<String>> {
        match &*self.0 {
            State::Layers { layers, .. } => {
                Some(layers.iter().map(|layer| layer.id().to_owned()).collect())
            }
            State::Folder(_) => None,
        }
    }

    /// Fetches the layers that are not there yet, all at once.
    ///
    /// # Errors
    ///
    /// A layer that cannot be fetched.
    pub async fn ready(&self) -> Result<()> {
        let missing = self.layers().iter().map(|layer| layer.ready());
        futures_util::future::try_join_all(missing).await?;
        Ok(())
    }

    /// The folders for overlayfs. It blocks; the layers must be [ready](Self::ready).
    ///
    /// # Errors
    ///
    /// A layer that is not there.
    pub fn lowers(&self) -> Result<Lowers> {
        let mut lowers = Lowers {
            paths: Vec::new(),
            _held: Vec::new(),
            _snapshot: self.clone(),
        };
        if let Some(folder) = self.folder() {
            lowers.paths.push(folder.to_owned());
            return Ok(lowers);
        }
        for layer in self.layers().iter().rev() {
            let (path, held) = layer.folder()?;
            // overlayfs takes a folder once; what it has stands out by its topmost place
            if !lowers.paths.contains(&path) {
                lowers.paths.push(path);
                lowers._held.push(held);
            }
            if layer.hides_all_below()? {
                break;
            }
        }
        Ok(lowers)
    }

    /// Opens the merged view, which is read-only and mounted nowhere. It blocks; the layers must be
    /// [ready](Self::ready). Paths in it are to be opened by openat2(2) with `RESOLVE_IN_ROOT`.
    ///
    /// # Errors
    ///
    /// A layer that is not there, or an overlay that the kernel refuses.
    pub fn open(&self) -> Result<OwnedFd> {
        if let Some(folder) = self.folder() {
            let alone = [folder.to_owned()];
            return Ok(storage::overlay::mount_view(&alone)?);
        }
        let Some(layer) = self.layers().first() else {
            return Ok(storage::overlay::empty_view()?);
        };
        let mut lowers = self.lowers()?;
        if lowers.paths.len() < 2 {
            // a single folder would show its whiteouts as devices
            lowers.paths.push(layer.shared.empty.clone());
        }
        Ok(storage::overlay::mount_view(&lowers.paths)?)
    }

    /// Opens the merged view as a mount of its own, which can be attached somewhere. It blocks.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn open_mount(&self) -> Result<OwnedFd> {
        // a view of layers is one
        match self.folder() {
            None => self.open(),
            Some(folder) => Err(SnapshotError::NoLayers {
                path: folder.to_owned(),
            }),
        }
    }

    /// Bytes that its layers take. It blocks.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.layers().iter().map(|layer| layer.size()).sum()
    }
}

/// The layers of all on top of each other, the first lowest.
///
/// # Errors
///
/// One of them is a folder, which has no layers.
pub fn merge(snapshots: &[Snapshot]) -> Result<Snapshot> {
    let mut layers = Vec::new();
    for snapshot in snapshots {
        if let Some(folder) = snapshot.folder() {
            return Err(SnapshotError::NoLayers {
                path: folder.to_owned(),
            });
        }
        layers.extend(snapshot.layers().iter().cloned());
    }
    Ok(Snapshot::of_layers(layers))
}
