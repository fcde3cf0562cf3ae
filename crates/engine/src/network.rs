//! The engine's networks: the default bridge, and the modes `none`, `host` and `container:`.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};

use api::Filters;
use api::audit::Audit;
use api::check::Report;
use api::container::Port;
use api::host_config::{HostConfig, PortBinding, PortMap};
use api::network::{
    ConnectRequest, CreateRequest, CreateResponse, DisconnectRequest, EndpointResource,
    EndpointSettings, Ipam as ApiIpam, IpamConfig, Network, PruneReport,
};
use jiff::Timestamp;
use network::{
    Bridge, BridgeConfig, Firewall, HostAddress, HostPort, Ipam, Pool, PoolSize, PortLease,
    PortMapping, PortRequest, Ports, Protocol, Sandbox, Subnet, Zone,
};
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::container::{Record, lock};
use crate::db::{Db, Table};
use crate::engine::Engine;
use crate::error::{Error, Kind, Result, Step};
use crate::names;

mod options;
mod plan;

/// Our table; other owners' rules are never touched.
const TABLE: &str = "gorae";
const MTU: u32 = 1500;

/// What of a container's network must be found again by the next engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Attached {
    pub(crate) id: String,
    pub(crate) address: IpAddr,
    pub(crate) mac: String,
    pub(crate) ports: Vec<PortMapping>,
}

/// A running container's place in the network; what it holds is let go with it.
#[derive(Debug)]
pub(crate) struct Endpoint {
    /// The namespace, until the container's init holds it.
    netns: Netns,
    pub(crate) attached: Option<Attached>,
    gateway: IpAddr,
    prefix: u8,
    /// The reserved ports.
    leases: Vec<PortLease>,
    /// The veth pair's end on the host, for its counters.
    interface: Option<u32>,
}

#[derive(Debug)]
enum Netns {
    Sandbox(Sandbox),
    Joined(OwnedFd),
    /// Of a container that an earlier engine started.
    Adopted,
}

impl Endpoint {
    /// The namespace to enter.
    pub(crate) fn netns(&self) -> Option<BorrowedFd<'_>> {
        match &self.netns {
            Netns::Sandbox(sandbox) => Some(sandbox.netns()),
            Netns::Joined(fd) => Some(fd.as_fd()),
            Netns::Adopted => None,
        }
    }

    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.attached.as_ref().map(|a| a.address)
    }

    fn mappings(&self) -> impl Iterator<Item = &PortMapping> {
        self.attached.iter().flat_map(|a| &a.ports)
    }

    /// Lets go of the namespace, which the container's init holds now.
    pub(crate) fn settle(&mut self) {
        self.netns = Netns::Adopted;
    }

    /// The published ports as lists show them.
    pub(crate) fn ports(&self) -> Vec<Port> {
        let mut ports: Vec<Port> = self
            .mappings()
            .map(|m| Port {
                ip: m.host_ip.to_string(),
                private_port: m.container.port(),
                public_port: m.host_port,
                kind: m.protocol.to_string(),
            })
            .collect();
        ports.sort_by(|a, b| {
            (a.private_port, &a.kind, &a.ip).cmp(&(b.private_port, &b.kind, &b.ip))
        });
        ports
    }

    /// The published ports as `inspect` shows them.
    pub(crate) fn port_map(&self) -> PortMap {
        let mut map = PortMap::new();
        for mapping in self.mappings() {
            let inside = format!("{}/{}", mapping.container.port(), mapping.protocol);
            map.entry(inside)
                .or_default()
                .get_or_insert_default()
                .push(PortBinding {
                    host_ip: mapping.host_ip.to_string(),
                    host_port: mapping.host_port.to_string(),
                });
        }
        map
    }

    /// The index of the veth pair's end on the host.
    pub(crate) fn interface(&self) -> Option<u32> {
        self.interface
    }
}

/// The networks of an engine.
#[derive(Debug)]
pub(crate) struct Networks {
    bridge_id: String,
    none_id: String,
    host_id: String,
    created: Timestamp,
    name: String,
    publish_address: IpAddr,
    ipam: Ipam,
    firewall: Firewall,
    ports: Ports,
    pool: Mutex<Option<Pool>>,
    /// Every published port, for the rules to be made anew.
    published: Mutex<Vec<PortMapping>>,
}

