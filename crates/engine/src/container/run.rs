//! Creating, attaching and starting in one step, for our own client.

use std::sync::Arc;

use api::container::{CreateRequest, CreateResponse};
use api::query::{Attach, ContainerRemove, WaitCondition};

use super::{Attachment, Waiter};
use crate::engine::Engine;
use crate::error::Result;

/// A container that runs, and what its client holds of it.
#[derive(Debug)]
pub struct Run {
    /// The answer of its creation.
    pub created: CreateResponse,
    /// Its streams, if any were asked for.
    pub attachment: Option<Attachment>,
    /// The wait for its end, or for its removal if it removes itself.
    pub waiter: Waiter,
}

impl Engine {
    /// Creates, attaches to and starts a container.
    ///
    /// The disk is waited for while the container starts, not before: no client knows of the
    /// container until both are done, and one that a crash leaves unrecorded is ended by the next
    /// engine.
    ///
    /// # Errors
    /// Those of creating, attaching and starting. A container that could not be started stays, as
    /// after `create` and `start`, unless it removes itself.
    pub async fn container_run(
        self: &Arc<Self>,
        name: Option<&str>,
        platform: Option<&str>,
        request: CreateRequest,
        streams: &Attach,
    ) -> Result<Run> {
        let removes = request
            .host_config
            .as_ref()
            .is_some_and(|host| host.auto_remove);
        let (created, saved) = self.create(name, platform, request).await?;
        let id = created.id.as_str();
        let start = async {
            let wanted = streams.stream && (streams.stdin || streams.stdout || streams.stderr);
            let attachment = if wanted {
                Some(self.container_attach(id, streams).await?)
            } else {
                None
            };
            let condition = if removes {
                WaitCondition::Removed
            } else {
                WaitCondition::NextExit
            };
            let waiter = self.container_wait(id, condition)?;
            self.container_start(id).await?;
            Ok::<_, crate::Error>((attachment, waiter))
        };
        let (started, saved) = tokio::join!(start, saved.wait());
        if let Err(error) = saved {
            let options = ContainerRemove {
                force: true,
                ..ContainerRemove::default()
            };
            // the failure of the disk is what the client has to know
            drop(self.container_remove(id, options).await);
            return Err(error);
        }
        let (attachment, waiter) = started?;
        Ok(Run {
            created,
            attachment,
            waiter,
        })
    }
}
