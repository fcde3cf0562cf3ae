//! Everything about one network.

use std::collections::BTreeMap;

use api::network::{EndpointResource, Network};

use super::connection::Endpoint;
use crate::container::lock;
use crate::engine::Engine;
use crate::error::Result;

impl Engine {
    /// Tells everything about a network.
    ///
    /// # Errors
    /// When there is no such network.
    pub fn network_inspect(&self, name: &str) -> Result<Network> {
        let net = self.networks.find(name)?;
        let mut network = net.record.shown();
        let mut members = BTreeMap::new();
        for container in self.containers.all() {
            let live = lock(&container.live);
            let endpoint = live.connection.as_ref().and_then(|c| c.endpoint(net.id()));
            if let Some(endpoint) = endpoint {
                members.insert(container.id.to_string(), shown(&container.name(), endpoint));
            } else if net.is_predefined() && net.name() != "bridge" {
                let record = container.record();
                if record.state.status.is_alive() && record.host.network_mode == net.name() {
                    let member = EndpointResource {
                        name: record.name.clone(),
                        ..EndpointResource::default()
                    };
                    members.insert(container.id.to_string(), member);
                }
            }
        }
        network.containers = Some(members);
        Ok(network)
    }
}

fn shown(name: &str, endpoint: &Endpoint) -> EndpointResource {
    let address = |v6: bool| {
        let ip = endpoint.attached.address(v6);
        ip.map(|ip| format!("{ip}/{}", endpoint.net().prefix(v6)))
            .unwrap_or_default()
    };
    EndpointResource {
        name: name.to_owned(),
        endpoint_id: endpoint.attached.id.clone(),
        mac_address: endpoint.attached.mac.clone(),
        ipv4_address: address(false),
        ipv6_address: address(true),
    }
}
