//! Stopping a container: its signal, a while, SIGKILL.

use std::sync::Arc;
use std::time::Duration;

use api::query::Stop;

use super::{Container, Status};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::signal;

/// Seconds until SIGKILL where nobody says otherwise.
const TIMEOUT: i64 = 10;
/// How long SIGKILL may take: a process in an uninterruptible call outlives it.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);
const SIGKILL: i32 = 9;

impl Engine {
    /// Stops a container.
    ///
    /// # Errors
    /// `NotModified` when it does not run; otherwise when it cannot be killed.
    pub async fn container_stop(self: &Arc<Self>, name: &str, options: &Stop) -> Result<()> {
        let container = self.containers.get(name)?;
        if !options.signal.is_empty() {
            signal::parse(&options.signal)?;
        }
        let _turn = container.lifecycle.lock().await;
        if container.status() == Status::Restarting {
            container.update(|state| {
                state.status = Status::Exited;
                state.stopped_by_hand = true;
            });
            self.save_later(&container).await;
            return Ok(());
        }
        if !container.status().is_alive() {
            return Err(Error::not_modified(format!(
                "container {} is already stopped",
                container.id
            )));
        }
        self.stop_in_turn(&container, options).await?;
        self.container_event("stop", &container, &[]);
        Ok(())
    }

    /// Stops a running container whose turn the caller holds.
    pub(super) async fn stop_in_turn(
        &self,
        container: &Arc<Container>,
        options: &Stop,
    ) -> Result<()> {
        let (signal, timeout) = {
            let mut record = container.record();
            record.state.stopped_by_hand = true;
            let named = [options.signal.as_str(), record.config.stop_signal.as_str()];
            let signal = named
                .into_iter()
                .find(|s| !s.is_empty())
                .unwrap_or("SIGTERM");
            (
                signal::parse(signal)?,
                options
                    .timeout
                    .or(record.config.stop_timeout)
                    .unwrap_or(TIMEOUT),
            )
        };
        if container.status() == Status::Paused {
            self.resume_in_turn(container).await?;
        }
        let mut phase = container.phase.subscribe();
        let over = |p: &super::Phase| !p.status.is_alive();
        self.signal(container, signal).await?;
        let ended = phase.wait_for(over);
        let in_time = match u64::try_from(timeout) {
            Ok(seconds) => tokio::time::timeout(Duration::from_secs(seconds), ended)
                .await
                .is_ok(),
            Err(_) => ended.await.is_ok(),
        };
        if in_time {
            Ok(())
        } else {
            self.kill_in_turn(container).await
        }
    }

    /// Kills a container and waits for its end.
    pub(super) async fn kill_in_turn(&self, container: &Arc<Container>) -> Result<()> {
        container.record().state.stopped_by_hand = true;
        let mut phase = container.phase.subscribe();
        self.signal(container, SIGKILL).await?;
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
