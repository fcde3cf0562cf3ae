//! What a link has carried.

use crate::netlink::{NetlinkError, Socket, integer_ne};
use crate::route;

/// Counters of a link, from that link's own point of view.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Counters {
    /// Packets received.
    pub rx_packets: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets received with an error.
    pub rx_errors: u64,
    /// Packets that could not be sent.
    pub tx_errors: u64,
    /// Packets thrown away on arrival.
    pub rx_dropped: u64,
    /// Packets thrown away before sending.
    pub tx_dropped: u64,
}

impl Counters {
    /// Reads the head of `struct rtnl_link_stats64`, which newer kernels only ever extend.
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let field = |index: usize| {
            bytes
                .get(index * 8..index * 8 + 8)
                .and_then(integer_ne)
                .unwrap_or_default()
        };
        Self {
            rx_packets: field(0),
            tx_packets: field(1),
            rx_bytes: field(2),
            tx_bytes: field(3),
            rx_errors: field(4),
            tx_errors: field(5),
            rx_dropped: field(6),
            tx_dropped: field(7),
        }
    }

    /// Returns the counters as the other end of a veth pair sees them: what the host's end sends,
    /// the container receives.
    #[must_use]
    pub fn from_peer(self) -> Self {
        Self {
            rx_packets: self.tx_packets,
            tx_packets: self.rx_packets,
            rx_bytes: self.tx_bytes,
            tx_bytes: self.rx_bytes,
            rx_errors: self.tx_errors,
            tx_errors: self.rx_errors,
            rx_dropped: self.tx_dropped,
            tx_dropped: self.rx_dropped,
        }
    }
}

/// Reads counters of links in the namespace of the thread that made it, over one open socket.
#[derive(Debug)]
pub struct CounterReader {
    socket: Socket,
}

impl CounterReader {
    /// Opens the socket.
    pub fn open() -> Result<Self, NetlinkError> {
        Ok(Self {
            socket: Socket::open(sys::netns::Family::Route)?,
        })
    }

    /// Reads the counters of the link with this index; `None` when there is no such link.
    pub fn read(&mut self, index: u32) -> Result<Option<Counters>, NetlinkError> {
        Ok(route::link_by_index(&mut self.socket, index)?.map(|link| link.counters))
    }
}
