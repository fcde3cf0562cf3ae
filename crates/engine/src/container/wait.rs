//! Waiting for a container.

use api::container::{WaitError, WaitResponse};
use api::query::WaitCondition;
use tokio::sync::watch;

use super::{Phase, Status};
use crate::engine::Engine;
use crate::error::Result;

/// A wait that has begun: nothing that happens from now on is missed.
#[derive(Debug)]
pub struct Waiter {
    phase: watch::Receiver<Phase>,
    condition: WaitCondition,
    exits: u64,
}

impl Engine {
    /// Begins to wait; for a container that removed itself a moment ago its end is told.
    ///
    /// # Errors
    /// When there is no such container.
    pub fn container_wait(&self, name: &str, condition: WaitCondition) -> Result<Waiter> {
        let container = self
            .containers
            .get(name)
            .or_else(|missing| self.containers.departed(name).ok_or(missing))?;
        let phase = container.phase.subscribe();
        let exits = phase.borrow().exits;
        Ok(Waiter {
            phase,
            condition,
            exits,
        })
    }
}

impl Waiter {
    /// Waits, and tells the exit code.
    pub async fn wait(mut self) -> WaitResponse {
        let (condition, exits) = (self.condition, self.exits);
        let met = |phase: &Phase| match condition {
            _ if phase.removed => true,
            WaitCondition::NotRunning => {
                !phase.status.is_alive() && phase.status != Status::Restarting
            }
            WaitCondition::NextExit => phase.exits > exits,
            WaitCondition::Removed => false,
        };
        // the sender lives as long as the container: an error is its removal
        drop(self.phase.wait_for(met).await);
        let phase = self.phase.borrow();
        response(&phase)
    }
}

fn response(phase: &Phase) -> WaitResponse {
    let error = Some(phase.error.clone()).filter(|e| !e.is_empty());
    WaitResponse {
        status_code: phase.exit_code,
        error: error.map(|message| WaitError { message }),
    }
}
