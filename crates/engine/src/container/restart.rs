//! Starting again: on demand, and by policy.

use std::sync::Arc;
use std::time::Duration;

use api::query::Stop;
use jiff::Timestamp;
use shim::Exit;

use super::{Container, Status};
use crate::engine::Engine;
use crate::error::Result;

/// The first pause before a restart by policy; doubled each time, as Docker does.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A container that ran this long begins with the first pause again.
const GOOD_RUN: i64 = 10;

/// A container that is stopped to be started again: who follows its log goes on.
struct Returning<'a>(&'a Container);

impl<'a> Returning<'a> {
    fn mark(container: &'a Container) -> Self {
        let set = |phase: &mut super::Phase| phase.restarting_by_hand = true;
        container.phase.send_modify(set);
        Self(container)
    }
}

impl Drop for Returning<'_> {
    fn drop(&mut self) {
        let reset = |phase: &mut super::Phase| phase.restarting_by_hand = false;
        self.0.phase.send_modify(reset);
    }
}

impl Engine {
    /// Stops a container if it runs, and starts it.
    ///
    /// # Errors
    /// Those of stopping and starting.
    pub async fn container_restart(self: &Arc<Self>, name: &str, options: &Stop) -> Result<()> {
        let container = self.containers.get(name)?;
        let _turn = container.lifecycle.lock().await;
        let _returning = Returning::mark(&container);
        if container.status().is_alive() {
            self.stop_in_turn(&container, options).await?;
        }
        container.update(|state| {
            state.stopped_by_hand = false;
            state.restart_count = 0;
        });
        self.start_in_turn(&container).await?;
        self.container_event("restart", &container, &[]);
        Ok(())
    }

    /// Whether the container's policy asks for another start after this end.
    pub(super) fn will_restart(&self, container: &Container, exit: &Exit) -> bool {
        let record = container.record();
        let policy = &record.host.restart_policy;
        let state = &record.state;
        if state.stopped_by_hand {
            return false;
        }
        match policy.name.as_str() {
            "always" | "unless-stopped" => true,
            "on-failure" => {
                let most = u64::try_from(policy.maximum_retry_count).unwrap_or(0);
                exit.code != 0 && (most == 0 || state.restart_count < most)
            }
            _ => false,
        }
    }

    /// Starts a container again after its pause.
    pub(crate) fn restart_later(self: &Arc<Self>, container: &Arc<Container>) {
        let (engine, container) = (Arc::clone(self), Arc::clone(container));
        let pause = {
            let mut record = container.record();
            let state = &mut record.state;
            let lasted = state
                .started_at
                .map_or(0, |s| Timestamp::now().duration_since(s).as_secs());
            let earlier = if lasted >= GOOD_RUN {
                0
            } else {
                u32::try_from(state.restart_count).unwrap_or(16).min(16)
            };
            state.restart_count += 1;
            FIRST_PAUSE.saturating_mul(1 << earlier).min(LONGEST_PAUSE)
        };
        tokio::spawn(async move {
            let mut phase = container.phase.subscribe();
            let called_off = phase.wait_for(|p| p.removed || p.status != Status::Restarting);
            if tokio::time::timeout(pause, called_off).await.is_ok() {
                return;
            }
            let _turn = container.lifecycle.lock().await;
            // stopped, started or removed by hand meanwhile
            if container.status() != Status::Restarting {
                return;
            }
            if let Err(error) = engine.start_in_turn(&container).await {
                tracing::warn!(id = %container.id, %error, "a restart by policy failed");
            }
        });
    }
}