/// What was chosen once and stays.
#[derive(Debug, Serialize, Deserialize)]
struct Chosen {
    subnet: Subnet,
    gateway: IpAddr,
    bridge_id: String,
    none_id: String,
    host_id: String,
    created: Timestamp,
}

impl Networks {
    /// Makes the default bridge and the rules, with the ports of the containers that live on.
    pub(crate) async fn open(
        config: &Config,
        db: &Db,
        published: Vec<PortMapping>,
    ) -> Result<Self> {
        let chosen = choose(config, db).await?;
        let bridge = Bridge::ensure(BridgeConfig {
            name: config.bridge.clone(),
            subnet: chosen.subnet,
            gateway: chosen.gateway,
            mtu: MTU,
        })
        .step(|| format!("set up bridge {}", config.bridge))?;
        let zone = Zone {
            bridge: config.bridge.clone(),
            subnet: chosen.subnet,
        };
        let firewall =
            Firewall::ensure(TABLE, vec![zone], &published).step(|| "set up the nftables rules")?;
        let pool = Pool::new(
            &bridge,
            PoolSize {
                attached: config.warm,
                isolated: config.warm,
            },
        )
        .step(|| "prepare network namespaces")?;
        Ok(Self {
            bridge_id: chosen.bridge_id,
            none_id: chosen.none_id,
            host_id: chosen.host_id,
            created: chosen.created,
            name: config.bridge.clone(),
            publish_address: config.publish_address,
            ipam: Ipam::new(chosen.subnet, chosen.gateway),
            firewall,
            ports: Ports::new(),
            pool: Mutex::new(Some(pool)),
            published: Mutex::new(published),
        })
    }

    /// Lets go of the ready namespaces.
    pub(crate) fn close(&self) {
        drop(lock(&self.pool).take());
    }

    pub(crate) fn gateway(&self) -> Option<IpAddr> {
        Some(self.ipam.gateway())
    }

    /// Attaches a container to the network its mode names; none for the host's own.
    pub(crate) fn attach(&self, engine: &Engine, record: &Record) -> Result<Option<Endpoint>> {
        let mode = record.host.network_mode.as_str();
        let bare = |netns| Endpoint {
            netns,
            attached: None,
            gateway: self.ipam.gateway(),
            prefix: self.ipam.subnet().prefix(),
            leases: Vec::new(),
            interface: None,
        };
        if mode == "host" {
            return Ok(None);
        }
        if mode == "none" || record.config.network_disabled {
            let sandbox = self.sandbox(Pool::take_isolated)?;
            return Ok(Some(bare(Netns::Sandbox(sandbox))));
        }
        if let Some(name) = mode.strip_prefix("container:") {
            let joining = |e: Error| e.context("joining network namespace of container");
            let pid = engine.running_pid(name).map_err(joining)?;
            let path = format!("/proc/{pid}/ns/net");
            let file = std::fs::File::open(&path)
                .step(|| format!("join the network of container {name} at {path}"))?;
            return Ok(Some(bare(Netns::Joined(file.into()))));
        }
        let missing = |e: Error| e.context("failed to set up container networking");
        self.name_of(mode).map_err(missing)?;
        self.attach_bridge(record).map(Some)
    }

    fn sandbox(
        &self,
        take: impl Fn(&Pool) -> Result<Sandbox, network::SandboxError>,
    ) -> Result<Sandbox> {
        let pool = lock(&self.pool);
        let pool = pool
            .as_ref()
            .ok_or_else(|| Error::new(Kind::Unavailable, "the engine is shutting down"))?;
        take(pool).step(|| "take a network namespace")
    }

