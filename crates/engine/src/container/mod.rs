//! Containers: their records, their states, and a file for each verb.

pub(crate) mod archive;
mod asking;
mod attach;
pub(crate) mod changes;
mod check;
mod create;
mod defaults;
mod device;
pub(crate) mod exec;
mod exec_user;
mod export;
pub(crate) mod files;
mod health;
mod hint;
mod inspect;
mod kill;
mod list;
pub(crate) mod logs;
mod monitor;
mod mounts;
mod network_stats;
pub(crate) mod networks;
mod pause;
mod prune;
mod publish;
pub(crate) mod registry;
mod remove;
mod rename;
mod restart;
mod run;
pub(crate) mod spec;
pub(crate) mod start;
pub(crate) mod stats;
mod stop;
mod top;
mod tree;
mod update;
mod wait;
mod wanted;

pub use archive::Outgoing;
pub use attach::Attachment;
pub use exec::Settled;
pub(crate) use inspect::ZERO_TIME;
pub use logs::{Following, LogReader};
pub use run::Run;
pub use stats::Sampler;
pub use wait::Waiter;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use oci::{ContainerId, Digest};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// Made, never started.
    #[default]
    Created,
    /// Its init runs.
    Running,
    /// Its cgroup is frozen.
    Paused,
    /// It ended and its restart policy will start it again.
    Restarting,
    /// It is being removed.
    Removing,
    /// Its init has ended.
    Exited,
    /// It could not be removed or started in a way that cannot be mended.
    Dead,
}

impl Status {
    /// Docker's word.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Removing => "removing",
            Self::Exited => "exited",
            Self::Dead => "dead",
        }
    }

    /// Whether the container's processes exist.
    pub(crate) fn is_alive(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }
}

/// What waiters and followers need to know of a container, sent at each change.
#[derive(Clone, Debug)]
pub(crate) struct Phase {
    pub(crate) status: Status,
    /// How often the container has ended.
    pub(crate) exits: u64,
    pub(crate) removed: bool,
    pub(crate) exit_code: i64,
    pub(crate) error: String,
    /// Whether somebody is stopping it to start it again.
    pub(crate) restarting_by_hand: bool,
}

impl Phase {
    /// Whether no more output can come.
    pub(crate) fn is_over(&self) -> bool {
        let comes_back = self.restarting_by_hand || self.status == Status::Restarting;
        self.removed || !(self.status.is_alive() || comes_back)
    }

    #[cfg(test)]
    pub(crate) fn running() -> Self {
        Self {
            status: Status::Running,
            exits: 0,
            removed: false,
            exit_code: 0,
            error: String::new(),
            restarting_by_hand: false,
        }
    }

    #[cfg(test)]
    pub(crate) fn over() -> Self {
        Self {
            status: Status::Exited,
            ..Self::running()
        }
    }
}

/// A container's state as the database keeps it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct State {
    pub(crate) status: Status,
    pub(crate) pid: i32,
    pub(crate) exit_code: i64,
    pub(crate) error: String,
    pub(crate) oom_killed: bool,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) finished_at: Option<Timestamp>,
    /// Whether a person stopped it, so that `unless-stopped` leaves it alone.
    pub(crate) stopped_by_hand: bool,
    /// Its anonymous volumes go with it, once it is being removed.
    pub(crate) volumes_go: bool,
    pub(crate) restart_count: u64,
    /// Its health, where it has a check.
    pub(crate) health: Option<health::Health>,
}

/// A mount that the container gets beside the default ones, resolved at creation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Mount {
    pub(crate) kind: MountKind,
    /// Volume's name; empty for the other kinds.
    pub(crate) name: String,
    /// Host path; empty for tmpfs.
    pub(crate) source: String,
    /// Absolute path in the container.
    pub(crate) destination: String,
    /// Options as the client wrote them (`ro`, `z`, ...), for `inspect`.
    pub(crate) mode: String,
    pub(crate) read_only: bool,
    pub(crate) propagation: String,
    /// tmpfs options, or bind's `rbind`/`bind`.
    pub(crate) options: Vec<String>,
}

/// What a mount is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MountKind {
    /// A host path.
    Bind,
    /// A named or anonymous volume.
    Volume,
    /// Memory.
    Tmpfs,
}

