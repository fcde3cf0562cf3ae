//! The engine's networks: the three that are always there, those that users make, and the places
//! of containers in them.

pub(crate) mod attach;
mod audit;
pub(crate) mod bandwidth;
mod check;
mod connect;
pub(crate) mod connection;
mod create;
mod default;
mod disconnect;
mod inspect;
mod leaving;
mod list;
pub(crate) mod names;
pub(crate) mod net;

mod options;
mod plan;
mod prune;
mod publish;
mod remove;
mod repair;
mod republish;
mod settings;
mod withdraw;

pub(crate) use connection::{Attachments, Connection};

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use api::host_config::HostConfig;
use network::{
    AddressPool, DnsServer, Firewall, Pool, PoolSize, Ports, PublishPolicy, ResolvPaths, Watcher,
};

use crate::config::Config;
use crate::container::lock;
use crate::db::{Db, Table};
use crate::error::{Error, Result, Step};
use net::Net;
use plan::NetworkRecord;

/// Our tables; other owners' rules are never touched.
const TABLE: &str = "gorae";

/// The networks of an engine.
#[derive(Debug)]
pub(crate) struct Networks {
    tables: RwLock<HashMap<String, Arc<Net>>>,
    /// Held by whoever makes or removes a network: subnets and names are chosen one after another.
    pub(super) shaping: tokio::sync::Mutex<()>,
    /// Links of removed networks that the kernel is still deleting.
    pub(super) leaving: leaving::Leaving,
    pub(super) policy: PublishPolicy,
    pub(super) publish_address: IpAddr,
    pools: RwLock<Vec<AddressPool>>,
    /// From where IPv6 networks get their subnets.
    pub(super) ula: AddressPool,
    pub(super) mtu: u32,
    /// The mark on the links that this engine makes.
    pub(super) owner: String,
    pub(super) firewall: Firewall,
    pub(super) ports: Ports,
    pool: Mutex<Option<Pool>>,
    pub(super) dns: Arc<DnsServer>,
    pub(super) handle: tokio::runtime::Handle,
    watcher: Mutex<Option<Watcher>>,
    /// The bridges that the watcher looks after.
    pub(super) bridges: Arc<Mutex<BTreeSet<String>>>,
}

impl Networks {
    /// Makes the bridges and the rules, with those of the containers that live on.
    pub(crate) async fn open(config: &Config, db: &Db, alive: &[Attachments]) -> Result<Self> {
        let handle = tokio::runtime::Handle::current();
        let chosen = default::choose(config, db).await?;
        let owner = format!("{TABLE} {}", crate::system::engine_id(db).await?);
        let mut nets: Vec<Arc<Net>> = Vec::new();
        for record in default::predefined(config, &chosen)? {
            nets.push(Arc::new(Net::new(record, config.mtu, &owner)?));
        }
        for (_, record) in db.load::<NetworkRecord>(Table::Networks)? {
            nets.push(Arc::new(Net::new(record, config.mtu, &owner)?));
        }
        repair::delete_orphans(&owner, &nets);
        let (firewall, pool) = {
            let (nets, alive, config) = (nets.clone(), alive.to_vec(), config.clone());
            tokio::task::spawn_blocking(move || build(&nets, &alive, &config))
                .await
                .unwrap_or_else(|e| Err(Error::internal(format!("set up networks: {e}"))))?
        };
        let dns = DnsServer::start(handle.clone(), ResolvPaths::default())
            .step(|| "start the resolver of containers")?;
        let bridges = nets.iter().filter_map(|net| net.bridge());
        let bridges = bridges.map(|b| b.config().name.clone()).collect();
        Ok(Self {
            tables: RwLock::new(nets.into_iter().map(|n| (n.id().to_owned(), n)).collect()),
            shaping: tokio::sync::Mutex::default(),
            leaving: leaving::Leaving::default(),
            policy: config.publish_policy,
            publish_address: config.publish_address,
            pools: RwLock::new(pools(&config.address_pools)),
            ula: network::ula_pool(chosen.ula),
            mtu: config.mtu,
            owner,
            firewall,
            ports: Ports::new(),
            pool: Mutex::new(Some(pool)),
            dns,
            handle,
            watcher: Mutex::default(),
            bridges: Arc::new(Mutex::new(bridges)),
        })
    }

    /// Takes the subnets of networks that are made from now on from these pools.
    pub(crate) fn set_pools(&self, given: &[AddressPool]) {
        let mut current = self.pools.write().unwrap_or_else(PoisonError::into_inner);
        *current = pools(given);
    }

    /// Where the subnets of new networks come from.
    pub(super) fn pools(&self) -> Vec<AddressPool> {
        let current = self.pools.read().unwrap_or_else(PoisonError::into_inner);
        current.clone()
    }

    /// How many questions the resolvers of containers were asked.
    pub(crate) fn questions(&self) -> u64 {
        self.dns.questions()
    }

    /// Lets go of the ready namespaces and of the watch over the rules.
    pub(crate) fn close(&self) {
        drop(lock(&self.watcher).take());
        drop(lock(&self.pool).take());
    }

