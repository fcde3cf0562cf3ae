//! Attaching a container to its networks at its start, and letting go at its end.

use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use api::network::EndpointSettings;
use network::{
    Attachment, Bandwidth, Gateway, Gateways, Interface, MacAddress, Pool, Rules, Sandbox,
    SandboxError,
};

use super::connection::{Attached, Attachments, Connection, Endpoint, Netns};
use super::net::{Address, Net};
use super::plan::{Driver, Wishes, check_endpoint};
use super::{Networks, bandwidth, publish};
use crate::container::{Record, lock};
use crate::engine::Engine;
use crate::error::{Error, Kind, Result, Step};
use crate::names;

impl Networks {
    /// Attaches a container to the networks it asks for; none for the host's own.
    ///
    /// `netns` is a new namespace to use in place of one from the pool. Blocks: it talks to the kernel.
    pub(crate) fn attach(
        &self,
        engine: &Engine,
        record: &Record,
        netns: Option<OwnedFd>,
    ) -> Result<Option<Connection>> {
        let mode = record.host.network_mode.as_str();
        if mode == "host" {
            return Ok(None);
        }
        if mode == "none" || record.config.network_disabled {
            let sandbox = self.sandbox(|pool| isolated(pool, netns))?;
            return Ok(Some(Connection::bare(Netns::Sandbox(sandbox))));
        }
        if let Some(name) = mode.strip_prefix("container:") {
            let joining = |e: Error| match e.kind() {
                Kind::Conflict => Error::conflict(format!(
                    "cannot join network namespace of a non running container: {name}"
                )),
                _ => e.context("joining network namespace of container"),
            };
            let pid = engine.running_pid(name).map_err(joining)?;
            let path = format!("/proc/{pid}/ns/net");
            let file = std::fs::File::open(&path)
                .step(|| format!("join the network of container {name} at {path}"))?;
            return Ok(Some(Connection::bare(Netns::Joined(file.into()))));
        }
        let failed = |e: Error| e.context("failed to set up container networking");
        self.attach_all(record, netns).map(Some).map_err(failed)
    }

    fn attach_all(&self, record: &Record, netns: Option<OwnedFd>) -> Result<Connection> {
        let mut places = Vec::new();
        for (net, settings) in self.wanted(record)? {
            places.push(self.place(record, &net, settings)?);
        }
        let on_default = places
            .first()
            .is_some_and(|(e, _)| e.net().name() == "bridge");
        let sandbox = self.sandbox(|pool| match netns {
            Some(netns) if on_default => pool.make_in(netns),
            None if on_default => pool.take(),
            netns => isolated(pool, netns),
        })?;
        let mut connection = Connection::bare(Netns::Sandbox(sandbox));
        let result = self.fill(record, &mut connection, places, on_default);
        if let Err(error) = result {
            self.release(connection);
            return Err(error);
        }
        Ok(connection)
    }

    /// Makes the links, the routes, the ports, the rules and the names.
    fn fill(
        &self,
        record: &Record,
        connection: &mut Connection,
        places: Vec<(Endpoint, Wishes)>,
        on_default: bool,
    ) -> Result<()> {
        let alone = places.len() == 1;
        for (index, (mut endpoint, wishes)) in places.into_iter().enumerate() {
            endpoint.attached.interface = interface_name(&endpoint, &wishes, index);
            connection.endpoints.push(endpoint);
            let routes = if alone {
                gateways(connection)
            } else {
                Gateways::default()
            };
            let Connection {
                netns: Netns::Sandbox(sandbox),
                endpoints,
                ..
            } = connection
            else {
                return Err(Error::internal("a container's namespace is not its own"));
            };
            let pooled = on_default && index == 0;
            if let Some(endpoint) = endpoints.last_mut() {
                link(sandbox, endpoint, &wishes, pooled.then_some(&routes))?;
            }
        }
        if !(alone && on_default) {
            let routes = gateways(connection);
            if let Netns::Sandbox(sandbox) = &mut connection.netns {
                sandbox
                    .route(&routes)
                    .step(|| format!("set the default route of container {}", record.name))?;
            }
        }
        publish::reserve(self, record, connection)?;
        self.firewall
            .add(&connection.attachments().rules())
            .step(|| format!("let container {} into the firewall", record.name))?;
        publish::serve(self, connection);
        let limits = bandwidth::limits(&record.host)?;
        for endpoint in &mut connection.endpoints {
            bandwidth::apply(endpoint, &limits)?;
        }
        self.enter_names(record, connection);
        self.serve_names(record, connection, None)
    }

