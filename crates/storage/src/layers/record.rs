//! What is written beside a layer's files: `layer.json` and the mark of durability.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use oci::Digest;
use serde::{Deserialize, Serialize};

use super::{FolderLayer, LayerInfo};
use crate::container::discard;
use crate::content::digest_from_hex;
use crate::snapshotter::Format;
use crate::unpack::Applied;

const FILE: &str = "layer.json";
/// An empty file that says that the layer is on the disk.
pub(super) const DURABLE: &str = "durable";

/// A layer as it is written down.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) parent: Option<Digest>,
    diff_id: Digest,
    size: u64,
    entries: u64,
    pub(super) opaque_root: bool,
    /// Former versions made nothing but folders.
    #[serde(default)]
    pub(super) format: Format,
    /// Length of the tar that is made of the folder, which has the diff id as its digest.
    #[serde(default)]
    tar_size: Option<u64>,
    /// The kernel's boot id when it was unpacked.
    boot: String,
}

impl Record {
    pub(super) fn new(
        applied: &Applied,
        parent: Option<&Digest>,
        boot: &str,
        format: Format,
    ) -> Self {
        Self {
            parent: parent.cloned(),
            diff_id: applied.diff_id.clone(),
            size: applied.size,
            entries: applied.entries,
            opaque_root: applied.opaque_root,
            format,
            tar_size: None,
            boot: boot.to_owned(),
        }
    }

    pub(super) fn of_folder(layer: &FolderLayer, parent: Option<&Digest>, boot: &str) -> Self {
        Self {
            parent: parent.cloned(),
            diff_id: layer.diff_id.clone(),
            size: layer.size,
            entries: layer.entries,
            opaque_root: false,
            format: Format::Folder,
            tar_size: layer.tar_size,
            boot: boot.to_owned(),
        }
    }

    pub(super) fn info(&self, chain: &Digest) -> LayerInfo {
        LayerInfo {
            chain: chain.clone(),
            parent: self.parent.clone(),
            diff_id: self.diff_id.clone(),
            size: self.size,
            entries: self.entries,
            format: self.format,
            tar_size: self.tar_size,
        }
    }

    pub(super) fn write(&self, folder: &Path) -> io::Result<()> {
        std::fs::write(folder.join(FILE), serde_json::to_vec(self)?)
    }

    pub(super) fn read(folder: &Path) -> io::Result<Self> {
        Ok(serde_json::from_slice(&std::fs::read(folder.join(FILE))?)?)
    }
}

/// The layers of a folder, sorted by whether they can be trusted.
#[derive(Default)]
pub(super) struct Found {
    pub(super) layers: HashMap<Digest, Record>,
    /// Unpacked in this boot, and not yet known to be on the disk.
    pub(super) unflushed: Vec<Digest>,
    /// Removed.
    pub(super) lost: Vec<Digest>,
}

/// Reads all layers, and removes those that a power failure may have damaged.
pub(super) fn load_all(root: &Path, temporary: &Path, boot: &str) -> io::Result<Found> {
    let mut found = Found::default();
    for entry in std::fs::read_dir(root)? {
        let folder = entry?.path();
        let name = folder.file_name().and_then(|name| name.to_str());
        let Some(chain) = name.and_then(digest_from_hex) else {
            continue;
        };
        let durable = folder.join(DURABLE).exists();
        match Record::read(&folder) {
            Ok(record) if durable || record.boot == boot => {
                if !durable {
                    found.unflushed.push(chain.clone());
                }
                found.layers.insert(chain, record);
            }
            _ => found.lost.push(chain),
        }
    }
    drop_orphans(&mut found);
    for chain in &found.lost {
        tracing::warn!(%chain, "dropped a layer that was not on the disk before a power failure");
        discard(&root.join(chain.hex()), temporary)?;
    }
    Ok(found)
}

/// A layer whose parent is lost is lost too.
fn drop_orphans(found: &mut Found) {
    loop {
        let orphan = found.layers.iter().find(|(_, record)| {
            let parent = record.parent.as_ref();
            parent.is_some_and(|parent| !found.layers.contains_key(parent))
        });
        let Some(chain) = orphan.map(|(chain, _)| chain.clone()) else {
            return;
        };
        found.layers.remove(&chain);
        found.unflushed.retain(|other| *other != chain);
        found.lost.push(chain);
    }
}
