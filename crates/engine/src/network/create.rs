//! Making a network.

use std::sync::Arc;

use api::network::{CreateRequest, CreateResponse};

use super::net::Net;
use super::plan::{self, NetworkRecord, Taken};
use crate::container::lock;
use crate::db::Table;
use crate::engine::Engine;
use crate::error::{Result, Step};

impl Engine {
    /// Makes a network.
    ///
    /// # Errors
    /// When the request makes no sense, the name or a subnet is taken, or the kernel refuses; then
    /// nothing is left of it.
    pub async fn network_create(
        self: &Arc<Self>,
        request: CreateRequest,
    ) -> Result<CreateResponse> {
        let _turn = self.networks.shaping.lock().await;
        if names_addresses(&request) {
            self.networks.leaving.settle().await;
        }
        let engine = Arc::clone(self);
        let net = self.blocking(move || engine.make_network(&request)).await?;
        let record = &net.stored();
        if let Err(error) = self.db.put(Table::Networks, &record.id, record).await {
            let engine = Arc::clone(self);
            let net = Arc::clone(&net);
            self.blocking(move || engine.unmake_network(&net)).await?;
            return Err(error);
        }
        self.networks.insert(Arc::clone(&net));
        self.network_event("create", &net, &[]);
        Ok(CreateResponse {
            id: record.id.clone(),
            warning: String::new(),
        })
    }

    /// Makes what the kernel must have of a network.
    fn make_network(&self, request: &CreateRequest) -> Result<Arc<Net>> {
        let networks = &self.networks;
        let known: Vec<NetworkRecord> = networks.all().iter().map(|n| n.record.clone()).collect();
        let pools = networks.pools();
        let host = network::used_by_host().step(|| "read the networks that the host uses")?;
        let record = plan::plan(
            request,
            &Taken {
                networks: &known,
                host: &host,
                pools: &pools,
                ula: networks.ula,
            },
        )?;
        let net = Arc::new(Net::new(record, networks.mtu, &networks.owner)?);
        let built = self.build_network(&net);
        if built.is_err() {
            self.unmake_network(&net)?;
            // a bridge that was only half made
            for orphan in self.networks.orphans()? {
                self.networks.delete_link(&orphan.name);
            }
        }
        built.map(|()| net)
    }

    fn build_network(&self, net: &Net) -> Result<()> {
        net.ensure_parent()?;
        if let Some(bridge) = net.ensure_bridge()? {
            lock(&self.networks.bridges).insert(bridge.config().name.clone());
        }
        self.networks
            .firewall
            .add(&net.zone_rules())
            .step(|| format!("let network {} into the firewall", net.name()))
    }

    /// Takes away what the kernel has of a network.
    fn unmake_network(&self, net: &Net) -> Result<()> {
        self.close_network(net)?;
        self.delete_links(net)
    }

    /// Takes a network out of the firewall, and from those that are looked after.
    pub(super) fn close_network(&self, net: &Net) -> Result<()> {
        lock(&self.networks.bridges).remove(&net.record.settings.bridge);
        self.networks
            .firewall
            .remove(&net.zone_rules())
            .step(|| format!("take network {} out of the firewall", net.name()))
    }

    /// Deletes the links that were made for a network; those that were there before it stay.
    pub(super) fn delete_links(&self, net: &Net) -> Result<()> {
        let bridge = &net.record.settings.bridge;
        if net.bridge().is_some() {
            network::delete_owned(&self.networks.owner, bridge)
                .step(|| format!("delete the bridge {bridge}"))?;
        }
        if let Some(parent) = net.own_parent()
            && !self.is_parent_of_another(net, &parent)
        {
            network::macvlan::remove_parent(&parent)
                .step(|| format!("delete the parent {parent}"))?;
        }
        Ok(())
    }

    fn is_parent_of_another(&self, net: &Net, parent: &str) -> bool {
        let all = self.networks.all();
        let others = all.iter().filter(|other| other.id() != net.id());
        others
            .filter_map(|other| other.parent())
            .any(|other| other == parent)
    }
}

/// Whether a request names what a network that is being taken away may still have.
fn names_addresses(request: &CreateRequest) -> bool {
    let ipam = request.ipam.as_ref();
    let configs = ipam.and_then(|ipam| ipam.config.as_ref());
    let options = request.options.as_ref();
    configs.is_some_and(|configs| !configs.is_empty()) || options.is_some_and(|o| !o.is_empty())
}
