//! What an engine finds at its start, and how it mends what a crash or a reboot left.
//!
//! The order of truth: a shim that answers, then the exit record that a shim wrote, then the
//! database. What none of them accounts for is removed.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use jiff::Timestamp;
use oci::ContainerId;
use shim::{Exit, Reply, Request};

use crate::container::{Container, Record, Status};
use crate::db::{Db, Table};
use crate::engine::Engine;
use crate::error::{Result, Step};
use crate::network::Attachments;
use crate::shim_link::{Link, ask};

/// The exit code of a container that was running when the machine went down; Docker's.
const LOST: i32 = 255;

/// Every container record, and the places of living containers in their networks.
pub(crate) fn records(db: &Db) -> Result<(Vec<Record>, Vec<Attachments>)> {
    let records: Vec<Record> = db
        .load(Table::Containers)?
        .into_iter()
        .map(|(_, record)| record)
        .collect();
    let alive = records.iter().filter(|r| r.state.status.is_alive());
    let attached = alive.filter_map(|r| r.attached.clone()).collect();
    Ok((records, attached))
}

/// So many shims are asked at once: each answers on its own, but none is to wait long for its turn.
const AT_ONCE: usize = 64;
/// A warning names so many things that were found, and counts the rest.
const SHOWN: usize = 8;
/// So long a shim that was killed may go on writing.
const LAST_WORDS: Duration = Duration::from_secs(5);

impl Engine {
    /// Takes over the containers of an earlier engine.
    pub(crate) async fn recover(self: &Arc<Self>, records: Vec<Record>) -> Result<()> {
        let begun = Instant::now();
        let containers: Vec<_> = records
            .into_iter()
            .map(|record| Arc::new(Container::new(record)))
            .collect();
        for container in &containers {
            self.containers.insert(container);
        }
        // who lives on has its addresses and ports before anybody is started again
        let (adopted, rest) = self.adopt_all(containers).await;
        if adopted > 0 {
            let took = begun.elapsed();
            tracing::info!(adopted, ?took, "containers of an earlier engine go on");
        }
        for container in &rest {
            self.settle(container).await;
        }
        self.end_strangers().await?;
        let engine = Arc::clone(self);
        self.blocking(move || {
            engine.sweep_cgroups();
            engine.sweep_engines();
            Ok(())
        })
        .await?;
        self.restore_layers().await?;
        self.remove_orphans().await?;
        self.settle_leases().await?;
        self.collect().await;
        self.trim_partials().await;
        Ok(())
    }

    /// Goes on with the containers whose shims answer; gives their number, and the others.
    async fn adopt_all(
        self: &Arc<Self>,
        containers: Vec<Arc<Container>>,
    ) -> (usize, Vec<Arc<Container>>) {
        let tasks = containers.into_iter().map(|container| {
            let engine = Arc::clone(self);
            async move {
                let task = tokio::spawn({
                    let container = Arc::clone(&container);
                    async move { engine.adopt_if_alive(&container).await }
                });
                let alive = task.await.unwrap_or_else(|error| {
                    tracing::error!(id = %container.id, %error, "a container could not be taken over");
                    false
                });
                (container, alive)
            }
        });
        let asked = futures_util::stream::iter(tasks).buffered(AT_ONCE);
        let asked: Vec<_> = asked.collect().await;
        let (adopted, rest): (Vec<_>, Vec<_>) = asked.into_iter().partition(|(_, alive)| *alive);
        let rest = rest.into_iter().map(|(container, _)| container);
        (adopted.len(), rest.collect())
    }

    /// Goes on with a container if its shim answers and says that it runs.
    async fn adopt_if_alive(self: &Arc<Self>, container: &Arc<Container>) -> bool {
        match container.status() {
            // it may have been started by an engine that could not write that down
            Status::Created
            | Status::Running
            | Status::Paused
            | Status::Restarting
            | Status::Exited => {}
            Status::Removing | Status::Dead => return false,
        }
        if let Some((link, state)) = self.shim_state(&container.id).await
            && matches!(state.status, shim::Status::Running | shim::Status::Paused)
        {
            self.adopt(container, link, &state);
            return true;
        }
        false
    }

