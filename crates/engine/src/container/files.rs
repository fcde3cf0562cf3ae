//! The files that the engine mounts over the image's: `/etc/hosts`, `/etc/hostname`, `/etc/resolv.conf`.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use network::files::{HostEntry, HostResolver, HostsFile, ResolvOptions};

use super::Record;
use crate::error::{Error, Result, Step};
use crate::network::names::servers;

/// Where each file goes.
const PLACES: [(&str, &str); 3] = [
    ("resolv.conf", "/etc/resolv.conf"),
    ("hostname", "/etc/hostname"),
    ("hosts", "/etc/hosts"),
];

/// What the network says about the container.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) own: Vec<IpAddr>,
    /// What `host-gateway` stands for.
    pub(crate) gateway: Option<IpAddr>,
    /// Its names are asked of the resolver inside.
    pub(crate) resolver: bool,
    /// Legacy links: addresses and names.
    pub(crate) linked: Vec<(IpAddr, Vec<String>)>,
}

/// Where the files of a container's folder are to be mounted.
pub(super) fn places(folder: &Path) -> Vec<(PathBuf, &'static str)> {
    PLACES
        .iter()
        .map(|(name, place)| (folder.join(name), *place))
        .collect()
}

/// Writes the files into the container's folder.
pub(super) fn write(folder: &Path, record: &Record, view: &View) -> Result<()> {
    let hosts = hosts(record, view)?;
    let resolv = resolv_conf(record, view)?;
    let hostname = network::files::hostname(&record.config.hostname);
    for (name, content) in [
        ("hosts", &hosts),
        ("resolv.conf", &resolv),
        ("hostname", &hostname),
    ] {
        let path = folder.join(name);
        std::fs::write(&path, content).step(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// Writes the files again that follow the networks, in place: they are mounted.
///
/// A resolver file that the container has changed is the container's.
pub(super) fn rewrite(folder: &Path, record: &Record, view: &View) -> Result<()> {
    let path = folder.join("hosts");
    std::fs::write(&path, hosts(record, view)?).step(|| format!("write {}", path.display()))?;
    let path = folder.join("resolv.conf");
    let before = View {
        own: Vec::new(),
        linked: Vec::new(),
        resolver: !view.resolver,
        ..*view
    };
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    if found == resolv_conf(record, &before)? {
        std::fs::write(&path, resolv_conf(record, view)?)
            .step(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

fn hosts(record: &Record, view: &View) -> Result<String> {
    let mut extra = extra_hosts(record, view)?;
    for (address, names) in &view.linked {
        extra.push(HostEntry {
            name: names.join(" "),
            address: *address,
        });
    }
    Ok(network::files::hosts(&HostsFile {
        hostname: &record.config.hostname,
        domainname: &record.config.domainname,
        addresses: &view.own,
        extra: &extra,
        ipv6: true,
    }))
}

/// `--add-host name:address`; `host-gateway` is the bridge's address.
pub(crate) fn extra_hosts(record: &Record, view: &View) -> Result<Vec<HostEntry>> {
    let mut hosts = Vec::new();
    for text in record.host.extra_hosts.iter().flatten() {
        let invalid = |why: &str| Error::invalid(format!("bad format for add-host: {text:?}{why}"));
        let (name, address) = text.split_once([':', '=']).ok_or_else(|| invalid(""))?;
        let address = address.trim_start_matches('[').trim_end_matches(']');
        let address = if address == "host-gateway" {
            view.gateway
                .ok_or_else(|| invalid(": the container's network has no gateway"))?
        } else {
            address
                .parse()
                .map_err(|_| invalid(&format!(": invalid IP address {address:?}")))?
        };
        hosts.push(HostEntry {
            name: name.to_owned(),
            address,
        });
    }
    Ok(hosts)
}

pub(crate) fn resolv_conf(record: &Record, view: &View) -> Result<String> {
    let host = &record.host;
    let list = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    let servers = servers(record)?;
    let host_files = HostResolver::read().step(|| "read the host's resolv.conf")?;
    if host.network_mode == "host"
        && servers.is_empty()
        && host.dns_search.is_none()
        && host.dns_options.is_none()
    {
        // the host's loopback is the container's
        return Ok(host_files.main);
    }
    let options = ResolvOptions {
        nameservers: &servers,
        search: &list(&host.dns_search),
        options: &list(&host.dns_options),
        ipv6: view.own.iter().any(IpAddr::is_ipv6),
    };
    if view.resolver {
        return Ok(network::files::embedded_resolv_conf(&host_files, &options).text);
    }
    Ok(network::files::resolv_conf(&host_files, &options).text)
}
