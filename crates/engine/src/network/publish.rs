//! Published ports: what is asked for, what is reserved, and where it leads.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use api::host_config::{HostConfig, PortBinding};
use network::{GatewayMode, HostAddress, HostPort, PortMapping, PortRequest, Protocol};

use super::Networks;
use super::connection::{Attachments, Connection, Endpoint, Opened};
use crate::container::Record;
use crate::error::{Error, Result, Step};

/// One port of a container that is to be published.
#[derive(Debug)]
pub(super) struct Wanted {
    protocol: Protocol,
    container_port: u16,
    binding: PortBinding,
}

/// Where packets of published ports go.
#[derive(Debug, Default)]
struct Targets {
    v4: Option<Ipv4Addr>,
    v6: Option<Ipv6Addr>,
}

/// Reserves the host's ports, through the networks that give the default routes.
pub(super) fn reserve(
    networks: &Networks,
    record: &Record,
    connection: &mut Connection,
) -> Result<()> {
    let wanted = wanted(record)?;
    if wanted.is_empty() {
        return Ok(());
    }
    connection.open = opened(connection, &wanted);
    let requests = reservable(networks, record, connection, &wanted)?;
    if requests.is_empty() {
        return Ok(());
    }
    let lease = networks
        .ports
        .reserve_all(&requests)
        .map_err(|e| driver_failed(record, connection, &e))?;
    connection.ports = lease.mappings().to_vec();
    connection.leases.push(lease);
    Ok(())
}

/// Lets published ports follow the default route, when a container was connected or disconnected.
///
/// The host's ports stay the same, as far as they can: a port that was chosen is asked for again.
pub(super) fn follow(
    networks: &Networks,
    record: &Record,
    connection: &mut Connection,
) -> Result<()> {
    let wanted = wanted(record)?;
    let (targets, _) = requests(networks, record, connection, &wanted)?;
    let goes_right = |port: &PortMapping| match port.container.ip() {
        IpAddr::V4(ip) => targets.v4 == Some(ip),
        IpAddr::V6(ip) => targets.v6 == Some(ip),
    };
    let as_before = connection.ports.iter().all(goes_right)
        && connection.open == opened(connection, &wanted)
        && (!connection.ports.is_empty() || (targets.v4.is_none() && targets.v6.is_none()));
    if wanted.is_empty() || as_before {
        return Ok(());
    }
    let old = Attachments {
        endpoints: Vec::new(),
        ports: std::mem::take(&mut connection.ports),
        open: std::mem::take(&mut connection.open),
    };
    networks.forget(&old);
    connection.leases.clear();
    let record = with_ports(record, &old.ports);
    reserve(networks, &record, connection)?;
    networks
        .firewall
        .add(
            &Attachments {
                endpoints: Vec::new(),
                ports: connection.ports.clone(),
                open: connection.open.clone(),
            }
            .rules(),
        )
        .step(|| format!("publish the ports of container {}", record.name))?;
    serve(networks, connection);
    Ok(())
}

/// The record with the host's ports that were chosen in place of those to choose.
fn with_ports(record: &Record, ports: &[PortMapping]) -> Record {
    let mut record = record.clone();
    let mut had = std::collections::BTreeMap::<String, Vec<PortBinding>>::new();
    for port in ports {
        let inside = format!("{}/{}", port.container.port(), port.protocol);
        let binding = PortBinding {
            host_ip: port.host_ip.to_string(),
            host_port: port.host_port.to_string(),
        };
        had.entry(inside).or_default().push(binding);
    }
    let bindings = record.host.port_bindings.get_or_insert_default();
    for (inside, ports) in had {
        bindings.insert(inside, Some(ports));
    }
    record
}

/// Takes over the ports of a container that lives on.
pub(super) fn adopt(
    networks: &Networks,
    record: &Record,
    connection: &mut Connection,
    ports: Vec<PortMapping>,
) {
    if ports.is_empty() {
        return;
    }
    match networks.ports.adopt(ports.clone(), &record.name) {
        Ok(lease) => {
            connection.leases.push(lease);
            serve(networks, connection);
        }
        Err(error) => tracing::warn!(id = %record.id, %error, "a published port is held twice"),
    }
    connection.ports = ports;
}

/// Lets the ports reserved last be relayed where the kernel cannot redirect them; the rules for the
/// others come first.
pub(super) fn serve(networks: &Networks, connection: &mut Connection) {
    if let Some(lease) = connection.leases.last_mut()
        && let Err(error) = lease.serve(&networks.handle)
    {
        tracing::error!(
            error = crate::error::chain(&error),
            "some published ports are not relayed"
        );
    }
}

/// What is to be reserved; nothing where no address of the container could be reached.
pub(super) fn reservable(
    networks: &Networks,
    record: &Record,
    connection: &Connection,
    wanted: &[Wanted],
) -> Result<Vec<PortRequest>> {
    let (targets, requests) = requests(networks, record, connection, wanted)?;
    let reachable = targets.v4.is_some() || targets.v6.is_some();
    Ok(if reachable { requests } else { Vec::new() })
}

