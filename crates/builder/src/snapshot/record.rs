//! What is written of a layer beside its folder.

use std::io;
use std::path::{Path, PathBuf};

use oci::Digest;
use oci::image::Descriptor;
use serde::{Deserialize, Serialize};

/// A layer as it is written down, in `layers/<id>.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) id: String,
    /// When it was made, RFC 3339.
    pub(super) created: String,
    pub(super) description: String,
    /// The kernel's boot id when it was written.
    pub(super) boot: String,
    /// Whether it is known to be on the disk.
    #[serde(default)]
    pub(super) durable: bool,
    /// Ids of the layers that it was written on, the lowest first.
    #[serde(default)]
    pub(super) below: Vec<String>,
    #[serde(default)]
    pub(super) diff_id: Option<Digest>,
    /// Length of its uncompressed tar.
    #[serde(default)]
    pub(super) tar_size: Option<u64>,
    /// The layer of the engine's store that it is or has become.
    #[serde(default)]
    pub(super) chain: Option<Digest>,
    /// The blob that an image's layer came from.
    #[serde(default)]
    pub(super) blob: Option<Descriptor>,
}

impl Record {
    pub(super) fn path(folder: &Path, id: &str) -> PathBuf {
        // the id of an image's layer is its chain id
        let name = id.rsplit(':').next().unwrap_or(id);
        folder.join(format!("{name}.json"))
    }

    /// Writes the record by a rename, so that it is never half there.
    pub(super) fn write(&self, folder: &Path) -> io::Result<()> {
        let path = Self::path(folder, &self.id);
        let fresh = path.with_extension("new");
        std::fs::write(&fresh, serde_json::to_vec(self)?)?;
        std::fs::rename(fresh, path)
    }

    pub(super) fn read(path: &Path) -> io::Result<Self> {
        Ok(serde_json::from_slice(&std::fs::read(path)?)?)
    }
}
