//! Comparing what the engine remembers of networks with what is there, and mending it.

use std::sync::Arc;

use api::check::{Finding, Report};
use network::{Found, HostLink, Sandbox};

use super::attach::{gateways, link, network_namespace};
use super::connection::{Connection, Endpoint};
use super::net::Net;
use super::plan::Wishes;
use crate::container::{Container, Record, lock};
use crate::engine::Engine;
use crate::error::{Error, Result, Step};

impl Engine {
    /// Compares what the engine remembers with what is there, and mends it on demand.
    ///
    /// # Errors
    /// When something cannot be read; what cannot be mended is a finding.
    pub async fn system_check(self: &Arc<Self>, repair: bool) -> Result<Report> {
        let _turn = self.networks.shaping.lock().await;
        let engine = Arc::clone(self);
        let mut findings = Vec::new();
        findings.extend(self.blocking(move || engine.check_rules(repair)).await?);
        for net in self.networks.all() {
            let engine = Arc::clone(self);
            let found = self
                .blocking(move || Ok(engine.check_bridge(&net, repair)))
                .await?;
            findings.extend(found);
        }
        for container in self.containers.all() {
            let _turn = container.lifecycle.lock().await;
            if !container.status().is_alive() {
                continue;
            }
            let engine = Arc::clone(self);
            let container = Arc::clone(&container);
            let found = self
                .blocking(move || Ok(engine.check_container(&container, repair)))
                .await?;
            findings.extend(found);
        }
        Ok(Report { findings })
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

    fn check_bridge(&self, net: &Net, repair: bool) -> Option<Finding> {
        let bridge = &net.record.settings.bridge;
        let zone = net.zone()?;
        let links = network::host_links().unwrap_or_default();
        if links
            .iter()
            .any(|link| link.name == zone.bridge && link.kind == "bridge")
        {
            return None;
        }
        let problem = format!("network {} has no bridge", net.name());
        let action = || self.restore_bridge(net);
        Some(finding(
            ("bridge", bridge),
            &problem,
            "make it again",
            repair.then_some(action),
        ))
    }

    /// Compares a running container's links with its endpoints.
    fn check_container(&self, container: &Arc<Container>, repair: bool) -> Vec<Finding> {
        let record = container.record().clone();
        let mut live = lock(&container.live);
        let Some(connection) = &mut live.connection else {
            return Vec::new();
        };
        let mut findings = Vec::new();
        let inside = network_namespace(record.state.pid)
            .and_then(|netns| Sandbox::adopt(netns).step(|| "enter the container's network"));
        let mut sandbox = match inside {
            Ok(sandbox) => sandbox,
            Err(error) => {
                let none = None::<fn() -> Result<()>>;
                let object = ("endpoint", record.name.as_str());
                return vec![finding(
                    object,
                    &error.to_string(),
                    "restart the container",
                    none,
                )];
            }
        };
        for at in 0..connection.endpoints.len() {
            findings.extend(self.check_endpoint(&record, connection, at, &mut sandbox, repair));
        }
        let attachments = connection.attachments();
        drop(live);
        container.record().attached = Some(attachments);
        findings
    }

    fn check_endpoint(
        &self,
        record: &Record,
        connection: &mut Connection,
        at: usize,
        sandbox: &mut Sandbox,
        repair: bool,
    ) -> Option<Finding> {
        let found = sandbox.interfaces().unwrap_or_default();
        let endpoint = connection.endpoints.get(at)?;
        let problem = difference(endpoint, &found, &network::host_links().unwrap_or_default())?;
        let object = format!("{} in {}", record.name, endpoint.net().name());
        let action = || self.relink(record, connection, at, sandbox);
        Some(finding(
            ("endpoint", &object),
            &problem,
            "make the link again",
            repair.then_some(action),
        ))
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
        link(sandbox, endpoint, &Wishes::default(), None)?;
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
        sandbox
            .route(&gateways(connection))
            .step(|| format!("set the default route of container {}", record.name))
    }
}

/// What is wrong with an endpoint, given the links inside.
fn difference(endpoint: &Endpoint, found: &[Found], host_links: &[HostLink]) -> Option<String> {
    let attached = &endpoint.attached;
    let name = &attached.interface;
    let Some(link) = found.iter().find(|link| link.name == *name) else {
        return Some(format!("the container has no link {name}"));
    };
    for address in &attached.addresses {
        if !link.addresses.iter().any(|(ip, _)| ip == address) {
            return Some(format!("{name} has lost its address {address}"));
        }
    }
    let host = attached.host.as_ref()?;
    let bridge = &endpoint.net().record.settings.bridge;
    let on = host_links
        .iter()
        .any(|l| l.name == host.name && l.master.as_ref() == Some(bridge));
    (!on).then(|| format!("{} is not on the bridge {bridge}", host.name))
}

/// A difference, mended if there is something to mend it with.
fn finding(
    (kind, object): (&str, &str),
    problem: &str,
    action: &str,
    mend: Option<impl FnOnce() -> Result<()>>,
) -> Finding {
    let mended = mend.map(|mend| mend());
    let problem = match &mended {
        Some(Err(error)) => format!("{problem}; mending failed: {error}"),
        _ => problem.to_owned(),
    };
    Finding {
        kind: kind.to_owned(),
        object: object.to_owned(),
        problem,
        action: action.to_owned(),
        repaired: matches!(mended, Some(Ok(()))),
    }
}
