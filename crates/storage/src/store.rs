//! The folder of an engine: its layout, its lock, and what a crash may have left.

use std::ffi::{CString, OsStr};
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::FlockOperation;

use crate::container::ContainerStore;
use crate::content::BlobStore;
use crate::fsutil::{self, ensure_dir};
use crate::layers::LayerStore;
use crate::snapshotter::SnapshotterChoice;
use crate::trash::{Trash, Waste};
use crate::unpack::LayerLimits;
use crate::volume::VolumeStore;

/// The store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process uses the folder.
    #[error("{} is in use by another engine", root.display())]
    Busy {
        /// The folder.
        root: PathBuf,
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

impl OpenError {
    pub(crate) fn io(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            step,
            path: path.to_owned(),
            source,
        }
    }
}

/// An engine's folder (`--root`), locked for as long as a clone of this value lives.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    content: BlobStore,
    layers: LayerStore,
    containers: ContainerStore,
    volumes: VolumeStore,
    trash: Trash,
    /// Layers stay mounted for the next to open the folder.
    keep_mounts: AtomicBool,
    /// Holds the lock (flock(2)); close-on-exec, so that no shim inherits it.
    _lock: OwnedFd,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if *self.keep_mounts.get_mut() {
            return;
        }
        if let Err(error) = self.layers.unmount() {
            tracing::warn!(%error, "layers stay mounted");
        }
    }
}

/// How a store is used.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// What new layers are made of.
    pub snapshotter: SnapshotterChoice,
    /// The folder where layers are mounted that are images: made when it is needed, outside the
    /// store's own, and best on a file system that is gone with the boot.
    pub mounts: PathBuf,
    /// What the layers of images may be.
    pub limits: LayerLimits,
}

impl Store {
    /// Opens a folder, making it when it is not there, and begins to delete what a crash left.
    ///
    /// # Errors
    ///
    /// Another engine uses the folder, or the disk fails.
    pub fn open(root: &Path, options: StoreOptions) -> Result<Self, OpenError> {
        make_root(root)?;
        let lock = lock(root)?;
        let dir = |name: &str| -> Result<PathBuf, OpenError> {
            let path = root.join(name);
            ensure_dir(&path, 0o700).map_err(OpenError::io("make folder", &path))?;
            Ok(path)
        };
        let content = dir("content")?;
        dir("content/blobs")?;
        let blobs = dir("content/blobs/sha256")?;
        let ingest = dir("content/ingest")?;
        write_layout(&content)?;
        let temporary = dir("tmp")?;
        let leftovers = leftovers(&temporary)?;
        let snapshots = dir("snapshots")?;
        let layers = LayerStore::open(
            snapshots,
            temporary.clone(),
            options.mounts,
            options.snapshotter,
            options.limits,
        )
        .map_err(OpenError::io("read layers in", &root.join("snapshots")))?;
        let trash = Trash::default();
        trash.put(leftovers.into_iter().map(Waste::Leftover));
        Ok(Self {
            inner: Arc::new(Inner {
                trash,
                root: root.to_owned(),
                content: BlobStore::new(blobs, ingest, temporary.clone()),
                layers,
                containers: ContainerStore::new(dir("containers")?, temporary.clone()),
                volumes: VolumeStore::new(dir("volumes")?, temporary),
                keep_mounts: AtomicBool::new(false),
                _lock: lock,
            }),
        })
    }

    /// Leaves layers mounted when the store is closed: what runs on them and what is started on them
    /// by the next one then share what is read.
    pub fn keep_mounts(&self) {
        self.inner.keep_mounts.store(true, Ordering::Relaxed);
    }

    /// The folder itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// The blobs.
    #[must_use]
    pub fn content(&self) -> &BlobStore {
        &self.inner.content
    }

    /// The unpacked layers.
    #[must_use]
    pub fn layers(&self) -> &LayerStore {
        &self.inner.layers
    }

    /// The containers' folders.
    #[must_use]
    pub fn containers(&self) -> &ContainerStore {
        &self.inner.containers
    }

    /// What is deleted behind everybody's back.
    #[must_use]
    pub fn trash(&self) -> &Trash {
        &self.inner.trash
    }

    /// The named volumes.
    #[must_use]
    pub fn volumes(&self) -> &VolumeStore {
        &self.inner.volumes
    }
}

fn make_root(root: &Path) -> Result<(), OpenError> {
    if let Some(parent) = root.parent() {
        std::fs::create_dir_all(parent).map_err(OpenError::io("make folder", parent))?;
    }
    ensure_dir(root, 0o700).map_err(OpenError::io("make folder", root))
}

fn lock(root: &Path) -> Result<OwnedFd, OpenError> {
    let fd = fsutil::open_dir(root).map_err(OpenError::io("open folder", root))?;
    match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(fd),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::Busy {
            root: root.to_owned(),
        }),
        Err(error) => Err(OpenError::io("lock folder", root)(error.into())),
    }
}

/// What writers and deleters of an earlier process did not finish.
fn leftovers(temporary: &Path) -> Result<Vec<PathBuf>, OpenError> {
    let failed = || OpenError::io("read folder", temporary);
    let dir = fsutil::open_dir(temporary).map_err(failed())?;
    let names = fsutil::remove::list(dir.as_fd()).map_err(failed())?;
    let path = |name: CString| temporary.join(OsStr::from_bytes(name.as_bytes()));
    Ok(names.into_iter().map(|(name, _)| path(name)).collect())
}

/// Writes the two files that make `content` an OCI image layout (image-layout.md).
pub(crate) fn write_layout(content: &Path) -> Result<(), OpenError> {
    let files: [(&str, &str); 2] = [
        ("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#),
        ("index.json", r#"{"schemaVersion":2,"manifests":[]}"#),
    ];
    for (name, text) in files {
        let path = content.join(name);
        if path.exists() {
            continue;
        }
        let temporary = content.join(format!(".{name}"));
        let write = || -> io::Result<()> {
            let mut file = std::fs::File::create(&temporary)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&temporary, &path)
        };
        write().map_err(OpenError::io("write", &path))?;
    }
    Ok(())
}