    /// Fills the pool of ready namespaces anew, for a bridge that was made again.
    pub(super) fn refill(&self, bridge: &network::Bridge) {
        if let Some(pool) = &*lock(&self.pool) {
            pool.rebind(bridge);
        }
    }

    /// All networks, by name.
    pub(crate) fn all(&self) -> Vec<Arc<Net>> {
        let tables = self.tables.read();
        let tables = tables.unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut all: Vec<_> = tables.values().cloned().collect();
        all.sort_by(|a, b| a.name().cmp(b.name()));
        all
    }

    /// The network of this very id.
    pub(crate) fn get(&self, id: &str) -> Option<Arc<Net>> {
        let tables = self.tables.read();
        let tables = tables.unwrap_or_else(std::sync::PoisonError::into_inner);
        tables.get(id).cloned()
    }

    /// The network of an id, a name, or an id's unique beginning.
    pub(crate) fn find(&self, text: &str) -> Result<Arc<Net>> {
        let missing = || Error::not_found(format!("network {text} not found"));
        if text.is_empty() {
            return Err(missing());
        }
        let tables = self.tables.read();
        let tables = tables.unwrap_or_else(std::sync::PoisonError::into_inner);
        let named = || tables.values().find(|net| net.name() == text);
        if let Some(net) = tables.get(text).or_else(named) {
            return Ok(Arc::clone(net));
        }
        let mut matches = tables.values().filter(|net| net.id().starts_with(text));
        match (matches.next(), matches.next()) {
            (Some(net), None) => Ok(Arc::clone(net)),
            (None, _) => Err(missing()),
            (Some(_), Some(_)) => Err(Error::invalid(format!(
                "network {text} is ambiguous (2 or more matches found based on ID prefix)"
            ))),
        }
    }

    pub(super) fn insert(&self, net: Arc<Net>) {
        let tables = self.tables.write();
        let mut tables = tables.unwrap_or_else(std::sync::PoisonError::into_inner);
        tables.insert(net.id().to_owned(), net);
    }

    pub(super) fn take_out(&self, id: &str) {
        let tables = self.tables.write();
        let mut tables = tables.unwrap_or_else(std::sync::PoisonError::into_inner);
        tables.remove(id);
    }
}

/// Makes bridges, rules and ready namespaces. Blocks: it talks to the kernel.
fn build(nets: &[Arc<Net>], alive: &[Attachments], config: &Config) -> Result<(Firewall, Pool)> {
    let mut default = None;
    for net in nets {
        if let Err(error) = net.ensure_parent() {
            tracing::error!(network = net.name(), %error, "a network's parent is missing");
        }
        match net.ensure_bridge() {
            Ok(bridge) if net.is_predefined() => default = default.or(bridge),
            Ok(_) => {}
            // the others must not wait for one that cannot be; `system check` tells of it again
            Err(error) if !net.is_predefined() => {
                tracing::error!(network = net.name(), %error, "a network could not be set up");
            }
            Err(error) => return Err(error),
        }
    }
    let default = default.ok_or_else(|| Error::internal("there is no default bridge"))?;
    let rules = Networks::first_rules(nets.iter().cloned(), alive);
    let firewall = Firewall::ensure(TABLE, config.publish_policy, rules)
        .step(|| "set up the nftables rules")?;
    audit::warn_of_obstacles(&firewall);
    let size = PoolSize {
        attached: config.warm,
        isolated: config.warm,
    };
    let pool = if config.icc {
        Pool::new(&default, size)
    } else {
        Pool::with_isolated_ports(&default, size)
    };
    reap_limits(alive);
    Ok((firewall, pool.step(|| "prepare network namespaces")?))
}

/// Deletes what is left of the limits of links that went while no engine ran.
fn reap_limits(alive: &[Attachments]) {
    let endpoints = alive.iter().flat_map(|a| &a.endpoints);
    let links: Vec<String> = endpoints
        .filter_map(|e| e.host.as_ref().map(|host| host.name.clone()))
        .collect();
    match network::bandwidth::reap(&links) {
        Ok(reaped) if reaped.is_empty() => {}
        Ok(reaped) => tracing::info!(?reaped, "deleted limits of links that are gone"),
        Err(error) => tracing::warn!(
            error = crate::error::chain(&error),
            "limits of links that are gone may stay"
        ),
    }
}

/// Refuses what no network can give; whether the network exists is seen at the start, as with Docker.
pub(crate) fn check_network_mode(host: &HostConfig) -> Result<()> {
    let ports = host
        .port_bindings
        .as_ref()
        .is_some_and(|ports| !ports.is_empty());
    if host.network_mode.starts_with("container:") && (ports || host.publish_all_ports) {
        return Err(Error::invalid(
            "conflicting options: port publishing and the container type network mode",
        ));
    }
    publish::check(host)
}

/// The given pools, or the built-in ones where none are.
fn pools(given: &[AddressPool]) -> Vec<AddressPool> {
    if given.is_empty() {
        network::default_pools()
    } else {
        given.to_vec()
    }
}
