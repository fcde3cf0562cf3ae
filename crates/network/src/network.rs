//! Everything of one host's container network, made in the right order and taken down again.

use std::sync::Arc;

use crate::bridge::{Bridge, BridgeConfig, BridgeError};
use crate::firewall::{Firewall, FirewallError, Zone};
use crate::ipam::{Ipam, IpamConfig, IpamError};
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
    /// The addresses.
    #[error("cannot use the addresses of the container network")]
    Ipam(#[source] IpamError),
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
        let zones = vec![Zone {
            bridge: name,
            subnet,
        }];
        let firewall = Firewall::ensure(config.table, zones, &alive.published)
            .map_err(NetworkError::Firewall)?;
        let pool = Pool::new(&bridge, config.pool).map_err(NetworkError::Pool)?;
        let ipam = Ipam::new(IpamConfig {
            subnet,
            range: None,
            gateway: Some(gateway),
            reserved: Vec::new(),
        });
        let ipam = Arc::new(ipam.map_err(NetworkError::Ipam)?);
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
