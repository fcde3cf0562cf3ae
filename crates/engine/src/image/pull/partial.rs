//! What pulls that did not end have left, for the next one: bounded in age and in size.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::Engine;
use crate::error::{Result, Step};

impl Engine {
    /// Removes partial blobs that are too old or too many.
    pub(crate) async fn trim_partials(self: &Arc<Self>) {
        let limits = self.settings().store.clone();
        match self
            .remove_partials(limits.partial_for, limits.partial_max)
            .await
        {
            Ok(0) => {}
            Ok(bytes) => tracing::info!(bytes, "removed parts of interrupted downloads"),
            Err(error) => tracing::warn!(error = error.message(), "partial blobs stay"),
        }
    }

    /// Removes partial blobs that nobody uses and that are older than `age`, and the oldest while
    /// all take more than `most` bytes; returns the bytes that were freed.
    pub(crate) async fn remove_partials(self: &Arc<Self>, age: Duration, most: u64) -> Result<u64> {
        let store = Arc::clone(&self.store);
        self.blocking(move || {
            let content = store.content();
            content
                .trim_partials(age, most)
                .step(|| "remove partial blobs")
        })
        .await
    }
}
