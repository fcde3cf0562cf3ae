//! The word that nobody wants some work any more.

use std::sync::Arc;

use tokio::sync::watch;

use crate::error::{Error, Result};

/// A flag that is raised once and that tasks wait for. Copies share it.
#[derive(Clone, Debug)]
pub struct Cancel(Arc<watch::Sender<bool>>);

impl Default for Cancel {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }
}

impl Cancel {
    /// Raises the flag.
    pub fn cancel(&self) {
        self.0.send_replace(true);
    }

    /// Whether the flag is raised.
    #[must_use]
    pub fn is_canceled(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until the flag is raised.
    pub async fn canceled(&self) {
        let mut receiver = self.0.subscribe();
        // the sender lives in self, so this ends only when the flag is raised
        let _raised = receiver.wait_for(|raised| *raised).await;
    }

    /// Fails when the flag is raised.
    ///
    /// # Errors
    /// [`Error::canceled`].
    pub fn check(&self) -> Result<()> {
        if self.is_canceled() {
            return Err(Error::canceled());
        }
        Ok(())
    }

    /// Runs work until it is done or the flag is raised.
    ///
    /// # Errors
    /// What the work fails with, or [`Error::canceled`].
    pub async fn run<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            biased;
            () = self.canceled() => Err(Error::canceled()),
            done = work => done,
        }
    }
}
