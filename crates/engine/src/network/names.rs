//! What containers are called in their networks, and how they ask for others.

use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use network::files::{HostResolver, ResolvOptions, embedded_resolv_conf};
use network::{Entry, Scope, ScopeState, Upstream};

use super::Networks;
use super::connection::{Connection, Endpoint, Resolver};
use crate::container::Record;
use crate::error::{Error, Result, Step};

impl Networks {
    /// Makes a container known by its names in all of its networks that have names; those that it
    /// had before are forgotten.
    pub(crate) fn enter_names(&self, record: &Record, connection: &Connection) {
        for endpoint in connection.endpoints.iter().filter(|e| e.net().has_names()) {
            let names = dns_names(record, endpoint.net().name(), endpoint.net().id());
            endpoint.net().names.insert(
                &endpoint.attached.id,
                Entry {
                    canonical: format!("{}.{}", record.name, endpoint.net().name()),
                    names,
                    addresses: endpoint.attached.addresses.clone(),
                },
            );
        }
    }

    /// Opens the resolver inside a container that needs one, or tells it what has changed.
    ///
    /// The namespace is that of the connection where it still holds one.
    pub(super) fn serve_names(
        &self,
        record: &Record,
        connection: &mut Connection,
        netns: Option<BorrowedFd<'_>>,
    ) -> Result<()> {
        if !needs_resolver(connection) {
            // a container keeps its resolver for life: its resolv.conf may name it already
            if let Some(resolver) = &connection.resolver {
                resolver.scope.set(scope(record, connection)?);
            }
            return Ok(());
        }
        let state = scope(record, connection)?;
        if let Some(resolver) = &connection.resolver {
            resolver.scope.set(state);
            return Ok(());
        }
        let scope = Arc::new(Scope::new(state));
        let guard = {
            let Some(netns) = netns.or_else(|| connection.netns()) else {
                return Err(Error::internal("a container's namespace is not at hand"));
            };
            self.dns
                .serve(netns, Arc::clone(&scope))
                .step(|| format!("open the resolver of container {}", record.name))?
        };
        connection.resolver = Some(Resolver {
            scope,
            _guard: guard,
        });
        Ok(())
    }
}

/// Whether a container's networks have names to be found.
pub(crate) fn needs_resolver(connection: &Connection) -> bool {
    connection.endpoints.iter().any(|e| e.net().has_names())
}

/// The names of a container in a network: its own, its aliases, its short id, its host name.
pub(crate) fn dns_names(record: &Record, network: &str, id: &str) -> Vec<String> {
    let mut names = vec![record.name.clone()];
    let settings = settings_of(record, network, id);
    names.extend(settings.and_then(|s| s.aliases.clone()).unwrap_or_default());
    names.push(record.id.short().to_owned());
    names.push(record.config.hostname.clone());
    let mut known = std::collections::HashSet::new();
    names.retain(|name| !name.is_empty() && known.insert(name.clone()));
    names
}

/// What a client asked of a network, by the network's name or id.
pub(crate) fn settings_of<'a>(
    record: &'a Record,
    network: &str,
    id: &str,
) -> Option<&'a api::network::EndpointSettings> {
    let named = record
        .endpoints
        .get(network)
        .or_else(|| record.endpoints.get(id));
    named.and_then(Option::as_deref)
}

fn scope(record: &Record, connection: &Connection) -> Result<ScopeState> {
    let named = || connection.endpoints.iter().filter(|e| e.net().has_names());
    let internal = connection.endpoints.iter().all(|e| e.net().record.internal);
    let servers = servers(record)?;
    Ok(ScopeState {
        networks: named().map(|e| Arc::clone(&e.net().names)).collect(),
        links: named().flat_map(|e| links(record, e)).collect(),
        keep_single_labels: sets_ndots(record)?,
        upstream: match (servers.is_empty(), internal) {
            (false, _) => Upstream::Given(servers),
            (true, true) => Upstream::None,
            (true, false) => Upstream::Host,
        },
    })
}

/// Whether the user or the host set `ndots`, as the container's resolver file says.
fn sets_ndots(record: &Record) -> Result<bool> {
    let host = HostResolver::read().step(|| "read the host's resolv.conf")?;
    let list = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    let options = ResolvOptions {
        nameservers: &[],
        search: &list(&record.host.dns_search),
        options: &list(&record.host.dns_options),
        ipv6: true,
    };
    Ok(embedded_resolv_conf(&host, &options).ndots_set)
}

/// The name servers that the user gave.
pub(crate) fn servers(record: &Record) -> Result<Vec<IpAddr>> {
    let given = record.host.dns.iter().flatten();
    given
        .map(|server| {
            server
                .parse()
                .map_err(|_| Error::invalid(format!("{server} is not an ip address")))
        })
        .collect()
}

/// Legacy links, as alias and name: in user-defined networks they are names for this container alone.
fn links(record: &Record, endpoint: &Endpoint) -> Vec<(String, String)> {
    let net = endpoint.net();
    let own = settings_of(record, net.name(), net.id()).and_then(|s| s.links.as_ref());
    let of_mode = (record.host.network_mode == net.name() || record.host.network_mode == net.id())
        .then_some(record.host.links.as_ref())
        .flatten();
    let texts = own.into_iter().chain(of_mode).flatten();
    texts
        .map(|text| {
            let (name, alias) = split_link(text);
            (alias.to_owned(), name.to_owned())
        })
        .collect()
}

/// `name`, `name:alias` or, as old clients store it, `/name:/container/alias`.
pub(crate) fn split_link(text: &str) -> (&str, &str) {
    let (name, alias) = text.split_once(':').unwrap_or((text, text));
    let last = |text: &'_ str| text.rfind('/').map_or(0, |at| at + 1);
    (&name[last(name)..], &alias[last(alias)..])
}
