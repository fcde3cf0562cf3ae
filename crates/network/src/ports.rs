//! Published ports: which of the host's are ours, and that nobody else has them.
//!
//! Packets of a published port never reach a socket of the host: they are redirected before. So
//! each port is also held by a socket that is bound and never used, which keeps other programs
//! from believing that the port is free, and tells us when it is not.

mod hold;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::sysctl;

/// Docker's range for ports that the engine chooses, where the kernel tells none.
const DEFAULT_RANGE: (u16, u16) = (49153, 65535);

/// A transport protocol that has ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Transmission Control Protocol.
    Tcp,
    /// User Datagram Protocol.
    Udp,
    /// Stream Control Transmission Protocol.
    Sctp,
}

/// The text is not a protocol with ports.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid proto: {text}")]
pub struct ParseProtocolError {
    text: String,
}

/// One port of the host that leads to one port of a container.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PortMapping {
    /// The protocol, on both sides.
    pub protocol: Protocol,
    /// The host's address; the unspecified one stands for all of its family.
    pub host_ip: IpAddr,
    /// The host's port.
    pub host_port: u16,
    /// Where it leads.
    pub container: SocketAddr,
}

/// Which addresses of the host a port is wanted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostAddress {
    /// All addresses, of IPv4 and, where the host has it, of IPv6.
    Any,
    /// This one; the unspecified one stands for all of its family.
    Ip(IpAddr),
}

/// Which port of the host is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostPort {
    /// Any that is free, from the range that the kernel uses itself.
    Ephemeral,
    /// The first of these that is free.
    Range {
        /// The lowest.
        first: u16,
        /// The highest.
        last: u16,
    },
}

/// What is to be reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRequest {
    /// The protocol, on both sides.
    pub protocol: Protocol,
    /// The host's address.
    pub host: HostAddress,
    /// The host's port.
    pub port: HostPort,
    /// Where it is to lead.
    pub container: SocketAddr,
}

/// A port cannot be had. The texts are Docker's.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PortError {
    /// Another container of ours has it.
    #[error("Bind for {address} failed: port is already allocated")]
    Allocated {
        /// The address and port that is taken.
        address: SocketAddr,
    },
    /// The host does not give it to us.
    #[error("failed to bind host port for {address}:{container}/{protocol}: {reason}")]
    Bind {
        /// The host's address and port.
        address: SocketAddr,
        /// Where it was to lead.
        container: SocketAddr,
        /// The protocol.
        protocol: Protocol,
        /// Why, in words that clients know.
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
}

/// The ports that are ours. Clones share one table.
#[derive(Debug, Clone, Default)]
pub struct Ports {
    table: Arc<Mutex<Table>>,
}

#[derive(Debug, Default)]
struct Table {
    taken: BTreeMap<(Protocol, u16), Vec<IpAddr>>,
    /// The port that was last chosen by us.
    last_chosen: Option<u16>,
}

/// Ports that are reserved until this is dropped.
#[derive(Debug)]
pub struct PortLease {
    mappings: Vec<PortMapping>,
    /// Bound and never used.
    held: Vec<OwnedFd>,
    table: Arc<Mutex<Table>>,
}

impl Ports {
    /// Makes an empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reserves one port on all wanted addresses; must be called in the host's namespace.
    pub fn reserve(&self, request: &PortRequest) -> Result<PortLease, PortError> {
        match request.port {
            HostPort::Ephemeral => self.choose(request),
            HostPort::Range { first, last } if first == 0 || first > last => {
                Err(PortError::Range { first, last })
            }
            HostPort::Range { first, last } => self.first_free(request, first..=last),
        }
    }

    /// Reserves the ports of a container that lives on, as after a restart of the engine.
    ///
    /// They are forwarded already, so a program that took one meanwhile does not stand in the way.
    pub fn adopt(&self, mappings: Vec<PortMapping>) -> Result<PortLease, PortError> {
        let mut lease = self.empty_lease();
        for mapping in mappings {
            let address = SocketAddr::new(mapping.host_ip, mapping.host_port);
            lock(&self.table).take(&mapping)?;
            match hold::bind(mapping.protocol, address) {
                Ok(socket) => lease.held.extend(socket),
                Err(error) => tracing::warn!(%mapping, %error, "cannot hold a published port"),
            }
            lease.mappings.push(mapping);
        }
        Ok(lease)
    }

    /// Goes through the ephemeral range once, from where the last choice ended.
    fn choose(&self, request: &PortRequest) -> Result<PortLease, PortError> {
        let (first, last) = ephemeral_range();
        let start = lock(&self.table)
            .last_chosen
            .and_then(|port| port.checked_add(1))
            .filter(|port| (first..=last).contains(port))
            .unwrap_or(first);
        let lease = self
            .first_free(request, (start..=last).chain(first..start))
            .map_err(|error| {
                if error.is_taken() {
                    PortError::Exhausted
                } else {
                    error
                }
            })?;
        lock(&self.table).last_chosen = lease.mappings.first().map(|mapping| mapping.host_port);
        Ok(lease)
    }

