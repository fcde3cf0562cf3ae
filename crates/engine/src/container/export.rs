//! The root file system of a container as one archive, without what is mounted in it.

use std::sync::Arc;

use storage::files::TreeOptions;
use storage::view::{Access, Extent};

use super::archive::Outgoing;
use crate::engine::Engine;
use crate::error::{Result, Step};

impl Engine {
    /// Makes an archive of a container's root file system.
    ///
    /// # Errors
    /// When there is no such container or its files are gone.
    pub async fn container_export(self: &Arc<Self>, name: &str) -> Result<Outgoing> {
        let container = self.containers.get(name)?;
        let tree = self.tree(&container, Extent::Root, Access::Read).await?;
        self.container_event("export", &container, &[]);
        let step = format!("export container {}", container.id);
        Ok(Outgoing::new(move |output| {
            use rustix::fs::{Mode, OFlags};
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let root = rustix::fs::openat(&tree.view.root, c".", flags, Mode::empty());
            let root = root.step(|| &step)?;
            let options = TreeOptions {
                owners: tree.owners.clone(),
                ..TreeOptions::default()
            };
            let written = storage::files::write_tree(root, options, output);
            drop(tree);
            written.step(|| step)
        }))
    }
}
