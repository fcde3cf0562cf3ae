//! The three networks that are always there: `bridge`, `host` and `none`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use network::{AddressPool, GatewayMode, Subnet};
use serde::{Deserialize, Serialize};

use super::plan::{Driver, IpamRecord, NetworkRecord, Settings};
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
    let plain = |id: &str, name: &str, driver| NetworkRecord {
        id: id.to_owned(),
        name: name.to_owned(),
        created: chosen.created,
        driver,
        ..NetworkRecord::default()
    };
    Ok(vec![
        bridge(config, chosen, plain(&chosen.bridge_id, "bridge", Driver::Bridge))?,
        plain(&chosen.host_id, "host", Driver::Host),
        plain(&chosen.none_id, "none", Driver::Null),
    ])
}

fn bridge(config: &Config, chosen: &Chosen, plain: NetworkRecord) -> Result<NetworkRecord> {
    let side = |subnet: Subnet, gateway| IpamRecord {
        subnet,
        gateway: Some(gateway),
        ..IpamRecord::of(subnet)
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
    let settings = Settings {
        bridge: config.bridge.clone(),
        mtu: config.mtu,
        icc: config.icc,
        mode4: GatewayMode::Nat,
        mode6: GatewayMode::Nat,
        ..Settings::default()
    };
    let options = [
        ("com.docker.network.bridge.default_bridge", "true".to_owned()),
        ("com.docker.network.bridge.enable_icc", config.icc.to_string()),
        ("com.docker.network.bridge.enable_ip_masquerade", "true".to_owned()),
        ("com.docker.network.bridge.host_binding_ipv4", config.publish_address.to_string()),
        ("com.docker.network.bridge.name", config.bridge.clone()),
        ("com.docker.network.driver.mtu", config.mtu.to_string()),
    ];
    Ok(NetworkRecord {
        v4: Some(side(chosen.subnet, chosen.gateway)),
        v6: v6.map(|subnet| side(subnet, subnet.first_host())),
        options: options.map(|(k, v)| (k.to_owned(), v)).into_iter().collect::<BTreeMap<_, _>>(),
        settings,
        ..plain
    })
}

/// The first network of a pool is the default bridge's.
fn first_of(pool: AddressPool) -> Result<Subnet> {
    Subnet::containing(pool.base.address(), pool.size)
        .ok_or_else(|| Error::internal(format!("the pool {} has no networks", pool.base)))
}
