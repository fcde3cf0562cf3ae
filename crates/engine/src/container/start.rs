//! Starting a container: a ready shim, a network, the files, one order.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use runtime::Rootfs;
use shim::{CallError, ErrorKind, FdRole, Reply, Request, RunOrder};
use sys::spawn::Spawned;

use super::attach::Early;
use super::spec::{self, Context, Joined};
use super::{Container, Record, State, Status, lock};
use crate::db::Table;
use crate::engine::Engine;
use crate::error::{Error, Kind, Result, Step};
use crate::network::Connection;
use crate::shim_link::{Link, refusal};
use crate::userns::Users;
use crate::warm::{Namespaces, Ready, reap};

/// A failed start: what to answer, and the exit code that Docker gives it.
#[derive(Debug)]
struct Failure {
    error: Error,
    code: i64,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, code: 128 }
    }
}

/// A started container.
struct Started {
    control: Link,
    child: Spawned,
    pid: i32,
    started_at: Timestamp,
    connection: Option<Connection>,
}

impl Engine {
    /// Starts a container.
    ///
    /// # Errors
    /// When it runs already, or a step of the start fails; then nothing of the start is left.
    pub async fn container_start(self: &Arc<Self>, name: &str) -> Result<()> {
        let container = self.containers.get(name)?;
        let _turn = container.lifecycle.lock().await;
        match container.status() {
            // a restart by policy is on its way
            Status::Running | Status::Restarting => {
                return Err(Error::not_modified(format!(
                    "container {} is already running",
                    container.id
                )));
            }
            Status::Paused => {
                return Err(Error::conflict(
                    "cannot start a paused container, try unpause instead",
                ));
            }
            Status::Removing | Status::Dead => {
                return Err(Error::conflict(
                    "container is marked for removal and cannot be started",
                ));
            }
            Status::Created | Status::Exited => {}
        }
        container.begin_anew();
        let result = self.start_in_turn(&container).await;
        if result.is_err() && container.record().host.auto_remove {
            drop(self.remove_in_turn(&container, true).await);
        }
        result
    }

    /// Starts a container whose turn the caller holds.
    pub(super) async fn start_in_turn(self: &Arc<Self>, container: &Arc<Container>) -> Result<()> {
        // the last shim may still be letting go of the same folder and cgroup
        let occupied = Arc::clone(&container.occupied).lock_owned().await;
        let early = std::mem::take(&mut *lock(&container.early));
        let begun = Instant::now();
        self.take_names(container);
        let record = container.record().clone();
        match self.launch(&record, &early).await {
            Ok(started) => {
                self.metrics.starts.note(begun.elapsed());
                drop(early);
                self.enter_networks(container, started.connection);
                container.update(|state| {
                    state.status = Status::Running;
                    state.pid = started.pid;
                    state.exit_code = 0;
                    state.error.clear();
                    state.oom_killed = false;
                    state.started_at = Some(started.started_at);
                });
                self.save_later(container).await;
                self.container_event("start", container, &[]);
                self.check_health(container, true);
                self.forward_log(container);
                self.watch(container, started.control, Some(started.child), occupied);
                Ok(())
            }
            Err(Failure { error, code }) => {
                self.metrics.start_failures.add(1);
                container.update(|state| {
                    state.exit_code = code;
                    state.error = error.message().to_owned();
                    if state.status == Status::Restarting {
                        state.status = Status::Exited;
                    }
                });
                self.save_later(container).await;
                Err(error)
            }
        }
    }

    async fn launch(
        self: &Arc<Self>,
        record: &Record,
        early: &[Early],
    ) -> Result<Started, Failure> {
        let joined = self.joined(record)?;
        self.attach_volumes(record).await?;
        let launched = self.launch_joined(record, joined, early).await;
        if launched.is_err() {
            self.detach_volumes(record).await;
        }
        launched
    }

