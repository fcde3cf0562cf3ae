//! From a request to a network: every check, and Docker's words for what is refused.
//!
//! Nothing is made here. What comes out is the record of a network whose addresses, options and
//! names fit the other networks and the host; making its links is the next step.

mod addresses;
mod endpoint;
mod shown;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use api::network::{ConfigReference, CreateRequest, Ipam as ApiIpam};
use jiff::Timestamp;
use network::{AddressPool, GatewayMode, IpamError, IpvlanMode, MacvlanMode, Subnet};
use serde::{Deserialize, Serialize};

use super::options::{self, Context, ENABLE_IPV4, ENABLE_IPV6, Settings};
use crate::error::{Error, Result};
use crate::names;

pub(crate) use endpoint::{Wishes, check_endpoint};
pub(crate) use shown::DefaultBridge;

/// The longest name in bytes; Docker has no bound.
const NAME: usize = 1024;

/// What makes a network's links.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Driver {
    Bridge,
    Host,
    Null,
    Macvlan,
    Ipvlan,
}

/// The addresses of one family of a network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct IpamRecord {
    pub(crate) subnet: Subnet,
    /// The part that addresses are chosen from.
    pub(crate) range: Option<Subnet>,
    /// The address that is kept for the gateway, whether or not the host takes it.
    pub(crate) gateway: Option<IpAddr>,
    /// Addresses that no container gets, by name.
    pub(crate) aux: BTreeMap<String, IpAddr>,
}

/// A network, as it is remembered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct NetworkRecord {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) created: Timestamp,
    /// `local`, or what the request said; shown only.
    pub(crate) scope: String,
    pub(crate) driver: Driver,
    pub(crate) v4: Option<IpamRecord>,
    pub(crate) v6: Option<IpamRecord>,
    /// What clients are shown; of a configuration neither family has addresses.
    pub(crate) enable_ipv4: bool,
    pub(crate) enable_ipv6: bool,
    pub(crate) internal: bool,
    pub(crate) attachable: bool,
    pub(crate) ingress: bool,
    /// Whether it is only a configuration for other networks.
    pub(crate) config_only: bool,
    /// The configuration's name; empty for none.
    pub(crate) config_from: String,
    /// Address management as requested.
    pub(crate) ipam: ApiIpam,
    pub(crate) options: BTreeMap<String, String>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) settings: Settings,
    /// Whether the parent link was made for this network and goes with it.
    #[serde(default)]
    pub(crate) parent_is_ours: bool,
}

/// What a new network must not touch, and where its addresses come from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken<'a> {
    pub(crate) networks: &'a [NetworkRecord],
    /// The host's own networks and what leads to them, as [`network::used_by_host`] tells.
    pub(crate) host: &'a [(Subnet, String)],
    pub(crate) pools: &'a [AddressPool],
    /// Where IPv6 networks come from when no pool is one of IPv6.
    pub(crate) ula: AddressPool,
}

/// Plans the network that a request asks for.
pub(crate) fn plan(request: &CreateRequest, taken: &Taken<'_>) -> Result<NetworkRecord> {
    check_predefined(&request.name)?;
    if request.driver == "overlay" {
        return Err(Error::forbidden(
            "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.",
        ));
    }
    let mut record = draft(request)?;
    addresses::check(request.ipam.as_ref(), record.enable_ipv6)?;
    if request.scope == "swarm" {
        return Err(Error::forbidden(
            "cannot create a swarm scoped network when swarm is not active",
        ));
    }
    check_name(&record.name, taken.networks)?;
    check_configuration(request)?;
    if record.config_only {
        record.driver = Driver::Null;
        return Ok(record);
    }
    record.driver = driver(&request.driver)?;
    if record.ingress {
        return Err(Error::forbidden(
            "Ingress network can only be global scope network",
        ));
    }
    if !record.config_from.is_empty() {
        apply_configuration(&mut record, taken.networks)?;
    }
    if matches!(record.driver, Driver::Host | Driver::Null) {
        return Err(Error::forbidden(format!(
            "only one instance of {:?} network is allowed",
            record.driver.to_string()
        )));
    }
    if !record.enable_ipv4 && !record.enable_ipv6 {
        return Err(Error::invalid("IPv4 or IPv6 must be enabled"));
    }
    let context = Context {
        id: &record.id,
        driver: record.driver,
        internal: record.internal,
        ipv6: record.enable_ipv6,
    };
    record.settings = options::parse(&record.options, context)?;
    addresses::assign(&mut record, taken)?;
    check_links(&record, taken.networks)?;
    Ok(record)
}

