//! A folder on top of a snapshot in which a step writes.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;

use super::error::{Result, SnapshotError};
use super::layer::Layer;
use super::record::Record;
use super::store::{Shared, Snapshots};
use super::{Lowers, Snapshot};

/// What is said of a layer beside its files.
#[derive(Clone, Debug)]
pub struct LayerFacts {
    /// What made it, for people.
    pub description: String,
    /// When it was made.
    pub created: Timestamp,
}

impl LayerFacts {
    /// A layer that is made now.
    pub fn new(description: impl Into<String>) -> Self {
        Self {
            description: description.into(),
            created: Timestamp::now(),
        }
    }
}

/// A snapshot with a writable folder on top. Dropped, it is removed.
#[derive(Debug)]
pub struct Writable {
    shared: Arc<Shared>,
    id: String,
    parent: Snapshot,
    armed: bool,
}

impl Snapshots {
    /// Makes a writable folder on top of a snapshot. It blocks.
    ///
    /// # Errors
    ///
    /// The disk fails.
    pub fn prepare(&self, parent: &Snapshot) -> Result<Writable> {
        let shared = Arc::clone(self.shared());
        let id = super::store::draw_id()?;
        let folder = shared.fresh.join(&id);
        let upper = folder.join(storage::LayerStore::FILES);
        let make = |path: &PathBuf, mode| {
            use std::os::unix::fs::DirBuilderExt as _;
            std::fs::DirBuilder::new().mode(mode).create(path)
        };
        let failed = || SnapshotError::io("make folder", &folder);
        make(&folder, 0o700).map_err(failed())?;
        let writable = Writable {
            shared,
            id,
            parent: parent.clone(),
            armed: true,
        };
        make(&upper, 0o755).map_err(failed())?;
        make(&folder.join("work"), 0o700).map_err(failed())?;
        writable.take_root(&upper)?;
        Ok(writable)
    }
}

impl Writable {
    /// Gives the upper folder the owner, mode and times of the root below it, which overlayfs shows
    /// of the topmost layer.
    fn take_root(&self, upper: &std::path::Path) -> Result<()> {
        let lowers = self.parent.lowers()?;
        let failed = || SnapshotError::io("give a root's attributes to", upper);
        let Some(below) = lowers.paths.first() else {
            return Ok(());
        };
        let stat = rustix::fs::stat(below).map_err(failed())?;
        let cwd = rustix::fs::CWD;
        let mode = rustix::fs::Mode::from_raw_mode(stat.st_mode & 0o7777);
        let (uid, gid) = (
            rustix::fs::Uid::from_raw(stat.st_uid),
            rustix::fs::Gid::from_raw(stat.st_gid),
        );
        rustix::fs::chownat(
            cwd,
            upper,
            Some(uid),
            Some(gid),
            rustix::fs::AtFlags::empty(),
        )
        .map_err(failed())?;
        rustix::fs::chmodat(cwd, upper, mode, rustix::fs::AtFlags::empty()).map_err(failed())?;
        let times = times_of(&stat);
        rustix::fs::utimensat(cwd, upper, &times, rustix::fs::AtFlags::empty()).map_err(failed())
    }

    /// The snapshot below.
    #[must_use]
    pub fn parent(&self) -> &Snapshot {
        &self.parent
    }

    /// overlayfs' upper folder.
    #[must_use]
    pub fn upper(&self) -> PathBuf {
        self.folder().join(storage::LayerStore::FILES)
    }

    /// overlayfs' working folder.
    #[must_use]
    pub fn work(&self) -> PathBuf {
        self.folder().join("work")
    }

    fn folder(&self) -> PathBuf {
        self.shared.fresh.join(&self.id)
    }

    /// The folders below for overlayfs, which needs at least one. It blocks.
    ///
    /// # Errors
    ///
    /// A layer that is not there.
    pub fn lowers(&self) -> Result<Lowers> {
        let mut lowers = self.parent.lowers()?;
        if lowers.paths.is_empty() {
            lowers.paths.push(self.shared.empty.clone());
        }
        Ok(lowers)
    }

    /// Opens the merged view for writing, mounted nowhere. It blocks.
    ///
    /// # Errors
    ///
    /// A layer that is not there, or an overlay that the kernel refuses.
    pub fn open(&self) -> Result<OwnedFd> {
        let lowers = self.lowers()?;
        Ok(storage::view::writable(
            &lowers.paths,
            &self.upper(),
            &self.work(),
        )?)
    }

    /// Makes what was written a layer on the parent. It blocks. Nothing may write any more.
    ///
    /// # Errors
    ///
    /// The disk fails.
    pub fn commit(mut self, facts: LayerFacts) -> Result<Snapshot> {
        if let Some(folder) = self.parent.folder() {
            return Err(SnapshotError::NoLayers {
                path: folder.to_owned(),
            });
        }
        let work = self.work();
        storage::trees::remove(&work).map_err(SnapshotError::io("remove", &work))?;
        let below = self.parent.layers().to_vec();
        let record = Record {
            id: self.id.clone(),
            created: facts.created.to_string(),
            description: facts.description.clone(),
            boot: self.shared.boot.clone(),
            durable: false,
            below: below.iter().map(|layer| layer.id().to_owned()).collect(),
            diff_id: None,
            tar_size: None,
            chain: None,
            blob: None,
        };
        let place = self.shared.layer_folder(&self.id);
        std::fs::rename(self.folder(), &place).map_err(SnapshotError::io("rename to", &place))?;
        self.armed = false;
        record
            .write(&self.shared.layers)
            .map_err(SnapshotError::io("write the record of", &place))?;
        let layer = Layer::own(
            Arc::clone(&self.shared),
            self.id.clone(),
            facts,
            below.clone(),
        );
        let layer = self.shared.enter(layer);
        super::flush::later(&self.shared, self.id.clone());
        let mut layers = below;
        layers.push(layer);
        Ok(Snapshot::of_layers(layers))
    }
}

impl Drop for Writable {
    fn drop(&mut self) {
        let folder = self.folder();
        if self.armed
            && let Err(error) = storage::trees::remove(&folder)
        {
            tracing::warn!(folder = %folder.display(), %error, "a step's folder stays until the next start");
        }
    }
}

/// The times of a file as they are set on another.
#[expect(
    clippy::cast_possible_wrap,
    reason = "nanoseconds are below a thousand million"
)]
fn times_of(stat: &rustix::fs::Stat) -> rustix::fs::Timestamps {
    rustix::fs::Timestamps {
        last_access: rustix::fs::Timespec {
            tv_sec: stat.st_atime,
            tv_nsec: stat.st_atime_nsec as _,
        },
        last_modification: rustix::fs::Timespec {
            tv_sec: stat.st_mtime,
            tv_nsec: stat.st_mtime_nsec as _,
        },
    }
}
