//! From where each port of each container is reached, and by which rule.

use std::sync::Arc;

use api::audit::{Audit, AuditPort, Origin};
use network::{Firewall, Obstacle, PortMapping, PublishPolicy};

use super::connection::{Connection, Opened};
use crate::container::{Record, lock};
use crate::engine::Engine;
use crate::error::{Result, Step};

impl Engine {
    /// Tells from where each published port is reached.
    ///
    /// # Errors
    /// When the kernel's rules cannot be read.
    pub async fn network_audit(self: &Arc<Self>) -> Result<Audit> {
        let engine = Arc::clone(self);
        self.blocking(move || engine.audit()).await
    }

    fn audit(&self) -> Result<Audit> {
        let firewall = &self.networks.firewall;
        let obstacles = firewall
            .obstacles()
            .step(|| "read the chains of other owners")?;
        let mut ports = Vec::new();
        let mut all = self.containers.all();
        all.sort_by_key(|container| container.name());
        for container in all {
            let live = lock(&container.live);
            let record = container.record().clone();
            if let Some(connection) = &live.connection {
                ports.extend(self.ports_audited(&record, connection, &obstacles));
            }
        }
        Ok(Audit {
            policy: match self.networks.policy {
                PublishPolicy::Docker => "docker",
                PublishPolicy::HostFirewall => "host-firewall",
            }
            .to_owned(),
            ports,
            warnings: obstacles.iter().map(warning).collect(),
        })
    }

    fn ports_audited(
        &self,
        record: &Record,
        connection: &Connection,
        obstacles: &[Obstacle],
    ) -> Vec<AuditPort> {
        let ports = connection.ports.iter();
        let published = ports.map(|port| self.published(record, connection, port, obstacles));
        let open = connection
            .open
            .iter()
            .map(|port| open(record, connection, port));
        published.chain(open).collect()
    }

    /// The name of the network of a bridge.
    fn named(&self, bridge: &str) -> String {
        let all = self.networks.all();
        let net = all.iter().find(|net| net.record.settings.bridge == bridge);
        net.map_or_else(|| bridge.to_owned(), |net| net.name().to_owned())
    }

    fn published(
        &self,
        record: &Record,
        connection: &Connection,
        port: &PortMapping,
        obstacles: &[Obstacle],
    ) -> AuditPort {
        let from = self
            .networks
            .firewall
            .audit(port, obstacles, &|bridge| self.named(bridge))
            .into_iter();
        AuditPort {
            container: record.name.clone(),
            container_id: record.id.to_string(),
            network: network_of(connection, port.container.ip()),
            protocol: port.protocol.to_string(),
            host_ip: port.host_ip.to_string(),
            host_port: port.host_port,
            container_ip: port.container.ip().to_string(),
            container_port: port.container.port(),
            from: from
                .map(|origin| Origin {
                    who: origin.who,
                    reachable: origin.reachable,
                    rule: origin.rule,
                })
                .collect(),
        }
    }
}

/// A port of a routed network: it is open at the container's own address.
fn open(record: &Record, connection: &Connection, port: &Opened) -> AuditPort {
    AuditPort {
        container: record.name.clone(),
        container_id: record.id.to_string(),
        network: network_of(connection, port.container.ip()),
        protocol: port.protocol.to_string(),
        container_ip: port.container.ip().to_string(),
        container_port: port.container.port(),
        from: vec![Origin {
            who: "whoever has a route to the network".to_owned(),
            reachable: true,
            rule: "the network is routed, and the port is open".to_owned(),
        }],
        ..AuditPort::default()
    }
}

fn network_of(connection: &Connection, ip: std::net::IpAddr) -> String {
    let of = connection
        .endpoints
        .iter()
        .find(|e| e.attached.addresses.contains(&ip));
    of.map(|e| e.net().name().to_owned()).unwrap_or_default()
}

/// Tells of chains of other owners that may cut containers off, which no rule of ours overrides.
pub(super) fn warn_of_obstacles(firewall: &Firewall) {
    match firewall.obstacles() {
        Ok(found) => {
            for obstacle in &found {
                let hint = "let the engine's bridges pass there; 'gorae network audit' shows what is reached";
                tracing::warn!(hint, "{}", warning(obstacle));
            }
        }
        Err(error) => tracing::warn!(
            error = crate::error::chain(&error),
            "the chains of other owners cannot be read"
        ),
    }
}

fn warning(obstacle: &Obstacle) -> String {
    format!(
        "chain {} of table {} {} (hook {}) drops what none of its rules lets through: containers may be cut off by it",
        obstacle.chain, obstacle.family, obstacle.table, obstacle.hook
    )
}