    fn attach_bridge(&self, record: &Record) -> Result<Endpoint> {
        let address = Address::take(&self.ipam, wanted_address(record)?)?;
        let mac = match wanted_mac(record) {
            Some(text) => text
                .parse()
                .map_err(|_| Error::invalid(format!("{text:?} is not a valid mac address")))?,
            None => network::mac_for(address.ip),
        };
        let requests = port_requests(record, address.ip, self.publish_address)?;
        let mut leases = Vec::with_capacity(requests.len());
        for request in &requests {
            leases.push(
                self.ports
                    .reserve(request)
                    .map_err(|e| driver_failed(record, &e))?,
            );
        }
        let mut sandbox = self.sandbox(Pool::take)?;
        let link = network::Endpoint {
            ip: address.ip,
            prefix: self.ipam.subnet().prefix(),
            gateway: Some(self.ipam.gateway()),
            mac,
        };
        sandbox
            .connect(&link)
            .step(|| format!("give address {} to container {}", address.ip, record.id))?;
        let ports: Vec<PortMapping> = leases
            .iter()
            .flat_map(PortLease::mappings)
            .cloned()
            .collect();
        self.firewall.publish(&ports).step(|| "publish ports")?;
        lock(&self.published).extend(ports.iter().cloned());
        let bytes: [u8; 32] = names::random()?;
        Ok(Endpoint {
            interface: sandbox.host_interface().map(|i| i.index),
            netns: Netns::Sandbox(sandbox),
            attached: Some(Attached {
                id: oci::Digest::from_sha256(&bytes).hex().to_owned(),
                address: address.keep(),
                mac: mac.to_string(),
                ports,
            }),
            gateway: self.ipam.gateway(),
            prefix: self.ipam.subnet().prefix(),
            leases,
        })
    }

    /// Takes over the network of a container that lives on from an earlier engine.
    pub(crate) fn adopt(&self, attached: Attached, pid: i32) -> Endpoint {
        if let Err(error) = self.ipam.allocate_specific(attached.address) {
            tracing::warn!(%error, "two containers have the same address");
        }
        let leases = match self.ports.adopt(attached.ports.clone()) {
            Ok(lease) => vec![lease],
            Err(error) => {
                tracing::warn!(%error, "a published port is held twice");
                Vec::new()
            }
        };
        let namespace = std::fs::File::open(format!("/proc/{pid}/ns/net")).ok();
        let interface =
            namespace.and_then(|file| network::find_host_interface(file.as_fd()).ok().flatten());
        Endpoint {
            netns: Netns::Adopted,
            attached: Some(attached),
            gateway: self.ipam.gateway(),
            prefix: self.ipam.subnet().prefix(),
            leases,
            interface: interface.map(|i| i.index),
        }
    }

    /// Takes a container's ports and address away; its links go with its namespace.
    pub(crate) fn detach(&self, endpoint: Endpoint) {
        let Some(attached) = &endpoint.attached else {
            return;
        };
        if let Err(error) = self.firewall.unpublish(&attached.ports) {
            tracing::error!(
                error = crate::error::chain(&error),
                "ports of a container that has ended stay published"
            );
        }
        lock(&self.published).retain(|port| !attached.ports.contains(port));
        self.ipam.release(attached.address);
        drop(endpoint.leases);
    }

    fn settings(
        &self,
        endpoint: Option<&Endpoint>,
        wanted: Option<&EndpointSettings>,
    ) -> EndpointSettings {
        let mut settings = wanted.cloned().unwrap_or_default();
        settings.network_id.clone_from(&self.bridge_id);
        if let Some(endpoint) = endpoint
            && let Some(attached) = &endpoint.attached
        {
            settings.endpoint_id.clone_from(&attached.id);
            settings.gateway = endpoint.gateway.to_string();
            settings.ip_address = attached.address.to_string();
            settings.ip_prefix_len = endpoint.prefix.into();
            settings.mac_address.clone_from(&attached.mac);
        }
        settings
    }

    /// The networks of a container as clients see them.
    pub(crate) fn endpoints_of(
        &self,
        record: &Record,
        endpoint: Option<&Endpoint>,
    ) -> BTreeMap<String, Option<EndpointSettings>> {
        let mode = record.host.network_mode.as_str();
        let wanted = record.endpoints.get(mode).and_then(Option::as_ref);
        let settings = match mode {
            "bridge" => self.settings(endpoint, wanted),
            "none" | "host" => EndpointSettings {
                network_id: if mode == "host" {
                    self.host_id.clone()
                } else {
                    self.none_id.clone()
                },
                ..EndpointSettings::default()
            },
            _ => return BTreeMap::new(),
        };
        BTreeMap::from([(mode.to_owned(), Some(settings))])
    }

    /// Whether a container is on the network of this name or id.
    pub(crate) fn is_on(&self, record: &Record, network: &str) -> bool {
        let mode = record.host.network_mode.as_str();
        mode == network || self.id_of(mode).is_some_and(|id| id.starts_with(network))
    }

