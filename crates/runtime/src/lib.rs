//! The low-level OCI runtime: namespaces, cgroups, root file systems, seccomp, capabilities.
//!
//! One clone makes a container: [`prepare()`] clones the *init stage* into new namespaces and its
//! cgroup, [`Prepared::create`] gives it an [`Order`] to set everything up by, [`Created::start`]
//! lets it become the container's program. [`exec()`] puts one more process into a container.
//!
//! All of it is synchronous and wants a caller of one thread. It never knows an image, a network,
//! a database or a client: it takes directories and descriptors, and gives back a process.
#![forbid(unsafe_code)]

pub mod capabilities;
pub mod cgroup;
mod channel;
pub mod exec;
mod init;
pub mod order;
pub mod prepare;
pub mod report;
mod rootfs;
pub mod seccomp;
mod source;
pub mod user;
mod userns;

pub use exec::{ExecChild, ExecError, ExecTarget, exec};
pub use order::{Fds, Order, Rootfs};
pub use prepare::{
    CreateError, Created, PrepareError, PrepareOptions, Prepared, Running, StartError, prepare,
};
pub use report::{Failure, FailureKind};
pub use rootfs::options::ROOT_OF;
pub use userns::{HostRoot, UsernsError};
