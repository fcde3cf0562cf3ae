//! Networks, addresses, names and links.

use crate::args::Call;
use crate::csv;
use crate::failure::Failure;
use api::network::{EndpointIpamConfig, EndpointSettings, NetworkingConfig};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// One `--network`.
#[derive(Default)]
struct Attachment {
    name: String,
    aliases: Vec<String>,
    links: Vec<String>,
    link_local: Vec<String>,
    ipv4: String,
    ipv6: String,
    mac: String,
    driver_options: BTreeMap<String, String>,
    priority: i64,
}

fn attachments(call: &Call) -> Result<Vec<Attachment>, Failure> {
    let mut all = call.parsed_list("network", attachment)?;
    all.extend(call.parsed_list("net", attachment)?);
    Ok(all)
}

/// A name, or `name=…,alias=…,ip=…`.
///
/// Docker's client makes values lower case too, which breaks names of networks and options: here they stay.
fn attachment(text: &str) -> Result<Attachment, String> {
    let mut out = Attachment::default();
    if !is_long_form(text) {
        text.clone_into(&mut out.name);
        return Ok(out);
    }
    for field in csv::fields(text)? {
        let (key, value) = field
            .split_once('=')
            .filter(|(key, _)| !key.is_empty())
            .ok_or_else(|| format!("invalid field {field}"))?;
        out.set(&key.trim().to_ascii_lowercase(), value.trim())?;
    }
    if out.name.is_empty() {
        return Err("network name/id is not specified".to_owned());
    }
    Ok(out)
}

/// Whether a letter, digit or underscore stands on both sides of some `=`.
fn is_long_form(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.as_bytes()
        .windows(3)
        .any(|three| three[1] == b'=' && is_word(three[0]) && is_word(three[2]))
}

impl Attachment {
    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "name" => value.clone_into(&mut self.name),
            "alias" => self.aliases.push(value.to_owned()),
            "ip" => value.clone_into(&mut self.ipv4),
            "ip6" => value.clone_into(&mut self.ipv6),
            "mac-address" => value.clone_into(&mut self.mac),
            "link-local-ip" => self.link_local.push(value.to_owned()),
            "driver-opt" => {
                let (name, value) = driver_option(value)
                    .ok_or("invalid key value pair format in driver options")?;
                self.driver_options.insert(name, value);
            }
            "gw-priority" => {
                let parsed = super::parse_integer(value);
                self.priority =
                    parsed.map_err(|why| format!("invalid gw-priority ({value}): {why}"))?;
            }
            _ => return Err(format!("invalid field key {key}")),
        }
        Ok(())
    }
}

/// `name=value`, both without white space around them.
pub(crate) fn driver_option(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once('=')?;
    let (name, value) = (name.trim(), value.trim());
    (!name.is_empty()).then(|| (name.to_owned(), value.to_owned()))
}

fn is_user_defined(name: &str) -> bool {
    !matches!(name, "default" | "bridge" | "host" | "none") && !name.starts_with("container:")
}

/// The network mode: the first network's name.
pub(super) fn mode(call: &Call) -> Result<String, Failure> {
    let first = attachments(call)?.into_iter().next();
    Ok(first.map_or_else(|| "default".to_owned(), |first| first.name))
}

/// The endpoints that the flags describe.
pub(super) fn networking_config(call: &Call) -> Result<NetworkingConfig, Failure> {
    let mut all = attachments(call)?;
    // Docker's clients name the endpoint of a network that nobody asked for, but not that of a single plain one
    let only_named = all.len() == 1;
    if all.is_empty() {
        all.push(Attachment {
            name: "default".to_owned(),
            ..Attachment::default()
        });
    }
    apply_flags(call, &mut all[0])?;
    let user_defined = all.iter().filter(|one| is_user_defined(&one.name)).count();
    let mixed = user_defined != 0 && user_defined != all.len();
    let mut endpoints = BTreeMap::new();
    for one in all {
        check(&one)?;
        let name = one.name.clone();
        let settings = settings(one);
        if only_named && settings == EndpointSettings::default() {
            continue;
        }
        if endpoints
            .insert(name.clone(), Some(Box::new(settings)))
            .is_some()
        {
            return Err(Failure::message(format!(
                "network {name:?} is specified multiple times"
            )));
        }
    }
    if mixed {
        return Err(Failure::message(
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes",
        ));
    }
    Ok(NetworkingConfig {
        endpoints_config: Some(endpoints),
    })
}

