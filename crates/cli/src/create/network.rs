//! Networks, addresses, names and links.

use super::mount::csv;
use crate::args::Call;
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
    if all.is_empty() {
        all.push(Attachment {
            name: "default".to_owned(),
            ..Attachment::default()
        });
    }
    Ok(all)
}

/// A name, or `name=…,alias=…,ip=…`.
fn attachment(text: &str) -> Result<Attachment, String> {
    let mut out = Attachment::default();
    if !text.contains('=') {
        text.clone_into(&mut out.name);
        return Ok(out);
    }
    for cell in csv(text)? {
        let (key, value) = cell
            .split_once('=')
            .ok_or_else(|| format!("invalid key/value pair format in network: {cell}"))?;
        let (key, value) = (key.trim().to_ascii_lowercase(), value.trim());
        match key.as_str() {
            "name" => value.clone_into(&mut out.name),
            "alias" => out.aliases.push(value.to_owned()),
            "ip" => value.clone_into(&mut out.ipv4),
            "ip6" => value.clone_into(&mut out.ipv6),
            "mac-address" => value.clone_into(&mut out.mac),
            "link-local-ip" => out.link_local.push(value.to_owned()),
            "driver-opt" => {
                let (name, value) = value
                    .split_once('=')
                    .ok_or_else(|| "invalid key value pair format in driver options".to_owned())?;
                out.driver_options.insert(name.to_owned(), value.to_owned());
            }
            "gw-priority" => {
                out.priority = value
                    .parse()
                    .map_err(|_| format!("invalid gw-priority: {value}"))?;
            }
            _ => return Err(format!("invalid field key {key}")),
        }
    }
    Ok(out)
}

fn is_user_defined(name: &str) -> bool {
    !matches!(name, "default" | "bridge" | "host" | "none") && !name.starts_with("container:")
}

/// The network mode: the first network's name.
pub(super) fn mode(call: &Call) -> Result<String, Failure> {
    Ok(attachments(call)?.swap_remove(0).name)
}

/// The endpoints that the flags describe.
pub(super) fn networking_config(call: &Call) -> Result<NetworkingConfig, Failure> {
    let mut all = attachments(call)?;
    apply_flags(call, &mut all[0])?;
    let mixed = all.len() > 1 && all.iter().any(|one| !is_user_defined(&one.name));
    let mut endpoints = BTreeMap::new();
    for one in all {
        if one.name.is_empty() {
            return Err(Failure::message("no name set for network"));
        }
        if mixed {
            return Err(Failure::message(
                "conflicting options: cannot attach both user-defined and non-user-defined network-modes",
            ));
        }
        if !is_user_defined(&one.name) && !one.aliases.is_empty() {
            return Err(Failure::message(
                "network-scoped aliases are only supported for user-defined networks",
            ));
        }
        let name = one.name.clone();
        // none of these takes settings of its own; Docker's clients send `default` alone
        let bare =
            matches!(name.as_str(), "bridge" | "host" | "none") || name.starts_with("container:");
        let settings = settings(one);
        if bare && settings == EndpointSettings::default() {
            continue;
        }
        if endpoints.insert(name.clone(), Some(settings)).is_some() {
            return Err(Failure::message(format!(
                "network {name:?} is specified multiple times"
            )));
        }
    }
    Ok(NetworkingConfig {
        endpoints_config: Some(endpoints),
    })
}

/// The flags beside `--network` speak of the first network.
fn apply_flags(call: &Call, first: &mut Attachment) -> Result<(), Failure> {
    let texts = |name: &str| call.list(name).into_iter().map(str::to_owned);
    first
        .aliases
        .extend(texts("network-alias").chain(texts("net-alias")));
    first.link_local.extend(texts("link-local-ip"));
    let conflict = |what: &str| {
        Failure::message(format!(
            "conflicting options: cannot specify both --{what} and per-network {what}"
        ))
    };
    for (flag, field) in [
        ("ip", &mut first.ipv4),
        ("ip6", &mut first.ipv6),
        ("mac-address", &mut first.mac),
    ] {
        if let Some(text) = call.text(flag).filter(|text| !text.is_empty()) {
            if !field.is_empty() {
                return Err(conflict(flag));
            }
            text.clone_into(field);
        }
    }
    if !first.mac.is_empty() && !is_mac(&first.mac) {
        return Err(Failure::message(format!(
            "{} is not a valid mac address",
            first.mac
        )));
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

fn is_mac(text: &str) -> bool {
    let parts: Vec<&str> = text.split([':', '-']).collect();
    parts.len() == 6
        && parts
            .iter()
            .all(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()))
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

pub(super) fn link(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("empty string specified for links".to_owned());
    }
    let parts: Vec<&str> = text.split(':').collect();
    match parts.as_slice() {
        [_name] | [_name, _] => Ok(text.to_owned()),
        _ => Err(format!("bad format for links: {text}")),
    }
}
