//! Removing a network.

use std::sync::Arc;

use super::net::Net;
use crate::container::lock;
use crate::db::Table;
use crate::engine::Engine;
use crate::error::{Error, Result};

impl Engine {
    /// Removes a network.
    ///
    /// # Errors
    /// When there is no such network, or running containers are in it.
    pub async fn network_remove(self: &Arc<Self>, name: &str) -> Result<()> {
        let _turn = self.networks.shaping.lock().await;
        let net = self.networks.find(name)?;
        self.remove_network(&net).await
    }

    /// Removes a network; the caller holds the turn of those who make and remove networks.
    pub(super) async fn remove_network(self: &Arc<Self>, net: &Arc<Net>) -> Result<()> {
        if net.is_predefined() {
            return Err(Error::forbidden(format!(
                "{} is a pre-defined network and cannot be removed",
                net.name()
            )));
        }
        let all = self.networks.all();
        if all
            .iter()
            .any(|other| other.record.config_from == net.name())
        {
            return Err(Error::forbidden(format!(
                "error while removing network: configuration network {:?} is in use",
                net.name()
            )));
        }
        if !net.close() {
            return Err(Error::forbidden(format!(
                "error while removing network: network {} has active endpoints ({})",
                net.name(),
                self.members(net).join(", ")
            )));
        }
        let (engine, gone) = (Arc::clone(self), Arc::clone(net));
        if let Err(error) = self.blocking(move || engine.close_network(&gone)).await {
            net.reopen();
            return Err(error);
        }
        self.db.remove(Table::Networks, net.id()).await?;
        self.networks.take_out(net.id());
        self.network_event("destroy", net, &[]);
        // The kernel waits for two RCU grace periods, some 40 ms, before a bridge is gone. Nobody else
        // has to; should the engine die before, the next one finds a bridge that no network knows.
        let (engine, gone) = (Arc::clone(self), Arc::clone(net));
        self.networks.leaving.add(move || {
            if let Err(error) = engine.delete_links(&gone) {
                tracing::error!(network = gone.name(), %error, "links of a removed network stay");
            }
        });
        Ok(())
    }

    /// The running containers in a network, in Docker's words.
    fn members(&self, net: &Net) -> Vec<String> {
        let mut members = Vec::new();
        for container in self.containers.all() {
            let live = lock(&container.live);
            let on = live
                .connection
                .as_ref()
                .is_some_and(|c| c.endpoint(net.id()).is_some());
            if on {
                let short = container.id.short();
                members.push(format!("name:{:?} id:{short:?}", container.name()));
            }
        }
        members
    }
}
