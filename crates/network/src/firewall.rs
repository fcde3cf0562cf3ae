//! The nftables table: what is forwarded, rewritten and kept apart.
//!
//! The rules are made once, in one transaction; publishing a port only adds an element to a map.
//! Other owners' tables are never touched, and flushing theirs never breaks ours.

mod ruleset;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use sys::netns::Family;

use crate::conntrack::{Forgetter, Reason};
use crate::netlink::{self, Socket, tolerate};
use crate::nft::{self, Element, Transaction, push_field};
use crate::ports::{PortMapping, Protocol};
use crate::subnet::Subnet;

/// A map is read so often before it is believed to differ. The kernel may leave elements out while it
/// enlarges the map, in the background after many were added (rhashtable_walk_next), and says so to
/// nobody.
const READINGS: u32 = 10;
const BETWEEN_READINGS: Duration = Duration::from_millis(20);

/// Who has the last word on connections to published ports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PublishPolicy {
    /// The engine, as with Docker: what is published is reached, whatever the host's own rules for
    /// incoming traffic say.
    #[default]
    Docker,
    /// The host's rules for incoming traffic.
    HostFirewall,
}

/// What stands between a network and the world.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GatewayMode {
    /// Containers leave with the host's address; only published ports lead in.
    #[default]
    Nat,
    /// The same, but every port of a container can be reached by its own address.
    NatUnprotected,
    /// No address is rewritten; published ports are open at the container's own address.
    Routed,
    /// The host has no address in the network, which leads nowhere.
    Isolated,
}

/// A bridge and the network behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    /// The bridge's name.
    pub bridge: String,
    /// The network of its containers.
    pub subnet: Subnet,
}

/// The table, in the namespace of the thread that made it.
#[derive(Debug)]
pub struct Firewall {
    table: String,
    zones: Vec<Zone>,
    socket: Mutex<Socket>,
    forgetter: Forgetter,
}

/// The step of the firewall's work that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FirewallError {
    /// The rules could not be made.
    #[error("cannot set up the nftables table {table}")]
    SetUp {
        /// The table.
        table: String,
        /// What was refused.
        #[source]
        source: netlink::NetlinkError,
    },
    /// The table could not be read.
    #[error("cannot read the nftables table {table}")]
    Read {
        /// The table.
        table: String,
        /// What was refused.
        #[source]
        source: netlink::NetlinkError,
    },
    /// Ports could not be published.
    #[error("cannot publish {} ports, the first being {first}", .count)]
    Publish {
        /// How many.
        count: usize,
        /// The first of them.
        first: PortMapping,
        /// What was refused.
        #[source]
        source: netlink::NetlinkError,
    },
    /// Ports could not be taken back.
    #[error("cannot unpublish {} ports, the first being {first}", .count)]
    Unpublish {
        /// How many.
        count: usize,
        /// The first of them.
        first: PortMapping,
        /// What was refused.
        #[source]
        source: netlink::NetlinkError,
    },
    /// The table could not be deleted.
    #[error("cannot delete the nftables table {table}")]
    Destroy {
        /// The table.
        table: String,
        /// What was refused.
        #[source]
        source: netlink::NetlinkError,
    },
}

impl Firewall {
    /// Makes the table, or replaces it at one instant, with these ports published.
    pub fn ensure(
        table: impl Into<String>,
        zones: Vec<Zone>,
        published: &[PortMapping],
    ) -> Result<Self, FirewallError> {
        let table = table.into();
        let failed = |source| FirewallError::SetUp {
            table: table.clone(),
            source,
        };
        let socket = Socket::open(Family::Netfilter).map_err(failed)?;
        let forgetter = Forgetter::open().map_err(failed)?;
        let firewall = Self {
            table,
            zones,
            socket: Mutex::new(socket),
            forgetter,
        };
        firewall.replace(published)?;
        Ok(firewall)
    }

    /// Makes the table anew at one instant, with these ports published.
    pub fn replace(&self, published: &[PortMapping]) -> Result<(), FirewallError> {
        let mut transaction = Transaction::new(&self.table);
        // deleting what is not there fails, so make it first
        transaction.add_table();
        transaction.delete_table();
        transaction.add_table();
        ruleset::write(&mut transaction, &self.zones);
        for (map, elements) in by_map(published) {
            transaction.add_elements(map, &elements);
        }
        transaction
            .commit(&mut self.lock())
            .map_err(|source| FirewallError::SetUp {
                table: self.table.clone(),
                source,
            })
    }

