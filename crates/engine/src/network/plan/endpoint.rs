//! What a container wishes of its connection to a network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use api::network::{EndpointIpamConfig, EndpointSettings};
use network::{MacAddress, Subnet};

use super::addresses::report;
use super::{NetworkRecord, is_predefined};
use crate::error::{Error, Result};
use crate::network::options::is_link_name;

const SYSCTLS: &str = "com.docker.network.endpoint.sysctls";
const IFNAME: &str = "com.docker.network.endpoint.ifname";
/// What stands for the link in names of sysctls, since nobody knows its name beforehand.
const PLACEHOLDER: &str = "IFNAME";

/// Checked wishes for a connection; what is absent is chosen.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Wishes {
    pub(crate) v4: Option<Ipv4Addr>,
    pub(crate) v6: Option<Ipv6Addr>,
    /// Further addresses that lead nowhere but to the network's other containers.
    pub(crate) link_local: Vec<IpAddr>,
    pub(crate) mac: Option<MacAddress>,
    /// Further names in the network, each once.
    pub(crate) aliases: Vec<String>,
    /// Names with dots, and `IFNAME` for the link, and values.
    pub(crate) sysctls: Vec<(String, String)>,
    /// The link's name in the container.
    pub(crate) ifname: Option<String>,
    /// The network with the highest is the way out.
    pub(crate) gw_priority: i64,
}

/// Checks what a container wishes of its connection to a network.
pub(crate) fn check_endpoint(
    network: &NetworkRecord,
    settings: &EndpointSettings,
) -> Result<Wishes> {
    let none = EndpointIpamConfig::default();
    let wished = settings.ipam_config.as_ref().unwrap_or(&none);
    let mut faults = Vec::new();
    if is_predefined(&network.name) {
        check_predefined(wished, settings, &mut faults);
    }
    let v4 = address::<Ipv4Addr>("IPv4", &wished.ipv4_address, &mut faults);
    let v6 = address::<Ipv6Addr>("IPv6", &wished.ipv6_address, &mut faults);
    let link_local = link_local(&wished.link_local_ips, &mut faults);
    let (four, six) = configured(network);
    check_place(&wished.ipv4_address, &four, &mut faults);
    check_place(&wished.ipv6_address, &six, &mut faults);
    let sysctls = sysctls(settings, &mut faults);
    let ifname = ifname(settings, &mut faults);
    report("invalid endpoint settings:", &faults)?;
    if let Some(other) = link_local.iter().find(|ip| !is_link_local(**ip)) {
        return Err(Error::invalid(format!(
            "invalid link local IP address: {other}"
        )));
    }
    Ok(Wishes {
        v4,
        v6,
        link_local,
        mac: mac(&settings.mac_address)?,
        aliases: aliases(settings),
        sysctls,
        ifname,
        gw_priority: settings.gw_priority,
    })
}

fn check_predefined(
    wished: &EndpointIpamConfig,
    settings: &EndpointSettings,
    faults: &mut Vec<String>,
) {
    if !wished.ipv4_address.is_empty() || !wished.ipv6_address.is_empty() {
        faults.push(
            "user specified IP address is supported on user defined networks only".to_owned(),
        );
    }
    if settings
        .aliases
        .as_ref()
        .is_some_and(|aliases| !aliases.is_empty())
    {
        faults.push(
            "network-scoped alias is supported only for containers in user defined networks"
                .to_owned(),
        );
    }
}

/// Reads an address that a link may have; nothing for an empty text.
fn address<A>(family: &str, text: &str, faults: &mut Vec<String>) -> Option<A>
where
    A: std::str::FromStr + Into<IpAddr> + Copy,
{
    if text.is_empty() {
        return None;
    }
    let address = text.parse::<A>().ok();
    let usable = address.filter(|address| !(*address).into().is_unspecified());
    if usable.is_none() {
        faults.push(format!("invalid {family} address: {text}"));
    }
    usable
}

fn link_local(texts: &[String], faults: &mut Vec<String>) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for text in texts {
        match text.parse::<IpAddr>() {
            Ok(address) if !address.is_unspecified() => addresses.push(address),
            _ => {
                let fault = format!("invalid link-local IP address: {text}");
                faults.push(fault.trim_end().to_owned());
            }
        }
    }
    addresses
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// The subnets of each family that were given when the network was made, not chosen.
fn configured(network: &NetworkRecord) -> (Vec<Subnet>, Vec<Subnet>) {
    let configs = network.ipam.config.iter().flatten();
    let subnets = configs.filter_map(|config| config.subnet.parse::<Subnet>().ok());
    let enabled = |subnet: &Subnet| match subnet.address() {
        IpAddr::V4(_) => network.v4.is_some(),
        IpAddr::V6(_) => network.v6.is_some(),
    };
    subnets
        .filter(enabled)
        .partition(|subnet| subnet.address().is_ipv4())
}

