//! Everything of one host's container network, made in the right order and taken down again.

use std::sync::Arc;

use crate::bridge::{Bridge, BridgeConfig, BridgeError};
use crate::firewall::{Firewall, FirewallError, GatewayMode, PublishPolicy, Rules, Zone, ZoneSide};
use crate::ipam::Ipam;
use crate::pool::{Pool, PoolSize};
use crate::ports::{PortMapping, Ports};
use crate::sandbox::SandboxError;

/// What a network is to be.
#[derive(Debug, Clone)]
pub struct NetworkConfig {
    /// The bridge and its addresses.
    pub bridge: BridgeConfig,
    /// The name of the nftables table.
    pub table: String,
    /// How many sandboxes to keep ready.
    pub pool: PoolSize,
}

/// What lives on from an earlier engine.
#[derive(Debug, Clone, Default)]
pub struct Alive {
    /// The host's ends of the containers' links.
    pub host_interfaces: Vec<String>,
    /// The published ports.
    pub published: Vec<PortMapping>,
}

/// A bridge, its rules, its addresses, its ports and its sandboxes.
#[derive(Debug)]
pub struct Network {
    /// The bridge.
    pub bridge: Bridge,
    /// The rules and the published ports.
    pub firewall: Firewall,
    /// The reserved ports of the host.
    pub ports: Ports,
    /// The addresses of the containers.
    pub ipam: Arc<Ipam>,
    /// Namespaces made ahead of time.
    pub pool: Pool,
}

/// The part of a network that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// The bridge.
    #[error("cannot set up the container network")]
    Bridge(#[source] BridgeError),
    /// The rules.
    #[error("cannot set up the rules of the container network")]
    Firewall(#[source] FirewallError),
    /// The sandboxes.
    #[error("cannot prepare network namespaces")]
    Pool(#[source] SandboxError),
}

impl Network {
    /// Sets everything up in the calling thread's namespace, or repairs what is there; deletes
    /// what an earlier engine left and nothing alive uses.
    pub fn start(config: NetworkConfig, alive: &Alive) -> Result<Self, NetworkError> {
        let bridge = Bridge::ensure(config.bridge).map_err(NetworkError::Bridge)?;
        let reaped = bridge
            .reap(&alive.host_interfaces)
            .map_err(NetworkError::Bridge)?;
        if !reaped.is_empty() {
            tracing::info!(?reaped, "deleted links that no container uses");
        }
        let BridgeConfig {
            name,
            subnet,
            gateway,
            ..
        } = bridge.config().clone();
        let side = ZoneSide {
            subnet,
            mode: GatewayMode::Nat,
            masquerade: true,
            source: None,
        };
        let zone = Zone {
            bridge: name,
            v4: Some(side),
            v6: None,
            internal: false,
            icc: true,
        };
        let rules = Rules {
            zones: vec![zone],
            published: alive.published.clone(),
            ..Rules::default()
        };
        let firewall = Firewall::ensure(&config.table, PublishPolicy::Docker, rules)
            .map_err(NetworkError::Firewall)?;
        let pool = Pool::new(&bridge, config.pool).map_err(NetworkError::Pool)?;
        let ipam = Arc::new(Ipam::new(subnet, gateway));
        Ok(Self {
            bridge,
            firewall,
            ports: Ports::new(),
            ipam,
            pool,
        })
    }

    /// Takes everything down, however much of it fails.
    ///
    /// Links of the pool and of containers go with their namespaces, in the background.
    pub fn destroy(self) -> Result<(), Vec<NetworkError>> {
        drop(self.pool);
        let firewall = self.firewall.destroy().map_err(NetworkError::Firewall);
        let bridge = self.bridge.destroy().map_err(NetworkError::Bridge);
        let errors: Vec<_> = [firewall, bridge]
            .into_iter()
            .filter_map(Result::err)
            .collect();
        if errors.is_empty() {
            Ok(())
        } else {
            Err(errors)
        }
    }
}