    async fn launch_joined(
        self: &Arc<Self>,
        record: &Record,
        joined: Joined,
        early: &[Early],
    ) -> Result<Started, Failure> {
        let users = self.users_of(record, &joined.donors())?;
        let namespaces = namespaces(record, &joined, users.as_ref());
        let (connection, shim) = self.network_and_shim(record, namespaces).await?;
        let prepared = shim.and_then(|shim| {
            let order = self.order(record, (joined, users), connection.as_ref())?;
            let settings = self.settings();
            let profile = settings.seccomp_profile.as_deref();
            let filter =
                self.filters
                    .of(&record.host, &spec::capabilities(&record.host)?, profile)?;
            Ok((shim, order, filter))
        });
        let (shim, order, filter) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                self.detach(connection);
                return Err(error.into());
            }
        };
        let mut roles = Vec::new();
        let mut fds: Vec<BorrowedFd<'_>> = Vec::new();
        if !namespaces.new_net
            && let Some(netns) = connection.as_ref().and_then(Connection::netns)
        {
            roles.push(FdRole::Netns);
            fds.push(netns);
        }
        if let Some(filter) = &filter {
            roles.push(FdRole::Seccomp);
            fds.push(OwnedFd::as_fd(filter));
        }
        for early in early {
            roles.push(FdRole::Attach(early.order));
            fds.push(early.fd.as_fd());
        }
        let result = self
            .run(
                shim,
                RunOrder {
                    fds: roles,
                    ..order
                },
                &fds,
            )
            .await;
        drop(fds);
        match result {
            Ok((control, child, pid, started_at)) => Ok(Started {
                control,
                child,
                pid,
                started_at,
                connection,
            }),
            Err(failure) => {
                self.detach(connection);
                Err(failure)
            }
        }
    }

    /// A network and a shim, both at once but where the network's namespace is made along with the user
    /// namespace that it is to belong to.
    pub(crate) async fn network_and_shim(
        self: &Arc<Self>,
        record: &Record,
        namespaces: Namespaces,
    ) -> Result<(Option<Connection>, Result<Ready>)> {
        let network = |netns: Option<OwnedFd>| {
            let (engine, record) = (Arc::clone(self), record.clone());
            self.blocking(move || engine.networks.attach(&engine, &record, netns))
        };
        if namespaces.new_net {
            let mut shim = self.warmer.take(namespaces).await?;
            let connection = network(shim.netns.take()).await?;
            return Ok((connection, Ok(shim)));
        }
        let (network, shim) = tokio::join!(network(None), self.warmer.take(namespaces));
        Ok((network?, shim))
    }

    /// Lets go of the network of a start that failed.
    fn detach(&self, connection: Option<Connection>) {
        if let Some(connection) = connection {
            self.networks.release(connection);
        }
    }

    /// Gives a shim its order.
    async fn run(
        &self,
        shim: Ready,
        order: RunOrder,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(Link, Spawned, i32, Timestamp), Failure> {
        let Ready {
            mut control, child, ..
        } = shim;
        match control.call(&Request::Run(Box::new(order)), fds).await {
            Ok(Reply::Started { pid, started_at }) => {
                let started_at = started_at.parse().unwrap_or_else(|_| Timestamp::now());
                Ok((control, child, pid, started_at))
            }
            Ok(reply) => {
                drop(control);
                reap(child);
                Err(Error::internal(format!("start container: unexpected answer {reply:?}")).into())
            }
            Err(error) => {
                drop(control);
                reap(child);
                Err(failure(&error))
            }
        }
    }

    fn order(
        &self,
        record: &Record,
        (joined, users): (Joined, Option<Users>),
        connection: Option<&Connection>,
    ) -> Result<RunOrder> {
        let folder = self.container_dir(&record.id);
        let context = Context {
            record,
            cgroup: self.cgroup(record),
            files: self.network_files(record, connection)?,
            joined,
            users,
            foreign_volumes: self.foreign_volumes(record),
        };
        let paths: Result<Vec<_>> = record
            .layers
            .iter()
            .rev()
            .map(|chain| self.layer_path(chain))
            .collect();
        let run_dir = self.run_dir(&record.id);
        clear(&run_dir)?;
        super::networks::note(&run_dir, connection)?;
        Ok(RunOrder {
            order: runtime::Order {
                id: record.id.clone(),
                spec: spec::build(&context)?,
                rootfs: rootfs(record, paths?, &folder)?,
                own_devices: self.has_images(record),
                init: record.host.init == Some(true),
            },
            dir: run_dir,
            open_stdin: record.config.open_stdin,
            stdin_once: record.config.stdin_once,
            log: self.log_sink(record)?,
            init: record.host.init == Some(true),
            fds: Vec::new(),
        })
    }

    /// The folder of a layer, with its files in it.
    pub(crate) fn layer_path(&self, chain: &oci::Digest) -> Result<PathBuf> {
        if self.store.layers().exists(chain) {
            let mounted = self.store.layers().mounted(chain);
            return mounted.step(|| format!("mount layer {chain}"));
        }
        Err(Error::internal(format!(
            "layer {chain} is missing from the store: pull the image again"
        )))
    }

    /// Whether a layer of a container is a file system of its own.
    fn has_images(&self, record: &Record) -> bool {
        let layers = self.store.layers();
        let mut formats = record
            .layers
            .iter()
            .filter_map(|chain| layers.info(chain).ok());
        formats.any(|layer| layer.format == storage::Format::Erofs)
    }

    /// A container's cgroup, relative to each hierarchy's root.
    pub(crate) fn cgroup(&self, record: &Record) -> PathBuf {
        let parent = &record.host.resources.cgroup_parent;
        let parent = if parent.is_empty() {
            self.config.cgroup_parent.clone()
        } else {
            format!("/{}", parent.trim_matches('/')).into()
        };
        parent.join(record.id.as_str())
    }

    /// The inits of the containers whose namespaces this one joins.
    fn joined(&self, record: &Record) -> Result<Joined> {
        let pid_of = |mode: &str| match mode.strip_prefix("container:") {
            Some(name) => self.running_pid(name).map(Some),
            None => Ok(None),
        };
        Ok(Joined {
            pid: pid_of(&record.host.pid_mode)?,
            ipc: self.ipc_donor(&record.host.ipc_mode)?,
            // one that is missing is told when its network is joined
            net: pid_of(&record.host.network_mode).ok().flatten(),
        })
    }

    /// The volumes of a container that are mounts of somebody else's files, whose owners stay as they are.
    fn foreign_volumes(&self, record: &Record) -> Vec<String> {
        let volumes = record
            .mounts
            .iter()
            .filter(|mount| mount.kind == super::MountKind::Volume);
        let foreign = volumes.filter(|mount| self.volumes.mount_options(&mount.name).is_some());
        foreign.map(|mount| mount.name.clone()).collect()
    }

    /// Gives a container on another's network the host and domain name of that one, as Docker does.
    fn take_names(&self, container: &Container) {
        let mode = container.record().host.network_mode.clone();
        let donor = mode.strip_prefix("container:");
        // one that is missing is told when its network is joined
        let Some(Ok(donor)) = donor.map(|name| self.containers.get(name)) else {
            return;
        };
        let Record { config, .. } = donor.record().clone();
        let own = &mut container.record().config;
        (own.hostname, own.domainname) = (config.hostname, config.domainname);
    }

    /// The init of the container whose IPC namespace and `/dev/shm` are joined, if it shares them.
    fn ipc_donor(&self, mode: &str) -> Result<Option<i32>> {
        let Some(name) = mode.strip_prefix("container:") else {
            return Ok(None);
        };
        let refuse = |error: Error| error.context("failed to join IPC namespace");
        let donor = self.containers.get(name).map_err(refuse)?;
        let (id, record) = (&donor.id, donor.record());
        if !record.state.status.is_alive() {
            return Err(refuse(Error::conflict(format!(
                "container {id} is not running"
            ))));
        }
        let own = record.host.ipc_mode.as_str();
        if !matches!(own, "shareable" | "host") && !own.starts_with("container:") {
            return Err(refuse(Error::invalid(format!(
                "container {id}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)"
            ))));
        }
        Ok(Some(record.state.pid))
    }

    /// The init's process id of a container that must be running.
    pub(crate) fn running_pid(&self, name: &str) -> Result<i32> {
        let container = self.containers.get(name)?;
        let State { pid, status, .. } = container.record().state.clone();
        if status.is_alive() {
            Ok(pid)
        } else {
            Err(Error::conflict(format!(
                "cannot join a non running container: {}",
                container.id
            )))
        }
    }

    /// Stores a container's record without waiting for the disk: what is lost can be read from its
    /// shim or its exit record.
    pub(crate) async fn save_later(&self, container: &Container) {
        let record = container.record().clone();
        self.db
            .put_later(Table::Containers, record.id.as_str(), &record)
            .await;
    }
}

