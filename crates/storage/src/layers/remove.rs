//! Taking layers away: out of sight at once, and off the disk behind that.

use std::path::PathBuf;

use oci::Digest;

use super::{LayerError, LayerStore};
use crate::failpoint::{self, Point};
use crate::fsutil;

/// A layer that is in the store no more and still on the disk; a crash leaves it to
/// [`crate::Store::open`].
#[derive(Debug)]
#[must_use = "it takes space until it is deleted"]
pub struct DetachedLayer {
    folder: PathBuf,
    away: PathBuf,
}

impl DetachedLayer {
    /// Deletes the layer's files, with several threads where there are many.
    ///
    /// # Errors
    ///
    /// A disk that fails.
    pub fn delete(self) -> Result<(), LayerError> {
        fsutil::remove::remove_quickly(&self.away)
            .map_err(LayerError::io("remove layer", &self.folder))
    }
}

impl LayerStore {
    /// Removes a layer that no other layer lies on; nothing there is no error.
    ///
    /// # Errors
    ///
    /// [`LayerError::HasChild`], or a disk that fails.
    pub fn remove(&self, chain: &Digest) -> Result<(), LayerError> {
        match self.detach(chain)? {
            Some(layer) => layer.delete(),
            None => Ok(()),
        }
    }

    /// Takes a layer that no other layer lies on out of sight by one rename; nothing where there is none.
    ///
    /// # Errors
    ///
    /// [`LayerError::HasChild`], or a disk that fails.
    pub fn detach(&self, chain: &Digest) -> Result<Option<DetachedLayer>, LayerError> {
        let mut known = self.shared.write();
        let child = known
            .iter()
            .find(|(_, record)| record.parent.as_ref() == Some(chain));
        if let Some((child, _)) = child {
            let (chain, child) = (chain.clone(), child.clone());
            return Err(LayerError::HasChild { chain, child });
        }
        let detached = self.move_away(chain)?;
        known.remove(chain);
        Ok(detached)
    }

    /// Takes a damaged layer out of sight, whatever lies on it: it is to be unpacked again at once.
    ///
    /// # Errors
    ///
    /// A disk that fails.
    pub fn detach_damaged(&self, chain: &Digest) -> Result<Option<DetachedLayer>, LayerError> {
        let mut known = self.shared.write();
        let detached = self.move_away(chain)?;
        known.remove(chain);
        Ok(detached)
    }

    fn move_away(&self, chain: &Digest) -> Result<Option<DetachedLayer>, LayerError> {
        let folder = self.shared.folder(chain);
        let failed = || LayerError::io("remove layer", &folder);
        // what stands on it keeps it; nobody else is to
        self.shared.mounts.release(chain).map_err(failed())?;
        let away = fsutil::temp::unique_name("removed").map_err(failed())?;
        let away = self.shared.temporary.join(away);
        match std::fs::rename(&folder, &away) {
            Ok(()) => {
                failpoint::reach(Point::LayerDetached);
                Ok(Some(DetachedLayer { folder, away }))
            }
            Err(error) if fsutil::is_missing(&error) => Ok(None),
            Err(error) => Err(failed()(error)),
        }
    }
}