fn check(one: &Attachment) -> Result<(), Failure> {
    if one.name.trim().is_empty() {
        return Err(Failure::message("no name set for network"));
    }
    if !is_user_defined(&one.name) && !one.aliases.is_empty() {
        return Err(Failure::message(
            "network-scoped aliases are only supported for user-defined networks",
        ));
    }
    if !one.mac.is_empty() && !is_mac(&one.mac) {
        return Err(Failure::message(format!(
            "{} is not a valid mac address",
            one.mac
        )));
    }
    Ok(())
}

/// The flags beside `--network` speak of the first network.
fn apply_flags(call: &Call, first: &mut Attachment) -> Result<(), Failure> {
    let conflict = |flag: &str, what: &str| {
        Failure::message(format!(
            "conflicting options: cannot specify both --{flag} and per-network {what}"
        ))
    };
    for (flags, field, what) in [
        (
            &["network-alias", "net-alias"][..],
            &mut first.aliases,
            "alias",
        ),
        (
            &["link-local-ip"],
            &mut first.link_local,
            "link-local IP addresses",
        ),
    ] {
        let given = flags.iter().flat_map(|flag| call.list(flag));
        let given: Vec<String> = given.map(str::to_owned).collect();
        if !given.is_empty() && !field.is_empty() {
            return Err(conflict(flags[0], what));
        }
        field.extend(given);
    }
    for (flag, field, what) in [
        ("ip", &mut first.ipv4, "IPv4 address"),
        ("ip6", &mut first.ipv6, "IPv6 address"),
        ("mac-address", &mut first.mac, "MAC address"),
    ] {
        if let Some(text) = call.text(flag).filter(|text| !text.is_empty()) {
            if !field.is_empty() {
                return Err(conflict(flag, what));
            }
            text.clone_into(field);
        }
    }
    if is_user_defined(&first.name) {
        first.links.extend(call.parsed_list("link", link)?);
    }
    Ok(())
}

fn settings(one: Attachment) -> EndpointSettings {
    let ipam = EndpointIpamConfig {
        ipv4_address: one.ipv4,
        ipv6_address: one.ipv6,
        link_local_ips: one.link_local,
    };
    EndpointSettings {
        ipam_config: Some(ipam).filter(|ipam| *ipam != EndpointIpamConfig::default()),
        links: super::none_if_empty(one.links),
        aliases: super::none_if_empty(one.aliases),
        mac_address: one.mac,
        driver_opts: Some(one.driver_options).filter(|options| !options.is_empty()),
        gw_priority: one.priority,
        ..EndpointSettings::default()
    }
}

/// Six bytes as `02:42:ac:11:00:02`, with dashes, or as `0242.ac11.0002`.
fn is_mac(text: &str) -> bool {
    let groups = |separator: char, count: usize, length: usize| {
        let parts: Vec<&str> = text.split(separator).collect();
        parts.len() == count
            && parts
                .iter()
                .all(|part| part.len() == length && part.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    groups(':', 6, 2) || groups('-', 6, 2) || groups('.', 3, 4)
}

pub(super) fn address(text: &str) -> Result<String, String> {
    match text.trim().parse::<IpAddr>() {
        Ok(address) => Ok(address.to_string()),
        Err(_) => Err(format!("IP address is not correctly formatted: {text}")),
    }
}

pub(super) fn search_domain(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text == "." {
        return Ok(text.to_owned());
    }
    let label = |part: &str| {
        !part.is_empty()
            && part.len() <= 63
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let domain = text.strip_suffix('.').unwrap_or(text);
    if domain.len() < 255 && domain.split('.').all(label) {
        Ok(text.to_owned())
    } else {
        Err(format!("{text} is not a valid domain"))
    }
}

/// `host:ip` or `host=ip`; the engine takes the first form.
pub(super) fn extra_host(text: &str) -> Result<String, String> {
    let (host, ip) = match text.split_once('=') {
        Some((host, ip)) => (host, ip),
        None => text.split_once(':').unwrap_or(("", "")),
    };
    if host.is_empty() || ip.is_empty() {
        return Err(format!("bad format for add-host: {text:?}"));
    }
    let bare = ip
        .strip_prefix('[')
        .and_then(|ip| ip.strip_suffix(']'))
        .unwrap_or(ip);
    if bare != "host-gateway" && bare.parse::<IpAddr>().is_err() {
        return Err(format!("invalid IP address in add-host: {ip:?}"));
    }
    Ok(format!("{host}:{bare}"))
}

/// `--link`: a container, and perhaps the name that it gets.
pub(crate) fn link(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("empty string specified for links".to_owned());
    }
    let parts: Vec<&str> = text.split(':').collect();
    match parts.as_slice() {
        [_name] | [_name, _] => Ok(text.to_owned()),
        _ => Err(format!("bad format for links: {text}")),
    }
}