/// Fills in what the request says without looking at anything else.
fn draft(request: &CreateRequest) -> Result<NetworkRecord> {
    let mut options = request.options.clone().unwrap_or_default();
    let mut family = |key, wanted: Option<bool>, default| {
        let from_options = options::family_switch(&options, key)?;
        if wanted.is_some() {
            options.remove(key);
        }
        Ok::<_, Error>(wanted.or(from_options).unwrap_or(default))
    };
    let enable_ipv4 = family(ENABLE_IPV4, request.enable_ipv4, true)?;
    let enable_ipv6 = family(ENABLE_IPV6, request.enable_ipv6, false)?;
    let mut ipam = request.ipam.clone().unwrap_or_default();
    if ipam.driver.is_empty() {
        "default".clone_into(&mut ipam.driver);
    }
    Ok(NetworkRecord {
        id: draw_id()?,
        name: request.name.clone(),
        created: Timestamp::now(),
        scope: Some(request.scope.as_str())
            .filter(|scope| !scope.is_empty())
            .unwrap_or("local")
            .to_owned(),
        driver: Driver::Null,
        v4: None,
        v6: None,
        enable_ipv4,
        enable_ipv6,
        internal: request.internal,
        attachable: request.attachable,
        ingress: request.ingress,
        config_only: request.config_only,
        config_from: configuration(request).to_owned(),
        ipam,
        options,
        labels: request.labels.clone().unwrap_or_default(),
        settings: Settings::default(),
        parent_is_ours: false,
    })
}

pub(crate) fn draw_id() -> Result<String> {
    let bytes = names::random::<32>()?;
    Ok(oci::Digest::from_sha256(&bytes).hex().to_owned())
}

/// Whether a network has this name from the start.
pub(crate) fn is_predefined(name: &str) -> bool {
    matches!(name, "bridge" | "host" | "none" | "default")
}

fn check_predefined(name: &str) -> Result<()> {
    if is_predefined(name) {
        // the space at the end is Docker's
        return Err(Error::forbidden(format!(
            "operation is not permitted on predefined {name} network "
        )));
    }
    Ok(())
}

fn check_name(name: &str, networks: &[NetworkRecord]) -> Result<()> {
    if name.is_empty() {
        return Err(Error::invalid("invalid name: name is empty"));
    }
    if name.len() > NAME || name.contains(char::is_control) {
        return Err(Error::invalid(format!(
            "invalid name: must be at most {NAME} bytes without control characters"
        )));
    }
    if networks.iter().any(|network| network.name == name) {
        return Err(Error::conflict(format!(
            "network with name {name} already exists"
        )));
    }
    Ok(())
}

fn driver(name: &str) -> Result<Driver> {
    match name {
        "" | "bridge" => Ok(Driver::Bridge),
        "host" => Ok(Driver::Host),
        "null" => Ok(Driver::Null),
        "macvlan" => Ok(Driver::Macvlan),
        "ipvlan" => Ok(Driver::Ipvlan),
        _ => Err(Error::not_found(format!("plugin {name:?} not found"))),
    }
}

fn configuration(request: &CreateRequest) -> &str {
    let reference: Option<&ConfigReference> = request.config_from.as_ref();
    reference.map_or("", |reference| reference.network.as_str())
}

/// Checks what a configuration may say, and what a network may say beside one.
fn check_configuration(request: &CreateRequest) -> Result<()> {
    let operator =
        request.ingress || request.internal || request.attachable || !request.scope.is_empty();
    if request.config_only && operator {
        return Err(Error::forbidden(
            "configuration network can only contain network specific fields. Network operator fields like [ ingress | internal | attachable | scope ] are not supported.",
        ));
    }
    if configuration(request).is_empty() {
        return Ok(());
    }
    if request.config_only {
        return Err(Error::forbidden(
            "a configuration network cannot depend on another configuration network",
        ));
    }
    let ipam = request.ipam.as_ref().is_some_and(|ipam| {
        !matches!(ipam.driver.as_str(), "" | "default")
            || ipam.options.as_ref().is_some_and(|o| !o.is_empty())
            || ipam.config.as_ref().is_some_and(|c| !c.is_empty())
    });
    let labels = request.labels.as_ref().is_some_and(|l| !l.is_empty());
    let families = request.enable_ipv6 == Some(true) || request.enable_ipv4 == Some(false);
    if ipam || labels || families {
        return Err(Error::forbidden(
            "user specified configurations are not supported if the network depends on a configuration network",
        ));
    }
    if request.options.as_ref().is_some_and(|o| !o.is_empty()) {
        return Err(Error::forbidden(
            "network driver options are not supported if the network depends on a configuration network",
        ));
    }
    Ok(())
}

