//! Removing images that no container uses.

use std::sync::Arc;
use std::time::Duration;

use api::Filters;
use api::image::PruneReport;

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::filter;

impl Engine {
    /// Removes unused images: those without a name, or with `dangling=false` all.
    ///
    /// # Errors
    /// When a filter is unknown or malformed.
    pub async fn image_prune(self: &Arc<Self>, filters: &Filters) -> Result<PruneReport> {
        filters.validate(&["dangling", "label", "label!", "until"])?;
        let only_dangling = filters.bool_or("dangling", true)?;
        if filters.get("until").count() > 1 {
            return Err(Error::invalid("more than one until filter specified"));
        }
        let until = super::list::until(filters)?;
        let users = self.image_users();
        let before = self.content_size().await?;
        let mut items = Vec::new();
        for image in self.images.listed() {
            let labels = image.config.config.as_ref().and_then(|c| c.labels.as_ref());
            if (!only_dangling || image.record.tags.is_empty())
                && !users.contains_key(&image.id)
                && until.is_none_or(|until| image.created() < until)
                && filter::labels(filters, labels)
            {
                self.delete_image(&image, &mut items).await?;
            }
        }
        self.forget_cut_off();
        self.collect_and_free().await;
        self.remove_partials(Duration::ZERO, 0).await?;
        let freed = before.saturating_sub(self.content_size().await?);
        self.prune_event("image", freed);
        Ok(PruneReport {
            images_deleted: Some(items).filter(|items| !items.is_empty()),
            space_reclaimed: freed,
        })
    }

    /// Bytes of all layers and blobs, also of those that are not complete.
    pub(crate) async fn content_size(self: &Arc<Self>) -> Result<u64> {
        let engine = Arc::clone(self);
        self.blocking(move || {
            let layers: u64 = engine
                .store
                .layers()
                .list()
                .iter()
                .map(|layer| layer.size)
                .sum();
            let blobs = engine
                .store
                .content()
                .list()
                .map_err(|e| crate::Error::system("list blobs", &e))?;
            let partials = engine.store.content().partials();
            let partials = partials.map_err(|e| crate::Error::system("list partial blobs", &e))?;
            let partials: u64 = partials.iter().map(|partial| partial.allocated).sum();
            Ok(layers + partials + blobs.iter().map(|(_, size)| size).sum::<u64>())
        })
        .await
    }
}
