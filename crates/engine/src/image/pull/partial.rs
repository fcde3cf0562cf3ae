//! What pulls that did not end have left, for the next one: bounded in age and in size.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::Engine;
use crate::error::{Result, Step};

/// How long a partial blob waits for the pull that goes on with it.
const AGE_MAX: Duration = Duration::from_secs(24 * 3600);
/// What all partial blobs may take on the disk, bytes.
const SIZE_MAX: u64 = 8 << 30;

impl Engine {
    /// Removes partial blobs that are too old or too many.
    pub(crate) async fn trim_partials(self: &Arc<Self>) {
        if let Err(error) = self.remove_partials(AGE_MAX, SIZE_MAX).await {
            tracing::warn!(error = error.message(), "partial blobs stay");
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
