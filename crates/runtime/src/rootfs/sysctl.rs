//! Kernel parameters of a container's namespaces.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::mount::MountAttrFlags;

use super::filesystem::{Filesystem, FilesystemError};

/// A parameter that is not as ordered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SysctlError {
    /// A procfs to write to.
    #[error("mount a procfs for kernel parameters")]
    Proc(#[source] FilesystemError),
    /// A parameter.
    #[error("write {value:?} to the kernel parameter {name:?}")]
    Write {
        /// Its name.
        name: String,
        /// The value.
        value: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

/// Writes all parameters through `proc`, a mount that was made here and so is surely procfs.
///
/// A path like `/proc/sys/...` could be led to other files of procfs by a bind mount or link of the
/// container (CVE-2025-52881). Without a procfs in the container a private one is made.
pub(crate) fn write(
    proc: Option<BorrowedFd<'_>>,
    parameters: &BTreeMap<String, String>,
) -> Result<(), SysctlError> {
    if parameters.is_empty() {
        return Ok(());
    }
    let own;
    let proc = if let Some(proc) = proc {
        proc
    } else {
        own = private_proc().map_err(SysctlError::Proc)?;
        own.as_fd()
    };
    for (name, value) in parameters {
        write_one(proc, name, value).map_err(|source| SysctlError::Write {
            name: name.clone(),
            value: value.clone(),
            source,
        })?;
    }
    Ok(())
}

fn private_proc() -> Result<OwnedFd, FilesystemError> {
    Filesystem::open("proc")?.mount(MountAttrFlags::MOUNT_ATTR_NOEXEC)
}

fn write_one(proc: BorrowedFd<'_>, name: &str, value: &str) -> io::Result<()> {
    let parameters = sys::tree::open_beneath(proc, Path::new("sys"), OFlags::PATH)?;
    let file = sys::tree::open_beneath(parameters.as_fd(), &path_of(name), OFlags::WRONLY)?;
    let written = rustix::io::write(&file, value.as_bytes())?;
    if written == value.len() {
        Ok(())
    } else {
        Err(io::ErrorKind::WriteZero.into())
    }
}

/// The path of a parameter. sysctl(8): whichever of `.` and `/` comes first separates, and the other
/// one stands for it inside a name, as in `net.ipv4.conf.eth0/1.forwarding`.
fn path_of(name: &str) -> PathBuf {
    let separator = name.find(['.', '/']).map(|at| &name[at..=at]);
    let path: String = match separator {
        Some(".") => name
            .chars()
            .map(|letter| match letter {
                '.' => '/',
                '/' => '.',
                other => other,
            })
            .collect(),
        _ => name.to_owned(),
    };
    PathBuf::from(path.trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_paths() {
        let check = |name, expect| assert_eq!(path_of(name), Path::new(expect));
        check("net.ipv4.ip_forward", "net/ipv4/ip_forward");
        check("net/ipv4/ip_forward", "net/ipv4/ip_forward");
        check(
            "net.ipv4.conf.eth0/1.forwarding",
            "net/ipv4/conf/eth0.1/forwarding",
        );
        check("/etc/passwd", "etc/passwd");
    }
}
