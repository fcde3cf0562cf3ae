//! The subnets of a network: what a request may say about them, and what is chosen.

use std::net::IpAddr;

use api::network::{Ipam as ApiIpam, IpamConfig as ApiConfig};
use network::{AddressPool, Ipam, IpamConfig, Subnet};

use super::{Driver, IpamRecord, NetworkRecord, Taken};
use crate::error::{Error, Result};
use crate::network::options::BRIDGE_NAME;

const OVERLAP: &str = "invalid pool request: Pool overlaps with other one on this address space";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Family {
    const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

pub(super) const fn family_name(address: IpAddr) -> &'static str {
    Family::of(address).name()
}

/// Checks the form of every subnet, range and address, and tells everything that is wrong at once.
pub(super) fn check(ipam: Option<&ApiIpam>, ipv6: bool) -> Result<()> {
    let configs = ipam.and_then(|ipam| ipam.config.as_deref());
    let mut faults = Vec::new();
    for config in configs.unwrap_or_default() {
        check_config(config, ipv6, &mut faults);
    }
    report("invalid network config:", &faults)
}

/// Makes one error of several, as Go's `errors.Join` does for Docker.
pub(super) fn report(title: &str, faults: &[String]) -> Result<()> {
    match faults {
        [] => Ok(()),
        [fault] => Err(Error::invalid(format!("{title}\n{fault}"))),
        faults => {
            let list: Vec<String> = faults.iter().map(|fault| format!("* {fault}")).collect();
            Err(Error::invalid(format!("{title}\n{}", list.join("\n"))))
        }
    }
}

fn check_config(config: &ApiConfig, ipv6: bool, faults: &mut Vec<String>) {
    let Some((address, subnet)) = block(&config.subnet) else {
        faults.push(format!(
            "invalid subnet {}: invalid CIDR block notation",
            config.subnet
        ));
        return;
    };
    let family = Family::of(address);
    if family == Family::V6 && !ipv6 {
        return;
    }
    if address != subnet.address() {
        faults.push(format!(
            "invalid subnet {}: it should be {subnet}",
            config.subnet
        ));
    }
    check_range(&config.ip_range, subnet, faults);
    if !config.gateway.is_empty() {
        let what = format!("gateway {}", config.gateway);
        check_address(&what, &config.gateway, subnet, faults);
    }
    for (name, text) in &config.auxiliary_addresses {
        if !text.is_empty() {
            check_address(&format!("auxiliary address {name}"), text, subnet, faults);
        }
    }
}

fn check_range(text: &str, subnet: Subnet, faults: &mut Vec<String>) {
    if text.is_empty() {
        return;
    }
    let mut fault = |why: String| faults.push(format!("invalid ip-range {text}: {why}"));
    let Some((address, range)) = block(text) else {
        fault("invalid CIDR block notation".to_owned());
        return;
    };
    let family = Family::of(subnet.address());
    if Family::of(address) != family {
        fault(format!("parent subnet is an {} block", family.name()));
        return;
    }
    if range.prefix() < subnet.prefix() {
        fault(format!(
            "CIDR block is bigger than its parent subnet {subnet}"
        ));
    }
    if address != range.address() {
        fault(format!("it should be {range}"));
    }
    if !subnet.overlaps(&range) {
        fault(format!("parent subnet {subnet} doesn't contain ip-range"));
    }
}

fn check_address(what: &str, text: &str, subnet: Subnet, faults: &mut Vec<String>) {
    let family = Family::of(subnet.address());
    let why = match text.parse::<IpAddr>() {
        Err(_) => "invalid address".to_owned(),
        Ok(address) if Family::of(address) != family => {
            format!("parent subnet is an {} block", family.name())
        }
        Ok(address) if !subnet.contains(address) => {
            format!("parent subnet {subnet} doesn't contain this address")
        }
        Ok(_) => return,
    };
    faults.push(format!("invalid {what}: {why}"));
}

