//! Freezing and thawing a container.

use std::sync::Arc;

use shim::Request;

use super::asking::not_running;
use super::{Container, Status};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::shim_link::ask;

impl Engine {
    /// Freezes a container's processes.
    ///
    /// # Errors
    /// When it does not run or is frozen already.
    pub async fn container_pause(&self, name: &str) -> Result<()> {
        let container = self.containers.get(name)?;
        let _turn = container.lifecycle.lock().await;
        match container.status() {
            Status::Running => {}
            Status::Paused => {
                return Err(Error::conflict(format!(
                    "Container {} is already paused",
                    container.id
                )));
            }
            Status::Restarting => {
                return Err(Error::conflict(format!(
                    "Container {} is restarting, wait until the container is running",
                    container.id
                )));
            }
            _ => return Err(not_running(&container)),
        }
        self.ask_running(&container, &Request::Pause).await?;
        container.update(|state| state.status = Status::Paused);
        self.save_later(&container).await;
        self.container_event("pause", &container, &[]);
        Ok(())
    }

    /// Thaws a container's processes.
    ///
    /// # Errors
    /// When it is not frozen.
    pub async fn container_unpause(&self, name: &str) -> Result<()> {
        let container = self.containers.get(name)?;
        let _turn = container.lifecycle.lock().await;
        if container.status() != Status::Paused {
            return Err(Error::conflict(format!(
                "Container {} is not paused",
                container.id
            )));
        }
        self.resume_in_turn(&container).await?;
        self.container_event("unpause", &container, &[]);
        Ok(())
    }

    pub(super) async fn resume_in_turn(&self, container: &Arc<Container>) -> Result<()> {
        ask(&self.run_dir(&container.id), &Request::Resume)
            .await
            .map_err(|e| e.context("unpause container"))?;
        container.update(|state| state.status = Status::Running);
        self.save_later(container).await;
        Ok(())
    }
}
