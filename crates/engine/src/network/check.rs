//! Comparing what the engine remembers of networks with what is there, and mending it.

use std::net::IpAddr;
use std::sync::Arc;

use api::check::Finding;
use network::{Found, Gateway, HostLink, Interface, Sandbox};

use super::attach::{gateways, link, network_namespace, parse_mac};
use super::connection::{Connection, Endpoint};
use super::names::settings_of;
use super::net::Net;
use super::plan::{Driver, Wishes, check_endpoint};
use super::repair::extra_links;
use crate::check::finding;
use crate::container::{Container, Record, lock};
use crate::db::Table;
use crate::engine::Engine;
use crate::error::{Error, Result, Step};

/// What is wrong with a container's link, and with it what mends it.
#[derive(Debug, PartialEq, Eq)]
enum Fault {
    /// It must be made again.
    Lost(String),
    /// It lacks something that it can be given.
    Unsettled(String),
    /// Its end on the host must be put on the bridge.
    OffBridge(String),
}

impl Engine {
    /// Compares what the engine remembers of networks with what is there, and mends it on demand.
    pub(crate) async fn check_networks(self: &Arc<Self>, repair: bool) -> Result<Vec<Finding>> {
        let _turn = self.networks.shaping.lock().await;
        self.networks.leaving.settle().await;
        let engine = Arc::clone(self);
        let mut findings = self.blocking(move || engine.check_host(repair)).await?;
        for container in self.containers.all() {
            let _turn = container.lifecycle.lock().await;
            if !container.status().is_alive() {
                continue;
            }
            let before = container.record().attached.clone();
            let (engine, checked) = (Arc::clone(self), Arc::clone(&container));
            let found = self
                .blocking(move || engine.check_container(&checked, repair))
                .await?;
            findings.extend(found);
            let record = container.record().clone();
            if record.attached != before {
                let id = record.id.to_string();
                self.db.put(Table::Containers, &id, &record).await?;
            }
        }
        Ok(findings)
    }

    /// Compares the rules, and the links that networks have on the host.
    fn check_host(&self, repair: bool) -> Result<Vec<Finding>> {
        let mut findings = Vec::from_iter(self.check_rules(repair)?);
        for net in self.networks.all() {
            findings.extend(self.check_bridge(&net, repair)?);
            findings.extend(check_parent(&net, repair)?);
        }
        for orphan in self.networks.orphans()? {
            let name = &orphan.name;
            let action = || {
                let delete = network::delete_owned(&self.networks.owner, name);
                delete.step(|| format!("delete the link {name}"))
            };
            findings.push(finding(
                ("link", name),
                "it was made for a network that does not exist",
                "delete it",
                repair.then_some(action),
            ));
        }
        Ok(findings)
    }

    fn check_rules(&self, repair: bool) -> Result<Option<Finding>> {
        let firewall = &self.networks.firewall;
        if firewall.verify().step(|| "read the nftables rules")? {
            return Ok(None);
        }
        let action = || self.restore_rules().map(drop);
        Ok(Some(finding(
            ("rules", "gorae"),
            "the nftables tables are not as the engine made them",
            "make them again",
            repair.then_some(action),
        )))
    }

    fn check_bridge(&self, net: &Net, repair: bool) -> Result<Option<Finding>> {
        let Some(fault) = self.bridge_fault(net)? else {
            return Ok(None);
        };
        let bridge = &net.record.settings.bridge;
        let problem = format!("the bridge {bridge} of network {} {fault}", net.name());
        let action = || self.restore_bridge(net);
        Ok(Some(finding(
            ("bridge", bridge),
            &problem,
            "put it right",
            repair.then_some(action),
        )))
    }

    /// Whether a running container's links and routes are as its endpoints say, with these links on the
    /// host; one that is not is for [`check_container`](Self::check_container).
    pub(super) fn is_whole(&self, container: &Container, host_links: &[HostLink]) -> Result<bool> {
        let (pid, shared) = {
            let record = container.record();
            let shared = record.host.network_mode.starts_with("container:");
            (record.state.pid, shared)
        };
        let live = lock(&container.live);
        let (Some(connection), false) = (&live.connection, shared) else {
            return Ok(true);
        };
        // without its init it has ended, which whoever waits for it is about to say
        let Ok(netns) = network_namespace(pid) else {
            return Ok(true);
        };
        let mut sandbox = Sandbox::adopt(netns).step(|| "enter the container's network")?;
        let found = sandbox.interfaces().step(|| "list the container's links")?;
        let is_extra = |link: &Found| {
            let host = link
                .host
                .as_ref()
                .filter(|host| !connection.has(&host.name));
            host.is_some_and(|host| self.is_ours(&host.name, host_links))
        };
        let mut endpoints = connection.endpoints.iter();
        Ok(!found.iter().any(is_extra)
            && endpoints.all(|endpoint| difference(endpoint, &found, host_links).is_none())
            && lost_route(connection, &mut sandbox)?.is_none())
    }

    fn is_ours(&self, name: &str, host_links: &[HostLink]) -> bool {
        let mut links = host_links.iter();
        links.any(|link| link.name == name && link.alias == self.networks.owner)
    }

