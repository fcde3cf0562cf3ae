//! Removing the networks that nobody uses.

use std::sync::Arc;

use api::Filters;
use api::network::PruneReport;

use crate::engine::Engine;
use crate::error::Result;
use crate::filter;

impl Engine {
    /// Removes the networks that no running container is in, as Docker does.
    ///
    /// # Errors
    /// When a filter is unknown or malformed.
    pub async fn network_prune(self: &Arc<Self>, filters: &Filters) -> Result<PruneReport> {
        filters.validate(&["label", "label!", "until"])?;
        let until = filter::until(filters)?;
        let _turn = self.networks.shaping.lock().await;
        let mut removed = Vec::new();
        for net in self.networks.all() {
            let old = until.is_none_or(|until| net.record.created < until);
            let meant = old && filter::labels(filters, Some(&net.record.labels));
            if net.is_predefined() || !meant || net.is_used() {
                continue;
            }
            match self.remove_network(&net).await {
                Ok(()) => removed.push(net.name().to_owned()),
                Err(error) => tracing::warn!(network = net.name(), %error, "could not be pruned"),
            }
        }
        self.prune_event("network", 0);
        Ok(PruneReport {
            networks_deleted: Some(removed).filter(|r| !r.is_empty()),
        })
    }
}