    /// Takes the first free port; when none is, the last one's error says why.
    fn first_free(
        &self,
        request: &PortRequest,
        ports: impl IntoIterator<Item = u16>,
    ) -> Result<PortLease, PortError> {
        let mut refusal = PortError::Exhausted;
        for port in ports {
            match self.reserve_one(request, port) {
                Ok(lease) => return Ok(lease),
                Err(error) if error.is_taken() => refusal = error,
                Err(error) => return Err(error),
            }
        }
        Err(refusal)
    }

    fn reserve_one(&self, request: &PortRequest, port: u16) -> Result<PortLease, PortError> {
        let mut lease = self.empty_lease();
        for host_ip in request.host.addresses() {
            let address = SocketAddr::new(host_ip, port);
            let PortRequest {
                protocol,
                container,
                ..
            } = *request;
            let mapping = PortMapping {
                protocol,
                host_ip,
                host_port: port,
                container,
            };
            lock(&self.table).take(&mapping)?;
            // in the lease from here on, so that a failure below gives it back
            lease.mappings.push(mapping);
            let held = hold::bind(protocol, address).map_err(|source| PortError::Bind {
                address,
                container,
                protocol,
                reason: hold::reason(&source),
                source,
            })?;
            lease.held.extend(held);
        }
        Ok(lease)
    }

    fn empty_lease(&self) -> PortLease {
        PortLease {
            mappings: Vec::new(),
            held: Vec::new(),
            table: Arc::clone(&self.table),
        }
    }
}

impl PortLease {
    /// Returns what is reserved: one mapping an address family.
    pub fn mappings(&self) -> &[PortMapping] {
        &self.mappings
    }
}

impl Drop for PortLease {
    fn drop(&mut self) {
        // first the sockets: who sees the port free in the table must be able to bind it
        self.held.clear();
        let mut table = lock(&self.table);
        self.mappings
            .iter()
            .for_each(|mapping| table.release(mapping));
    }
}

impl Table {
    /// Marks the port as taken, unless it is on this address or one that includes it or is included:
    /// Docker's message names the address that is taken, not the one that is wanted.
    fn take(&mut self, mapping: &PortMapping) -> Result<(), PortError> {
        let taken = self
            .taken
            .entry((mapping.protocol, mapping.host_port))
            .or_default();
        let wanted = mapping.host_ip;
        let clash = |held: &&IpAddr| {
            held.is_ipv4() == wanted.is_ipv4()
                && (**held == wanted || held.is_unspecified() || wanted.is_unspecified())
        };
        if let Some(held) = taken.iter().find(clash) {
            return Err(PortError::Allocated {
                address: SocketAddr::new(*held, mapping.host_port),
            });
        }
        taken.push(wanted);
        Ok(())
    }

    fn release(&mut self, mapping: &PortMapping) {
        let key = (mapping.protocol, mapping.host_port);
        if let Some(taken) = self.taken.get_mut(&key) {
            taken.retain(|address| *address != mapping.host_ip);
            if taken.is_empty() {
                self.taken.remove(&key);
            }
        }
    }
}

fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads the range that the kernel takes ports from by itself, as Docker does.
fn ephemeral_range() -> (u16, u16) {
    let text = sysctl::read("ipv4/ip_local_port_range").unwrap_or_default();
    let mut numbers = text.split_whitespace().map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(first)), Some(Ok(last))) if 0 < first && first <= last => (first, last),
        _ => DEFAULT_RANGE,
    }
}

impl HostAddress {
    fn addresses(self) -> Vec<IpAddr> {
        match self {
            Self::Ip(address) => vec![address],
            Self::Any if sysctl::has_ipv6() => {
                vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()]
            }
            Self::Any => vec![Ipv4Addr::UNSPECIFIED.into()],
        }
    }
}

impl PortError {
    /// Tells whether another port might do.
    fn is_taken(&self) -> bool {
        match self {
            Self::Allocated { .. } => true,
            Self::Bind { source, .. } => source.kind() == io::ErrorKind::AddrInUse,
            Self::Exhausted | Self::Range { .. } => false,
        }
    }
}

impl Protocol {
    /// Returns the number in IP's header.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

impl FromStr for Protocol {
    type Err = ParseProtocolError;

    fn from_str(text: &str) -> Result<Self, ParseProtocolError> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            "sctp" => Ok(Self::Sctp),
            _ => Err(ParseProtocolError {
                text: text.chars().take(64).collect(),
            }),
        }
    }
}

impl fmt::Display for PortMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = SocketAddr::new(self.host_ip, self.host_port);
        write!(f, "{host}:{}/{}", self.container, self.protocol)
    }
}
