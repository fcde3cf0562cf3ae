//! Published ports: which of the host's are ours, and that nobody else has them.
//!
//! Packets of a published port do not reach a socket of the host: they are redirected before. So
//! each port is also held by a socket that is bound and never used, which keeps other programs
//! from believing that the port is free, and tells us when it is not. Where no rule can redirect
//! (`PortMapping::relayed`), the same socket listens, and `relay` serves it.

mod error;
mod hold;
mod holder;
mod mapping;
mod protocol;
mod request;
mod table;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;

use crate::relay::{Limits, Listener, Relay};
use crate::sysctl;
use table::Table;

pub use error::PortError;
pub(crate) use error::is_out_of_descriptors;
pub use mapping::PortMapping;
pub use protocol::{ParseProtocolError, Protocol};
pub use request::{HostAddress, HostPort, ParsePortError, PortRequest};

/// Docker's range for ports that the engine chooses, where the kernel tells none.
const DEFAULT_RANGE: (u16, u16) = (49153, 65535);

/// The ports that are ours. Clones share one table.
#[derive(Debug, Clone, Default)]
pub struct Ports {
    table: Arc<Mutex<Table>>,
}

/// Ports that are reserved until this is dropped.
#[derive(Debug)]
pub struct PortLease {
    mappings: Vec<PortMapping>,
    /// One for each mapping: bound and never used, until a relay takes it.
    held: Vec<Option<OwnedFd>>,
    relay: Option<Relay>,
    table: Arc<Mutex<Table>>,
}

/// Why one port of possibly several cannot be had.
enum Refusal {
    /// A container of ours has it.
    Allocated { at: SocketAddr, owner: Arc<str> },
    /// The kernel does not give it.
    Kernel { at: PortMapping, error: io::Error },
    /// No port would do.
    Final(PortError),
}

impl Ports {
    /// Makes an empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reserves all of the ports or none, each on all wanted addresses with one number; must be
    /// called in the host's namespace.
    pub fn reserve_all(&self, requests: &[PortRequest]) -> Result<PortLease, PortError> {
        let mut lease = self.empty_lease();
        let mut taken = Vec::with_capacity(requests.len() * 2);
        let result = reserve(&mut lock(&self.table), requests, &mut taken);
        // the table is free again while the reason is looked for
        let result = result.map_err(|(request, refusal)| refusal.explain(request));
        taken.sort_by_key(|one| one.request);
        // all of it in the lease, so that a failure gives it back
        for Taken {
            mapping, socket, ..
        } in taken
        {
            lease.mappings.push(mapping);
            lease.held.push(socket);
        }
        result.map(|()| lease)
    }

    /// Reserves the ports of a container that lives on, as after a restart of the engine.
    ///
    /// They are forwarded already, so a program that took one meanwhile does not stand in the way.
    /// Relayed ones are served again by `PortLease::serve`.
    pub fn adopt(&self, mappings: Vec<PortMapping>, owner: &str) -> Result<PortLease, PortError> {
        let mut lease = self.empty_lease();
        let owner: Arc<str> = owner.into();
        for mapping in mappings {
            let taken = lock(&self.table).take(&mapping, &owner);
            taken.map_err(|(address, owner)| PortError::Allocated {
                address: SocketAddr::new(address, mapping.host_port),
                owner: owner.to_string(),
            })?;
            let socket = hold::bind(mapping.protocol, mapping.host());
            lease.held.push(socket.unwrap_or_else(|error| {
                let program = holder::program_at(mapping.protocol, mapping.host());
                tracing::warn!(%mapping, %error, program, "cannot hold a published port");
                None
            }));
            lease.mappings.push(mapping);
        }
        Ok(lease)
    }

    /// Returns how many ports are reserved, each address counted by itself.
    pub fn len(&self) -> usize {
        lock(&self.table).len()
    }

    /// Tells whether no port is reserved.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn empty_lease(&self) -> PortLease {
        PortLease {
            mappings: Vec::new(),
            held: Vec::new(),
            relay: None,
            table: Arc::clone(&self.table),
        }
    }
}

impl PortLease {
    /// Returns what is reserved: for each request in turn one mapping an address family.
    pub fn mappings(&self) -> &[PortMapping] {
        &self.mappings
    }

    /// Serves from now on what the kernel's rules leave of these ports, by tasks on the runtime,
    /// whose threads must be in the host's namespace.
    pub fn serve(&mut self, runtime: &Handle) -> Result<(), PortError> {
        let listeners: Vec<_> = self
            .mappings
            .iter()
            .zip(&mut self.held)
            .filter(|(mapping, _)| mapping.is_served())
            .filter_map(|(mapping, held)| {
                held.take().map(|socket| Listener {
                    socket,
                    protocol: mapping.protocol,
                    bound: mapping.host_ip,
                    port: mapping.host_port,
                    container: mapping.container,
                })
            })
            .collect();
        if !listeners.is_empty() {
            let relay = Relay::start(runtime, listeners, &Limits::default());
            self.relay = Some(relay.map_err(PortError::Relay)?);
        }
        Ok(())
    }
}

impl PortLease {
    /// Gives back the ports of which `stays` is not true; the others are held and served on.
    pub fn retain(&mut self, stays: impl Fn(&PortMapping) -> bool) {
        if let Some(relay) = &self.relay {
            relay.retain(|listener| self.mappings.iter().any(|m| stays(m) && listener.is_for(m)));
        }
        let mut table = lock(&self.table);
        let all = std::mem::take(&mut self.mappings).into_iter();
        for (mapping, socket) in all.zip(std::mem::take(&mut self.held)) {
            if stays(&mapping) {
                self.mappings.push(mapping);
                self.held.push(socket);
            } else {
                // as in `drop`: first the socket, then the place in the table
                drop(socket);
                table.release(&mapping);
            }
        }
    }
}

