//! Removing all containers that do not run.

use std::sync::Arc;

use api::Filters;
use api::container::PruneReport;

use super::Status;
use crate::engine::Engine;
use crate::error::Result;
use crate::filter;

impl Engine {
    /// Removes the stopped containers that match `until` and `label` filters.
    ///
    /// # Errors
    /// When a filter is unknown or malformed.
    pub async fn container_prune(self: &Arc<Self>, filters: &Filters) -> Result<PruneReport> {
        filters.validate(&["until", "label", "label!"])?;
        let until = filter::until(filters)?;
        let mut deleted = Vec::new();
        let mut space = 0;
        let mut noted = Vec::new();
        for container in self.containers.all() {
            let _turn = container.lifecycle.lock().await;
            let matches = {
                let record = container.record();
                matches!(
                    record.state.status,
                    Status::Created | Status::Exited | Status::Dead
                ) && until.is_none_or(|until| record.created < until)
                    && filter::labels(filters, record.config.labels.as_ref())
            };
            if !matches || self.containers.get(container.id.as_str()).is_err() {
                continue;
            }
            space += self.container_size(&container.id).await?;
            noted.push(self.remove_in_turn(&container, false).await);
            deleted.push(container.id.to_string());
        }
        for noted in noted {
            noted.settle().await;
        }
        self.prune_event("container", space);
        Ok(PruneReport {
            containers_deleted: Some(deleted).filter(|d| !d.is_empty()),
            space_reclaimed: space,
        })
    }
}