fn namespaces(record: &Record, joined: &Joined, users: Option<&Users>) -> Namespaces {
    let host = &record.host;
    let own_net = host.network_mode != "host" && !host.network_mode.starts_with("container:");
    Namespaces {
        new_user: users.is_some_and(|users| users.join.is_none()),
        join_user: users.and_then(|users| users.join),
        new_net: users.is_some() && own_net,
        new_pid: host.pid_mode != "host" && joined.pid.is_none(),
        new_ipc: host.ipc_mode != "host" && joined.ipc.is_none(),
        new_uts: host.uts_mode != "host",
        join_pid: joined.pid,
    }
}

/// The root file system. The end of a mount flushes the whole file system that its upper directory
/// is on (`ovl_sync_fs`), which nobody needs for files that go with the container.
fn rootfs(record: &Record, lower: Vec<PathBuf>, folder: &Path) -> Result<Rootfs> {
    let (upper, work) = (folder.join("upper"), folder.join("work"));
    if !record.host.auto_remove {
        return Ok(Rootfs::Overlay { lower, upper, work });
    }
    // the mark of an earlier run, without which the kernel refuses the next (overlayfs.rst, "Volatile mount")
    let mark = work.join("work/incompat");
    match std::fs::remove_dir_all(&mark) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).step(|| format!("remove {}", mark.display())),
    }
    Ok(Rootfs::VolatileOverlay { lower, upper, work })
}

/// Makes the run directory anew, without what an earlier run left.
pub(crate) fn clear(run_dir: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let step = || format!("prepare folder {}", run_dir.display());
    match std::fs::remove_dir_all(run_dir) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).step(step),
    }
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(run_dir)
        .step(step)
}

/// Docker's words and codes for a start that failed in the runtime.
fn failure(error: &CallError) -> Failure {
    let CallError::Refused {
        kind,
        message,
        step,
    } = error
    else {
        return refusal(error).context("start container").into();
    };
    let code = match kind {
        ErrorKind::NotFound => 127,
        ErrorKind::NotExecutable => 126,
        ErrorKind::InvalidInput | ErrorKind::NoSuchProcess | ErrorKind::Other => 128,
    };
    let text = if code == 128 && !message.contains(step.as_str()) {
        format!("failed to create task for container: {step}: {message}")
    } else {
        format!(
            "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: {message}"
        )
    };
    let kind = if code == 128 {
        Kind::System
    } else {
        Kind::InvalidParameter
    };
    Failure {
        error: Error::new(kind, text),
        code,
    }
}
