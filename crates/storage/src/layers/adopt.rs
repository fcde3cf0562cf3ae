//! Layers that somebody else wrote as folders, such as the steps of a build.

use std::io;
use std::path::Path;

use oci::Digest;

use super::record::Record;
use super::{FILES, LayerError, LayerStore, chain_id, flush, missing_parent};
use crate::failpoint::{self, Point};
use crate::fsutil;
use crate::snapshotter::Format;

/// What is known of a folder that is to become a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderLayer {
    /// Digest of the tar that [`crate::diff::write_layer`] makes of it.
    pub diff_id: Digest,
    /// Bytes of file content.
    pub size: u64,
    /// Number of files and directories.
    pub entries: u64,
    /// Length of that tar, where it was made over the very layers that the folder is put on: then
    /// [`LayerStore::read_tar`] makes it again.
    pub tar_size: Option<u64>,
}

impl LayerStore {
    /// The name of the folder with the files in a folder that [`Self::adopt_folder`] takes.
    pub const FILES: &'static str = FILES;

    /// Makes a folder a layer on its parent by one rename; returns its chain id.
    ///
    /// The folder has nothing but [`Self::FILES`], in overlayfs' own way of writing, and lies on the
    /// store's file system. A layer that is there already stays, and so does the folder then. The
    /// files must have been written in this boot, or be known to be on the disk.
    ///
    /// # Errors
    ///
    /// The parent is not in the store, or the disk fails; the folder is still there then.
    pub fn adopt_folder(
        &self,
        folder: &Path,
        layer: &FolderLayer,
        parent: Option<&Digest>,
    ) -> Result<Digest, LayerError> {
        let shared = &self.shared;
        let chain = chain_id(parent, &layer.diff_id);
        if self.exists(&chain) {
            return Ok(chain);
        }
        let files = folder.join(FILES);
        fsutil::open_dir(&files).map_err(LayerError::io("open the files of layer", &files))?;
        let record = Record::of_folder(layer, parent, &shared.boot);
        record
            .write(folder)
            .map_err(LayerError::io("write the record of layer", folder))?;
        let target = shared.folder(&chain);
        {
            let mut known = shared.write();
            if known.contains_key(&chain) {
                return Ok(chain);
            }
            if let Some(parent) = parent.filter(|parent| !known.contains_key(*parent)) {
                return Err(missing_parent(parent, &layer.diff_id));
            }
            failpoint::reach(Point::LayerStaged);
            std::fs::rename(folder, &target).map_err(LayerError::io("rename layer to", &target))?;
            known.insert(chain.clone(), record);
        }
        failpoint::reach(Point::LayerPlaced);
        flush::later(shared, chain.clone());
        Ok(chain)
    }

    /// Whether a layer hides all that lies below it, which overlayfs itself does not look for at the root.
    ///
    /// # Errors
    ///
    /// [`LayerError::Missing`].
    pub fn hides_all_below(&self, chain: &Digest) -> Result<bool, LayerError> {
        let known = self.shared.read();
        let record = known.get(chain).ok_or_else(|| super::missing(chain))?;
        Ok(record.opaque_root)
    }

    /// Whether a layer is one folder of files, not an image that is mounted.
    #[must_use]
    pub fn is_folder(&self, chain: &Digest) -> bool {
        let known = self.shared.read();
        known
            .get(chain)
            .is_some_and(|record| record.format == Format::Folder)
    }

    /// Has the file system that the layers are on written to the disk.
    ///
    /// # Errors
    ///
    /// The disk fails.
    pub fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(fsutil::open_dir(&self.shared.root)?)?)
    }
}
