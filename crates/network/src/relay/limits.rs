//! How much one container's relay may use.

use std::time::Duration;

use rustix::process::{Resource, getrlimit};

/// How much one container's relay may use.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// Connections at a time.
    pub(crate) connections: usize,
    /// Clients of datagrams at a time.
    pub(crate) sessions: usize,
    /// How long a client that was never answered is remembered; as conntrack does.
    pub(crate) unanswered: Duration,
    /// How long one that was answered is remembered after its last datagram.
    pub(crate) answered: Duration,
    /// How long a container may take to accept a connection.
    pub(crate) connect: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        // a connection has two descriptors, and two to four more while bytes wait
        let descriptors = getrlimit(Resource::Nofile).current;
        let descriptors = descriptors.map_or(usize::MAX, |n| n.try_into().unwrap_or(usize::MAX));
        Self {
            connections: (descriptors / 16).min(4096),
            sessions: (descriptors / 16).min(1024),
            unanswered: Duration::from_secs(30),
            answered: Duration::from_secs(120),
            connect: Duration::from_secs(10),
        }
    }
}
