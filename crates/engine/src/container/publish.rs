//! Publishing other ports of a container.

use std::sync::Arc;

use api::host_config::PortMap;

use super::{Container, Record, lock};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::network::check_network_mode;

impl Engine {
    /// Publishes these ports of a container, and no other: at once when it runs.
    pub(super) async fn publish_again(
        self: &Arc<Self>,
        container: &Arc<Container>,
        ports: PortMap,
    ) -> Result<Record> {
        let mut record = container.record().clone();
        if record.host.network_mode == "host" && !ports.is_empty() {
            return Err(Error::invalid(format!(
                "container {} is on the host's network: its ports are the host's already",
                record.name
            )));
        }
        for inside in ports.keys() {
            record
                .config
                .exposed_ports
                .entry(inside.clone())
                .or_default();
        }
        record.host.port_bindings = Some(ports);
        check_network_mode(&record.host)?;
        let (engine, container) = (Arc::clone(self), Arc::clone(container));
        self.blocking(move || {
            let mut live = lock(&container.live);
            if let Some(connection) = &mut live.connection {
                let published = engine.networks.republish(&record, connection);
                container.record().attached = Some(connection.attachments());
                published?;
            }
            let mut own = container.record();
            own.config = record.config;
            own.host.port_bindings = record.host.port_bindings;
            Ok(own.clone())
        })
        .await
    }
}
