//! Putting back what others have taken away: rules, bridges.

use std::sync::{Arc, Weak};

use network::{Disturbance, Watcher};

use super::TABLE;
use super::net::Net;
use crate::container::lock;
use crate::engine::Engine;
use crate::error::{Result, Step};

impl Engine {
    /// Begins to look after rules and bridges, until the engine closes.
    pub(crate) fn watch_networks(self: &Arc<Self>) {
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

    /// Makes a bridge again that is gone, with everything that was on it.
    pub(super) fn restore_bridge(&self, net: &Net) -> Result<()> {
        let Some(bridge) = net.ensure_bridge()? else {
            return Ok(());
        };
        let name = &bridge.config().name;
        bridge
            .rejoin(&self.ports_of(net))
            .step(|| format!("put containers back on bridge {name}"))?;
        if net.is_predefined() {
            self.networks.refill(&bridge);
        }
        tracing::warn!(bridge = name, "a bridge was taken away: it is put back");
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