    fn id_of(&self, name: &str) -> Option<&str> {
        match name {
            "bridge" => Some(&self.bridge_id),
            "none" => Some(&self.none_id),
            "host" => Some(&self.host_id),
            _ => None,
        }
    }

    fn name_of(&self, text: &str) -> Result<&'static str> {
        let missing = || Error::not_found(format!("network {text} not found"));
        if text.is_empty() {
            return Err(missing());
        }
        let names = ["bridge", "host", "none"];
        let by_id = |name: &&&str| self.id_of(name).is_some_and(|id| id.starts_with(text));
        names
            .iter()
            .find(|n| **n == text)
            .or_else(|| names.iter().find(by_id))
            .copied()
            .ok_or_else(missing)
    }

    fn shown(&self, name: &str) -> Network {
        let ipam = match name {
            "bridge" => vec![IpamConfig {
                subnet: self.ipam.subnet().to_string(),
                gateway: self.ipam.gateway().to_string(),
                ..IpamConfig::default()
            }],
            _ => Vec::new(),
        };
        let options = [
            ("com.docker.network.bridge.default_bridge", "true"),
            ("com.docker.network.bridge.enable_icc", "true"),
            ("com.docker.network.bridge.enable_ip_masquerade", "true"),
            ("com.docker.network.bridge.host_binding_ipv4", "0.0.0.0"),
            ("com.docker.network.bridge.name", &self.name),
            ("com.docker.network.driver.mtu", "1500"),
        ];
        let options = options
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        Network {
            name: name.to_owned(),
            id: self.id_of(name).unwrap_or_default().to_owned(),
            created: self.created.to_string(),
            scope: "local".to_owned(),
            driver: if name == "none" {
                "null".to_owned()
            } else {
                name.to_owned()
            },
            enable_ipv4: true,
            ipam: ApiIpam {
                driver: "default".to_owned(),
                options: None,
                config: Some(ipam),
            },
            containers: Some(BTreeMap::new()),
            options: Some(if name == "bridge" {
                options
            } else {
                BTreeMap::new()
            }),
            labels: Some(BTreeMap::new()),
            ..Network::default()
        }
    }
}

impl Engine {
    /// Lists networks.
    ///
    /// # Errors
    /// When a filter is unknown or malformed.
    pub fn network_list(&self, filters: &Filters) -> Result<Vec<Network>> {
        filters.validate(&["dangling", "driver", "id", "label", "name", "scope", "type"])?;
        let mut networks: Vec<Network> = ["bridge", "host", "none"]
            .map(|name| self.networks.shown(name))
            .into();
        networks.retain(|n| {
            filters.exact("driver", &n.driver)
                && filters.prefix("id", &n.id)
                && filters.exact("scope", &n.scope)
                && (!filters.contains("name")
                    || filters.get("name").any(|name| n.name.contains(name)))
                && (!filters.contains("label"))
                && (!filters.contains("type") || filters.get("type").any(|t| t == "builtin"))
                && !filters.bool_or("dangling", false).unwrap_or(false)
        });
        Ok(networks)
    }

    /// Makes a network.
    ///
    /// # Errors
    /// When the request makes no sense, the name or a subnet is taken, or the kernel refuses.
    pub async fn network_create(
        self: &Arc<Self>,
        request: CreateRequest,
    ) -> Result<CreateResponse> {
        Err(later(&request.name))
    }

    /// Removes a network.
    ///
    /// # Errors
    /// When there is no such network, or containers use it.
    pub async fn network_remove(self: &Arc<Self>, name: &str) -> Result<()> {
        Err(later(name))
    }

    /// Connects a container to a network.
    ///
    /// # Errors
    /// When either does not exist, or the wishes cannot be met.
    pub async fn network_connect(
        self: &Arc<Self>,
        network: &str,
        request: ConnectRequest,
    ) -> Result<()> {
        Err(later(&format!("{network} {}", request.container)))
    }

    /// Disconnects a container from a network.
    ///
    /// # Errors
    /// When either does not exist, or they are not connected.
    pub async fn network_disconnect(
        self: &Arc<Self>,
        network: &str,
        request: DisconnectRequest,
    ) -> Result<()> {
        Err(later(&format!("{network} {}", request.container)))
    }

