//! What a container has changed in its file system.

use std::path::Path;
use std::sync::Arc;

use api::archive::Change;
use rustix::fs::{Mode, OFlags};
use storage::diff::{ChangeKind, Trees};

use super::Record;
use crate::engine::Engine;
use crate::error::{Result, Step};

/// What a start makes in the writable layer, only to mount on it.
const PLACES: [&str; 6] = [
    "dev",
    "proc",
    "sys",
    "etc/hostname",
    "etc/hosts",
    "etc/resolv.conf",
];

impl Engine {
    /// Lists what a container has changed; nothing when it has changed nothing.
    ///
    /// # Errors
    /// When there is no such container or its files cannot be read.
    pub async fn container_changes(self: &Arc<Self>, name: &str) -> Result<Option<Vec<Change>>> {
        let container = self.containers.get(name)?;
        let record = container.record().clone();
        let engine = Arc::clone(self);
        let changes = self
            .blocking(move || {
                let trees = engine.trees(&record)?;
                storage::diff::changes(trees)
                    .step(|| format!("list the changes of container {}", record.id))
            })
            .await?;
        let changes: Vec<Change> = changes.iter().map(wire).collect();
        Ok(Some(changes).filter(|changes| !changes.is_empty()))
    }

    /// A container's writable layer and what lies below it.
    pub(crate) fn trees(&self, record: &Record) -> Result<Trees> {
        let upper = self.store.containers().get(&record.id).upper();
        let lower = self.lower(record)?;
        Ok(Trees {
            upper: open(&upper)?,
            lower: storage::overlay::mount_view(&lower)
                .step(|| format!("open the image of container {}", record.id))?,
            places: PLACES
                .iter()
                .map(|place| place.as_bytes().to_vec())
                .collect(),
        })
    }
}

fn open(path: &Path) -> Result<std::os::fd::OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).step(|| format!("open {}", path.display()))
}

fn wire(change: &storage::diff::Change) -> Change {
    Change {
        path: format!("/{}", String::from_utf8_lossy(&change.path)),
        kind: match change.kind {
            ChangeKind::Modified => 0,
            ChangeKind::Added => 1,
            ChangeKind::Deleted => 2,
        },
    }
}
