//! `gorae network create`.

use crate::args::{Call, Flag, Operands, Verb};
use crate::failure::Failure;
use crate::output::complain;
use crate::{connect, create, csv, output};
use ::network::Subnet;
use api::network::{ConfigReference, CreateRequest, CreateResponse, Ipam, IpamConfig};
use std::collections::BTreeMap;
use std::net::IpAddr;

pub(crate) static VERB: Verb = Verb {
    about: "Create a network",
    usage: "[OPTIONS] NETWORK",
    operands: Operands::between(1, 1),
    flags: &[&[
        Flag::switch("attachable", "Enable manual container attachment"),
        Flag::many(
            "aux-address",
            "map",
            "Auxiliary IPv4 or IPv6 addresses used by Network driver",
        ),
        Flag::one(
            "config-from",
            "string",
            "The network from which to copy the configuration",
        ),
        Flag::switch("config-only", "Create a configuration only network"),
        Flag::one(
            "driver",
            "string",
            "Driver to manage the Network (default \"bridge\")",
        )
        .short('d'),
        Flag::many(
            "gateway",
            "strings",
            "IPv4 or IPv6 Gateway for the master subnet",
        ),
        Flag::switch("ingress", "Create swarm routing-mesh network"),
        Flag::switch("internal", "Restrict external access to the network"),
        Flag::many(
            "ip-range",
            "strings",
            "Allocate container ip from a sub-range",
        ),
        Flag::one(
            "ipam-driver",
            "string",
            "IP Address Management Driver (default \"default\")",
        ),
        Flag::many("ipam-opt", "map", "Set IPAM driver specific options"),
        Flag::switch_on("ipv4", "Enable or disable IPv4 address assignment"),
        Flag::switch("ipv6", "Enable or disable IPv6 address assignment"),
        Flag::many("label", "list", "Set metadata on a network"),
        Flag::many("opt", "map", "Set driver specific options").short('o'),
        Flag::one("scope", "string", "Control the network's scope"),
        Flag::many(
            "subnet",
            "strings",
            "Subnet in CIDR format that represents a network segment",
        ),
    ]],
    examples: &[
        (
            "network create front",
            "Make a network whose containers know each other by name",
        ),
        (
            "network create --subnet 10.5.0.0/24 --gateway 10.5.0.254 --ip-range 10.5.0.128/25 lab",
            "Choose the addresses",
        ),
        (
            "network create --ipv6 --internal back",
            "Make a network with IPv6 too, and without a way out",
        ),
        (
            "network create -d macvlan -o parent=eth0 --subnet 192.168.1.0/24 --gateway 192.168.1.1 home",
            "Put containers directly on the network of eth0",
        ),
    ],
    run: |call| Box::pin(run(call)),
};

async fn run(call: &Call) -> anyhow::Result<u8> {
    let request = request(call)?;
    connect::ready(&call.client, &call.globals).await?;
    let made: CreateResponse = call
        .client
        .post("/networks/create")
        .json(&request)
        .fetch()
        .await?;
    if !made.warning.is_empty() {
        complain(format!("WARNING: {}", made.warning));
    }
    output::line(made.id)?;
    Ok(0)
}

/// The body of the request that the flags describe.
fn request(call: &Call) -> Result<CreateRequest, Failure> {
    let choice = |flag: &str| call.given(flag).then(|| call.on(flag));
    let config_from = call.text("config-from").filter(|name| !name.is_empty());
    Ok(CreateRequest {
        name: call.operands[0].clone(),
        driver: call.text("driver").unwrap_or("bridge").to_owned(),
        scope: call.text_or_empty("scope"),
        enable_ipv4: choice("ipv4"),
        enable_ipv6: choice("ipv6"),
        internal: call.on("internal"),
        attachable: call.on("attachable"),
        ingress: call.on("ingress"),
        config_only: call.on("config-only"),
        config_from: config_from.map(|name| ConfigReference {
            network: name.to_owned(),
        }),
        options: Some(create::map(call, "opt")),
        labels: Some(create::labels(call)?),
        ipam: Some(Ipam {
            driver: call.text("ipam-driver").unwrap_or("default").to_owned(),
            options: Some(create::map(call, "ipam-opt")),
            config: Some(subnets(call)?),
        }),
        ..CreateRequest::default()
    })
}

/// The subnets in the order of their flags, each with the range, gateway and addresses that lie in it.
fn subnets(call: &Call) -> Result<Vec<IpamConfig>, Failure> {
    let list = |flag: &str| -> Result<Vec<String>, Failure> {
        Ok(call.parsed_list(flag, csv::list)?.concat())
    };
    let auxiliary = create::map(call, "aux-address");
    sort(
        &list("subnet")?,
        &list("ip-range")?,
        &list("gateway")?,
        &auxiliary,
    )
    .map_err(Failure::message)
}

fn sort(
    subnets: &[String],
    ranges: &[String],
    gateways: &[String],
    auxiliary: &BTreeMap<String, String>,
) -> Result<Vec<IpamConfig>, String> {
    if subnets.len() < ranges.len() || subnets.len() < gateways.len() {
        return Err("every ip-range or gateway must have a corresponding subnet".to_owned());
    }
    let mut all: Vec<IpamConfig> = Vec::new();
    for subnet in subnets {
        for other in &all {
            if has(subnet, &other.subnet)? || has(&other.subnet, subnet)? {
                return Err("multiple overlapping subnet configuration is not supported".to_owned());
            }
        }
        all.push(IpamConfig {
            subnet: subnet.clone(),
            ..IpamConfig::default()
        });
    }
    for range in ranges {
        parse(range)?;
        let home = home(&mut all, range, "range")?;
        if !home.ip_range.is_empty() {
            return Err(format!(
                "cannot configure multiple ranges ({range}, {}) on the same subnet ({})",
                home.ip_range, home.subnet
            ));
        }
        home.ip_range.clone_from(range);
    }
    for gateway in gateways {
        let home = home(&mut all, gateway, "gateway")?;
        if !home.gateway.is_empty() {
            return Err(format!(
                "cannot configure multiple gateways ({gateway}, {}) for the same subnet ({})",
                home.gateway, home.subnet
            ));
        }
        home.gateway.clone_from(gateway);
    }
    for (name, address) in auxiliary {
        let home = home(&mut all, address, "aux-address")?;
        home.auxiliary_addresses
            .insert(name.clone(), address.clone());
    }
    Ok(all)
}

/// The subnet that the address or range lies in.
fn home<'a>(
    all: &'a mut [IpamConfig],
    text: &str,
    what: &str,
) -> Result<&'a mut IpamConfig, String> {
    for config in all {
        if has(&config.subnet, text)? {
            return Ok(config);
        }
    }
    Err(format!("no matching subnet for {what} {text}"))
}

/// Whether the address, or that in front of a range's slash, lies in the subnet.
fn has(subnet: &str, text: &str) -> Result<bool, String> {
    let subnet = parse(subnet).map_err(|why| format!("invalid subnet: {why}"))?;
    let address = match text.split_once('/') {
        Some((address, _)) => {
            parse(text)?;
            address
        }
        None => text,
    };
    Ok(address
        .parse::<IpAddr>()
        .is_ok_and(|address| subnet.contains(address)))
}

fn parse(text: &str) -> Result<Subnet, String> {
    text.parse()
        .map_err(|_| format!("invalid CIDR address: {text}"))
}
