//! Host names to addresses: the hosts file first, then the name servers of `resolv.conf`.
//!
//! Both files are looked at again when they change, because the engine lives longer than a lease.
//! `getaddrinfo` is never called: a static executable would load the host's NSS modules.

use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::system_conf::parse_resolv_conf;

use super::TransportError;
use crate::config::NameSources;
use crate::location::bare;

/// A hosts file of an ad blocker has a few megabytes.
const FILE_MAX: u64 = 16 << 20;

/// Looks up names of hosts as every connection to a registry does.
#[derive(Debug)]
pub struct HostNames(Names);

impl Default for HostNames {
    fn default() -> Self {
        Self(Names::new(NameSources::default()))
    }
}

impl HostNames {
    /// All addresses of a host, in the order of preference; an address stands for itself.
    ///
    /// # Errors
    /// When the name has none, or no server answers within the limit.
    pub async fn lookup(&self, host: &str, limit: Duration) -> Result<Vec<IpAddr>, TransportError> {
        self.0.lookup(host, limit).await
    }
}

#[derive(Debug)]
pub(super) struct Names {
    sources: NameSources,
    current: Mutex<Option<(Stamp, Arc<Resolver>)>>,
}

/// When the files changed last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stamp(Option<(SystemTime, u64)>, Option<(SystemTime, u64)>);

struct Resolver {
    hosts: Vec<(String, IpAddr)>,
    servers: Result<TokioResolver, NetError>,
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver").finish_non_exhaustive()
    }
}

impl Names {
    pub(super) fn new(sources: NameSources) -> Self {
        Self {
            sources,
            current: Mutex::new(None),
        }
    }

    /// All addresses of a host, in the order of preference.
    pub(super) async fn lookup(
        &self,
        host: &str,
        limit: Duration,
    ) -> Result<Vec<IpAddr>, TransportError> {
        if let Ok(address) = bare(host).parse() {
            return Ok(vec![address]);
        }
        let resolver = self.resolver();
        let listed = resolver.listed(host);
        if !listed.is_empty() {
            return Ok(listed);
        }
        let lookup = resolver.ask(host);
        match tokio::time::timeout(limit, lookup).await {
            Ok(answer) => answer,
            Err(_) => Err(TransportError::LookupTimeout {
                host: host.to_owned(),
                limit,
            }),
        }
    }

    fn resolver(&self) -> Arc<Resolver> {
        let stamp = Stamp(
            changed(&self.sources.hosts),
            changed(&self.sources.resolv_conf),
        );
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        match &*current {
            Some((then, resolver)) if *then == stamp => resolver.clone(),
            _ => {
                let resolver = Arc::new(Resolver::read(&self.sources));
                *current = Some((stamp, resolver.clone()));
                resolver
            }
        }
    }
}

fn changed(path: &Path) -> Option<(SystemTime, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

impl Resolver {
    fn read(sources: &NameSources) -> Self {
        let hosts = read_bounded(&sources.hosts).unwrap_or_default();
        Self {
            hosts: parse_hosts(&String::from_utf8_lossy(&hosts)),
            servers: servers(&sources.resolv_conf),
        }
    }

    fn listed(&self, host: &str) -> Vec<IpAddr> {
        let host = host.trim_end_matches('.');
        let same = |name: &String| name.eq_ignore_ascii_case(host);
        let mut found: Vec<IpAddr> = Vec::new();
        for (_, address) in self.hosts.iter().filter(|(name, _)| same(name)) {
            if !found.contains(address) {
                found.push(*address);
            }
        }
        // RFC 6761, 6.3: localhost never reaches a name server.
        if found.is_empty() && (host == "localhost" || host.ends_with(".localhost")) {
            found = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        }
        found
    }

    async fn ask(&self, host: &str) -> Result<Vec<IpAddr>, TransportError> {
        let failed = |source: NetError| {
            if source.is_no_records_found() {
                return TransportError::NoSuchHost {
                    host: host.to_owned(),
                };
            }
            TransportError::Lookup {
                host: host.to_owned(),
                source,
            }
        };
        let servers = self.servers.as_ref().map_err(|e| failed(e.clone()))?;
        let answer = servers.lookup_ip(host).await.map_err(failed)?;
        let found: Vec<IpAddr> = answer.iter().collect();
        if found.is_empty() {
            return Err(TransportError::NoSuchHost {
                host: host.to_owned(),
            });
        }
        Ok(found)
    }
}

/// Makes a resolver of `resolv.conf`; resolv.conf(5): without the file or a server in it, the
/// name server is the local host.
fn servers(path: &Path) -> Result<TokioResolver, NetError> {
    let local = || {
        let server = NameServerConfig::udp_and_tcp(Ipv4Addr::LOCALHOST.into());
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
        (config, ResolverOpts::default())
    };
    let (config, mut options) = read_bounded(path)
        .ok()
        .and_then(|text| parse_resolv_conf(text).ok())
        .unwrap_or_else(local);
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.use_hosts_file = ResolveHosts::Never;
    TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        .with_options(options)
        .build()
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?
        .take(FILE_MAX)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// hosts(5): an address, then names, until a `#`.
fn parse_hosts(text: &str) -> Vec<(String, IpAddr)> {
    let mut found = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_ascii_whitespace();
        let Some(Ok(address)) = words.next().map(str::parse) else {
            continue;
        };
        found.extend(words.map(|name| (name.to_owned(), address)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_hosts_files() {
        let text = "127.0.0.1 localhost\n# 1.1.1.1 no\n10.0.0.5\treg.Example reg # x\nbad name\n";
        let found = parse_hosts(text);
        assert_eq!(found.len(), 3);
        let resolver = Resolver {
            hosts: found,
            servers: servers(Path::new("/nonexistent")),
        };
        let ten: IpAddr = "10.0.0.5".parse().unwrap();
        assert_eq!(resolver.listed("REG.example"), [ten]);
        assert_eq!(resolver.listed("reg.example."), [ten]);
        assert!(resolver.listed("no").is_empty());
        assert_eq!(resolver.listed("a.localhost").len(), 2);
    }
}