/// Reads `address/length`: the address as written, and the network that it is in.
fn block(text: &str) -> Option<(IpAddr, Subnet)> {
    let subnet = text.parse().ok()?;
    let (address, _) = text.split_once('/')?;
    Some((address.parse().ok()?, subnet))
}

/// Gives a network the subnets that were asked for, or free ones.
pub(super) fn assign(record: &mut NetworkRecord, taken: &Taken<'_>) -> Result<()> {
    match record.ipam.driver.as_str() {
        "default" => (),
        "null" => return Err(null_driver(record)),
        other => return Err(Error::not_found(format!("plugin {other:?} not found"))),
    }
    let configs = record.ipam.config.clone().unwrap_or_default();
    let mut assigned: Vec<IpamRecord> = Vec::new();
    for family in [Family::V4, Family::V6] {
        let enabled = match family {
            Family::V4 => record.enable_ipv4,
            Family::V6 => record.enable_ipv6,
        };
        if !enabled {
            continue;
        }
        let given = configs.iter().filter_map(|config| {
            let (address, subnet) = block(&config.subnet)?;
            (Family::of(address) == family).then_some((config, subnet))
        });
        let given: Vec<_> = given.collect();
        for (config, subnet) in &given {
            check_free(record, *subnet, &assigned, taken)?;
            assigned.push(as_given(record, config, *subnet)?);
        }
        if given.is_empty() {
            assigned.push(chosen(record, family, &assigned, taken)?);
        }
    }
    for ipam in assigned {
        let slot = match Family::of(ipam.subnet.address()) {
            Family::V4 => &mut record.v4,
            Family::V6 => &mut record.v6,
        };
        if slot.replace(ipam).is_some() {
            return Err(Error::forbidden(format!(
                "{} driver doesn't support multiple subnets",
                record.driver
            )));
        }
    }
    Ok(())
}

fn null_driver(record: &NetworkRecord) -> Error {
    let subnets = record.ipam.config.as_ref().is_some_and(|c| !c.is_empty());
    Error::invalid(match (subnets, record.enable_ipv4) {
        (true, _) => "null ipam driver does not handle specific address pool requests",
        (false, true) => "ipv4 pool is empty",
        (false, false) => "ipv6 pool is empty",
    })
}

/// Checks that nothing else has addresses of the subnet; both sides are named.
fn check_free(
    record: &NetworkRecord,
    subnet: Subnet,
    assigned: &[IpamRecord],
    taken: &Taken<'_>,
) -> Result<()> {
    let refused = |other: &Subnet, owner: &str| {
        Error::forbidden(format!("{OVERLAP}: {subnet} overlaps {other} ({owner})"))
    };
    for network in taken.networks {
        if let Some(other) = subnets(network).find(|other| other.overlaps(&subnet)) {
            return Err(refused(other, &format!("network {}", network.name)));
        }
    }
    if let Some(other) = assigned.iter().find(|other| other.subnet.overlaps(&subnet)) {
        return Err(refused(&other.subnet, "the same network"));
    }
    check_reserved(subnet)?;
    if record.driver != Driver::Bridge {
        // links on a parent's wire have addresses of the parent's network
        return Ok(());
    }
    // a bridge that the administrator made may have its address, which leads to its network
    let own = record
        .options
        .get(BRIDGE_NAME)
        .filter(|name| !name.is_empty());
    let own = own.map(|name| format!(" {name}"));
    let foreign = |by: &str| own.as_ref().is_none_or(|own| !by.ends_with(own.as_str()));
    match taken
        .host
        .iter()
        .find(|(other, by)| other.overlaps(&subnet) && foreign(by))
    {
        Some((other, by)) => Err(refused(other, by)),
        None => Ok(()),
    }
}

fn subnets(network: &NetworkRecord) -> impl Iterator<Item = &Subnet> {
    let families = network.v4.iter().chain(&network.v6);
    families.map(|ipam| &ipam.subnet)
}

