//! The files that the engine mounts over the image's: `/etc/hosts`, `/etc/hostname`, `/etc/resolv.conf`.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use network::files::{HostEntry, HostResolver, HostsFile, ResolvOptions};

use super::Record;
use crate::error::{Error, Result, Step};

/// Where each file goes.
const PLACES: [(&str, &str); 3] = [
    ("resolv.conf", "/etc/resolv.conf"),
    ("hostname", "/etc/hostname"),
    ("hosts", "/etc/hosts"),
];

/// What the network says about the container.
#[derive(Debug)]
pub(super) struct Addresses {
    pub(super) own: Option<IpAddr>,
    pub(super) gateway: Option<IpAddr>,
}

/// Writes the files into the container's folder and answers where they are to be mounted.
pub(super) fn write(
    folder: &Path,
    record: &Record,
    addresses: &Addresses,
) -> Result<Vec<(PathBuf, &'static str)>> {
    let own: Vec<IpAddr> = addresses.own.into_iter().collect();
    let hosts = network::files::hosts(&HostsFile {
        hostname: &record.config.hostname,
        domainname: &record.config.domainname,
        addresses: &own,
        extra: &extra_hosts(record, addresses)?,
        ipv6: true,
    });
    let resolv = resolv_conf(record)?;
    let hostname = network::files::hostname(&record.config.hostname);
    for (name, content) in [
        ("hosts", &hosts),
        ("resolv.conf", &resolv),
        ("hostname", &hostname),
    ] {
        let path = folder.join(name);
        std::fs::write(&path, content).step(|| format!("write {}", path.display()))?;
    }
    Ok(PLACES
        .iter()
        .map(|(name, place)| (folder.join(name), *place))
        .collect())
}

/// `--add-host name:address`; `host-gateway` is the bridge's address.
fn extra_hosts(record: &Record, addresses: &Addresses) -> Result<Vec<HostEntry>> {
    let mut hosts = Vec::new();
    for text in record.host.extra_hosts.iter().flatten() {
        let invalid = |why: &str| Error::invalid(format!("bad format for add-host: {text:?}{why}"));
        let (name, address) = text.split_once([':', '=']).ok_or_else(|| invalid(""))?;
        let address = address.trim_start_matches('[').trim_end_matches(']');
        let address = if address == "host-gateway" {
            addresses
                .gateway
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

fn resolv_conf(record: &Record) -> Result<String> {
    let host = &record.host;
    let list = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    let mut servers = Vec::new();
    for server in host.dns.iter().flatten() {
        servers.push(
            server
                .parse()
                .map_err(|_| Error::invalid(format!("{server} is not an ip address")))?,
        );
    }
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
        ipv6: false,
    };
    Ok(network::files::resolv_conf(&host_files, &options).text)
}