    /// Removes the networks that no container uses.
    ///
    /// # Errors
    /// When a filter is unknown or malformed.
    pub async fn network_prune(self: &Arc<Self>, filters: &Filters) -> Result<PruneReport> {
        Err(later(&format!("{filters:?}")))
    }

    /// Tells from where each published port is reached.
    ///
    /// # Errors
    /// When the kernel's rules cannot be read.
    pub async fn network_audit(self: &Arc<Self>) -> Result<Audit> {
        Err(later("audit"))
    }

    /// Compares what the engine remembers with what is there, and mends it on demand.
    ///
    /// # Errors
    /// When something cannot be read.
    pub async fn system_check(self: &Arc<Self>, repair: bool) -> Result<Report> {
        Err(later(&repair.to_string()))
    }

    /// Tells everything about a network.
    ///
    /// # Errors
    /// When there is no such network.
    pub fn network_inspect(&self, name: &str) -> Result<Network> {
        let name = self.networks.name_of(name)?;
        let mut network = self.networks.shown(name);
        let mut members = BTreeMap::new();
        for container in self.containers.all() {
            let record = container.record().clone();
            let live = lock(&container.live);
            if record.host.network_mode != name || !record.state.status.is_alive() {
                continue;
            }
            let attached = live
                .endpoint
                .as_ref()
                .and_then(|e| e.attached.as_ref().map(|a| (a, e.prefix)));
            members.insert(
                record.id.to_string(),
                EndpointResource {
                    name: record.name.clone(),
                    endpoint_id: attached.map(|(a, _)| a.id.clone()).unwrap_or_default(),
                    mac_address: attached.map(|(a, _)| a.mac.clone()).unwrap_or_default(),
                    ipv4_address: attached
                        .map(|(a, prefix)| format!("{}/{prefix}", a.address))
                        .unwrap_or_default(),
                    ipv6_address: String::new(),
                },
            );
        }
        network.containers = Some(members);
        Ok(network)
    }
}

fn later(what: &str) -> Error {
    Error::new(Kind::NotImplemented, format!("not yet: {what}"))
}

/// Refuses what no network can give; whether the network exists is seen at the start, as with Docker.
pub(crate) fn check_network_mode(host: &HostConfig) -> Result<()> {
    let ports = host
        .port_bindings
        .as_ref()
        .is_some_and(|ports| !ports.is_empty());
    if host.network_mode.starts_with("container:") && (ports || host.publish_all_ports) {
        return Err(Error::invalid(
            "conflicting options: port publishing and the container type network mode",
        ));
    }
    Ok(())
}

/// An address that goes back to its pool unless it is kept.
struct Address<'a> {
    ipam: &'a Ipam,
    ip: IpAddr,
    kept: bool,
}

impl<'a> Address<'a> {
    fn take(ipam: &'a Ipam, wanted: Option<IpAddr>) -> Result<Self> {
        let refused = |e: network::IpamError| Error::new(Kind::System, e.to_string());
        let ip = match wanted {
            Some(ip) => ipam.allocate_specific(ip).map(|()| ip).map_err(refused)?,
            None => ipam.allocate().map_err(refused)?,
        };
        Ok(Self {
            ipam,
            ip,
            kept: false,
        })
    }

    fn keep(mut self) -> IpAddr {
        self.kept = true;
        self.ip
    }
}

impl Drop for Address<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.ipam.release(self.ip);
        }
    }
}

/// Reads what was chosen at the first start, or chooses.
async fn choose(config: &Config, db: &Db) -> Result<Chosen> {
    const KEY: &str = "network.bridge";
    let stored = db.load_one::<Chosen>(Table::Meta, KEY)?;
    let wanted = match config.bip {
        Some((address, prefix)) => {
            let invalid = || Error::invalid(format!("invalid bridge address {address}/{prefix}"));
            Some((
                Subnet::containing(address.into(), prefix).ok_or_else(invalid)?,
                IpAddr::from(address),
            ))
        }
        None => None,
    };
    if let Some(stored) = stored
        && wanted.is_none_or(|wanted| wanted == (stored.subnet, stored.gateway))
    {
        return Ok(stored);
    }
    let (subnet, gateway) = match wanted {
        Some(wanted) => wanted,
        None => {
            let subnet =
                network::pick_subnet().step(|| "choose a subnet for the default bridge")?;
            (subnet, subnet.first_host())
        }
    };
    let id =
        || names::random::<32>().map(|bytes| oci::Digest::from_sha256(&bytes).hex().to_owned());
    let chosen = Chosen {
        subnet,
        gateway,
        bridge_id: id()?,
        none_id: id()?,
        host_id: id()?,
        created: Timestamp::now(),
    };
    db.put(Table::Meta, KEY, &chosen).await?;
    Ok(chosen)
}

