//! The three networks that are always there: `bridge`, `host` and `none`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use network::{AddressPool, Subnet};
use serde::{Deserialize, Serialize};

use super::plan::{DefaultBridge, Driver, IpamRecord, NetworkRecord};
use crate::config::Config;
use crate::db::{Db, Table};
use crate::error::{Error, Result, Step};
use crate::names;

/// What was chosen once and stays.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Chosen {
    subnet: Subnet,
    gateway: IpAddr,
    bridge_id: String,
    none_id: String,
    host_id: String,
    created: Timestamp,
    /// The random part of this engine's unique local addresses (RFC 4193).
    pub(super) ula: [u8; 5],
}

/// Reads what was chosen at the first start, or chooses.
pub(super) async fn choose(config: &Config, db: &Db) -> Result<Chosen> {
    const KEY: &str = "network.bridge";
    let stored = db.load_one::<Chosen>(Table::Meta, KEY)?;
    let wanted = match config.bip {
        Some((address, prefix)) => {
            let invalid = || Error::invalid(format!("invalid bridge address {address}/{prefix}"));
            Some((
                Subnet::containing(address.into(), prefix).ok_or_else(invalid)?,
                IpAddr::from(address),
            ))
        }
        None => None,
    };
    if let Some(stored) = &stored
        && wanted.is_none_or(|wanted| wanted == (stored.subnet, stored.gateway))
    {
        return Ok(stored.clone());
    }
    let (subnet, gateway) = match wanted {
        Some(wanted) => wanted,
        None => {
            let subnet =
                network::pick_subnet().step(|| "choose a subnet for the default bridge")?;
            (subnet, subnet.first_host())
        }
    };
    let id = || names::draw_id().map(|id| id.to_string());
    // only the addresses have changed: what refers to the networks by id goes on
    let chosen = match stored {
        Some(stored) => Chosen {
            subnet,
            gateway,
            ..stored
        },
        None => Chosen {
            subnet,
            gateway,
            bridge_id: id()?,
            none_id: id()?,
            host_id: id()?,
            created: Timestamp::now(),
            ula: names::random()?,
        },
    };
    db.put(Table::Meta, KEY, &chosen).await?;
    Ok(chosen)
}

/// The records of the three networks.
pub(super) fn predefined(config: &Config, chosen: &Chosen) -> Result<Vec<NetworkRecord>> {
    let side = |subnet: Subnet, gateway| IpamRecord {
        subnet,
        range: None,
        gateway: Some(gateway),
        aux: BTreeMap::new(),
    };
    let v6 = match (config.ipv6, config.fixed_cidr_v6) {
        (false, _) => None,
        (true, Some(subnet)) if subnet.address().is_ipv6() => Some(subnet),
        (true, Some(subnet)) => {
            return Err(Error::invalid(format!(
                "invalid fixed-cidr-v6 {subnet}: it is no IPv6 network"
            )));
        }
        (true, None) => Some(first_of(network::ula_pool(chosen.ula))?),
    };
    let bridge = DefaultBridge {
        bridge: config.bridge.clone(),
        v4: Some(side(chosen.subnet, chosen.gateway)),
        v6: v6.map(|subnet| side(subnet, subnet.first_host())),
        mtu: config.mtu,
        icc: config.icc,
        publish: config.publish_address,
    };
    let (bridge_id, host_id) = (chosen.bridge_id.clone(), chosen.host_id.clone());
    Ok(vec![
        NetworkRecord::default_bridge(bridge, bridge_id, chosen.created),
        NetworkRecord::builtin(Driver::Host, host_id, chosen.created),
        NetworkRecord::builtin(Driver::Null, chosen.none_id.clone(), chosen.created),
    ])
}

/// The first network of a pool is the default bridge's.
fn first_of(pool: AddressPool) -> Result<Subnet> {
    Subnet::containing(pool.base.address(), pool.size)
        .ok_or_else(|| Error::internal(format!("the pool {} has no networks", pool.base)))
}
