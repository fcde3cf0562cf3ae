//! The whole tree of a container, running or not, for whoever copies files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use storage::files::Owners;
use storage::view::{self, Access, Extent, View, ViewMount};
use tokio::sync::OwnedMutexGuard;

use super::{Container, MountKind, Record, Status, files};
use crate::engine::Engine;
use crate::error::{Error, Result, Step};
use crate::userns::IdMaps;

/// The tree of a container.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) view: View,
    /// Whether it is that of the running container.
    pub(crate) live: bool,
    /// Who its owners are to the container: a running one's mounts show them as the host does.
    pub(crate) owners: Owners,
    /// Keeps a container that is written to from being started.
    _occupied: Option<OwnedMutexGuard<()>>,
}

impl Engine {
    /// Opens the tree of a container.
    pub(crate) async fn tree(
        self: &Arc<Self>,
        container: &Arc<Container>,
        extent: Extent,
        access: Access,
    ) -> Result<Tree> {
        let record = container.record().clone();
        if matches!(record.state.status, Status::Removing | Status::Dead) {
            return Err(Error::conflict(format!(
                "container {} is marked for removal: its files are gone",
                container.id
            )));
        }
        if record.state.status.is_alive()
            && let Some((view, owners)) = self.live_view(&record, extent, access).await?
        {
            return Ok(Tree {
                view,
                live: true,
                owners,
                _occupied: None,
            });
        }
        // the shim may still be letting go of the same folder
        let occupied = Arc::clone(&container.occupied).lock_owned().await;
        let record = container.record().clone();
        let view = self.dead_view(record, extent, access).await?;
        Ok(Tree {
            view,
            live: false,
            owners: Owners::default(),
            _occupied: (access == Access::Write).then_some(occupied),
        })
    }

    async fn live_view(
        &self,
        record: &Record,
        extent: Extent,
        access: Access,
    ) -> Result<Option<(View, Owners)>> {
        let (pid, id) = (record.state.pid, record.id.clone());
        self.blocking(move || {
            // of a process that is gone by now, the view says so
            let maps = IdMaps::of_process(pid).ok().flatten().unwrap_or_default();
            let view = view::running(pid, id.as_str(), extent, access)
                .step(|| format!("open the files of container {id}"))?;
            let owners = Owners {
                uids: maps.uids,
                gids: maps.gids,
            };
            Ok(view.map(|view| (view, owners)))
        })
        .await
    }

    /// Puts the tree together while nobody else uses the container's folder.
    async fn dead_view(
        self: &Arc<Self>,
        record: Record,
        extent: Extent,
        access: Access,
    ) -> Result<View> {
        let engine = Arc::clone(self);
        self.blocking(move || {
            let step = || format!("put the files of container {} together", record.id);
            let lower = engine.lower(&record)?;
            let folder = engine.store.containers().get(&record.id);
            let mounts = match extent {
                Extent::Root => Vec::new(),
                Extent::Mounts => mounts(&record, folder.path()),
            };
            let build = |access| view::stopped(&lower, &folder, &mounts, access).step(step);
            let first = build(access)?;
            let root = std::os::fd::AsFd::as_fd(&first.root);
            if access == Access::Write || view::has_places(root, &mounts) {
                return Ok(first);
            }
            // to be read where it is mounted, a volume needs the place that a start would make
            drop(build(Access::Write)?);
            build(Access::Read)
        })
        .await
    }

    /// The folders of a container's layers, the topmost first.
    pub(crate) fn lower(&self, record: &Record) -> Result<Vec<PathBuf>> {
        let chains = record.layers.iter().rev();
        chains.map(|chain| self.layer_path(chain)).collect()
    }
}

/// What a container has mounted of the host, parents first.
fn mounts(record: &Record, folder: &Path) -> Vec<ViewMount> {
    let own = record
        .mounts
        .iter()
        .filter(|mount| mount.kind != MountKind::Tmpfs)
        .map(|mount| ViewMount {
            destination: mount.destination.clone().into(),
            source: mount.source.clone().into(),
            recursive: !mount.options.iter().any(|option| option == "bind"),
            read_only: mount.read_only,
        });
    let taken: Vec<&str> = record
        .mounts
        .iter()
        .map(|mount| mount.destination.as_str())
        .collect();
    let engines = files::places(folder)
        .into_iter()
        // before the first start there are none
        .filter(|(source, place)| !taken.contains(place) && source.exists())
        .map(|(source, place)| ViewMount {
            destination: place.into(),
            source,
            recursive: false,
            read_only: record.host.readonly_rootfs,
        });
    let mut all: Vec<ViewMount> = engines.chain(own).collect();
    all.sort_by_key(|mount| mount.destination.components().count());
    all
}