fn apply_configuration(record: &mut NetworkRecord, networks: &[NetworkRecord]) -> Result<()> {
    let name = &record.config_from;
    let from = networks
        .iter()
        .find(|network| network.config_only && network.name == *name)
        .ok_or_else(|| {
            Error::not_found(format!("configuration network {name:?} does not exist"))
        })?;
    record.enable_ipv4 = from.enable_ipv4;
    record.enable_ipv6 = from.enable_ipv6;
    record.ipam.clone_from(&from.ipam);
    record.options.clone_from(&from.options);
    record.labels.clone_from(&from.labels);
    Ok(())
}

/// Checks that no other network has the bridge, or the parent link in a way that is not shared.
fn check_links(record: &NetworkRecord, networks: &[NetworkRecord]) -> Result<()> {
    let mine = &record.settings;
    for other in networks.iter().filter(|other| !other.config_only) {
        let theirs = &other.settings;
        let parent = match (&mine.parent, &theirs.parent) {
            (Some(mine), Some(theirs)) if mine == theirs => mine,
            _ => "",
        };
        let passthru = |settings: &Settings| settings.macvlan_mode == MacvlanMode::Passthru;
        match (record.driver, other.driver) {
            (Driver::Bridge, Driver::Bridge) if mine.bridge == theirs.bridge => {
                return Err(Error::forbidden(format!(
                    "cannot create network {} ({}): conflicts with network {} ({}): networks have same bridge name",
                    record.id, mine.bridge, other.id, theirs.bridge
                )));
            }
            (Driver::Macvlan, Driver::Macvlan) if !parent.is_empty() && passthru(mine) => {
                return Err(Error::internal(format!(
                    "cannot use mode passthru, macvlan network {} is already using parent interface {parent}",
                    other.id
                )));
            }
            (Driver::Macvlan, Driver::Macvlan) if !parent.is_empty() && passthru(theirs) => {
                return Err(Error::internal(format!(
                    "macvlan network {} is already using parent interface {parent} in mode passthru",
                    other.id
                )));
            }
            (Driver::Ipvlan, Driver::Ipvlan) if !parent.is_empty() => {
                return Err(Error::internal(format!(
                    "network {} is already using parent interface {parent}",
                    other.name
                )));
            }
            _ => (),
        }
    }
    Ok(())
}

impl Driver {
    const fn name(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Host => "host",
            Self::Null => "null",
            Self::Macvlan => "macvlan",
            Self::Ipvlan => "ipvlan",
        }
    }
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl NetworkRecord {
    /// The address that the host has in the network, if it has one.
    pub(crate) fn host_address(&self, ipam: &IpamRecord) -> Option<IpAddr> {
        let inhibited = ipam.subnet.address().is_ipv4() && self.settings.inhibit_v4;
        let present = self.driver == Driver::Bridge && !inhibited;
        ipam.gateway
            .filter(|_| present && self.mode(ipam) != GatewayMode::Isolated)
    }

    /// Where containers send what is not for the network; nothing for a network without a way out.
    pub(crate) fn default_gateway(&self, ipam: &IpamRecord) -> Option<IpAddr> {
        ipam.gateway
            .filter(|_| !self.internal && !self.routes_by_device())
    }

    /// Whether containers reach everything by their link, without a neighbour to send it to.
    pub(crate) fn routes_by_device(&self) -> bool {
        self.driver == Driver::Ipvlan && self.settings.ipvlan_mode != IpvlanMode::L2
    }

    fn mode(&self, ipam: &IpamRecord) -> GatewayMode {
        if ipam.subnet.address().is_ipv4() {
            self.settings.mode4
        } else {
            self.settings.mode6
        }
    }

    /// Whether a gateway is chosen where none is given.
    fn wants_gateway(&self, ipam: &IpamRecord) -> bool {
        match self.driver {
            Driver::Bridge => self.mode(ipam) != GatewayMode::Isolated,
            Driver::Macvlan | Driver::Ipvlan => !self.internal && !self.routes_by_device(),
            Driver::Host | Driver::Null => false,
        }
    }
}

impl IpamRecord {
    /// Makes the pool of the family's addresses.
    pub(crate) fn pool(&self) -> Result<network::Ipam, IpamError> {
        network::Ipam::new(network::IpamConfig {
            subnet: self.subnet,
            range: self.range,
            gateway: self.gateway,
            reserved: self.aux.values().copied().collect(),
        })
    }
}

/// The error of an address that cannot be had, in Docker's words and kind.
pub(crate) fn address_refused(record: &NetworkRecord, error: &IpamError) -> Error {
    match error {
        IpamError::Exhausted { subnet } => Error::internal(format!(
            "no available {} addresses on this network's address pools: {} ({})",
            addresses::family_name(subnet.address()),
            record.name,
            record.id
        )),
        IpamError::InUse { address, .. } | IpamError::Outside { address, .. } => {
            Error::forbidden(format!(
                "Address already in use: {address} in network {}",
                record.name
            ))
        }
        _ => Error::internal(error.to_string()),
    }
}
