//! What is deleted behind the back of whoever asked for it, and how to wait for it.

use std::sync::Mutex;

use tokio::task::JoinHandle;

use crate::container::lock;

/// Deletions that go on.
#[derive(Debug, Default)]
pub(crate) struct Leaving(Mutex<Vec<JoinHandle<()>>>);

impl Leaving {
    /// Begins a deletion, which blocks.
    pub(super) fn add(&self, delete: impl FnOnce() + Send + 'static) {
        let mut going = lock(&self.0);
        going.retain(|task| !task.is_finished());
        going.push(tokio::task::spawn_blocking(delete));
    }

    /// Waits for the deletions that have begun.
    pub(super) async fn settle(&self) {
        let going = std::mem::take(&mut *lock(&self.0));
        for task in going {
            // one that panicked is over as well
            drop(task.await);
        }
    }
}