    /// Brings a container to rest, or to its next start, that no shim accounts for.
    async fn settle(self: &Arc<Self>, container: &Arc<Container>) {
        let status = container.status();
        match status {
            Status::Removing => {
                let volumes = container.record().state.volumes_go;
                drop(self.remove_in_turn(container, volumes).await);
                return;
            }
            Status::Dead => return,
            Status::Created
            | Status::Running
            | Status::Paused
            | Status::Restarting
            | Status::Exited => {}
        }
        // what its last run has written may still be to be sent on
        self.forward_log(container);
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
        if container.status() == Status::Restarting || (wants_restart && status != Status::Created)
        {
            container.update(|state| state.status = Status::Restarting);
            self.restart_later(container);
        } else if auto_remove && container.status() == Status::Exited {
            drop(self.remove_in_turn(container, true).await);
        }
    }

    /// The state that a container's shim tells, if there is one, and the connection it told it on.
    ///
    /// A second connection could come too late: a container that ends now takes its socket away, and
    /// only a connection that is open already is sure to see the end.
    async fn shim_state(&self, id: &ContainerId) -> Option<(Link, shim::State)> {
        let mut link = Link::connect(&self.run_dir(id)).ok()?;
        match link.call(&Request::State, &[]).await {
            Ok(Reply::State(state)) => Some((link, *state)),
            _ => None,
        }
    }

    /// Goes on with a container whose shim has run on.
    fn adopt(self: &Arc<Self>, container: &Arc<Container>, link: Link, state: &shim::State) {
        let record = container.record().clone();
        let noted = || crate::container::networks::noted(&self.run_dir(&record.id));
        if let Some(attached) = record.attached.clone().or_else(noted) {
            if record.attached.is_none() {
                self.networks.readmit(&attached);
                container.record().attached = Some(attached.clone());
            }
            let connection = self.networks.adopt(&record, attached, state.pid);
            crate::container::lock(&container.live).connection = Some(connection);
        }
        container.update(|own| {
            own.status = if state.status == shim::Status::Paused {
                Status::Paused
            } else {
                Status::Running
            };
            own.pid = state.pid;
            own.started_at = state
                .started_at
                .as_ref()
                .and_then(|t| t.parse().ok())
                .or(own.started_at);
        });
        self.watch_adopted(container, link);
    }

    /// Ends the shims of containers that the database does not know: their client never got an
    /// answer, because the engine died between the start and the commit.
    async fn end_strangers(&self) -> Result<()> {
        let folder = self.config.run.join("containers");
        let step = || format!("read folder {}", folder.display());
        for entry in std::fs::read_dir(&folder).step(step)? {
            let name = entry.step(step)?.file_name();
            let Some(id) = name.to_str().and_then(|n| n.parse::<ContainerId>().ok()) else {
                continue;
            };
            if self.containers.get(id.as_str()).is_ok() {
                continue;
            }
            tracing::warn!(%id, "ends a container that the database does not know");
            drop(
                ask(
                    &self.run_dir(&id),
                    &Request::Kill {
                        signal: 9,
                        exec: None,
                    },
                )
                .await,
            );
            remove_run_folder(&folder.join(&name)).await?;
        }
        Ok(())
    }

    /// Removes the cgroups that shims left which were killed.
    fn sweep_cgroups(&self) {
        let parent = &self.config.cgroup_parent;
        let all = self.containers.all();
        let alive = all.iter().filter(|c| c.status().is_alive());
        let mut names = HashSet::new();
        for container in alive {
            names.insert(OsString::from(container.id.as_str()));
            let pid = container.record().state.pid;
            names.extend(runtime::cgroup::names_of(pid, parent));
        }
        let swept = runtime::cgroup::Hierarchies::detect().and_then(|hierarchies| {
            runtime::cgroup::sweep(&hierarchies, parent, &|name| names.contains(name))
        });
        match swept {
            Ok(stay) if stay.is_empty() => {}
            Ok(stay) => tracing::warn!(
                count = stay.len(),
                first = ?stay.iter().take(SHOWN).collect::<Vec<_>>(),
                "cgroups stay: something that no container accounts for runs in them"
            ),
            Err(error) => tracing::error!(
                error = crate::error::chain(&error),
                "cgroups could not be swept"
            ),
        }
    }

