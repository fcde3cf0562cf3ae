//! What a container is made from.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use oci::ContainerId;
use oci::runtime::Spec;
use serde::{Deserialize, Serialize};

/// Where a container's root file system comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Rootfs {
    /// Layers below a writable directory, put together in the container's own mount namespace.
    Overlay {
        /// Read-only directories, the topmost first.
        lower: Vec<PathBuf>,
        /// Where writes go.
        upper: PathBuf,
        /// An empty directory on the file system of `upper`.
        work: PathBuf,
    },
    /// The same for a container that is removed when it ends: nothing of it is ever waited for to be
    /// on the disk, not by fsync(2) and not, which takes all of the file system along, at its end.
    VolatileOverlay {
        /// Read-only directories, the topmost first.
        lower: Vec<PathBuf>,
        /// Where writes go; of no use after a crash.
        upper: PathBuf,
        /// An empty directory on the file system of `upper`.
        work: PathBuf,
    },
    /// A directory as it stands.
    Path(PathBuf),
}

/// Everything that the init stage needs to know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// The container.
    pub id: ContainerId,
    /// Its configuration; numbers in place of user names.
    pub spec: Spec,
    /// Its root file system.
    pub rootfs: Rootfs,
    /// Whether layers lie on file systems of their own: then inodes get numbers that tell them apart,
    /// and all files show one device.
    #[serde(default)]
    pub own_devices: bool,
    /// Whether pid 1 is a reaper of ours, and the program its child.
    #[serde(default)]
    pub init: bool,
}

/// The descriptors that a container's process is given.
#[derive(Debug, Default)]
pub struct Fds {
    /// Standard input; absent is `/dev/null`. Not looked at for a process with a terminal.
    pub stdin: Option<OwnedFd>,
    /// Standard output, in the same way.
    pub stdout: Option<OwnedFd>,
    /// Standard error, in the same way.
    pub stderr: Option<OwnedFd>,
    /// The network namespace to enter.
    pub netns: Option<OwnedFd>,
    /// A file that holds a compiled [`crate::seccomp::Program`]; without it the configuration's
    /// filter, if there is one, is compiled by the init stage.
    pub seccomp: Option<OwnedFd>,
}