    /// Compares a running container's links and routes with its endpoints.
    pub(super) fn check_container(
        &self,
        container: &Arc<Container>,
        repair: bool,
    ) -> Result<Vec<Finding>> {
        let record = container.record().clone();
        // without its init it has ended, which whoever waits for it is about to say
        let Ok(netns) = network_namespace(record.state.pid) else {
            return Ok(Vec::new());
        };
        let mut sandbox = Sandbox::adopt(netns)
            .step(|| format!("enter the network of container {}", record.name))?;
        let mut findings = self.check_extra(container, &record, &mut sandbox, repair)?;
        let mut live = lock(&container.live);
        let Some(connection) = &mut live.connection else {
            return Ok(findings);
        };
        for at in 0..connection.endpoints.len() {
            findings.extend(self.check_endpoint(&record, connection, at, &mut sandbox, repair)?);
        }
        findings.extend(check_routes(&record, connection, &mut sandbox, repair)?);
        let attachments = connection.attachments();
        drop(live);
        container.record().attached = Some(attachments);
        Ok(findings)
    }

    /// Looks for links that an engine made which died before it could note them.
    fn check_extra(
        &self,
        container: &Container,
        record: &Record,
        sandbox: &mut Sandbox,
        repair: bool,
    ) -> Result<Vec<Finding>> {
        let host_links = network::host_links().step(|| "list the host's links")?;
        let mut findings = Vec::new();
        for (name, host) in extra_links(container)? {
            if !self.is_ours(&host, &host_links) {
                continue;
            }
            let action = || {
                let detached = sandbox.detach(&name);
                detached.step(|| format!("delete the link {name}"))
            };
            findings.push(finding(
                ("endpoint", &record.name),
                &format!("its link {name} belongs to none of its networks"),
                "delete the link",
                repair.then_some(action),
            ));
        }
        Ok(findings)
    }

    fn check_endpoint(
        &self,
        record: &Record,
        connection: &mut Connection,
        at: usize,
        sandbox: &mut Sandbox,
        repair: bool,
    ) -> Result<Option<Finding>> {
        let found = sandbox
            .interfaces()
            .step(|| format!("list the links of container {}", record.name))?;
        let host_links = network::host_links().step(|| "list the host's links")?;
        let Some(endpoint) = connection.endpoints.get(at) else {
            return Ok(None);
        };
        let Some(fault) = difference(endpoint, &found, &host_links) else {
            return Ok(None);
        };
        let object = format!("{} in {}", record.name, endpoint.net().name());
        let object = ("endpoint", object.as_str());
        Ok(Some(match fault {
            Fault::Lost(problem) => {
                let action = || self.relink(record, connection, at, sandbox);
                let mend = repair.then_some(action);
                finding(object, &problem, "make the link again", mend)
            }
            Fault::Unsettled(problem) => {
                let action = || settle(record, endpoint, sandbox);
                let mend = repair.then_some(action);
                finding(object, &problem, "set the link up again", mend)
            }
            Fault::OffBridge(problem) => {
                let action = || rejoin(endpoint);
                let mend = repair.then_some(action);
                finding(object, &problem, "put it on the bridge", mend)
            }
        }))
    }

    /// Makes a link of a running container again, with the same addresses.
    fn relink(
        &self,
        record: &Record,
        connection: &mut Connection,
        at: usize,
        sandbox: &mut Sandbox,
    ) -> Result<()> {
        let gone = || Error::internal("the endpoint is gone");
        let endpoint = connection.endpoints.get_mut(at).ok_or_else(gone)?;
        let old = super::Attachments {
            endpoints: vec![endpoint.attached.clone()],
            ..super::Attachments::default()
        };
        self.networks.forget(&old);
        sandbox
            .detach(&endpoint.attached.interface)
            .step(|| format!("delete the link {}", endpoint.attached.interface))?;
        link(sandbox, endpoint, &wishes(record, endpoint.net())?, None)?;
        endpoint.attached.limited = false;
        super::bandwidth::apply(endpoint, &super::bandwidth::limits(&record.host)?)?;
        let fresh = super::Attachments {
            endpoints: vec![endpoint.attached.clone()],
            ..super::Attachments::default()
        };
        self.networks
            .firewall
            .add(&fresh.rules())
            .step(|| "let the new link into the firewall")?;
        route(record, connection, sandbox)
    }
}

fn route(record: &Record, connection: &Connection, sandbox: &mut Sandbox) -> Result<()> {
    sandbox
        .route(&gateways(connection))
        .step(|| format!("set the default route of container {}", record.name))
}

