//! The folders of containers and volumes against the records.

use std::sync::Arc;
use std::time::Duration;

use api::check::Finding;
use oci::ContainerId;
use serde::de::IgnoredAny;

use super::finding;
use crate::container::Container;
use crate::db::Table;
use crate::engine::Engine;
use crate::error::{Result, Step};

/// What is on its way has a record by then, or is gone.
const SETTLE: Duration = Duration::from_millis(500);

impl Engine {
    /// Compares the folders of containers with their records.
    pub(super) fn check_folders(&self, repair: bool) -> Result<Vec<Finding>> {
        let containers = self.containers.all();
        let lacking = containers
            .iter()
            .filter_map(|container| self.check_folder(container, repair));
        let mut findings: Vec<Finding> = lacking.collect();
        for id in self.strange_folders()? {
            let action = || {
                let removed = self.store.containers().remove(&id);
                removed.step(|| format!("remove the folder of container {id}"))
            };
            let mend = repair.then_some(action);
            let problem = "the folder belongs to no container";
            findings.push(finding(("folder", id.as_str()), problem, "remove it", mend));
        }
        Ok(findings)
    }

    fn check_folder(&self, container: &Arc<Container>, repair: bool) -> Option<Finding> {
        let folder = self.store.containers().get(&container.id);
        let is_there = |path: &std::path::Path| path.symlink_metadata().is_ok_and(|m| m.is_dir());
        if is_there(&folder.upper()) && is_there(&folder.work()) {
            return None;
        }
        // it may be on its way out
        let container = self.containers.get(container.id.as_str()).ok()?;
        let record = container.record().clone();
        let problem = if is_there(folder.path()) {
            "its writable layer is gone, with what it had written"
        } else {
            "its folder is gone, with what it had written"
        };
        let action = || {
            let top = record.layers.last();
            let root = top.map(|chain| self.layer_path(chain)).transpose()?;
            let made = self.store.containers().restore(&record.id, root.as_deref());
            made.step(|| format!("make the folder of container {}", record.id))
        };
        let mend = repair.then_some(action);
        let what = "make it again, empty";
        Some(finding(("container", &record.name), problem, what, mend))
    }

    /// Folders of containers that nobody knows: not in memory, not in the database, not about to be.
    fn strange_folders(&self) -> Result<Vec<ContainerId>> {
        let listed = self.store.containers().list();
        let mut strange = listed.step(|| "list container folders")?;
        strange.retain(|id| !self.containers.knows(id));
        if strange.is_empty() {
            return Ok(strange);
        }
        std::thread::sleep(SETTLE);
        let mut sure = Vec::new();
        for id in strange {
            let record = self
                .db
                .load_one::<IgnoredAny>(Table::Containers, id.as_str())?;
            let path = self.store.containers().get(&id);
            if record.is_none() && !self.containers.knows(&id) && path.path().exists() {
                sure.push(id);
            }
        }
        Ok(sure)
    }

    /// Compares the folders of volumes with their records.
    pub(super) async fn check_volumes(self: &Arc<Self>, repair: bool) -> Result<Vec<Finding>> {
        let (mut lacking, mut strange) = self.volume_differences()?;
        if !lacking.is_empty() || !strange.is_empty() {
            tokio::time::sleep(SETTLE).await;
            let (lacking_still, strange_still) = self.volume_differences()?;
            lacking.retain(|name| lacking_still.contains(name));
            strange.retain(|name| strange_still.contains(name));
        }
        let mut findings = Vec::new();
        for name in lacking {
            let action = || {
                let made = self.store.volumes().create(&name).map(drop);
                made.step(|| format!("create volume {name}"))
            };
            let mend = repair.then_some(action);
            let problem = "its folder is gone, with all that was in it";
            let what = "make it again, empty";
            findings.push(finding(("volume", &name), problem, what, mend));
        }
        for name in strange {
            let mended = if repair {
                Some(self.adopt_volume(&name).await)
            } else {
                None
            };
            let mend = mended.map(|mended| move || mended);
            let problem = "the engine does not know the volume that lies there";
            findings.push(finding(("volume", &name), problem, "make it known", mend));
        }
        Ok(findings)
    }
}