fn wanted_address(record: &Record) -> Result<Option<IpAddr>> {
    let settings = record.endpoints.get("bridge").and_then(Option::as_ref);
    let text = settings
        .and_then(|s| s.ipam_config.as_ref())
        .map(|c| c.ipv4_address.as_str())
        .unwrap_or_default();
    if text.is_empty() {
        return Ok(None);
    }
    Err(Error::invalid(
        "invalid endpoint settings:\nuser specified IP address is supported on user defined networks only",
    ))
}

fn wanted_mac(record: &Record) -> Option<&str> {
    let settings = record.endpoints.get("bridge").and_then(Option::as_ref);
    let own = settings
        .map(|s| s.mac_address.as_str())
        .filter(|m| !m.is_empty());
    own.or(Some(record.config.mac_address.as_str()).filter(|m| !m.is_empty()))
}

/// The host ports to reserve: those of `-p`, and with `-P` one for each exposed port.
fn port_requests(record: &Record, container: IpAddr, default: IpAddr) -> Result<Vec<PortRequest>> {
    let host = &record.host;
    let mut requests = Vec::new();
    for (inside, bindings) in host.port_bindings.iter().flatten() {
        let (protocol, container) = inside_port(inside, container)?;
        let none = vec![PortBinding::default()];
        let bindings = bindings.as_ref().filter(|b| !b.is_empty()).unwrap_or(&none);
        for binding in bindings {
            requests.push(PortRequest {
                protocol,
                host: host_address(&binding.host_ip, default)?,
                port: host_port(&binding.host_port)?,
                container,
            });
        }
    }
    if host.publish_all_ports {
        for inside in record.config.exposed_ports.keys() {
            if !host
                .port_bindings
                .as_ref()
                .is_some_and(|ports| ports.contains_key(inside))
            {
                let (protocol, container) = inside_port(inside, container)?;
                requests.push(PortRequest {
                    protocol,
                    host: host_address("", default)?,
                    port: HostPort::Ephemeral,
                    container,
                });
            }
        }
    }
    Ok(requests)
}

fn inside_port(text: &str, container: IpAddr) -> Result<(Protocol, SocketAddr)> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let invalid = || Error::invalid(format!("invalid port specification: {text:?}"));
    let number: u16 = number.parse().ok().filter(|n| *n > 0).ok_or_else(invalid)?;
    let protocol = protocol
        .parse()
        .map_err(|e: network::ParseProtocolError| Error::invalid(e.to_string()))?;
    Ok((protocol, SocketAddr::new(container, number)))
}

fn host_address(text: &str, default: IpAddr) -> Result<HostAddress> {
    if text.is_empty() {
        // all of IPv4: a port that is shown for IPv6 must answer there
        return Ok(HostAddress::Ip(default));
    }
    let address = text
        .parse()
        .map_err(|_| Error::invalid(format!("invalid IP address: {text}")))?;
    Ok(HostAddress::Ip(address))
}

fn host_port(text: &str) -> Result<HostPort> {
    let invalid = || Error::invalid(format!("invalid host port: {text:?}"));
    if text.is_empty() {
        return Ok(HostPort::Ephemeral);
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last): (u16, u16) = (
        first.parse().map_err(|_| invalid())?,
        last.parse().map_err(|_| invalid())?,
    );
    match (first, last) {
        (0, 0) => Ok(HostPort::Ephemeral),
        (first, last) if first <= last => Ok(HostPort::Range { first, last }),
        _ => Err(invalid()),
    }
}

/// Docker's frame around a network that could not be set up.
fn driver_failed(record: &Record, error: &network::PortError) -> Error {
    Error::internal(format!(
        "failed to set up container networking: driver failed programming external connectivity on endpoint {} ({}): {error}",
        record.name, record.id
    ))
}