/// Gives a link what it has lost: its state, its addresses, its settings.
fn settle(record: &Record, endpoint: &Endpoint, sandbox: &mut Sandbox) -> Result<()> {
    let (net, attached) = (endpoint.net(), &endpoint.attached);
    let wishes = wishes(record, net)?;
    let own = attached.addresses.iter();
    let mut addresses: Vec<(IpAddr, u8)> = own.map(|ip| (*ip, net.prefix(ip.is_ipv6()))).collect();
    let link_local = wishes.link_local.iter();
    addresses.extend(link_local.map(|ip| (*ip, if ip.is_ipv4() { 16 } else { 64 })));
    let interface = Interface {
        name: attached.interface.clone(),
        mac: (!attached.mac.is_empty())
            .then(|| parse_mac(&attached.mac))
            .transpose()?,
        addresses,
        mtu: net.mtu,
        sysctls: wishes.sysctls,
    };
    sandbox
        .refresh(&interface)
        .step(|| format!("set up the link {}", interface.name))
}

fn rejoin(endpoint: &Endpoint) -> Result<()> {
    let net = endpoint.net();
    let (Some(bridge), Some(host)) = (net.bridge(), &endpoint.attached.host) else {
        return Ok(());
    };
    let port = (host.name.clone(), !net.record.settings.icc);
    bridge
        .rejoin(&[port])
        .step(|| format!("put {} on bridge {}", host.name, bridge.config().name))
}

/// What a container asked for in a network, beyond its addresses.
fn wishes(record: &Record, net: &Net) -> Result<Wishes> {
    let settings = settings_of(record, net.name(), net.id());
    let wishes = settings.map(|settings| check_endpoint(&net.record, settings));
    Ok(wishes.transpose()?.unwrap_or_default())
}

fn check_parent(net: &Net, repair: bool) -> Result<Option<Finding>> {
    let Some(parent) = net.parent() else {
        return Ok(None);
    };
    let links = network::host_links().step(|| "list the host's links")?;
    let (problem, action) = match links.iter().find(|link| link.name == parent) {
        Some(link) if link.up => return Ok(None),
        Some(_) => ("is down", "switch it on"),
        None => ("is gone", "make it again"),
    };
    let problem = format!(
        "the parent link {parent} of network {} {problem}",
        net.name()
    );
    let mend = || net.ensure_parent();
    let mend = repair.then_some(mend);
    Ok(Some(finding(("parent", &parent), &problem, action, mend)))
}

/// Compares the default routes inside; those that somebody added are not wrong.
fn check_routes(
    record: &Record,
    connection: &Connection,
    sandbox: &mut Sandbox,
    repair: bool,
) -> Result<Option<Finding>> {
    let Some(lost) = lost_route(connection, sandbox)? else {
        return Ok(None);
    };
    let problem = format!(
        "it has lost its default route by {} on {}",
        lost.address, lost.interface
    );
    let action = || route(record, connection, sandbox);
    Ok(Some(finding(
        ("route", &record.name),
        &problem,
        "set the default route",
        repair.then_some(action),
    )))
}

/// A default route that a container should have and has not.
fn lost_route(connection: &Connection, sandbox: &mut Sandbox) -> Result<Option<Gateway>> {
    let wanted = gateways(connection);
    let routes = sandbox
        .default_routes()
        .step(|| "list the container's routes")?;
    let mut wanted = wanted.v4.into_iter().chain(wanted.v6);
    Ok(wanted.find(|gateway| !routes.contains(gateway)))
}

/// What is wrong with an endpoint, given the links inside and on the host.
fn difference(endpoint: &Endpoint, found: &[Found], host_links: &[HostLink]) -> Option<Fault> {
    let attached = &endpoint.attached;
    let name = &attached.interface;
    let Some(link) = found.iter().find(|link| link.name == *name) else {
        return Some(Fault::Lost(format!("the container has no link {name}")));
    };
    if let Some(host) = &attached.host
        && link.host.as_ref().is_none_or(|end| end.name != host.name)
    {
        let problem = format!("{name} does not lead to {}", host.name);
        return Some(Fault::Lost(problem));
    }
    let settings = &endpoint.net().record.settings;
    let host = attached.host.as_ref();
    let port = host.and_then(|host| host_links.iter().find(|l| l.name == host.name));
    inside(endpoint, link).map(Fault::Unsettled).or_else(|| {
        let (port, bridge) = (port?, &settings.bridge);
        let problem = if port.master.as_ref() != Some(bridge) {
            format!("{} is not on the bridge {bridge}", port.name)
        } else if !port.up {
            format!("{} on the bridge {bridge} is down", port.name)
        } else {
            return None;
        };
        Some(Fault::OffBridge(problem))
    })
}

/// What a link inside lacks.
fn inside(endpoint: &Endpoint, link: &Found) -> Option<String> {
    let attached = &endpoint.attached;
    let name = &attached.interface;
    if !link.up {
        return Some(format!("{name} is down"));
    }
    // all ipvlan links have their parent's
    let has_mac = endpoint.net().record.driver != Driver::Ipvlan;
    let mac = attached.mac.parse().ok().filter(|_| has_mac);
    if mac.is_some() && link.mac != mac {
        return Some(format!(
            "{name} has another Ethernet address than {}",
            attached.mac
        ));
    }
    let lost = attached
        .addresses
        .iter()
        .find(|own| !link.addresses.iter().any(|(ip, _)| ip == *own))?;
    Some(format!("{name} has lost its address {lost}"))
}
