//! Steps of builds: one process with a container's isolation, and no container of `ps`.
//!
//! A step goes the way of a container's start, with a warm shim and a pooled network namespace, and
//! leaves nothing but what it wrote into its upper folder. It has no record: one that the engine left
//! running when it was killed is a stranger to the next, which ends it.

mod live;
mod order;
mod output;
mod run;

pub use live::{LiveProcess, StepControl, StepInput, StepProcess, StepStreams};

use std::any::Any;
use std::path::PathBuf;

use api::host_config::Ulimit;

/// What a step is to run, and where.
#[derive(Debug)]
pub struct StepRequest {
    /// The program and its arguments.
    pub args: Vec<String>,
    /// The whole environment; the runtime adds HOME.
    pub env: Vec<String>,
    /// Where it starts; made when it is not there.
    pub cwd: String,
    /// `user[:group]`, names or numbers; names are looked up inside. Empty is root.
    pub user: String,
    /// The host name.
    pub hostname: String,
    /// The root file system's folders, the topmost first.
    pub lowers: Vec<PathBuf>,
    /// Whether some of them are file systems of their own.
    pub own_devices: bool,
    /// Where writes go.
    pub upper: PathBuf,
    /// An empty folder on the file system of `upper`.
    pub work: PathBuf,
    /// Whether the root is read-only.
    pub readonly_root: bool,
    /// What is mounted beside the usual, in this order.
    pub mounts: Vec<StepMount>,
    /// The network.
    pub network: StepNetwork,
    /// Whether it has all rights, as a privileged container (`security.insecure`).
    pub insecure: bool,
    /// Further lines for `/etc/hosts`, each `name:address`.
    pub extra_hosts: Vec<String>,
    /// Limits beside the engine's own.
    pub ulimits: Vec<Ulimit>,
    /// The parent of its cgroup; empty for the engine's.
    pub cgroup_parent: String,
    /// Bytes of `/dev/shm`; 0 for the usual.
    pub shm_size: i64,
    /// What must stay until all is mounted.
    pub guard: StepGuard,
}

/// Something that is dropped once a step has mounted everything.
#[derive(Default)]
pub struct StepGuard(pub Vec<Box<dyn Any + Send>>);

impl std::fmt::Debug for StepGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StepGuard").finish_non_exhaustive()
    }
}

/// A mount of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepMount {
    /// A file or folder of the host.
    Bind {
        /// What.
        source: PathBuf,
        /// Where.
        destination: String,
        /// Whether nothing may be written.
        read_only: bool,
    },
    /// Memory.
    Tmpfs {
        /// Where.
        destination: String,
        /// Its limit in bytes; 0 for the kernel's own.
        size: i64,
    },
}

/// A step's network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StepNetwork {
    /// A namespace on the default bridge.
    #[default]
    Sandbox,
    /// The host's.
    Host,
    /// A namespace with nothing but loopback.
    None,
}

/// One of the two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A piece of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepOutput {
    /// Where it came from.
    pub stream: StepStream,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl crate::Engine {
    /// The folder for what steps need on the host while they start.
    #[must_use]
    pub fn steps_folder(&self) -> PathBuf {
        self.config.run.join("steps")
    }
}

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepEnd {
    /// Exit code, 128+n for signals.
    pub code: i32,
    /// Whether the kernel killed something for want of memory.
    pub out_of_memory: bool,
    /// Whether it was killed because nobody wants it any more.
    pub cancelled: bool,
    /// Why it could not be started, if it could not.
    pub refusal: Option<String>,
}
