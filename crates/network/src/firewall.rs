//! The nftables tables: what is forwarded, rewritten and kept apart.
//!
//! The rules are made once, in one transaction; a network, a container or a published port only adds
//! elements to sets and maps. Other owners' tables are never touched, and flushing theirs never
//! breaks ours; when ours are flushed, they are put back from memory.

mod audit;
mod elements;
mod memory;
mod obstacle;
mod reentry;
mod ruleset;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use sys::netns;

use crate::conntrack::{Forgetter, Reason};
use crate::mac::MacAddress;
use crate::netlink::{self, NetlinkError, Socket};
use crate::nft::{self, Family, Object, Transaction};
use crate::ports::{PortMapping, Protocol};
use crate::subnet::Subnet;
use memory::{Change, Memory};
use reentry::Reentry;
use ruleset::{Shape, Which};

pub use audit::Origin;
pub use obstacle::Obstacle;
pub(crate) use reentry::names as reentry_names;

/// A set is read so often before it is believed to differ. The kernel may leave elements out while it
/// enlarges the set, in the background after many were added (rhashtable_walk_next), and says so to
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

/// What one version of IP is in a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneSide {
    /// The network of its containers.
    pub subnet: Subnet,
    /// What stands between it and the world.
    pub mode: GatewayMode,
    /// Containers leave with an address of the host.
    pub masquerade: bool,
    /// With this address, in place of that of the link that they leave by.
    pub source: Option<IpAddr>,
}

/// A bridge and the network behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    /// The bridge's name.
    pub bridge: String,
    /// Its IPv4 side.
    pub v4: Option<ZoneSide>,
    /// Its IPv6 side.
    pub v6: Option<ZoneSide>,
    /// Nothing is forwarded from it or to it.
    pub internal: bool,
    /// Its containers may talk to each other.
    pub icc: bool,
}

/// A container on a bridge, of which is known who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The host's end of its link.
    pub port: String,
    /// Its Ethernet address.
    pub mac: MacAddress,
    /// Its addresses; the link-local one that follows from the Ethernet address may be left out.
    pub addresses: Vec<IpAddr>,
}

/// A port of a container that can be reached by the container's own address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenPort {
    /// The bridge that the container is on.
    pub bridge: String,
    /// The protocol.
    pub protocol: Protocol,
    /// The container's address and port.
    pub container: SocketAddr,
}

/// What the firewall is to know; adding and removing takes any part of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// Networks.
    pub zones: Vec<Zone>,
    /// Containers whose senders' addresses are checked.
    pub members: Vec<Member>,
    /// Published ports. One whose two sides are of different versions of IP, or on ::1, changes
    /// nothing here.
    pub published: Vec<PortMapping>,
    /// Open ports of routed networks.
    pub open: Vec<OpenPort>,
}

/// The tables, in the namespace of the thread that made them.
#[derive(Debug)]
pub struct Firewall {
    table: String,
    policy: PublishPolicy,
    state: Mutex<State>,
    forgetter: Forgetter,
}

#[derive(Debug)]
struct State {
    socket: Socket,
    memory: Memory,
    /// The kernel has rules for bridges.
    bridge: bool,
    reentry: Option<Reentry>,
    /// What the kernel told of our tables just after they were made.
    reference: Vec<Object>,
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
        source: NetlinkError,
    },
    /// The way back in of connections that the host's rules let through could not be made.
    #[error("cannot set up the links by which the host's firewall decides for the table {table}")]
    Reentry {
        /// The table.
        table: String,
        /// What was refused.
        #[source]
        source: NetlinkError,
    },
    /// The same, for the kernel's settings of it.
    #[error("cannot set up the links by which the host's firewall decides for the table {table}")]
    ReentrySettings {
        /// The table.
        table: String,
        /// What was refused.
        #[source]
        source: crate::sysctl::SysctlError,
    },
    /// The table could not be read.
    #[error("cannot read the nftables table {table}")]
    Read {
        /// The table.
        table: String,
        /// What was refused.
        #[source]
        source: NetlinkError,
    },
    /// Networks, containers or ports could not be added.
    #[error("cannot add to the nftables table {table}: {what}")]
    Add {
        /// The table.
        table: String,
        /// What was to be added.
        what: String,
        /// What was refused.
        #[source]
        source: NetlinkError,
    },
    /// Networks, containers or ports could not be removed.
    #[error("cannot remove from the nftables table {table}: {what}")]
    Remove {
        /// The table.
        table: String,
        /// What was to be removed.
        what: String,
        /// What was refused.
        #[source]
        source: NetlinkError,
    },
    /// The table could not be deleted.
    #[error("cannot delete the nftables table {table}")]
    Destroy {
        /// The table.
        table: String,
        /// What was refused.
        #[source]
        source: NetlinkError,
    },
}