    /// Removes the empty cgroups of engines that are gone, beside this one's own: an engine that has lost its
    /// database has another id than the one before it.
    fn sweep_engines(&self) {
        let own = self.config.cgroup_parent.file_name();
        let is_stale = |name: &OsStr| Some(name) != own && is_engine(name);
        let Some(parent) = self.config.cgroup_parent.parent() else {
            return;
        };
        let swept = runtime::cgroup::Hierarchies::detect()
            .and_then(|hierarchies| runtime::cgroup::sweep_empty(&hierarchies, parent, &is_stale));
        if let Err(error) = swept {
            let error = crate::error::chain(&error);
            tracing::debug!(error, "cgroups of other engines stay");
        }
    }

    /// Removes the engine's own cgroup when nothing runs in it.
    pub(crate) fn remove_cgroup_parent(&self) {
        self.sweep_engines();
        let removed = runtime::cgroup::Hierarchies::detect().and_then(|hierarchies| {
            runtime::cgroup::Cgroup::open(&hierarchies, &self.config.cgroup_parent)?.delete()
        });
        if let Err(error) = removed {
            tracing::debug!(
                error = crate::error::chain(&error),
                "the engine's cgroup stays"
            );
        }
    }

    /// Unpacks the layers again that a power failure may have damaged; their blobs are whole.
    async fn restore_layers(self: &Arc<Self>) -> Result<()> {
        if self.store.layers().lost().is_empty() {
            return Ok(());
        }
        let engine = Arc::clone(self);
        self.blocking(move || {
            for image in engine.images.all() {
                if let Err(error) = engine.restore_image(&image) {
                    tracing::error!(image = %image.id, %error, "layers of an image are lost: pull it again");
                }
            }
            Ok(())
        })
        .await
    }

    fn restore_image(&self, image: &crate::image::Image) -> Result<()> {
        let mut parent = None;
        for layer in &image.record.layers {
            if !self.store.layers().exists(&layer.chain) {
                self.restore_layer(layer, parent)?;
            }
            parent = Some(&layer.chain);
        }
        Ok(())
    }

    /// Unpacks a layer again from its blob.
    pub(crate) fn restore_layer(
        &self,
        layer: &crate::image::Layer,
        parent: Option<&oci::Digest>,
    ) -> Result<()> {
        let step = || format!("unpack layer {} again", layer.blob);
        let blob = self.store.content().open(&layer.blob).step(step)?;
        let options = self.store.layers().options(Some(layer.diff_id.clone()));
        let staged = self.store.layers().apply(blob, &options).step(step)?;
        staged.commit(parent).map(drop).step(step)
    }

    /// Removes folders of containers and anonymous leftovers that no record accounts for.
    async fn remove_orphans(self: &Arc<Self>) -> Result<()> {
        let known: HashSet<ContainerId> =
            self.containers.all().iter().map(|c| c.id.clone()).collect();
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

/// Whether a cgroup bears the name of an engine's own: the beginning of its id.
fn is_engine(name: &OsStr) -> bool {
    let is_hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    name.len() == 8 && name.as_encoded_bytes().iter().all(is_hex)
}

fn lost() -> Exit {
    let now = Timestamp::now().to_string();
    Exit {
        code: LOST,
        oom_killed: false,
        started_at: now.clone(),
        finished_at: now,
    }
}

/// Removes the run folder of a shim that was told to end, which may write its last words there meanwhile.
async fn remove_run_folder(path: &std::path::Path) -> Result<()> {
    let begun = Instant::now();
    loop {
        match std::fs::remove_dir_all(path) {
            Err(error)
                if error.kind() == std::io::ErrorKind::DirectoryNotEmpty
                    && begun.elapsed() < LAST_WORDS =>
            {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            removed => return removed.step(|| format!("remove folder {}", path.display())),
        }
    }
}
