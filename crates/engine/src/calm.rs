//! Giving memory back when nothing happens.

use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;

use crate::engine::Engine;

/// Nothing has happened for so long.
const CALM: Duration = Duration::from_millis(300);

impl Engine {
    /// Gives the heap's free pages back to the kernel whenever a busy time is over, for as long as the
    /// engine lives.
    ///
    /// A start makes and drops several copies of a record, which with hundreds of published ports is
    /// long, and on many threads; glibc keeps what was freed for the next time.
    pub(crate) fn trim_when_calm(&self) {
        let mut events = self.events().live;
        tokio::spawn(async move {
            loop {
                if let Err(RecvError::Closed) = events.recv().await {
                    return;
                }
                // until the events end, or there is no engine any more
                while let Ok(event) = tokio::time::timeout(CALM, events.recv()).await {
                    if let Err(RecvError::Closed) = event {
                        return;
                    }
                }
                // it holds the heap's locks, so not on a thread that others wait for
                drop(tokio::task::spawn_blocking(sys::heap::trim).await);
            }
        });
    }
}
