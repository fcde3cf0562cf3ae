//! Connecting a container to one more network.

use std::sync::Arc;

use api::network::{ConnectRequest, EndpointSettings};
use network::Sandbox;

use super::attach::{gateways, interface_name, link, network_namespace};
use super::connection::{Attachments, Connection};
use super::net::Net;
use super::plan::check_endpoint;
use super::{bandwidth, publish};
use crate::container::{Container, Record, Status, lock};
use crate::db::Table;
use crate::engine::Engine;
use crate::error::{Error, Result, Step};

impl Engine {
    /// Connects a container to a network, at once when it runs.
    ///
    /// # Errors
    /// When either does not exist, they are connected already, or the wishes cannot be met; then
    /// nothing is changed.
    pub async fn network_connect(
        self: &Arc<Self>,
        network: &str,
        request: ConnectRequest,
    ) -> Result<()> {
        let net = self.networks.find(network)?;
        let container = self.named_container(&request.container)?;
        let _turn = container.lifecycle.lock().await;
        let settings = request.endpoint_config.unwrap_or_default();
        let record = container.record().clone();
        check(&record, &net)?;
        check_endpoint(&net.record, &settings)?;
        match record.state.status {
            Status::Removing | Status::Dead => {
                return Err(Error::forbidden(format!(
                    "container {} is marked for removal and cannot be connected or disconnected to the network",
                    container.id
                )));
            }
            Status::Running | Status::Paused => {
                let (engine, container) = (Arc::clone(self), Arc::clone(&container));
                let (net, settings) = (Arc::clone(&net), settings.clone());
                self.blocking(move || engine.join(&container, &net, &settings))
                    .await?;
            }
            Status::Created | Status::Exited | Status::Restarting => {
                if self.networks.is_on(&record, &net) {
                    return Err(already(&record, &net));
                }
            }
        }
        let record = {
            let mut record = container.record();
            record
                .endpoints
                .insert(net.name().to_owned(), Some(Box::new(settings)));
            record.clone()
        };
        self.db
            .put(Table::Containers, record.id.as_str(), &record)
            .await?;
        let id = record.id.to_string();
        self.network_event("connect", &net, &[("container", &id)]);
        Ok(())
    }

    /// The container that a request names.
    pub(super) fn named_container(&self, name: &str) -> Result<Arc<Container>> {
        if name.is_empty() {
            return Err(Error::invalid("invalid name or ID supplied: \"\""));
        }
        self.containers.get(name)
    }

    /// Connects a running container. Blocks: it talks to the kernel.
    fn join(
        self: &Arc<Self>,
        container: &Arc<Container>,
        net: &Arc<Net>,
        settings: &EndpointSettings,
    ) -> Result<()> {
        let mut record = container.record().clone();
        let connection = lock(&container.live).connection.take();
        let mut connection = connection
            .ok_or_else(|| Error::conflict(format!("container {} is not running", container.id)))?;
        record
            .endpoints
            .insert(net.name().to_owned(), Some(Box::new(settings.clone())));
        let joined = if connection.endpoint(net.id()).is_some() {
            Err(already(&record, net))
        } else {
            self.join_with(&record, &mut connection, net, settings)
        };
        self.give_back(container, connection);
        if joined.is_ok() {
            self.rewrite_hosts(&record, container)?;
        }
        joined
    }

    /// Gives a running container its networks back, unless it has ended meanwhile.
    pub(super) fn give_back(&self, container: &Container, connection: Connection) {
        let mut live = lock(&container.live);
        if live.over {
            drop(live);
            self.networks.release(connection);
            return;
        }
        let attachments = connection.attachments();
        live.connection = Some(connection);
        container.record().attached = Some(attachments);
    }

    fn join_with(
        &self,
        record: &Record,
        connection: &mut Connection,
        net: &Arc<Net>,
        settings: &EndpointSettings,
    ) -> Result<()> {
        let networks = &self.networks;
        let netns = network_namespace(record.state.pid)?;
        let mut sandbox = Sandbox::adopt(netns).step(|| "enter the container's network")?;
        let (mut endpoint, wishes) = networks.place(record, net, Some(settings))?;
        let index = free_index(connection, net);
        endpoint.attached.interface = interface_name(&endpoint, &wishes, index);
        link(&mut sandbox, &mut endpoint, &wishes, None)?;
        let id = endpoint.attached.id.clone();
        connection.endpoints.push(endpoint);
        let finished = self.finish_join(record, connection, &mut sandbox);
        if finished.is_err()
            && let Some(at) = connection
                .endpoints
                .iter()
                .position(|e| e.attached.id == id)
        {
            let endpoint = connection.endpoints.remove(at);
            self.leave_with(record, connection, &mut sandbox, endpoint)?;
        }
        finished
    }

    fn finish_join(
        &self,
        record: &Record,
        connection: &mut Connection,
        sandbox: &mut Sandbox,
    ) -> Result<()> {
        let networks = &self.networks;
        sandbox
            .route(&gateways(connection))
            .step(|| format!("set the default route of container {}", record.name))?;
        publish::follow(networks, record, connection)?;
        let limits = bandwidth::limits(&record.host)?;
        if let Some(endpoint) = connection.endpoints.last_mut() {
            bandwidth::apply(endpoint, &limits)?;
        }
        let fresh = Attachments {
            endpoints: connection
                .attachments()
                .endpoints
                .pop()
                .into_iter()
                .collect(),
            ..Attachments::default()
        };
        networks
            .firewall
            .add(&fresh.rules())
            .step(|| format!("let container {} into the firewall", record.name))?;
        networks.enter_names(record, connection);
        networks.serve_names(record, connection, Some(sandbox.netns()))
    }
}

/// The lowest number of a link that the container has not.
fn free_index(connection: &Connection, net: &Net) -> usize {
    let prefix = &net.record.settings.prefix;
    let taken = |index: &usize| {
        let name = format!("{prefix}{index}");
        connection
            .endpoints
            .iter()
            .any(|e| e.attached.interface == name)
    };
    (0..).find(|index| !taken(index)).unwrap_or_default()
}

/// Refuses what cannot be connected at all, in Docker's words.
pub(super) fn check(record: &Record, net: &Net) -> Result<()> {
    let mode = record.host.network_mode.as_str();
    if mode.starts_with("container:") {
        return Err(Error::forbidden(
            "container sharing network namespace with another container or host cannot be connected to any other network",
        ));
    }
    if net.record.config_only {
        return Err(Error::forbidden(format!(
            "cannot connect container to network {}: it is only a configuration for other networks",
            net.name()
        )));
    }
    if net.name() == "host" {
        return Err(Error::invalid(
            "cannot connect container to host network - container must be created in host network mode",
        ));
    }
    if mode == "host" {
        return Err(Error::forbidden(
            "container cannot be connected to host network and also attached to other networks",
        ));
    }
    if mode == "none" || net.name() == "none" {
        return Err(Error::invalid(
            "container cannot be connected to multiple networks with one of the networks in private (none) mode",
        ));
    }
    Ok(())
}

fn already(record: &Record, net: &Net) -> Error {
    Error::forbidden(format!(
        "endpoint with name {} already exists in network {}",
        record.name,
        net.name()
    ))
}