fn requests(
    networks: &Networks,
    record: &Record,
    connection: &Connection,
    wanted: &[Wanted],
) -> Result<(Targets, Vec<PortRequest>)> {
    let rewritten = |v6: bool| {
        let endpoint = connection.way_out(v6)?;
        let mode = endpoint.net().mode(v6);
        let rewrites = matches!(mode, GatewayMode::Nat | GatewayMode::NatUnprotected);
        let bridged = endpoint.net().bridge().is_some();
        (rewrites && bridged).then_some(endpoint)
    };
    let targets = Targets {
        v4: rewritten(false).and_then(|e| match e.attached.address(false) {
            Some(IpAddr::V4(ip)) => Some(ip),
            _ => None,
        }),
        v6: rewritten(true).and_then(|e| match e.attached.address(true) {
            Some(IpAddr::V6(ip)) => Some(ip),
            _ => None,
        }),
    };
    let default = rewritten(false)
        .or_else(|| rewritten(true))
        .and_then(|e| e.net().record.settings.host_binding)
        .unwrap_or(networks.publish_address);
    let mut requests = Vec::with_capacity(wanted.len());
    for Wanted {
        protocol,
        container_port,
        binding,
    } in wanted
    {
        requests.push(PortRequest {
            protocol: *protocol,
            host: host_address(&binding.host_ip, default)?,
            port: host_port(&binding.host_port)?,
            container_port: *container_port,
            v4: targets.v4,
            v6: targets.v6,
            owner: record.name.clone(),
        });
    }
    Ok((targets, requests))
}

/// The ports that are open at the container's own address, where that is routed.
pub(super) fn opened(connection: &Connection, wanted: &[Wanted]) -> Vec<Opened> {
    let mut opened = Vec::new();
    for v6 in [false, true] {
        let Some(endpoint) = connection.way_out(v6) else {
            continue;
        };
        if endpoint.net().mode(v6) == GatewayMode::Routed {
            opened.extend(wanted.iter().filter_map(|w| open(endpoint, v6, w)));
        }
    }
    opened.dedup();
    opened
}

fn open(endpoint: &Endpoint, v6: bool, wanted: &Wanted) -> Option<Opened> {
    Some(Opened {
        bridge: endpoint.net().record.settings.bridge.clone(),
        protocol: wanted.protocol,
        container: SocketAddr::new(endpoint.attached.address(v6)?, wanted.container_port),
    })
}

/// The ports of `-p`, and with `-P` one for each exposed port.
pub(super) fn wanted(record: &Record) -> Result<Vec<Wanted>> {
    let host = &record.host;
    let mut wanted = Vec::new();
    let mut want = |inside: &str, binding: PortBinding| -> Result<()> {
        let (protocol, container_port) = inside_port(inside)?;
        wanted.push(Wanted {
            protocol,
            container_port,
            binding,
        });
        Ok(())
    };
    for (inside, bindings) in host.port_bindings.iter().flatten() {
        let none = vec![PortBinding::default()];
        let bindings = bindings.as_ref().filter(|b| !b.is_empty()).unwrap_or(&none);
        for binding in bindings {
            want(inside, binding.clone())?;
        }
    }
    if host.publish_all_ports {
        let bound = |inside: &String| {
            let bindings = host.port_bindings.as_ref();
            bindings.is_some_and(|ports| ports.contains_key(inside))
        };
        for inside in record.config.exposed_ports.keys().filter(|p| !bound(p)) {
            want(inside, PortBinding::default())?;
        }
    }
    Ok(wanted)
}

/// Refuses what can be known to make no sense before a container starts.
pub(crate) fn check(host: &HostConfig) -> Result<()> {
    for (inside, bindings) in host.port_bindings.iter().flatten() {
        inside_port(inside)?;
        for binding in bindings.iter().flatten() {
            host_address(&binding.host_ip, Ipv4Addr::UNSPECIFIED.into())?;
            host_port(&binding.host_port)?;
        }
    }
    Ok(())
}

fn inside_port(text: &str) -> Result<(Protocol, u16)> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let invalid = || Error::invalid(format!("invalid port specification: {text:?}"));
    let number: u16 = number.parse().ok().filter(|n| *n > 0).ok_or_else(invalid)?;
    let protocol = protocol
        .parse()
        .map_err(|e: network::ParseProtocolError| Error::invalid(e.to_string()))?;
    Ok((protocol, number))
}

fn host_address(text: &str, default: IpAddr) -> Result<HostAddress> {
    let address = if text.is_empty() {
        default
    } else {
        text.trim_start_matches('[')
            .trim_end_matches(']')
            .parse()
            .map_err(|_| Error::invalid(format!("invalid IP address: {text}")))?
    };
    if text.is_empty() && address == IpAddr::V4(Ipv4Addr::UNSPECIFIED) {
        return Ok(HostAddress::Any);
    }
    Ok(HostAddress::Ip(address))
}

fn host_port(text: &str) -> Result<HostPort> {
    let invalid = || Error::invalid(format!("invalid host port: {text:?}"));
    if text.is_empty() {
        return Ok(HostPort::Ephemeral);
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last): (u16, u16) = (
        first.parse().map_err(|_| invalid())?,
        last.parse().map_err(|_| invalid())?,
    );
    match (first, last) {
        (0, 0) => Ok(HostPort::Ephemeral),
        (first, last) if first <= last => Ok(HostPort::Range { first, last }),
        _ => Err(invalid()),
    }
}

/// Docker's frame around a network that could not be set up.
pub(super) fn driver_failed(
    record: &Record,
    connection: &Connection,
    error: &network::PortError,
) -> Error {
    let endpoint = connection
        .way_out(false)
        .or_else(|| connection.way_out(true));
    Error::internal(format!(
        "driver failed programming external connectivity on endpoint {} ({}): {error}",
        record.name,
        endpoint.map_or(record.id.as_str(), |e| e.attached.id.as_str())
    ))
}