    /// Tells whether the table has exactly our rules and these published ports.
    pub fn verify(&self, published: &[PortMapping]) -> Result<bool, FirewallError> {
        let read = |source| FirewallError::Read {
            table: self.table.clone(),
            source,
        };
        let mut socket = self.lock();
        let found = nft::rules(&mut socket, &self.table).map_err(read)?;
        if found != ruleset::comments(&self.zones) {
            return Ok(false);
        }
        for (map, wanted) in by_map(published) {
            let wanted = BTreeSet::from_iter(wanted);
            if !self.holds(&mut socket, map, &wanted).map_err(read)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn holds(
        &self,
        socket: &mut Socket,
        map: &str,
        wanted: &BTreeSet<Element>,
    ) -> Result<bool, netlink::NetlinkError> {
        for _ in 0..READINGS {
            let held = nft::elements(socket, &self.table, map)?;
            if BTreeSet::from_iter(held) == *wanted {
                return Ok(true);
            }
            std::thread::sleep(BETWEEN_READINGS);
        }
        Ok(false)
    }

    /// Forwards these ports, all at one instant; a port that led elsewhere leads here now.
    ///
    /// Only IPv4 is forwarded: a mapping with an IPv6 address on either side changes nothing.
    pub fn publish(&self, ports: &[PortMapping]) -> Result<(), FirewallError> {
        let Some(first) = ports.first() else {
            return Ok(());
        };
        let mut socket = self.lock();
        let taken = |error: &netlink::NetlinkError| error.is(Errno::BUSY) || error.is(Errno::EXIST);
        let mut result = self.add(&mut socket, ports, &BTreeSet::new());
        for _ in 0..READINGS {
            if !result.as_ref().is_err_and(taken) {
                break;
            }
            let present = self.present(&mut socket);
            result = present.and_then(|stale| self.add(&mut socket, ports, &stale));
        }
        result.map_err(|source| FirewallError::Publish {
            count: ports.len(),
            first: first.clone(),
            source,
        })?;
        self.forgetter.forget(ports, Reason::Published);
        Ok(())
    }

    /// Stops to forward these ports; those that are not forwarded are no error.
    pub fn unpublish(&self, ports: &[PortMapping]) -> Result<(), FirewallError> {
        let Some(first) = ports.first() else {
            return Ok(());
        };
        let mut socket = self.lock();
        let mut result = self.remove(&mut socket, ports);
        if result.as_ref().is_err_and(|error| error.is(Errno::NOENT)) {
            result = ports.iter().try_for_each(|port| {
                let alone = self.remove(&mut socket, std::slice::from_ref(port));
                tolerate(alone, Errno::NOENT)
            });
        }
        result.map_err(|source| FirewallError::Unpublish {
            count: ports.len(),
            first: first.clone(),
            source,
        })?;
        self.forgetter.forget(ports, Reason::Unpublished);
        Ok(())
    }

    /// Waits until the UDP flows are ended that published and unpublished ports made wrong, which
    /// otherwise happens a few milliseconds later.
    pub fn settle(&self) {
        self.forgetter.settle();
    }

    /// Deletes the table; that it is gone already is no error.
    pub fn destroy(self) -> Result<(), FirewallError> {
        let mut transaction = Transaction::new(&self.table);
        transaction.delete_table();
        let result = transaction.commit(&mut self.lock());
        tolerate(result, Errno::NOENT).map_err(|source| FirewallError::Destroy {
            table: self.table.clone(),
            source,
        })
    }

    fn add(
        &self,
        socket: &mut Socket,
        ports: &[PortMapping],
        stale: &BTreeSet<Element>,
    ) -> Result<(), netlink::NetlinkError> {
        let mut transaction = Transaction::new(&self.table);
        for (map, elements) in by_map(ports) {
            let keys: BTreeSet<_> = elements.iter().map(|(key, _)| key).collect();
            let replaced: Vec<_> = stale
                .iter()
                .filter(|(key, _)| keys.contains(key))
                .cloned()
                .collect();
            transaction.delete_elements(map, &replaced);
            transaction.add_elements(map, &elements);
        }
        transaction.commit(socket)
    }

    fn remove(
        &self,
        socket: &mut Socket,
        ports: &[PortMapping],
    ) -> Result<(), netlink::NetlinkError> {
        let mut transaction = Transaction::new(&self.table);
        for (map, elements) in by_map(ports) {
            transaction.delete_elements(map, &elements);
        }
        transaction.commit(socket)
    }

    /// Lists the elements of both maps, whose keys differ in length and so never collide.
    fn present(&self, socket: &mut Socket) -> Result<BTreeSet<Element>, netlink::NetlinkError> {
        let mut all = BTreeSet::new();
        for map in [ruleset::SPECIFIC, ruleset::WILDCARD] {
            all.extend(nft::elements(socket, &self.table, map)?);
        }
        Ok(all)
    }

    fn lock(&self) -> MutexGuard<'_, Socket> {
        self.socket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sorts mappings into the two maps.
fn by_map(ports: &[PortMapping]) -> [(&'static str, Vec<Element>); 2] {
    let mut specific = Vec::new();
    let mut wildcard = Vec::new();
    for port in ports {
        let (IpAddr::V4(host), IpAddr::V4(container)) = (port.host_ip, port.container.ip()) else {
            continue;
        };
        let mut key = Vec::new();
        push_field(&mut key, &[protocol_number(port.protocol)]);
        if !host.is_unspecified() {
            push_field(&mut key, &host.octets());
        }
        push_field(&mut key, &port.host_port.to_be_bytes());
        let mut data = Vec::new();
        push_field(&mut data, &container.octets());
        push_field(&mut data, &port.container.port().to_be_bytes());
        let map = if host.is_unspecified() {
            &mut wildcard
        } else {
            &mut specific
        };
        map.push((key, data));
    }
    [(ruleset::SPECIFIC, specific), (ruleset::WILDCARD, wildcard)]
}

const fn protocol_number(protocol: Protocol) -> u8 {
    protocol.number()
}
