//! Removing a container and all that was its own.

use std::sync::Arc;

use api::query::ContainerRemove;
use oci::ContainerId;

use super::{Container, MountKind, Status};
use crate::db::{Saved, Table};
use crate::engine::Engine;
use crate::error::{Error, Result};

/// That a container is being removed, on its way to the disk.
#[derive(Debug)]
pub(crate) struct Noted(Result<Saved>);

impl Noted {
    /// Waits for the disk. One that is full must not keep a container from being removed.
    pub(crate) async fn settle(self) {
        let saved = match self.0 {
            Ok(saved) => saved.wait().await,
            Err(error) => Err(error),
        };
        if let Err(error) = saved {
            tracing::error!(%error, "the engine may not remember that a container was removed");
        }
    }
}

impl Engine {
    /// Removes a container.
    ///
    /// # Errors
    /// When it runs and `force` is not given, or cannot be killed.
    pub async fn container_remove(
        self: &Arc<Self>,
        name: &str,
        options: ContainerRemove,
    ) -> Result<()> {
        let container = self.containers.get(name)?;
        if options.link {
            // links are names in a container's own resolver here: there is none to remove
            return Err(Error::conflict(
                "Conflict, cannot remove the default link name of the container",
            ));
        }
        let _turn = container.lifecycle.lock().await;
        match container.status() {
            Status::Removing => {
                return Err(Error::conflict(format!(
                    "removal of container {name} is already in progress"
                )));
            }
            status @ (Status::Running | Status::Paused | Status::Restarting) if !options.force => {
                let hint = if status == Status::Paused {
                    " and must be unpaused first"
                } else {
                    ": stop the container before removing or force remove"
                };
                return Err(Error::conflict(format!(
                    "cannot remove container {name:?}: container is {}{hint}",
                    status.word()
                )));
            }
            Status::Running | Status::Paused => {
                if container.status() == Status::Paused {
                    self.resume_in_turn(&container).await?;
                }
                self.kill_in_turn(&container).await?;
            }
            Status::Created | Status::Restarting | Status::Exited | Status::Dead => {}
        }
        // it may have removed itself at its end
        if self.containers.get(container.id.as_str()).is_ok() {
            let noted = self.remove_in_turn(&container, options.volumes).await;
            noted.settle().await;
        }
        Ok(())
    }

    /// Removes a stopped container whose turn the caller holds.
    ///
    /// The name is free and waiters are told at once; what is left on the disk is deleted behind
    /// their backs, and by the next engine should this one die meanwhile: the record goes last. The
    /// answer tells when a crash cannot bring the container back any more.
    pub(crate) async fn remove_in_turn(
        self: &Arc<Self>,
        container: &Arc<Container>,
        volumes: bool,
    ) -> Noted {
        container.update(|state| {
            state.status = Status::Removing;
            state.volumes_go = volumes;
        });
        let record = container.record().clone();
        let table = Table::Containers;
        let noted = Noted(self.db.begin_put(table, record.id.as_str(), &record).await);
        let image = container.record().image.clone();
        if self.images.by_id(&image).is_none() {
            // it was the last that needed these layers, perhaps
            self.images.leases.mark();
        }
        self.containers.release(&container.id);
        self.execs.forget(&container.id);
        container.phase.send_modify(|phase| phase.removed = true);
        self.container_event("destroy", container, &[]);
        let (engine, container) = (Arc::clone(self), Arc::clone(container));
        tokio::spawn(async move {
            // the shim may still hold its files
            let _gone = container.occupied.lock().await;
            engine.forwarders.drained(&container.id).await;
            let image = container.record().image.clone();
            engine.image_used(&image).await;
            engine.remove_folder(&container.id).await;
            if volumes {
                engine.remove_anonymous_volumes(&container).await;
            }
            if let Err(error) = engine
                .db
                .remove(Table::Containers, container.id.as_str())
                .await
            {
                tracing::error!(id = %container.id, %error, "a removed container stays in the database");
            }
            engine.userns.release(&container.id);
        });
        noted
    }

    /// Deletes a container's folders.
    pub(crate) async fn remove_folder(&self, id: &ContainerId) {
        let (store, name) = (Arc::clone(&self.store), id.clone());
        let run_dir = self.run_dir(id);
        let work = move || {
            if let Err(error) = std::fs::remove_dir_all(&run_dir)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::error!(path = %run_dir.display(), %error, "a removed container's run folder stays");
            }
            store
                .containers()
                .remove(&name)
                .map_err(|e| Error::system("remove container folder", &e))
        };
        if let Err(error) = self.blocking(work).await {
            tracing::error!(%id, %error, "a removed container's folder stays");
        }
    }

    async fn remove_anonymous_volumes(self: &Arc<Self>, container: &Container) {
        let names: Vec<String> = {
            let record = container.record();
            record
                .mounts
                .iter()
                .filter(|m| m.kind == MountKind::Volume)
                .map(|m| m.name.clone())
                .collect()
        };
        for name in names {
            if self.volumes.is_anonymous(&name)
                && let Err(error) = self.volume_remove(&name, false).await
            {
                tracing::debug!(name, %error, "an anonymous volume stays");
            }
        }
    }
}