/// Refuses networks whose addresses no host may have.
fn check_reserved(subnet: Subnet) -> Result<()> {
    let reserved = |text: &str| {
        text.parse()
            .is_ok_and(|other: Subnet| other.overlaps(&subnet))
    };
    if ["224.0.0.0/4", "ff00::/8"].into_iter().any(reserved) {
        return Err(Error::invalid(format!(
            "multicast subnet '{}/{}' is not allowed",
            subnet.first_host(),
            subnet.prefix()
        )));
    }
    let others = [
        ("0.0.0.0/8", "this host"),
        ("127.0.0.0/8", "loopback"),
        ("255.255.255.255/32", "broadcast"),
        ("::/127", "unspecified and loopback"),
        ("::ffff:0:0/96", "IPv4-mapped"),
    ];
    match others.into_iter().find(|(other, _)| reserved(other)) {
        Some((other, use_of)) => Err(Error::invalid(format!(
            "invalid pool request: {subnet} overlaps {other}, which is reserved ({use_of} addresses)"
        ))),
        None => Ok(()),
    }
}

fn as_given(record: &NetworkRecord, config: &ApiConfig, subnet: Subnet) -> Result<IpamRecord> {
    let mut ipam = IpamRecord {
        subnet,
        range: config.ip_range.parse().ok(),
        gateway: config.gateway.parse().ok(),
        aux: std::collections::BTreeMap::new(),
    };
    let pool = Ipam::new(IpamConfig {
        subnet,
        range: ipam.range,
        gateway: None,
        reserved: Vec::new(),
    });
    let pool = pool.map_err(|error| Error::invalid(error.to_string()))?;
    match ipam.gateway {
        Some(gateway) => pool.allocate_specific(gateway).map_err(|_| {
            Error::internal(format!(
                "failed to allocate gateway ({gateway}): Address already in use"
            ))
        })?,
        None if record.wants_gateway(&ipam) => ipam.gateway = Some(first_free(&pool)?),
        None => (),
    }
    for (name, text) in &config.auxiliary_addresses {
        let address: IpAddr = text.parse().map_err(|_| {
            Error::invalid(format!(
                "non parsable secondary ip address ({name}:{text}) passed for network {}",
                record.name
            ))
        })?;
        pool.allocate_specific(address).map_err(|_| {
            Error::internal(format!(
                "failed to allocate secondary ip address ({name}:{address}): Address already in use"
            ))
        })?;
        ipam.aux.insert(name.clone(), address);
    }
    Ok(ipam)
}

fn first_free(pool: &Ipam) -> Result<IpAddr> {
    let none =
        || Error::internal("failed to allocate gateway (): no available addresses on this pool");
    // the one address of an IPv6 /128 is the subnet-router anycast address
    let subnet = pool.subnet();
    if subnet.address().is_ipv6() && subnet.prefix() == 128 {
        return Err(none());
    }
    pool.allocate().map_err(|_| none())
}

fn chosen(
    record: &NetworkRecord,
    family: Family,
    assigned: &[IpamRecord],
    taken: &Taken<'_>,
) -> Result<IpamRecord> {
    let of_family = |pool: &&AddressPool| Family::of(pool.base.address()) == family;
    let mut pools: Vec<AddressPool> = taken.pools.iter().filter(of_family).copied().collect();
    if pools.is_empty() && family == Family::V6 {
        pools.push(taken.ula);
    }
    let networks = taken.networks.iter().flat_map(subnets);
    let host = taken.host.iter().map(|(subnet, _)| subnet);
    let same = assigned.iter().map(|ipam| &ipam.subnet);
    let used: Vec<Subnet> = networks.chain(host).chain(same).copied().collect();
    let subnet = network::pick_from(&pools, &used).map_err(|error| {
        Error::invalid(format!(
            "{error}: no {} network is left that no other network and no route of the host has; remove unused networks, or name a subnet",
            family.name()
        ))
    })?;
    let mut ipam = IpamRecord {
        subnet,
        range: None,
        gateway: None,
        aux: std::collections::BTreeMap::new(),
    };
    if record.wants_gateway(&ipam) {
        ipam.gateway = Some(subnet.first_host());
    }
    Ok(ipam)
}
