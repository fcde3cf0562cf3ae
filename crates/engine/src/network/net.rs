//! A network that exists: its record, its addresses, its names, its bridge.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use network::{
    Bridge, BridgeConfig, GatewayMode, HostSide, Ipam, NetworkNames, Rules, Zone, ZoneSide,
};

use super::plan::{Driver, IpamRecord, NetworkRecord, address_refused};
use crate::container::lock;
use crate::error::{Error, Result, Step};

/// A network, as long as anybody knows it.
#[derive(Debug)]
pub(crate) struct Net {
    pub(crate) record: NetworkRecord,
    /// What its members are called, for the resolver.
    pub(crate) names: Arc<NetworkNames>,
    /// The largest packet in bytes.
    pub(crate) mtu: u32,
    /// The mark on the links that are made for it.
    owner: String,
    v4: Option<Ipam>,
    v6: Option<Ipam>,
    bridge: Mutex<Option<Bridge>>,
    parent_is_ours: AtomicBool,
    users: Mutex<Users>,
}

#[derive(Debug, Default)]
struct Users {
    /// Nobody may join any more.
    removed: bool,
    count: usize,
}

/// A member's hold on a network: it is not removed as long as there is one.
#[derive(Debug)]
pub(crate) struct Hold(Arc<Net>);

/// An address that goes back to its network when it is dropped.
#[derive(Debug)]
pub(crate) struct Address {
    net: Arc<Net>,
    pub(crate) ip: IpAddr,
}

impl Net {
    /// Makes a network of its record; `mtu` is for networks that name none, `owner` is written on
    /// the links that are made.
    pub(crate) fn new(record: NetworkRecord, mtu: u32, owner: &str) -> Result<Self> {
        let ipam = |side: &Option<IpamRecord>| {
            let pool = side.as_ref().map(IpamRecord::pool).transpose();
            pool.map_err(|e| Error::invalid(e.to_string()))
        };
        Ok(Self {
            mtu: record.settings.mtu.unwrap_or(mtu),
            owner: owner.to_owned(),
            parent_is_ours: record.parent_is_ours.into(),
            v4: ipam(&record.v4)?,
            v6: ipam(&record.v6)?,
            record,
            names: Arc::default(),
            bridge: Mutex::default(),
            users: Mutex::default(),
        })
    }

    pub(crate) fn id(&self) -> &str {
        &self.record.id
    }

    pub(crate) fn name(&self) -> &str {
        &self.record.name
    }

    /// Whether it is one of the three that are always there.
    pub(crate) fn is_predefined(&self) -> bool {
        matches!(self.record.name.as_str(), "bridge" | "host" | "none")
    }

    /// Whether its members are found by name.
    pub(crate) fn has_names(&self) -> bool {
        !self.is_predefined()
    }

    /// The link of the host that macvlan and ipvlan links share.
    pub(crate) fn parent(&self) -> Option<String> {
        let given = self.record.settings.parent.clone();
        matches!(self.record.driver, Driver::Macvlan | Driver::Ipvlan)
            .then(|| given.unwrap_or_else(|| network::macvlan::private_parent(self.id())))
    }

    /// Makes the parent that a network's links need, where it is missing.
    pub(crate) fn ensure_parent(&self) -> Result<()> {
        let Some(parent) = self.parent() else {
            return Ok(());
        };
        let made = network::macvlan::ensure_parent(&parent, Some(&self.owner))
            .step(|| format!("set up the parent {parent} of network {}", self.name()))?;
        self.parent_is_ours.fetch_or(made, Ordering::Relaxed);
        Ok(())
    }

    /// The parent, where it was made for this network and goes with it.
    pub(crate) fn own_parent(&self) -> Option<String> {
        let ours = self.parent_is_ours.load(Ordering::Relaxed);
        self.parent().filter(|_| ours)
    }

    /// The record as the database keeps it.
    pub(crate) fn stored(&self) -> NetworkRecord {
        NetworkRecord {
            parent_is_ours: self.parent_is_ours.load(Ordering::Relaxed),
            ..self.record.clone()
        }
    }

    /// Makes the bridge, or repairs it; other drivers have none.
    pub(crate) fn ensure_bridge(&self) -> Result<Option<Bridge>> {
        if self.record.driver != Driver::Bridge {
            return Ok(None);
        }
        let config = self.bridge_config();
        let step = || format!("set up bridge {} of network {}", config.name, self.name());
        let bridge = Bridge::ensure(config.clone()).step(step)?;
        *lock(&self.bridge) = Some(bridge.clone());
        Ok(Some(bridge))
    }

    fn bridge_config(&self) -> BridgeConfig {
        let record = &self.record;
        let side = |side: &IpamRecord| HostSide {
            subnet: side.subnet,
            gateway: record.host_address(side),
        };
        BridgeConfig {
            name: record.settings.bridge.clone(),
            sides: record.v4.iter().chain(&record.v6).map(side).collect(),
            mtu: self.mtu,
            owner: Some(self.owner.clone()),
        }
    }