impl Drop for PortLease {
    fn drop(&mut self) {
        // first the sockets: who sees the port free in the table must be able to bind it
        self.relay = None;
        self.held.clear();
        let mut table = lock(&self.table);
        self.mappings
            .iter()
            .for_each(|mapping| table.release(mapping));
    }
}

/// One mapping that was reserved, and for which request.
struct Taken {
    request: usize,
    mapping: PortMapping,
    socket: Option<OwnedFd>,
}

/// One request while it is served.
struct Attempt<'a> {
    index: usize,
    request: &'a PortRequest,
    owner: Arc<str>,
    ends: Vec<(IpAddr, SocketAddr)>,
}

/// Reserves the ports of all requests; what is taken already when one fails is the caller's.
fn reserve<'a>(
    table: &mut Table,
    requests: &'a [PortRequest],
    taken: &mut Vec<Taken>,
) -> Result<(), (&'a PortRequest, Refusal)> {
    let on_any = requests
        .iter()
        .any(|request| request.host == HostAddress::Any);
    let host_has_ipv6 = on_any && request::host_has_ipv6();
    let mut owner: Arc<str> = "".into();
    let mut order: Vec<_> = requests.iter().enumerate().collect();
    order.sort_by_key(|(_, request)| request.freedom());
    for (index, request) in order {
        if *owner != *request.owner {
            owner = request.owner.as_str().into();
        }
        let ends = request.ends(host_has_ipv6);
        let attempt = Attempt {
            index,
            request,
            owner: Arc::clone(&owner),
            ends: ends.map_err(|error| (request, Refusal::Final(error)))?,
        };
        attempt
            .reserve(table, taken)
            .map_err(|refusal| (request, refusal))?;
    }
    Ok(())
}

impl Attempt<'_> {
    fn reserve(&self, table: &mut Table, taken: &mut Vec<Taken>) -> Result<(), Refusal> {
        match self.request.port {
            HostPort::Ephemeral => self.choose(table, taken),
            HostPort::Range { first, last } if first == 0 || first > last => {
                Err(Refusal::Final(PortError::Range { first, last }))
            }
            HostPort::Range { first, last } => self.first_free(table, taken, first..=last),
        }
    }

    /// Goes through the ephemeral range once, from where the last choice ended.
    fn choose(&self, table: &mut Table, taken: &mut Vec<Taken>) -> Result<(), Refusal> {
        let (first, last) = ephemeral_range();
        let start = table
            .last_chosen
            .and_then(|port| port.checked_add(1))
            .filter(|port| (first..=last).contains(port))
            .unwrap_or(first);
        match self.first_free(table, taken, (start..=last).chain(first..start)) {
            Err(refusal) if refusal.is_of_this_port() => {
                return Err(Refusal::Final(PortError::Exhausted));
            }
            other => other?,
        }
        table.last_chosen = taken.last().map(|taken| taken.mapping.host_port);
        Ok(())
    }

    /// Takes the first free port; when none is, the last refusal says why.
    fn first_free(
        &self,
        table: &mut Table,
        taken: &mut Vec<Taken>,
        ports: impl IntoIterator<Item = u16>,
    ) -> Result<(), Refusal> {
        let mut last = Refusal::Final(PortError::Exhausted);
        for port in ports {
            match self.take(table, taken, port) {
                Err(refusal) if refusal.is_of_this_port() => last = refusal,
                other => return other,
            }
        }
        Err(last)
    }

    /// Takes one port on all addresses, or gives back what it took.
    fn take(&self, table: &mut Table, taken: &mut Vec<Taken>, port: u16) -> Result<(), Refusal> {
        let before = taken.len();
        for (host_ip, container) in &self.ends {
            let mapping = PortMapping {
                protocol: self.request.protocol,
                host_ip: *host_ip,
                host_port: port,
                container: *container,
            };
            match self.take_one(table, &mapping) {
                Ok(socket) => taken.push(Taken {
                    request: self.index,
                    mapping,
                    socket,
                }),
                Err(refusal) => {
                    for given_back in taken.drain(before..) {
                        drop(given_back.socket);
                        table.release(&given_back.mapping);
                    }
                    return Err(refusal);
                }
            }
        }
        Ok(())
    }

    fn take_one(
        &self,
        table: &mut Table,
        mapping: &PortMapping,
    ) -> Result<Option<OwnedFd>, Refusal> {
        table
            .take(mapping, &self.owner)
            .map_err(|(address, owner)| Refusal::Allocated {
                at: SocketAddr::new(address, mapping.host_port),
                owner,
            })?;
        hold::bind(mapping.protocol, mapping.host()).map_err(|error| {
            table.release(mapping);
            Refusal::Kernel {
                at: mapping.clone(),
                error,
            }
        })
    }
}

impl Refusal {
    /// Tells whether another port might do.
    fn is_of_this_port(&self) -> bool {
        match self {
            Self::Allocated { .. } => true,
            Self::Kernel { error, .. } => error.kind() == io::ErrorKind::AddrInUse,
            Self::Final(_) => false,
        }
    }

    /// Says it to people; this looks for the program that is in the way, so it is not done for
    /// each port of a range.
    fn explain(self, request: &PortRequest) -> PortError {
        match self {
            Self::Allocated { at, owner } => PortError::Allocated {
                address: at,
                owner: owner.to_string(),
            },
            Self::Kernel { at, error } => {
                let program = (error.kind() == io::ErrorKind::AddrInUse)
                    .then(|| holder::program_at(at.protocol, at.host()))
                    .flatten();
                PortError::Bind {
                    attempt: request.attempt(&at),
                    reason: error::reason(&error, program),
                    source: error,
                }
            }
            Self::Final(error) => error,
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
