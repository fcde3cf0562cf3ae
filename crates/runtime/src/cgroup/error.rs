//! What can go wrong with a cgroup.

use std::fmt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// A step on a cgroup that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CgroupError {
    /// No cgroup file system is mounted.
    #[error("no cgroup hierarchy is mounted")]
    NotMounted,
    /// A path that names no place of its own below a hierarchy's root.
    #[error("cgroup path {path:?} is not below its hierarchy's root")]
    Path {
        /// The path.
        path: PathBuf,
    },
    /// A cgroup of this name has processes already.
    #[error("cgroup {path:?} is in use")]
    InUse {
        /// Its directory.
        path: PathBuf,
    },
    /// No cgroup of this name exists in any hierarchy.
    #[error("cgroup {path:?} does not exist")]
    Absent {
        /// Its path below each hierarchy's root.
        path: PathBuf,
    },
    /// A directory cannot be made.
    #[error("make cgroup {path:?}")]
    Make {
        /// The directory.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: Errno,
    },
    /// A file cannot be read.
    #[error("read {path:?}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: Errno,
    },
    /// A file does not take a value.
    #[error("write {value:?} to {path:?}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What was written.
        value: String,
        /// The kernel's answer.
        #[source]
        source: Errno,
    },
    /// A file says something that is no number.
    #[error("{path:?} holds {text:?}, which is not what the kernel writes there")]
    Format {
        /// The file.
        path: PathBuf,
        /// The part that is not understood.
        text: String,
    },
    /// A cgroup cannot be given another name.
    #[error("rename cgroup {from:?} to {to:?}")]
    Rename {
        /// Its directory.
        from: PathBuf,
        /// The directory it should be.
        to: PathBuf,
        /// The kernel's answer.
        #[source]
        source: Errno,
    },
    /// The kernel's version of cgroups cannot do this.
    #[error("{what} is not possible on cgroup {version}")]
    Unsupported {
        /// The wish.
        what: &'static str,
        /// `v1` or `v2`.
        version: &'static str,
    },
    /// A limit needs a controller, or a file of it, that this kernel does not have.
    #[error("{what} needs the cgroup controller file {file:?}, which this kernel does not have")]
    Missing {
        /// The limit.
        what: &'static str,
        /// The file.
        file: String,
    },
    /// A limit that contradicts itself.
    #[error("{what}")]
    Limit {
        /// What is wrong.
        what: &'static str,
    },
    /// A memory limit below what is in use and cannot be reclaimed.
    #[error("set memory limit to {limit} bytes: {usage} bytes are in use")]
    MemoryInUse {
        /// The wish.
        limit: i64,
        /// What is in use.
        usage: u64,
        /// The kernel's answer.
        #[source]
        source: Errno,
    },
    /// A device rule that says nothing.
    #[error("device rule {rule:?} is invalid")]
    DeviceRule {
        /// The rule.
        rule: String,
    },
    /// A device rule that cgroup v1 cannot hold beside the others.
    #[error("device rule {rule:?} takes a part out of a wider rule, which cgroup v1 cannot hold")]
    DeviceOverlap {
        /// The rule.
        rule: String,
    },
    /// The program that decides on devices is not taken.
    #[error("{step} the device program of cgroup {path:?}")]
    DeviceProgram {
        /// `load`, `attach` and so on.
        step: &'static str,
        /// The cgroup's directory.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: Errno,
    },
    /// The cgroup did not reach a state in time.
    #[error("cgroup {path:?} is not {state} after {milliseconds} ms")]
    Timeout {
        /// Its directory.
        path: PathBuf,
        /// The state.
        state: &'static str,
        /// How long it was given.
        milliseconds: u128,
    },
    /// A process cannot be killed.
    #[error("kill process {pid} of cgroup {path:?}")]
    Kill {
        /// The cgroup's directory.
        path: PathBuf,
        /// The process.
        pid: i32,
        /// The kernel's answer.
        #[source]
        source: Errno,
    },
    /// Directories that stay, each with its reason.
    #[error("remove cgroup: {}", List(.failures))]
    Delete {
        /// Directory and the kernel's answer.
        failures: Vec<(PathBuf, Errno)>,
    },
}

impl CgroupError {
    /// The kernel's answer, where one was the cause.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Make { source, .. }
            | Self::Read { source, .. }
            | Self::Write { source, .. }
            | Self::Rename { source, .. }
            | Self::MemoryInUse { source, .. }
            | Self::DeviceProgram { source, .. }
            | Self::Kill { source, .. } => Some(*source),
            Self::Delete { failures } => failures.first().map(|failure| failure.1),
            Self::NotMounted
            | Self::Path { .. }
            | Self::InUse { .. }
            | Self::Absent { .. }
            | Self::Format { .. }
            | Self::Unsupported { .. }
            | Self::Missing { .. }
            | Self::Limit { .. }
            | Self::DeviceRule { .. }
            | Self::DeviceOverlap { .. }
            | Self::Timeout { .. } => None,
        }
    }

    pub(super) fn format(path: &Path, text: &str) -> Self {
        Self::Format {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }
}

/// Writes failures one after another; they have several sources, so the text names them.
struct List<'a>(&'a [(PathBuf, Errno)]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (path, errno)) in self.0.iter().enumerate() {
            let separator = if at == 0 { "" } else { "; " };
            write!(f, "{separator}{}: {errno}", path.display())?;
        }
        Ok(())
    }
}
