//! Why a port cannot be had.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use super::Protocol;

/// A port cannot be had. The texts begin with Docker's.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PortError {
    /// Another container of ours has it.
    #[error("Bind for {address} failed: port is already allocated{}", By(owner))]
    Allocated {
        /// The address and port that is taken.
        address: SocketAddr,
        /// The name of the container that has it; empty where it is not known.
        owner: String,
    },
    /// The host does not give it to us.
    #[error("failed to bind host port {attempt}: {reason}")]
    Bind {
        /// What was tried, with both ends.
        attempt: String,
        /// Why, in words that clients know, and which program is in the way.
        reason: String,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
    /// No port of the range is free.
    #[error("all ports are allocated")]
    Exhausted,
    /// The range is empty or has the port 0.
    #[error("invalid range of host ports {first}-{last}")]
    Range {
        /// The lowest port.
        first: u16,
        /// The highest port.
        last: u16,
    },
    /// The container has no address to which the port could lead.
    #[error("cannot publish port {port}/{protocol}: the container has no IP address")]
    NoAddress {
        /// The container's port.
        port: u16,
        /// The protocol.
        protocol: Protocol,
    },
    /// The traffic that no rule redirects cannot be served.
    #[error("cannot relay the published ports")]
    Relay(#[source] io::Error),
}

/// Names a container where one is known.
struct By<'a>(&'a str);

impl fmt::Display for By<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        write!(f, " by container {}", self.0)
    }
}

/// Says why a port cannot be bound, in the words of Docker's clients.
pub(super) fn reason(error: &io::Error, program: Option<String>) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => match program {
            Some(program) => format!("address already in use by {program}"),
            None => "address already in use".to_owned(),
        },
        io::ErrorKind::AddrNotAvailable => "cannot assign requested address".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied (the engine needs the capability \
             NET_BIND_SERVICE for ports below net.ipv4.ip_unprivileged_port_start)"
            .to_owned(),
        _ if is_out_of_descriptors(error) => {
            "too many open files (raise the engine's limit of open files)".to_owned()
        }
        _ => error.to_string(),
    }
}

/// Tells whether this process or this host has no descriptor left.
pub(crate) fn is_out_of_descriptors(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(
        Errno::from_io_error(error),
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)
    )
}