fn check_place(text: &str, subnets: &[Subnet], faults: &mut Vec<String>) {
    if text.is_empty() {
        return;
    }
    if subnets.is_empty() {
        faults.push("user specified IP address is supported only when connecting to networks with user configured subnets".to_owned());
        return;
    }
    let inside = |address: IpAddr| subnets.iter().any(|subnet| subnet.contains(address));
    if !text.parse().is_ok_and(inside) {
        faults.push(format!(
            "no configured subnet or ip-range contain the IP address {text}"
        ));
    }
}

/// Reads a hardware address that a link may have.
fn mac(text: &str) -> Result<Option<MacAddress>> {
    if text.is_empty() {
        return Ok(None);
    }
    let invalid = |why: &str| Error::invalid(format!("invalid MAC address {text}{why}"));
    let mac: MacAddress = undotted(text).parse().map_err(|_| invalid(""))?;
    let octets = mac.octets();
    if octets[0] & 1 == 1 {
        return Err(invalid(": a multicast address is no link's"));
    }
    if octets == [0; 6] {
        return Err(invalid(": it is all zero"));
    }
    Ok(Some(mac))
}

/// Turns the form `0242.ac11.0002`, which Go takes too, into the one with colons.
fn undotted(text: &str) -> String {
    let groups: Vec<&str> = text.split('.').collect();
    let dotted = groups.len() == 3 && groups.iter().all(|group| group.len() == 4);
    if !dotted || !text.is_ascii() {
        return text.to_owned();
    }
    let halves = groups.iter().flat_map(|group| [&group[..2], &group[2..]]);
    halves.collect::<Vec<_>>().join(":")
}

fn aliases(settings: &EndpointSettings) -> Vec<String> {
    let mut aliases: Vec<String> = Vec::new();
    for alias in settings.aliases.iter().flatten() {
        if !alias.is_empty() && !aliases.contains(alias) {
            aliases.push(alias.clone());
        }
    }
    aliases
}

fn option<'a>(settings: &'a EndpointSettings, key: &str) -> Option<&'a str> {
    settings.driver_opts.as_ref()?.get(key).map(String::as_str)
}

fn ifname(settings: &EndpointSettings, faults: &mut Vec<String>) -> Option<String> {
    let name = option(settings, IFNAME).filter(|name| !name.is_empty())?;
    if is_link_name(name) && name != "lo" {
        return Some(name.to_owned());
    }
    faults.push(format!(
        "invalid interface name {name:?}: must be 1 to 15 characters without '/', ':', '%' and white space, and not \"lo\""
    ));
    None
}

/// Reads sysctls of the link, which are comma-separated.
fn sysctls(settings: &EndpointSettings, faults: &mut Vec<String>) -> Vec<(String, String)> {
    let mut sysctls = Vec::new();
    let entries = option(settings, SYSCTLS).map(|text| text.split(','));
    for entry in entries.into_iter().flatten() {
        match sysctl(entry) {
            Ok(sysctl) => sysctls.push(sysctl),
            Err(fault) => faults.push(fault),
        }
    }
    sysctls
}

/// Reads `net.X.Y.IFNAME.Z=V`; the parts become a path, so that they are plain names.
fn sysctl(entry: &str) -> Result<(String, String), String> {
    let (name, value) = match entry.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (entry, None),
    };
    let parts: Vec<&str> = name.split('.').collect();
    let ["net", "ipv4" | "ipv6" | "mpls", _, PLACEHOLDER, _, ..] = parts.as_slice() else {
        return Err(format!(
            "unrecognised network interface sysctl '{entry}'; represent 'net.X.Y.ethN.Z=V' as 'net.X.Y.IFNAME.Z=V', 'X' must be 'ipv4', 'ipv6' or 'mpls'"
        ));
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let is_plain = |part: &&str| !part.is_empty() && part.chars().all(plain);
    if parts.len() != 5 || !parts.iter().all(is_plain) {
        return Err(format!(
            "expected sysctl '{entry}' to have format net.X.Y.IFNAME.Z"
        ));
    }
    let value =
        value.ok_or_else(|| format!("expected sysctl '{entry}' to have format name=value"))?;
    if value.contains(char::is_control) {
        return Err(format!(
            "the value of sysctl '{name}' has control characters"
        ));
    }
    Ok((name.to_owned(), value.to_owned()))
}