impl Firewall {
    /// Makes the tables, or replaces them at one instant, with these rules in them.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "these rules are the firewall's affair from here on"
    )]
    pub fn ensure(table: &str, policy: PublishPolicy, rules: Rules) -> Result<Self, FirewallError> {
        let failed = |source| FirewallError::SetUp {
            table: table.to_owned(),
            source,
        };
        let reentry = match policy {
            PublishPolicy::HostFirewall => Some(Reentry::ensure(table)?),
            PublishPolicy::Docker => {
                Reentry::remove(table).map_err(failed)?;
                None
            }
        };
        let mut memory = Memory::default();
        memory.apply(&memory.adding(elements::of(&rules)));
        let mut state = State {
            socket: Socket::open(netns::Family::Netfilter).map_err(failed)?,
            memory,
            bridge: true,
            reentry,
            reference: Vec::new(),
        };
        state.make(table).map_err(failed)?;
        Ok(Self {
            table: table.to_owned(),
            policy,
            state: Mutex::new(state),
            forgetter: Forgetter::open().map_err(failed)?,
        })
    }

    /// Adds networks, containers and ports, all at one instant; a port that led elsewhere leads
    /// here now. They belong to what [`restore`](Self::restore) puts back from then on.
    pub fn add(&self, rules: &Rules) -> Result<(), FirewallError> {
        let mut state = self.lock();
        let change = state.memory.adding(elements::of(rules));
        state
            .change(&self.table, change)
            .map_err(|source| FirewallError::Add {
                table: self.table.clone(),
                what: rules.summary(),
                source,
            })?;
        drop(state);
        self.forgetter.forget(&rules.published, Reason::Published);
        Ok(())
    }

    /// Removes networks, containers and ports, all at one instant; what is not there, or leads
    /// elsewhere by now, is no error and stays as it is.
    pub fn remove(&self, rules: &Rules) -> Result<(), FirewallError> {
        let mut state = self.lock();
        let change = state.memory.removing(elements::of(rules));
        state
            .change(&self.table, change)
            .map_err(|source| FirewallError::Remove {
                table: self.table.clone(),
                what: rules.summary(),
                source,
            })?;
        drop(state);
        self.forgetter.forget(&rules.published, Reason::Unpublished);
        Ok(())
    }

    /// Puts back what somebody else took away or changed, at one instant; tells whether anything
    /// was missing or strange.
    pub fn restore(&self) -> Result<bool, FirewallError> {
        let mut state = self.lock();
        let state = &mut *state;
        if let PublishPolicy::HostFirewall = self.policy {
            let reentry = Some(Reentry::ensure(&self.table)?);
            let moved = reentry != state.reentry;
            state.reentry = reentry;
            if moved {
                state
                    .make(&self.table)
                    .map_err(|source| self.set_up(source))?;
                return Ok(true);
            }
        }
        let intact = state
            .is_intact(&self.table)
            .map_err(|source| FirewallError::Read {
                table: self.table.clone(),
                source,
            })?;
        if !intact {
            state
                .make(&self.table)
                .map_err(|source| self.set_up(source))?;
        }
        Ok(!intact)
    }

    /// Tells whether the kernel's tables are as they should be.
    pub fn verify(&self) -> Result<bool, FirewallError> {
        let mut state = self.lock();
        state
            .is_intact(&self.table)
            .map_err(|source| FirewallError::Read {
                table: self.table.clone(),
                source,
            })
    }

    /// Waits until the UDP flows are ended that published and unpublished ports made wrong, which
    /// otherwise happens a few milliseconds later.
    pub fn settle(&self) {
        self.forgetter.settle();
    }

    /// Deletes the tables; that they are gone already is no error.
    pub fn destroy(&self) -> Result<(), FirewallError> {
        let failed = |source| FirewallError::Destroy {
            table: self.table.clone(),
            source,
        };
        let mut state = self.lock();
        let present = state.present(&self.table).map_err(failed)?;
        let mut transaction = Transaction::new(&self.table);
        present
            .into_iter()
            .for_each(|family| transaction.delete_table(family));
        let result = transaction.commit(&mut state.socket);
        netlink::tolerate(result, Errno::NOENT).map_err(failed)?;
        Reentry::remove(&self.table).map_err(failed)
    }

    /// Lists other owners' chains that can stop what we forward or what is for this host.
    pub fn obstacles(&self) -> Result<Vec<Obstacle>, FirewallError> {
        obstacle::find(&mut self.lock().socket, &self.table).map_err(|source| FirewallError::Read {
            table: self.table.clone(),
            source,
        })
    }

    /// Tells for everybody who might come whether they reach a published port, and by which rule:
    /// this host, its loopback address, other hosts, containers of each network (`network` names it
    /// by its bridge), and other hosts by the container's own address.
    pub fn audit(
        &self,
        port: &PortMapping,
        obstacles: &[Obstacle],
        network: &dyn Fn(&str) -> String,
    ) -> Vec<Origin> {
        let state = self.lock();
        let audit = audit::Audit {
            table: &self.table,
            policy: self.policy,
            memory: &state.memory,
            obstacles,
            network,
        };
        audit.of(port)
    }

    fn set_up(&self, source: NetlinkError) -> FirewallError {
        FirewallError::SetUp {
            table: self.table.clone(),
            source,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn shape(&self) -> Shape<'_> {
        Shape {
            bridge: self.bridge,
            reentry: self.reentry.as_ref(),
        }
    }

    /// Makes the tables anew at one instant, with all that is in memory. A kernel that has no rules
    /// for bridges does without them.
    fn make(&mut self, table: &str) -> Result<(), NetlinkError> {
        match self.replace(table) {
            Err(refused) if self.bridge && refused.errno().is_some() => {
                self.bridge = false;
                self.replace(table)?;
                tracing::warn!(
                    error = &refused as &dyn std::error::Error,
                    "this kernel has no nftables for bridges: containers can take each other's addresses"
                );
            }
            other => other?,
        }
        self.reference = self.objects(table)?;
        Ok(())
    }

    fn replace(&mut self, table: &str) -> Result<(), NetlinkError> {
        let families = self.shape().families();
        let mut stale = self.present(table)?;
        stale.retain(|family| self.bridge || *family != Family::Bridge);
        stale.extend(families.iter().copied());
        stale.sort();
        stale.dedup();
        let mut transaction = Transaction::new(table);
        for family in stale {
            // deleting what is not there fails, so make it first
            transaction.add_table(family);
            transaction.delete_table(family);
        }
        ruleset::write(&mut transaction, &self.shape());
        for which in Which::ALL {
            if families.contains(&which.family()) {
                transaction.add_elements(&which.set(), self.memory.of(which));
            }
        }
        transaction.commit(&mut self.socket)
    }

    /// Lists the families in which there is a table of ours.
    fn present(&mut self, table: &str) -> Result<Vec<Family>, NetlinkError> {
        nft::tables(&mut self.socket, table)
    }

    fn change(&mut self, table: &str, change: Change) -> Result<(), NetlinkError> {
        if change.is_empty() {
            return Ok(());
        }
        let mut transaction = Transaction::new(table);
        change.write(&self.shape().families(), &mut transaction);
        let result = transaction.commit(&mut self.socket);
        let disturbed = |error: &NetlinkError| {
            [Errno::NOENT, Errno::EXIST, Errno::BUSY]
                .iter()
                .any(|errno| error.is(*errno))
        };
        match result {
            Ok(()) => {
                self.memory.apply(&change);
                Ok(())
            }
            // somebody else had changed the tables: all of it anew
            Err(error) if disturbed(&error) => {
                self.memory.apply(&change);
                self.make(table)
                    .inspect_err(|_| self.memory.apply(&change.inverse()))
            }
            Err(error) => Err(error),
        }
    }

    fn objects(&mut self, table: &str) -> Result<Vec<Object>, NetlinkError> {
        let mut found = Vec::new();
        for family in self.shape().families() {
            found.extend(nft::objects(&mut self.socket, Some((family, table)))?);
        }
        Ok(found)
    }

    fn is_intact(&mut self, table: &str) -> Result<bool, NetlinkError> {
        if self.objects(table)? != self.reference {
            return Ok(false);
        }
        let families = self.shape().families();
        for which in Which::ALL {
            if families.contains(&which.family()) && !self.holds(table, which)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn holds(&mut self, table: &str, which: Which) -> Result<bool, NetlinkError> {
        for _ in 0..READINGS {
            let mut held = nft::elements(&mut self.socket, table, &which.set())?;
            held.sort();
            if held.iter().eq(self.memory.of(which)) {
                return Ok(true);
            }
            std::thread::sleep(BETWEEN_READINGS);
        }
        Ok(false)
    }
}

impl Rules {
    /// Says in a few words what these are.
    fn summary(&self) -> String {
        let names = [
            first(&self.zones, "networks", |zone| zone.bridge.clone()),
            first(&self.members, "containers", |member| member.port.clone()),
            first(&self.published, "ports", PortMapping::to_string),
            first(&self.open, "open ports", |port| {
                format!("{}/{}", port.container, port.protocol)
            }),
        ];
        let parts: Vec<_> = names.into_iter().flatten().collect();
        parts.join(", ")
    }
}

fn first<T>(list: &[T], what: &str, name: impl Fn(&T) -> String) -> Option<String> {
    let first = list.first()?;
    Some(match list.len() {
        1 => name(first),
        count => format!("{count} {what} from {}", name(first)),
    })
}