    /// The links of the host that are there for it.
    pub(crate) fn own_links(&self) -> impl Iterator<Item = String> {
        let bridge = &self.record.settings.bridge;
        let bridge = (self.record.driver == Driver::Bridge).then(|| bridge.clone());
        bridge.into_iter().chain(self.parent())
    }

    /// The bridge that was made last.
    pub(crate) fn bridge(&self) -> Option<Bridge> {
        lock(&self.bridge).clone()
    }

    /// What the firewall is to know of it.
    pub(crate) fn zone(&self) -> Option<Zone> {
        let record = &self.record;
        (record.driver == Driver::Bridge).then(|| Zone {
            bridge: record.settings.bridge.clone(),
            v4: record.v4.as_ref().map(|side| zone_side(record, side)),
            v6: record.v6.as_ref().map(|side| zone_side(record, side)),
            internal: record.internal,
            icc: record.settings.icc,
        })
    }

    /// The same as rules to add or to take away.
    pub(crate) fn zone_rules(&self) -> Rules {
        Rules {
            zones: self.zone().into_iter().collect(),
            ..Rules::default()
        }
    }

    /// Joins the network, unless it is being removed.
    pub(crate) fn hold(self: &Arc<Self>) -> Result<Hold> {
        let mut users = lock(&self.users);
        if users.removed {
            return Err(Error::not_found(format!(
                "network {} not found",
                self.name()
            )));
        }
        users.count += 1;
        Ok(Hold(Arc::clone(self)))
    }

    /// Closes the network for new members; fails while it has some.
    pub(crate) fn close(&self) -> bool {
        let mut users = lock(&self.users);
        users.removed |= users.count == 0;
        users.removed
    }

    /// Opens it again, when its removal failed.
    pub(crate) fn reopen(&self) {
        lock(&self.users).removed = false;
    }

    pub(crate) fn is_used(&self) -> bool {
        lock(&self.users).count > 0
    }

    /// The addresses of a family.
    pub(crate) fn ipam(&self, v6: bool) -> Option<&Ipam> {
        if v6 {
            self.v6.as_ref()
        } else {
            self.v4.as_ref()
        }
    }

    /// Takes an address of a family, the wanted one or any; none where the network lacks the family.
    pub(crate) fn take(
        self: &Arc<Self>,
        v6: bool,
        wanted: Option<IpAddr>,
    ) -> Result<Option<Address>> {
        let Some(ipam) = self.ipam(v6) else {
            return Ok(None);
        };
        let ip = match wanted {
            Some(ip) => ipam.allocate_specific(ip).map(|()| ip),
            None => ipam.allocate(),
        }
        .map_err(|e| address_refused(&self.record, &e))?;
        Ok(Some(Address {
            net: Arc::clone(self),
            ip,
        }))
    }

    /// Takes over an address that a living container has; two that have the same are told.
    pub(crate) fn take_over(self: &Arc<Self>, ip: IpAddr) -> Option<Address> {
        let taken = self.ipam(ip.is_ipv6())?.allocate_specific(ip);
        if let Err(error) = taken {
            tracing::warn!(network = self.name(), %ip, %error, "a living container's address is not its own");
            return None;
        }
        Some(Address {
            net: Arc::clone(self),
            ip,
        })
    }

    /// The default route's next hop that it offers in a family.
    pub(crate) fn gateway(&self, v6: bool) -> Option<IpAddr> {
        let side = if v6 { &self.record.v6 } else { &self.record.v4 };
        let side = side
            .as_ref()
            .filter(|_| self.mode(v6) != GatewayMode::Isolated)?;
        self.record.default_gateway(side)
    }

    /// The prefix length of a family's subnet.
    pub(crate) fn prefix(&self, v6: bool) -> u8 {
        self.ipam(v6).map_or(0, |ipam| ipam.subnet().prefix())
    }

    /// How published ports of a family get in.
    pub(crate) fn mode(&self, v6: bool) -> GatewayMode {
        if v6 {
            self.record.settings.mode6
        } else {
            self.record.settings.mode4
        }
    }
}

impl Hold {
    pub(crate) fn net(&self) -> &Arc<Net> {
        &self.0
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        lock(&self.0.users).count -= 1;
    }
}

impl Drop for Address {
    fn drop(&mut self) {
        if let Some(ipam) = self.net.ipam(self.ip.is_ipv6()) {
            ipam.release(self.ip);
        }
    }
}

fn zone_side(record: &NetworkRecord, side: &IpamRecord) -> ZoneSide {
    let settings = &record.settings;
    let (mode, source) = if side.subnet.address().is_ipv4() {
        (settings.mode4, settings.snat4)
    } else {
        (settings.mode6, settings.snat6)
    };
    let rewrites = matches!(mode, GatewayMode::Nat | GatewayMode::NatUnprotected);
    ZoneSide {
        subnet: side.subnet,
        mode,
        masquerade: settings.masquerade && rewrites && !record.internal,
        source,
    }
}
