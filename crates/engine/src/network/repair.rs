//! Putting back what others have taken away: rules, bridges.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use network::{Disturbance, HostLink, Sandbox, Watcher};

use super::TABLE;
use super::attach::network_namespace;
use super::net::Net;
use crate::container::{Container, lock};
use crate::engine::Engine;
use crate::error::{Result, Step};

impl Engine {
    /// Begins to look after rules and bridges, until the engine closes.
    pub(crate) fn watch_networks(self: &Arc<Self>) {
        self.rejoin_all();
        self.mend_endpoints();
        let engine = Arc::downgrade(self);
        let on = move |disturbance| mend(&engine, disturbance);
        let bridges = Arc::clone(&self.networks.bridges);
        match Watcher::start(TABLE, bridges, Box::new(on)) {
            Ok(watcher) => *lock(&self.networks.watcher) = Some(watcher),
            Err(error) => tracing::error!(
                error = crate::error::chain(&error),
                "nobody looks after the firewall's rules"
            ),
        }
    }

    /// Puts rules back that are not as they should be; tells whether there were any.
    pub(super) fn restore_rules(&self) -> Result<bool> {
        let restored = self
            .networks
            .firewall
            .restore()
            .step(|| "put the nftables rules back")?;
        if restored {
            tracing::warn!("somebody changed the nftables table {TABLE}: it is put back");
            self.restored_event("rules", TABLE);
        }
        Ok(restored)
    }

    /// What is wrong with the bridge of a network, if it has one.
    pub(super) fn bridge_fault(&self, net: &Net) -> Result<Option<String>> {
        if net.zone().is_none() {
            return Ok(None);
        }
        let Some(bridge) = net.bridge() else {
            return Ok(Some("could not be made".to_owned()));
        };
        let fault = bridge.fault();
        let fault = fault.step(|| format!("look at bridge {}", bridge.config().name))?;
        Ok(fault.map(|fault| fault.to_string()))
    }

    /// Mends a bridge that is gone or not as it should be, with everything that was on it.
    ///
    /// One change of somebody's is told more than once, and the kernel changes links by itself as
    /// well; with nothing wrong, nothing is done or said.
    pub(super) fn restore_bridge(&self, net: &Net) -> Result<()> {
        let Some(fault) = self.bridge_fault(net)? else {
            return Ok(());
        };
        let before = net.bridge();
        let Some(bridge) = net.ensure_bridge()? else {
            return Ok(());
        };
        let name = &bridge.config().name;
        bridge
            .rejoin(&self.ports_of(net))
            .step(|| format!("put containers back on bridge {name}"))?;
        let is_new = before.is_none_or(|before| before.index() != bridge.index());
        if net.is_predefined() && is_new {
            self.networks.refill(&bridge);
        }
        tracing::warn!(
            bridge = name,
            fault,
            "a bridge was disturbed: it is put right"
        );
        self.restored_event("bridge", name);
        Ok(())
    }

    /// The links of living containers that belong on a network's bridge, and whether each is kept
    /// from the others.
    pub(super) fn ports_of(&self, net: &Net) -> Vec<(String, bool)> {
        let mut ports = Vec::new();
        for container in self.containers.all() {
            let live = lock(&container.live);
            let endpoint = live.connection.as_ref().and_then(|c| c.endpoint(net.id()));
            let host = endpoint.and_then(|e| e.attached.host.as_ref());
            ports.extend(host.map(|host| (host.name.clone(), !net.record.settings.icc)));
        }
        ports
    }
}

impl Engine {
    /// Puts links of living containers back on bridges that went while no engine ran.
    fn rejoin_all(&self) {
        let links = network::host_links().unwrap_or_default();
        for net in self.networks.all() {
            let Some(bridge) = net.bridge() else { continue };
            let name = &bridge.config().name;
            let mut ports = self.ports_of(&net);
            ports.retain(|(port, _)| {
                let mut links = links.iter();
                links.any(|l| l.name == *port && l.master.as_ref() != Some(name))
            });
            if ports.is_empty() {
                continue;
            }
            match bridge.rejoin(&ports) {
                Ok(()) => tracing::warn!(bridge = name, ?ports, "links are back on their bridge"),
                Err(error) => tracing::error!(
                    bridge = name,
                    error = crate::error::chain(&error),
                    "links could not be put on their bridge"
                ),
            }
        }
    }

