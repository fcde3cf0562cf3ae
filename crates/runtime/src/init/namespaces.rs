//! The namespaces that are joined or made after the clone.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use oci::runtime::{Namespace, NamespaceKind, Spec};
use rustix::fs::{Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use super::StageError;

/// Where the network namespace comes from.
pub(super) enum Netns<'fd> {
    /// It came with the order.
    Given(&'fd OwnedFd),
    /// It was made by the clone, along with the user namespace that it belongs to.
    Born,
    /// The configuration tells.
    Listed,
}

/// Joins the namespaces that the configuration names, and makes a network namespace of the
/// container's own if none is there.
///
/// User, pid, IPC, UTS and mount namespaces that are new were made by the clone.
pub(super) fn enter(namespaces: &[Namespace], netns: &Netns<'_>) -> Result<(), StageError> {
    if let Netns::Given(netns) = netns {
        join(netns, NamespaceKind::Network)?;
    }
    for namespace in namespaces {
        match (&namespace.path, namespace.kind) {
            // the process was cloned into it: it cannot move itself
            (_, NamespaceKind::User | NamespaceKind::Pid | NamespaceKind::Mount) => {}
            (_, NamespaceKind::Network) if !matches!(netns, Netns::Listed) => {}
            (Some(path), kind) => {
                let flags = OFlags::RDONLY | OFlags::CLOEXEC;
                let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| {
                    StageError::Namespace {
                        kind,
                        source: error.into(),
                    }
                })?;
                join(&fd, kind)?;
            }
            (None, NamespaceKind::Network) => make(UnshareFlags::NEWNET, NamespaceKind::Network)?,
            (None, kind @ NamespaceKind::Time) => {
                let source = io::ErrorKind::Unsupported.into();
                return Err(StageError::Namespace { kind, source });
            }
            (None, NamespaceKind::Ipc | NamespaceKind::Uts | NamespaceKind::Cgroup) => {}
        }
    }
    Ok(())
}

fn make(flags: UnshareFlags, kind: NamespaceKind) -> Result<(), StageError> {
    sys::process::unshare(flags).map_err(|source| StageError::Namespace { kind, source })
}

fn join(fd: &OwnedFd, kind: NamespaceKind) -> Result<(), StageError> {
    let link = match kind {
        NamespaceKind::Pid => LinkNameSpaceType::ProcessID,
        NamespaceKind::Network => LinkNameSpaceType::Network,
        NamespaceKind::Mount => LinkNameSpaceType::Mount,
        NamespaceKind::Ipc => LinkNameSpaceType::InterProcessCommunication,
        NamespaceKind::Uts => LinkNameSpaceType::HostNameAndNISDomainName,
        NamespaceKind::User => LinkNameSpaceType::User,
        NamespaceKind::Cgroup => LinkNameSpaceType::ControlGroup,
        NamespaceKind::Time => LinkNameSpaceType::Time,
    };
    move_into_link_name_space(fd.as_fd(), Some(link)).map_err(|error| StageError::Namespace {
        kind,
        source: error.into(),
    })
}

/// Sets host and domain name, in the UTS namespace that is the container's own.
pub(super) fn name(spec: &Spec) -> Result<(), StageError> {
    let fail = |name: &str| {
        let name = name.to_owned();
        |error: rustix::io::Errno| StageError::Hostname {
            name,
            source: error.into(),
        }
    };
    if let Some(name) = spec.hostname.as_deref().filter(|name| !name.is_empty()) {
        rustix::system::sethostname(name.as_bytes()).map_err(fail(name))?;
    }
    if let Some(name) = spec.domainname.as_deref().filter(|name| !name.is_empty()) {
        rustix::system::setdomainname(name.as_bytes()).map_err(fail(name))?;
    }
    Ok(())
}
