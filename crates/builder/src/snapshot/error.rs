//! What goes wrong with snapshots.

use std::io;
use std::path::{Path, PathBuf};

/// A snapshot that cannot be made, read or kept.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
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
    /// Its layers cannot be put together.
    #[error(transparent)]
    View(#[from] storage::overlay::ViewError),
    /// The engine's store does not take or have a layer.
    #[error(transparent)]
    Layer(#[from] storage::LayerError),
    /// A layer cannot be written as a tar.
    #[error("write layer {id} as an archive")]
    Archive {
        /// The layer.
        id: String,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A layer cannot be fetched.
    #[error("fetch layer {id}")]
    Fetch {
        /// The layer.
        id: String,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A layer was removed.
    #[error("layer {id} of the build cache is gone")]
    Gone {
        /// The layer.
        id: String,
    },
    /// A folder of somebody else was to be a layer.
    #[error("{} is a folder of a client, and no layer", path.display())]
    NoLayers {
        /// The folder.
        path: PathBuf,
    },
    /// A thread ended without a result.
    #[error("a background step failed: {step}")]
    Broken {
        /// What was done.
        step: &'static str,
    },
}

/// The result of a step on snapshots.
pub type Result<T, E = SnapshotError> = std::result::Result<T, E>;

impl SnapshotError {
    pub(crate) fn io<E: Into<io::Error>>(
        step: &'static str,
        path: &Path,
    ) -> impl FnOnce(E) -> Self {
        move |source| Self::Io {
            step,
            path: path.to_owned(),
            source: source.into(),
        }
    }
}

/// Runs disk work where it may block.
pub(crate) async fn blocking<T: Send + 'static>(
    step: &'static str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let broken = |_| SnapshotError::Broken { step };
    tokio::task::spawn_blocking(work).await.map_err(broken)?
}
