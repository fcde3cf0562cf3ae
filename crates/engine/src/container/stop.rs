//! Stopping a container: its signal, a while, SIGKILL.

use std::sync::Arc;
use std::time::Duration;

use api::query::Stop;

use super::{Container, Status, hint};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::signal;

/// Seconds until SIGKILL where nobody says otherwise.
const TIMEOUT: i64 = 10;
/// How long SIGKILL may take: a process in an uninterruptible call outlives it.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);
const SIGKILL: i32 = 9;

/// Who stops a container: what a person stops stays stopped, whatever its restart policy says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// A client asked for it.
    Hand,
    /// The engine, to start it again.
    Policy,
}

impl Engine {
    /// Stops a container; answers a hint for people when it had to be killed.
    ///
    /// # Errors
    /// `NotModified` when it does not run; otherwise when it cannot be killed.
    pub async fn container_stop(
        self: &Arc<Self>,
        name: &str,
        options: &Stop,
    ) -> Result<Option<String>> {
        let container = self.containers.get(name)?;
        let _turn = container.lifecycle.lock().await;
        if self.call_off_restart(&container).await {
            self.container_event("stop", &container, &[]);
            return Ok(None);
        }
        if !container.status().is_alive() {
            return Err(Error::not_modified(format!(
                "container {} is already stopped",
                container.id
            )));
        }
        self.stop_and_tell(&container, options, By::Hand)
            .await
            .map_err(|e| e.context(format!("cannot stop container: {name}")))
    }

    /// Lets a container that waits for its restart be; answers whether it did wait.
    pub(super) async fn call_off_restart(&self, container: &Container) -> bool {
        if container.status() != Status::Restarting {
            return false;
        }
        container.update(|state| {
            state.status = Status::Exited;
            state.stopped_by_hand = true;
        });
        self.save_later(container).await;
        true
    }

    /// Stops a running container whose turn the caller holds, with the event about it.
    pub(super) async fn stop_and_tell(
        self: &Arc<Self>,
        container: &Arc<Container>,
        options: &Stop,
        by: By,
    ) -> Result<Option<String>> {
        let hint = self.stop_in_turn(container, options, by).await?;
        let attribute = hint.as_deref().map(|text| ("hint", text));
        self.container_event("stop", container, attribute.as_slice());
        Ok(hint)
    }

    async fn stop_in_turn(
        self: &Arc<Self>,
        container: &Arc<Container>,
        options: &Stop,
        by: By,
    ) -> Result<Option<String>> {
        let (signal, timeout) = {
            let record = container.record();
            let named = [options.signal.as_str(), record.config.stop_signal.as_str()];
            let signal = named
                .into_iter()
                .find(|s| !s.is_empty())
                .unwrap_or("SIGTERM");
            let timeouts = options.timeout.or(record.config.stop_timeout);
            (signal::parse(signal)?, timeouts.unwrap_or(TIMEOUT))
        };
        container.record().state.stopped_by_hand |= by == By::Hand;
        if container.status() == Status::Paused {
            self.resume_in_turn(container).await?;
            self.container_event("unpause", container, &[]);
        }
        let mut phase = container.phase.subscribe();
        let over = |p: &super::Phase| !p.status.is_alive();
        self.signal_and_tell(container, signal).await?;
        let ended = phase.wait_for(over);
        let in_time = match u64::try_from(timeout) {
            Ok(seconds) => tokio::time::timeout(Duration::from_secs(seconds), ended)
                .await
                .is_ok(),
            Err(_) => ended.await.is_ok(),
        };
        if in_time {
            return Ok(None);
        }
        let record = container.record().clone();
        // who asks for no time at all knows why
        let hint = (timeout > 0).then(|| hint::ignored_stop(&record, signal, timeout));
        self.end_by_force(container).await?;
        if let Some(hint) = &hint {
            tracing::warn!(id = %container.id, "{hint}");
        }
        Ok(hint)
    }

    /// Kills a container and waits for its end.
    pub(super) async fn kill_in_turn(&self, container: &Arc<Container>) -> Result<()> {
        container.record().state.stopped_by_hand = true;
        self.end_by_force(container).await
    }

    async fn end_by_force(&self, container: &Arc<Container>) -> Result<()> {
        let mut phase = container.phase.subscribe();
        self.signal_and_tell(container, SIGKILL).await?;
        match tokio::time::timeout(KILL_TIMEOUT, phase.wait_for(|p| !p.status.is_alive())).await {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::internal(format!(
                "container {} did not end within {} seconds of SIGKILL: a process of it is stuck in the kernel",
                container.id,
                KILL_TIMEOUT.as_secs()
            ))),
        }
    }
}