/// A container as the database keeps it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) id: ContainerId,
    pub(crate) name: String,
    pub(crate) created: Timestamp,
    /// The image's id (digest of its configuration).
    pub(crate) image: Digest,
    /// Chain ids of the image's layers, lowest first.
    pub(crate) layers: Vec<Digest>,
    pub(crate) platform: String,
    /// The client's configuration with the image's defaults merged in.
    pub(crate) config: api::container::Config,
    pub(crate) host: api::host_config::HostConfig,
    /// What the client asked of each network, by network name.
    pub(crate) endpoints: api::network::Endpoints,
    pub(crate) mounts: Vec<Mount>,
    /// The range of ids that it has for itself (`--userns=auto`).
    #[serde(default)]
    pub(crate) userns: Option<crate::userns::IdMaps>,
    /// Its place in the network while it runs.
    #[serde(default)]
    pub(crate) attached: Option<crate::network::Attachments>,
    pub(crate) state: State,
}

impl Record {
    /// The words of the container's first process: entrypoint and command.
    pub(crate) fn args(&self) -> Vec<String> {
        let words = |list: &Option<api::wire::StrSlice>| list.clone().unwrap_or_default().0;
        let mut args = words(&self.config.entrypoint);
        args.extend(words(&self.config.cmd));
        args
    }
}

/// Where a running container is attached to the network.
#[derive(Debug, Default)]
pub(crate) struct Live {
    pub(crate) connection: Option<crate::network::Connection>,
    /// It has ended: who took the connection out to change it must not put it back.
    pub(crate) over: bool,
}

/// A container in memory.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) id: ContainerId,
    /// Held by whoever changes the container's state: verbs on one container come one after another.
    pub(crate) lifecycle: tokio::sync::Mutex<()>,
    record: Mutex<Record>,
    /// Held from the start until the shim has let go of everything by name.
    occupied: Arc<tokio::sync::Mutex<()>>,
    /// Streams of clients that attached before the start; the shim gets them with its order.
    early: Mutex<Vec<attach::Early>>,
    pub(crate) live: Mutex<Live>,
    /// It was stopped to be started again.
    restart_wanted: AtomicBool,
    /// Restarts by policy since it last ran for a good while: their pauses grow.
    pauses: AtomicU32,
    pub(crate) phase: watch::Sender<Phase>,
}

impl Container {
    pub(crate) fn new(record: Record) -> Self {
        let phase = Phase {
            status: record.state.status,
            exits: 0,
            removed: false,
            exit_code: record.state.exit_code,
            error: record.state.error.clone(),
            restarting_by_hand: false,
        };
        Self {
            id: record.id.clone(),
            lifecycle: tokio::sync::Mutex::default(),
            record: Mutex::new(record),
            occupied: Arc::default(),
            early: Mutex::default(),
            live: Mutex::default(),
            restart_wanted: AtomicBool::default(),
            pauses: AtomicU32::default(),
            phase: watch::channel(phase).0,
        }
    }

    /// The record, locked; never held across an await.
    pub(crate) fn record(&self) -> MutexGuard<'_, Record> {
        lock(&self.record)
    }

    /// Changes the state and tells those who wait.
    pub(crate) fn update<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let (result, ended) = self.change(change);
        self.announce(ended);
        result
    }

    /// Changes the state without a word, for [`Self::announce`] to follow; tells whether that ended it.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> (T, bool) {
        let mut record = self.record();
        let was_alive = record.state.status.is_alive();
        let result = change(&mut record.state);
        (result, was_alive && !record.state.status.is_alive())
    }

    /// Tells those who wait of the state.
    fn announce(&self, ended: bool) {
        let record = self.record();
        let state = &record.state;
        self.phase.send_modify(|phase| {
            phase.status = state.status;
            if ended {
                phase.exits += 1;
                phase.exit_code = state.exit_code;
                phase.error.clone_from(&state.error);
            }
        });
    }

    /// Forgets earlier restarts: a person starts it.
    fn begin_anew(&self) {
        self.pauses.store(0, Ordering::Relaxed);
        self.update(|state| {
            state.stopped_by_hand = false;
            state.restart_count = 0;
        });
    }

    pub(crate) fn status(&self) -> Status {
        self.record().state.status
    }

    /// Docker's word for its health; empty where it has no check.
    pub(crate) fn health_status(&self) -> &'static str {
        let record = self.record();
        let health = record.state.health.as_ref();
        health.map_or("", |health| health.condition.word())
    }

    pub(crate) fn name(&self) -> String {
        self.record().name.clone()
    }
}

/// Locks a mutex; what a panicking thread left behind is still a value of its type.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A boolean as Go's `strconv.ParseBool` reads it.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}
