//! The steps of a stage that can fail.

use std::io;

use oci::runtime::NamespaceKind;

use crate::capabilities::ApplyError;
use crate::report::{Failure, FailureKind};
use crate::rootfs::{
    CgroupfsError, DevicesError, EnterError, MountError, ProtectError, SysctlError,
};
use crate::seccomp::{FormatError, LoadError, PolicyError};
use crate::user::UserError;

/// setns(2) says it for a process that has ended.
const SRCH: i32 = rustix::io::Errno::SRCH.raw_os_error();

/// A step of a stage that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StageError {
    /// Leaving the parent's session, descriptors and mounts.
    #[error("detach from the parent process")]
    Detach(#[source] io::Error),
    /// The socket to the parent.
    #[error("talk to the parent process")]
    Channel(#[source] io::Error),
    /// The order.
    #[error("read the order")]
    Parse(#[source] serde_json::Error),
    /// The ids of a user namespace.
    #[error("become root of the user namespace")]
    BecomeRoot(#[source] io::Error),
    /// A namespace.
    #[error("enter the {kind:?} namespace")]
    Namespace {
        /// Which.
        kind: NamespaceKind,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// All namespaces of a container.
    #[error("join the container's namespaces")]
    Join(#[source] io::Error),
    /// Host or domain name.
    #[error("sethostname {name:?}")]
    Hostname {
        /// The name.
        name: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The list of cgroup hierarchies.
    #[error("look up the container's cgroup")]
    Hierarchies(#[source] CgroupfsError),
    /// The root file system.
    #[error("enter the root file system")]
    Enter(#[source] Box<EnterError>),
    /// A mount.
    #[error("error mounting")]
    Mount(#[source] Box<MountError>),
    /// Device nodes.
    #[error("create device nodes")]
    Devices(#[source] DevicesError),
    /// The terminal.
    #[error("{step} the terminal")]
    Console {
        /// `open`, `mount`, `take`.
        step: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Kernel parameters.
    #[error("set kernel parameters")]
    Sysctl(#[source] SysctlError),
    /// Masked and read-only paths.
    #[error("protect the kernel's files")]
    Protect(#[source] ProtectError),
    /// The root's own mount.
    #[error("change the mount options of the root file system")]
    Seal(#[source] io::Error),
    /// A propagation that is none.
    #[error("unknown rootfs propagation {0:?}")]
    Propagation(String),
    /// A resource limit.
    #[error("error setting rlimit {name:?}")]
    Rlimit {
        /// Its name.
        name: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The out-of-memory score.
    #[error("set oom_score_adj to {value}")]
    OomScore {
        /// The value.
        value: i32,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The profile of AppArmor.
    #[error("apply the apparmor profile {profile:?}")]
    Apparmor {
        /// The profile.
        profile: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The session keyring.
    #[error("make a session keyring")]
    Keyring(#[source] io::Error),
    /// Standard streams.
    #[error("set up standard streams")]
    Stdio(#[source] io::Error),
    /// Capabilities.
    #[error("apply capabilities")]
    Capabilities(#[source] ApplyError),
    /// User and groups.
    #[error("{step} to {id}")]
    Identity {
        /// `setgroups`, `setgid`, `setuid`.
        step: &'static str,
        /// The id, or the number of groups.
        id: usize,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A user's name.
    #[error(transparent)]
    User(UserError),
    /// The no_new_privs bit.
    #[error("set no_new_privs")]
    NoNewPrivileges(#[source] io::Error),
    /// The working directory, in runc's words.
    #[error("chdir to cwd ({cwd:?}) set in config.json failed")]
    Cwd {
        /// The directory.
        cwd: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A working directory outside of the root (CVE-2024-21626).
    #[error(
        "current working directory is outside of container mount namespace root -- possible container breakout detected"
    )]
    CwdOutside,
    /// A filter's bytes.
    #[error("read the seccomp program")]
    FilterRead(#[source] io::Error),
    /// A filter's form.
    #[error("read the seccomp program")]
    FilterFormat(#[source] FormatError),
    /// A filter of the configuration.
    #[error("compile the seccomp profile")]
    FilterPolicy(#[source] PolicyError),
    /// The filter itself.
    #[error("error loading seccomp filter")]
    FilterLoad(#[source] LoadError),
    /// Arguments or environment with a NUL byte, or no arguments.
    #[error("invalid process: {0}")]
    Process(&'static str),
    /// The program, in runc's words.
    #[error("{text}")]
    Exec {
        /// The whole text.
        text: String,
        /// What it means for the exit code.
        kind: FailureKind,
    },
    /// The reaper's child.
    #[error("fork the program from its reaper")]
    Fork(#[source] io::Error),
}

impl StageError {
    /// What the parent is told.
    pub(crate) fn failure(&self) -> Failure {
        let kind = match self {
            Self::Exec { kind, .. } => *kind,
            Self::Cwd { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                FailureKind::NotFound
            }
            Self::Join(source) if source.raw_os_error() == Some(SRCH) => FailureKind::NotRunning,
            Self::Process(_)
            | Self::Propagation(_)
            | Self::Rlimit { .. }
            | Self::FilterPolicy(_)
            | Self::User(_) => FailureKind::InvalidInput,
            _ => FailureKind::Other,
        };
        Failure::new(self.step(), kind, self)
    }

    fn step(&self) -> &'static str {
        match self {
            Self::Detach(_) | Self::Channel(_) | Self::Parse(_) => "prepare",
            Self::BecomeRoot(_)
            | Self::Namespace { .. }
            | Self::Join(_)
            | Self::Hostname { .. } => "namespaces",
            Self::Hierarchies(_) => "cgroup",
            Self::Enter(_) | Self::Seal(_) | Self::Propagation(_) => "rootfs",
            Self::Mount(_) => "mounts",
            Self::Devices(_) => "devices",
            Self::Console { .. } | Self::Stdio(_) => "stdio",
            Self::Sysctl(_) => "sysctl",
            Self::Protect(_) => "protect",
            Self::FilterRead(_)
            | Self::FilterFormat(_)
            | Self::FilterPolicy(_)
            | Self::FilterLoad(_) => "seccomp",
            Self::Capabilities(_) => "capabilities",
            Self::Cwd { .. } | Self::CwdOutside => "cwd",
            Self::Identity { .. } | Self::User(_) => "user",
            Self::Rlimit { .. }
            | Self::OomScore { .. }
            | Self::Apparmor { .. }
            | Self::NoNewPrivileges(_)
            | Self::Keyring(_)
            | Self::Process(_) => "process",
            Self::Exec { .. } | Self::Fork(_) => "exec",
        }
    }
}
