//! `--publish` and `--expose`.

use crate::args::Call;
use crate::csv;
use crate::failure::Failure;
use api::host_config::{PortBinding, PortMap};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The ports of a command line.
#[derive(Default)]
pub(super) struct Ports {
    /// `80/tcp`, published or not.
    pub(super) exposed: BTreeSet<String>,
    pub(super) bindings: PortMap,
}

pub(super) fn read(call: &Call) -> Result<Ports, Failure> {
    let mut ports = Ports::default();
    for text in call.list("publish") {
        let plain = if text.contains('=') {
            long_form(text)
        } else {
            Ok(text.to_owned())
        };
        plain
            .and_then(|plain| publish(&mut ports, &plain))
            .map_err(Failure::message)?;
    }
    for text in call.list("expose") {
        expose(&mut ports, text).map_err(Failure::message)?;
    }
    Ok(ports)
}

/// The ports of `--publish` alone, as `update` takes them.
pub(crate) fn published(call: &Call) -> Result<PortMap, Failure> {
    Ok(read(call)?.bindings)
}

/// `target=80,published=8080,protocol=udp` in the short form.
fn long_form(text: &str) -> Result<String, String> {
    let (mut target, mut published, mut protocol) =
        (String::new(), String::new(), "tcp".to_owned());
    for cell in csv::fields(text)? {
        let (key, value) = cell.split_once('=').ok_or_else(|| {
            format!("invalid publish opts format (should be name=value but got '{cell}')")
        })?;
        match key {
            "target" => value.clone_into(&mut target),
            "published" => value.clone_into(&mut published),
            "protocol" => value.clone_into(&mut protocol),
            _ => {}
        }
    }
    Ok(format!("{published}:{target}/{protocol}"))
}

/// `[[ip:][host port]:]container port[/protocol]`, as Docker cuts it.
fn publish(ports: &mut Ports, text: &str) -> Result<(), String> {
    let (head, container) = text.rsplit_once(':').unwrap_or(("", text));
    let (ip, host) = head.rsplit_once(':').unwrap_or(("", head));
    let (container, protocol) = split_protocol(container);
    if container.is_empty() {
        return Err(format!("no port specified: {text}<empty>"));
    }
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(format!("invalid proto: {protocol}"));
    }
    let ip = without_brackets(ip)?;
    if !ip.is_empty() && ip.parse::<IpAddr>().is_err() {
        return Err(format!("invalid IP address: {ip}"));
    }
    let inside = range(container).ok_or_else(|| format!("invalid containerPort: {container}"))?;
    let outside = match host {
        "" => None,
        host => Some(range(host).ok_or_else(|| format!("invalid hostPort: {host}"))?),
    };
    let length = |(first, last): (u16, u16)| last - first;
    if let Some(outside) = outside
        && length(outside) != length(inside)
        // a range outside for one port inside: the engine chooses from it
        && length(inside) != 0
    {
        return Err(format!(
            "invalid ranges specified for container and host Ports: {container} and {host}"
        ));
    }
    for (offset, port) in (inside.0..=inside.1).enumerate() {
        let host_port = match outside {
            None => String::new(),
            Some((first, last)) if length(inside) == 0 && first != last => {
                format!("{first}-{last}")
            }
            Some((first, _last)) => (usize::from(first) + offset).to_string(),
        };
        let name = format!("{port}/{protocol}");
        let binding = PortBinding {
            host_ip: ip.to_owned(),
            host_port,
        };
        ports
            .bindings
            .entry(name.clone())
            .or_default()
            .get_or_insert_default()
            .push(binding);
        ports.exposed.insert(name);
    }
    Ok(())
}

/// `80` and `tcp` of `80/tcp`; a protocol that is left out or empty is `tcp`.
fn split_protocol(text: &str) -> (&str, &str) {
    let (port, protocol) = text.split_once('/').unwrap_or((text, ""));
    (port, if protocol.is_empty() { "tcp" } else { protocol })
}

/// `::1` of `[::1]`.
fn without_brackets(ip: &str) -> Result<&str, String> {
    let Some(inner) = ip.strip_prefix('[') else {
        return Ok(ip);
    };
    inner
        .strip_suffix(']')
        .ok_or_else(|| format!("invalid IP address {ip}: address {ip}:: missing ']' in address"))
}

fn expose(ports: &mut Ports, text: &str) -> Result<(), String> {
    if text.contains(':') {
        return Err(format!("invalid port format for --expose: {text}"));
    }
    let (numbers, protocol) = split_protocol(text);
    let (first, last) = range(numbers).ok_or_else(|| {
        let why = no_range(numbers);
        format!("invalid range format for --expose: {text}, error: {why}")
    })?;
    for port in first..=last {
        let protocol = protocol.to_ascii_lowercase();
        ports.exposed.insert(format!("{port}/{protocol}"));
    }
    Ok(())
}

/// Says why a text is no range of ports.
fn no_range(text: &str) -> String {
    if text.is_empty() {
        return "empty string specified for ports".to_owned();
    }
    let is_number = |part: &&str| part.parse::<u16>().is_ok() && !part.starts_with('+');
    match text.split('-').find(|part| !is_number(part)) {
        None => format!("invalid range specified for port: {text}"),
        Some(part) => {
            let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            let why = if digits {
                "value out of range"
            } else {
                "invalid syntax"
            };
            format!("strconv.ParseUint: parsing {part:?}: {why}")
        }
    }
}

/// `80` or `80-90`.
fn range(text: &str) -> Option<(u16, u16)> {
    let number = |text: &str| text.parse::<u16>().ok().filter(|_| !text.starts_with('+'));
    let (first, last) = match text.split_once('-') {
        None => (number(text)?, number(text)?),
        Some((first, last)) => (number(first)?, number(last)?),
    };
    (first <= last).then_some((first, last))
}