    /// Mends what living containers lost of their links while no engine ran, and deletes what an engine
    /// made that died before it could note it.
    ///
    /// As a rule there is nothing to do, and there may be a thousand containers. The host's links are
    /// listed once for all: the kernel counts namespaces for each link that it lists
    /// (`peernet2id_alloc`), so a list for each container would take minutes.
    fn mend_endpoints(&self) {
        let links = network::host_links().unwrap_or_else(|error| {
            tracing::error!(%error, "the host's links cannot be listed");
            Vec::new()
        });
        let all = self.containers.all();
        let alive: Vec<_> = all.iter().filter(|c| c.status().is_alive()).collect();
        let next = AtomicUsize::new(0);
        let mend = || {
            while let Some(container) = alive.get(next.fetch_add(1, Ordering::Relaxed)) {
                self.mend_container(container, &links);
            }
        };
        let helpers = std::thread::available_parallelism().map_or(1, NonZero::get);
        std::thread::scope(|scope| {
            for _ in 1..helpers.min(alive.len()) {
                let helper = std::thread::Builder::new().name("mend".to_owned());
                // without a helper, the others do its part
                drop(helper.spawn_scoped(scope, mend));
            }
            mend();
        });
    }

    fn mend_container(&self, container: &Arc<Container>, links: &[HostLink]) {
        let checked = match self.is_whole(container, links) {
            Ok(true) => return,
            Ok(false) => self.check_container(container, true),
            Err(error) => Err(error),
        };
        match checked {
            Ok(findings) => {
                for finding in findings {
                    let (object, problem) = (finding.object, finding.problem);
                    tracing::warn!(object, problem, "a container's network is put right");
                }
            }
            Err(error) => {
                tracing::error!(id = %container.id, %error, "a container's network cannot be checked");
            }
        }
    }
}

impl super::Networks {
    /// The links of this engine that belong to no network; those of containers are not among them.
    pub(super) fn orphans(&self) -> Result<Vec<HostLink>> {
        let links = network::host_links().step(|| "list the host's links")?;
        Ok(orphans(links, &self.owner, &self.all()))
    }

    /// Deletes a link of this engine.
    pub(super) fn delete_link(&self, name: &str) {
        delete(&self.owner, name);
    }
}

/// The links of a running container that belong to none of its networks: their names inside and on
/// the host.
pub(super) fn extra_links(container: &Container) -> Result<Vec<(String, String)>> {
    let record = container.record().clone();
    let shared = record.host.network_mode.starts_with("container:");
    let live = lock(&container.live);
    let Some(connection) = live.connection.as_ref().filter(|_| !shared) else {
        return Ok(Vec::new());
    };
    // without its init it has ended, which whoever waits for it is about to say
    let Ok(netns) = network_namespace(record.state.pid) else {
        return Ok(Vec::new());
    };
    let mut sandbox = Sandbox::adopt(netns).step(|| "enter the container's network")?;
    let found = sandbox.interfaces().step(|| "list the container's links")?;
    let extra = found.into_iter().filter_map(|link| {
        let host = link.host.filter(|host| !connection.has(&host.name))?;
        Some((link.name, host.name))
    });
    Ok(extra.collect())
}

/// Deletes the bridges and parents of this engine that no network knows: a network was being made
/// when the engine died.
pub(super) fn delete_orphans(owner: &str, nets: &[Arc<Net>]) {
    let links = network::host_links().unwrap_or_else(|error| {
        tracing::warn!(%error, "links that nobody needs may stay");
        Vec::new()
    });
    for orphan in orphans(links, owner, nets) {
        tracing::warn!(link = orphan.name, "deletes a link that no network knows");
        delete(owner, &orphan.name);
    }
}

fn orphans(mut links: Vec<HostLink>, owner: &str, nets: &[Arc<Net>]) -> Vec<HostLink> {
    let known: Vec<String> = nets.iter().flat_map(|net| net.own_links()).collect();
    // a container's link goes with its container
    links.retain(|l| l.alias == owner && l.kind != "veth" && !known.contains(&l.name));
    links
}

fn delete(owner: &str, name: &str) {
    if let Err(error) = network::delete_owned(owner, name) {
        tracing::warn!(link = name, %error, "a link that nobody needs stays");
    }
}

fn mend(engine: &Weak<Engine>, disturbance: Disturbance) {
    let Some(engine) = engine.upgrade() else {
        return;
    };
    let mended = match disturbance {
        Disturbance::Rules => engine.restore_rules().map(drop),
        Disturbance::Bridge(name) => {
            let nets = engine.networks.all();
            let meant = nets.iter().find(|net| net.record.settings.bridge == name);
            // one that is being removed is not to come back
            let wanted = meant.filter(|_| lock(&engine.networks.bridges).contains(&name));
            wanted.map_or(Ok(()), |net| engine.restore_bridge(net))
        }
    };
    if let Err(error) = mended {
        tracing::error!(%error, "networks could not be mended");
    }
}
