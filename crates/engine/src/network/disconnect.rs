//! Disconnecting a container from a network.

use std::sync::Arc;

use api::network::DisconnectRequest;
use network::Sandbox;

use super::attach::{gateways, network_namespace};
use super::connection::{Attachments, Connection, Endpoint};
use super::net::Net;
use super::publish;
use crate::container::{Container, Record, Status, lock};
use crate::db::Table;
use crate::engine::Engine;
use crate::error::{Error, Kind, Result, Step};

impl Engine {
    /// Disconnects a container from a network, at once when it runs.
    ///
    /// # Errors
    /// When either does not exist, or they are not connected.
    pub async fn network_disconnect(
        self: &Arc<Self>,
        network: &str,
        request: DisconnectRequest,
    ) -> Result<()> {
        let net = self.networks.find(network)?;
        let container = self.named_container(&request.container).map_err(|error| {
            if request.force && error.kind() == Kind::NotFound {
                return Error::not_found(format!("endpoint {} not found", request.container));
            }
            error
        })?;
        let _turn = container.lifecycle.lock().await;
        let record = container.record().clone();
        let is_running = matches!(record.state.status, Status::Running | Status::Paused);
        if record.host.network_mode == "host" && is_running {
            return Err(Error::forbidden(
                "container cannot be disconnected from host network or connected to host network",
            ));
        }
        if !self.networks.is_on(&record, &net) {
            return Err(Error::internal(format!(
                "container {} is not connected to network {}",
                record.id,
                net.name()
            )));
        }
        if is_running {
            let (engine, container, net) =
                (Arc::clone(self), Arc::clone(&container), Arc::clone(&net));
            self.blocking(move || engine.leave(&container, &net))
                .await?;
        }
        let record = {
            let mut record = container.record();
            record.endpoints.remove(net.name());
            record.endpoints.remove(net.id());
            record.clone()
        };
        self.db
            .put(Table::Containers, record.id.as_str(), &record)
            .await?;
        let id = record.id.to_string();
        self.network_event("disconnect", &net, &[("container", &id)]);
        Ok(())
    }

    /// Disconnects a running container. Blocks: it talks to the kernel.
    fn leave(self: &Arc<Self>, container: &Arc<Container>, net: &Arc<Net>) -> Result<()> {
        let mut record = container.record().clone();
        record.endpoints.remove(net.name());
        let connection = lock(&container.live).connection.take();
        let mut connection = connection
            .ok_or_else(|| Error::conflict(format!("container {} is not running", container.id)))?;
        let left = self.leave_network(&record, &mut connection, net);
        self.give_back(container, connection);
        if left.is_ok() {
            self.rewrite_hosts(&record, container)?;
        }
        left
    }

    fn leave_network(&self, record: &Record, connection: &mut Connection, net: &Net) -> Result<()> {
        let at = connection
            .endpoints
            .iter()
            .position(|e| e.net().id() == net.id());
        let at = at.ok_or_else(|| {
            Error::internal(format!(
                "container {} is not connected to network {}",
                record.id,
                net.name()
            ))
        })?;
        let netns = network_namespace(record.state.pid)?;
        let mut sandbox = Sandbox::adopt(netns).step(|| "enter the container's network")?;
        let endpoint = connection.endpoints.remove(at);
        self.leave_with(record, connection, &mut sandbox, endpoint)
    }

    /// Takes an endpoint apart that its connection has no more, and mends what is left of the
    /// container's network.
    pub(super) fn leave_with(
        &self,
        record: &Record,
        connection: &mut Connection,
        sandbox: &mut Sandbox,
        endpoint: Endpoint,
    ) -> Result<()> {
        let networks = &self.networks;
        networks.forget(&Attachments {
            endpoints: vec![endpoint.attached.clone()],
            ..Attachments::default()
        });
        let interface = &endpoint.attached.interface;
        sandbox
            .detach(interface)
            .step(|| format!("delete the link {interface} of container {}", record.name))?;
        drop(endpoint);
        sandbox
            .route(&gateways(connection))
            .step(|| format!("set the default route of container {}", record.name))?;
        publish::follow(networks, record, connection)?;
        networks.serve_names(record, connection, Some(sandbox.netns()))
    }
}