    /// The networks that a container asks for: the one of its mode first, then by name.
    pub(super) fn wanted<'a>(
        &self,
        record: &'a Record,
    ) -> Result<Vec<(Arc<Net>, Option<&'a EndpointSettings>)>> {
        let mut wanted = Vec::with_capacity(record.endpoints.len());
        for (name, settings) in &record.endpoints {
            wanted.push((self.find(name)?, settings.as_deref()));
        }
        let mode = record.host.network_mode.as_str();
        wanted.sort_by_key(|(net, _)| net.name() != mode && net.id() != mode);
        Ok(wanted)
    }

    /// Takes what a container needs of a network: a place, addresses.
    pub(super) fn place(
        &self,
        record: &Record,
        net: &Arc<Net>,
        settings: Option<&EndpointSettings>,
    ) -> Result<(Endpoint, Wishes)> {
        let default = EndpointSettings::default();
        let settings = settings.unwrap_or(&default);
        let mut wishes = check_endpoint(&net.record, settings)?;
        if wishes.mac.is_none() && !record.config.mac_address.is_empty() {
            let own = self.find(&record.host.network_mode)?.id() == net.id();
            wishes.mac = own
                .then(|| parse_mac(&record.config.mac_address))
                .transpose()?;
        }
        if net.record.config_only {
            return Err(Error::forbidden(format!(
                "network {} is only a configuration for other networks",
                net.name()
            )));
        }
        let hold = net.hold()?;
        let addresses: Vec<Address> = [
            net.take(false, wishes.v4.map(IpAddr::V4))?,
            net.take(true, wishes.v6.map(IpAddr::V6))?,
        ]
        .into_iter()
        .flatten()
        .collect();
        let ips: Vec<IpAddr> = addresses.iter().map(|a| a.ip).collect();
        let mac = wishes
            .mac
            .or_else(|| ips.first().map(|ip| network::mac_for(*ip)));
        let id: [u8; 32] = names::random()?;
        let attached = Attached {
            network: net.id().to_owned(),
            id: oci::Digest::from_sha256(&id).hex().to_owned(),
            interface: String::new(),
            host: None,
            addresses: ips,
            mac: mac.map(|mac| mac.to_string()).unwrap_or_default(),
            priority: wishes.gw_priority,
            limited: false,
        };
        let endpoint = Endpoint {
            hold,
            attached,
            _addresses: addresses,
        };
        Ok((endpoint, wishes))
    }

    pub(super) fn sandbox(
        &self,
        take: impl FnOnce(&Pool) -> Result<Sandbox, network::SandboxError>,
    ) -> Result<Sandbox> {
        let pool = lock(&self.pool);
        let pool = pool
            .as_ref()
            .ok_or_else(|| Error::new(Kind::Unavailable, "the engine is shutting down"))?;
        take(pool).step(|| "take a network namespace")
    }

    /// Takes over the networks of a container that lives on from an earlier engine.
    pub(crate) fn adopt(&self, record: &Record, attachments: Attachments, pid: i32) -> Connection {
        let mut connection = Connection::bare(Netns::Container);
        for attached in attachments.endpoints {
            let Some((net, hold)) = self
                .get(&attached.network)
                .and_then(|net| net.hold().ok().map(|hold| (net, hold)))
            else {
                tracing::warn!(id = %record.id, network = attached.network, "a living container's network is gone");
                continue;
            };
            let addresses = attached
                .addresses
                .iter()
                .filter_map(|ip| net.take_over(*ip))
                .collect();
            connection.endpoints.push(Endpoint {
                hold,
                attached,
                _addresses: addresses,
            });
        }
        connection.open = attachments.open;
        publish::adopt(self, record, &mut connection, attachments.ports);
        self.enter_names(record, &connection);
        match network_namespace(pid) {
            Ok(netns) => {
                if let Err(error) = self.serve_names(record, &mut connection, Some(netns.as_fd())) {
                    tracing::error!(id = %record.id, %error, "a living container has no resolver");
                }
            }
            Err(error) => {
                tracing::warn!(id = %record.id, %error, "a living container's network cannot be entered");
            }
        }
        connection
    }

    /// Takes a container's rules, ports and addresses away; its links go with its namespace.
    pub(crate) fn release(&self, connection: Connection) {
        self.forget(&connection.attachments());
        drop(connection);
    }

    /// Lets a living container into the firewall that the database did not know to be on a network.
    pub(crate) fn readmit(&self, attachments: &Attachments) {
        if let Err(error) = self.firewall.add(&attachments.rules()) {
            tracing::error!(
                error = crate::error::chain(&error),
                "a living container's ports are closed"
            );
        }
    }

    /// Takes the rules of a container away that is not there any more.
    pub(crate) fn forget(&self, attachments: &Attachments) {
        if let Err(error) = self.firewall.remove(&attachments.rules()) {
            tracing::error!(
                error = crate::error::chain(&error),
                "rules of a container that has ended stay"
            );
        }
        for endpoint in attachments.endpoints.iter().filter(|e| e.limited) {
            bandwidth::forget(endpoint);
        }
    }

    /// Puts everything that living containers need into the firewall's first rules.
    pub(super) fn first_rules(
        nets: impl Iterator<Item = Arc<Net>>,
        alive: &[Attachments],
    ) -> Rules {
        let mut rules = Rules {
            zones: nets.filter_map(|net| net.zone()).collect(),
            ..Rules::default()
        };
        for attachments in alive {
            let own = attachments.rules();
            rules.members.extend(own.members);
            rules.published.extend(own.published);
            rules.open.extend(own.open);
        }
        rules
    }
}

