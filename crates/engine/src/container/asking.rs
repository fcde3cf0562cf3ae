//! Questions to the shim of a container that may end while they are asked.

use std::time::Duration;

use shim::{Reply, Request};
use tokio::sync::watch;

use super::{Container, Phase};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::shim_link::{Link, refusal};

/// How long the news of an end may be behind the end itself.
const NEWS: Duration = Duration::from_millis(500);

impl Engine {
    /// Asks the shim of a running container one thing; one that has just ended is not running.
    pub(super) async fn ask_running(
        &self,
        container: &Container,
        request: &Request,
    ) -> Result<Reply> {
        let asked = self.connect_running(container, request).await;
        asked.map(|(_, reply)| reply)
    }

    /// Asks the shim of a running container, and keeps the connection for more questions.
    pub(super) async fn connect_running(
        &self,
        container: &Container,
        request: &Request,
    ) -> Result<(Link, Reply)> {
        let mut phase = container.phase.subscribe();
        let asked = async {
            let mut link = Link::connect(&self.run_dir(&container.id))?;
            let reply = link.call(request, &[]).await.map_err(|e| refusal(&e))?;
            Ok((link, reply))
        };
        match asked.await {
            Ok(found) => Ok(found),
            Err(error) => Err(ended_or(container, &mut phase, error).await),
        }
    }
}

/// What to tell of a shim that did not answer: that its container has ended, if that is so.
///
/// `phase` was subscribed while the container ran.
pub(super) async fn ended_or(
    container: &Container,
    phase: &mut watch::Receiver<Phase>,
    error: Error,
) -> Error {
    let over = phase.wait_for(|phase| phase.removed || !phase.status.is_alive());
    match tokio::time::timeout(NEWS, over).await {
        Ok(_) => not_running(container),
        Err(_) => error,
    }
}

/// Docker's refusal of what only a running container can do.
pub(super) fn not_running(container: &Container) -> Error {
    Error::conflict(format!("container {} is not running", container.id))
}
