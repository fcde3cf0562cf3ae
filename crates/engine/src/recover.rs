//! What an engine finds at its start, and how it mends what a crash or a reboot left.
//!
//! The order of truth: a shim that answers, then the exit record that a shim wrote, then the
//! database. What none of them accounts for is removed.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;
use network::PortMapping;
use oci::ContainerId;
use shim::{Exit, Reply, Request};

use crate::container::{Container, Record, Status};
use crate::db::{Db, Table};
use crate::engine::Engine;
use crate::error::{Result, Step};
use crate::shim_link::{Link, ask};

/// The exit code of a container that was running when the machine went down; Docker's.
const LOST: i32 = 255;

/// Every container record, and the ports that living containers have published.
pub(crate) fn records(db: &Db) -> Result<(Vec<Record>, Vec<PortMapping>)> {
    let records: Vec<Record> = db.load(Table::Containers)?.into_iter().map(|(_, record)| record).collect();
    let alive = records.iter().filter(|r| r.state.status.is_alive());
    let ports = alive.filter_map(|r| r.attached.as_ref()).flat_map(|a| a.ports.clone()).collect();
    Ok((records, ports))
}

impl Engine {
    /// Takes over the containers of an earlier engine.
    pub(crate) async fn recover(self: &Arc<Self>, records: Vec<Record>) -> Result<()> {
        for record in records {
            let container = Arc::new(Container::new(record));
            self.containers.insert(&container);
            self.recover_one(&container).await;
        }
        self.end_strangers().await?;
        self.remove_orphans().await?;
        self.collect().await;
        Ok(())
    }

    async fn recover_one(self: &Arc<Self>, container: &Arc<Container>) {
        let status = container.status();
        match status {
            Status::Removing => return self.remove_in_turn(container, true).await,
            // it may have been started by an engine that could not write that down
            Status::Created | Status::Running | Status::Paused | Status::Restarting | Status::Exited => {}
            Status::Dead => return,
        }
        if let Some(state) = self.shim_state(&container.id).await
            && matches!(state.status, shim::Status::Running | shim::Status::Paused)
        {
            return self.adopt(container, &state);
        }
        let wants_restart = {
            let record = container.record();
            let policy = record.host.restart_policy.name.clone();
            policy == "always" || (policy == "unless-stopped" && !record.state.stopped_by_hand)
        };
        if status.is_alive() {
            let exit = self.exit_record(container).unwrap_or_else(lost);
            self.ended(container, &exit).await;
        }
        let auto_remove = container.record().host.auto_remove;
        if container.status() == Status::Restarting || (wants_restart && status != Status::Created) {
            container.update(|state| state.status = Status::Restarting);
            self.restart_later(container);
        } else if auto_remove && container.status() == Status::Exited {
            self.remove_in_turn(container, true).await;
        }
    }

    /// The state that a container's shim tells, if there is one.
    async fn shim_state(&self, id: &ContainerId) -> Option<shim::State> {
        match ask(&self.run_dir(id), &Request::State).await {
            Ok(Reply::State(state)) => Some(*state),
            _ => None,
        }
    }

    /// Goes on with a container whose shim has run on.
    fn adopt(self: &Arc<Self>, container: &Arc<Container>, state: &shim::State) {
        let attached = container.record().attached.clone();
        if let Some(attached) = attached {
            let endpoint = self.networks.adopt(attached, state.pid);
            crate::container::lock(&container.live).endpoint = Some(endpoint);
        }
        container.update(|own| {
            own.status = if state.status == shim::Status::Paused { Status::Paused } else { Status::Running };
            own.pid = state.pid;
            own.started_at = state.started_at.as_ref().and_then(|t| t.parse().ok()).or(own.started_at);
        });
        match Link::connect(&self.run_dir(&container.id)) {
            Ok(link) => self.watch_adopted(container, link),
            Err(error) => tracing::error!(id = %container.id, %error, "a running container cannot be followed"),
        }
    }

    /// Ends the shims of containers that the database does not know: their client never got an
    /// answer, because the engine died between the start and the commit.
    async fn end_strangers(&self) -> Result<()> {
        let folder = self.config.run.join("containers");
        let step = || format!("read folder {}", folder.display());
        for entry in std::fs::read_dir(&folder).step(step)? {
            let name = entry.step(step)?.file_name();
            let Some(id) = name.to_str().and_then(|n| n.parse::<ContainerId>().ok()) else { continue };
            if self.containers.get(id.as_str()).is_ok() {
                continue;
            }
            tracing::warn!(%id, "ends a container that the database does not know");
            drop(ask(&self.run_dir(&id), &Request::Kill { signal: 9, exec: None }).await);
            let path = folder.join(&name);
            std::fs::remove_dir_all(&path).step(|| format!("remove folder {}", path.display()))?;
        }
        Ok(())
    }

    /// Removes folders of containers and anonymous leftovers that no record accounts for.
    async fn remove_orphans(self: &Arc<Self>) -> Result<()> {
        let known: HashSet<ContainerId> = self.containers.all().iter().map(|c| c.id.clone()).collect();
        let store = Arc::clone(&self.store);
        self.blocking(move || {
            for id in store.containers().list().step(|| "list container folders")? {
                if !known.contains(&id) {
                    tracing::warn!(%id, "removes the folder of a container that the database does not know");
                    store.containers().remove(&id).step(|| format!("remove the folder of container {id}"))?;
                }
            }
            Ok(())
        })
        .await
    }
}

fn lost() -> Exit {
    let now = Timestamp::now().to_string();
    Exit { code: LOST, oom_killed: false, started_at: now.clone(), finished_at: now }
}