/// The name of an endpoint's link inside: the wanted one, or a number behind the network's prefix.
pub(super) fn interface_name(endpoint: &Endpoint, wishes: &Wishes, index: usize) -> String {
    let prefix = &endpoint.net().record.settings.prefix;
    let numbered = || format!("{prefix}{index}");
    wishes.ifname.clone().unwrap_or_else(numbered)
}

/// Makes the link of an endpoint, which has its name already; a link that the pool made gets its
/// routes with it.
pub(super) fn link(
    sandbox: &mut Sandbox,
    endpoint: &mut Endpoint,
    wishes: &Wishes,
    pooled: Option<&Gateways>,
) -> Result<()> {
    let net = Arc::clone(endpoint.net());
    let name = endpoint.attached.interface.clone();
    let mac = (!endpoint.attached.mac.is_empty())
        .then(|| parse_mac(&endpoint.attached.mac))
        .transpose()?;
    let own = endpoint.attached.addresses.iter();
    let mut addresses: Vec<(IpAddr, u8)> = own.map(|ip| (*ip, net.prefix(ip.is_ipv6()))).collect();
    let link_local = wishes.link_local.iter();
    addresses.extend(link_local.map(|ip| (*ip, if ip.is_ipv4() { 16 } else { 64 })));
    let interface = Interface {
        name: name.clone(),
        mac,
        addresses,
        mtu: net.mtu,
        sysctls: wishes.sysctls.clone(),
    };
    let step = || format!("connect to network {} as {name}", net.name());
    endpoint.attached.host = if let Some(routes) = pooled {
        sandbox.connect_and_route(&interface, routes).step(step)?;
        sandbox.host_interface().cloned()
    } else {
        let (bridge, parent) = (net.bridge(), net.parent().unwrap_or_default());
        let attachment = attachment(&net, bridge.as_ref(), &parent)?;
        sandbox.attach(attachment, &interface).step(step)?
    };
    Ok(())
}

/// A namespace with the loopback link only.
fn isolated(pool: &Pool, netns: Option<OwnedFd>) -> Result<Sandbox, SandboxError> {
    match netns {
        Some(netns) => pool.make_isolated_in(netns),
        None => pool.take_isolated(),
    }
}

fn attachment<'a>(
    net: &Net,
    bridge: Option<&'a network::Bridge>,
    parent: &'a str,
) -> Result<Attachment<'a>> {
    let settings = &net.record.settings;
    match net.record.driver {
        Driver::Macvlan => Ok(Attachment::Macvlan {
            parent,
            mode: settings.macvlan_mode,
        }),
        Driver::Ipvlan => Ok(Attachment::Ipvlan {
            parent,
            mode: settings.ipvlan_mode,
        }),
        Driver::Bridge => Ok(Attachment::Bridge {
            bridge: bridge
                .ok_or_else(|| Error::internal(format!("network {} has no bridge", net.name())))?,
            isolated: !settings.icc,
        }),
        Driver::Host | Driver::Null => Err(Error::invalid(format!(
            "container cannot be connected to network {} beside others",
            net.name()
        ))),
    }
}

/// The default routes that a container is to have.
pub(super) fn gateways(connection: &Connection) -> Gateways {
    let way = |v6| {
        let endpoint = connection.way_out(v6)?;
        Some(Gateway {
            address: endpoint.net().gateway(v6)?,
            interface: endpoint.attached.interface.clone(),
        })
    };
    Gateways {
        v4: way(false),
        v6: way(true),
    }
}

pub(super) fn parse_mac(text: &str) -> Result<MacAddress> {
    text.parse()
        .map_err(|_| Error::invalid(format!("invalid MAC address: {text}")))
}

/// Opens the network namespace of a container's init.
pub(super) fn network_namespace(pid: i32) -> Result<std::os::fd::OwnedFd> {
    let path = format!("/proc/{pid}/ns/net");
    std::fs::File::open(&path)
        .map(Into::into)
        .step(|| format!("open network namespace {path}"))
}

/// The limits of a container's links, of which none is the default.
pub(super) const UNLIMITED: Bandwidth = Bandwidth {
    ingress: None,
    egress: None,
};
