//! The engine's settings of networks.

use crate::args::{Call, Flag};
use crate::csv;
use crate::failure::Failure;
use network::{AddressPool, PublishPolicy, Subnet};
use std::net::{IpAddr, Ipv4Addr};

/// RFC 8200: no link that carries IPv6 has a smaller one. Below 68 (RFC 791) not even IPv4 works.
const LEAST_MTU: u32 = 68;
const LEAST_MTU_V6: u32 = 1280;
/// The largest packet of IP.
const MOST_MTU: u32 = 65535;

pub(super) const FLAGS: &[Flag] = &[
    Flag::one(
        "bip",
        "cidr",
        "Address and prefix length of the default bridge (default: a free subnet)",
    ),
    Flag::one(
        "bridge",
        "string",
        "Name of the default bridge (default \"gorae0\")",
    ),
    Flag::one(
        "default-address",
        "ip",
        "Host address of published ports that name none (default 0.0.0.0)",
    ),
    Flag::many(
        "default-address-pool",
        "pool-options",
        "Where subnets of new networks come from, such as base=10.64.0.0/12,size=24",
    ),
    Flag::one(
        "fixed-cidr-v6",
        "cidr",
        "IPv6 subnet of the default bridge (default: one of our own)",
    ),
    Flag::switch_on(
        "icc",
        "Let the containers of the default bridge reach each other",
    ),
    Flag::switch("ipv6", "Give the default bridge IPv6"),
    Flag::one(
        "mtu",
        "int",
        "Largest packet on the default bridge and on networks that name none (default 1500)",
    ),
    Flag::one("publish-address", "ip", "Another name of --default-address").hidden(),
    Flag::one(
        "publish-policy",
        "string",
        "Who has the last word on connections to published ports: \"docker\", or the input rules of the \"host-firewall\" (default \"docker\")",
    ),
];

/// Reads the flags into the engine's settings.
pub(super) fn read(call: &Call, engine: &mut engine::Config) -> Result<(), Failure> {
    if let Some(bridge) = call.text("bridge") {
        bridge.clone_into(&mut engine.bridge);
    }
    engine.bip = call.parsed("bip", parse_bip)?;
    for name in ["publish-address", "default-address"] {
        if let Some(address) = call.parsed(name, parse_address)? {
            engine.publish_address = address;
        }
    }
    if let Some(policy) = call.parsed("publish-policy", parse_policy)? {
        engine.publish_policy = policy;
    }
    engine.address_pools = call.parsed_list("default-address-pool", parse_pool)?;
    engine.fixed_cidr_v6 = call.parsed("fixed-cidr-v6", parse_v6)?;
    engine.ipv6 = call.on("ipv6");
    if engine.fixed_cidr_v6.is_some() && !engine.ipv6 {
        return Err(Failure::message(
            "--fixed-cidr-v6 has no effect without --ipv6\n\nAdd --ipv6.",
        ));
    }
    let mtu = |text: &str| parse_mtu(text, engine.ipv6);
    if let Some(mtu) = call.parsed("mtu", mtu)? {
        engine.mtu = mtu;
    }
    engine.icc = call.still_on("icc");
    Ok(())
}

fn parse_address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("{text} is no IP address"))
}

fn parse_bip(text: &str) -> Result<(Ipv4Addr, u8), String> {
    let invalid = || format!("invalid CIDR address: {text}");
    let (address, length) = text.split_once('/').ok_or_else(invalid)?;
    let length: u8 = length
        .parse()
        .ok()
        .filter(|length| (1..=30).contains(length))
        .ok_or_else(invalid)?;
    Ok((address.parse().map_err(|_| invalid())?, length))
}

fn parse_policy(text: &str) -> Result<PublishPolicy, String> {
    match text {
        "docker" => Ok(PublishPolicy::Docker),
        "host-firewall" => Ok(PublishPolicy::HostFirewall),
        _ => Err("must be docker or host-firewall".to_owned()),
    }
}

fn parse_mtu(text: &str, ipv6: bool) -> Result<u32, String> {
    let least = if ipv6 { LEAST_MTU_V6 } else { LEAST_MTU };
    let number: u32 = text
        .parse()
        .map_err(|_| format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))?;
    if (least..=MOST_MTU).contains(&number) {
        Ok(number)
    } else {
        Err(format!("must be from {least} to {MOST_MTU}"))
    }
}

/// `base=10.64.0.0/12,size=24`, as dockerd takes it.
fn parse_pool(text: &str) -> Result<AddressPool, String> {
    let (mut base, mut size) = (None, None);
    for field in csv::fields(text)? {
        let (key, value) = field
            .split_once('=')
            .ok_or_else(|| format!("invalid field '{field}' must be a key=value pair"))?;
        match key.to_ascii_lowercase().as_str() {
            "base" => base = Some(parse_base(value)?),
            "size" => {
                let number: u8 = value
                    .parse()
                    .map_err(|_| format!("invalid size value: {value:?} (must be integer)"))?;
                size = Some(number);
            }
            _ => return Err(format!("unexpected key '{key}' in '{field}'")),
        }
    }
    let (Some(base), Some(size)) = (base, size) else {
        return Err("needs both base and size, such as base=10.64.0.0/12,size=24".to_owned());
    };
    let width = if base.address().is_ipv4() { 32 } else { 128 };
    if size < base.prefix() || size > width {
        return Err(format!(
            "size {size} must be from {} to {width}, as the base is {base}",
            base.prefix()
        ));
    }
    Ok(AddressPool { base, size })
}

fn parse_base(text: &str) -> Result<Subnet, String> {
    text.parse::<Subnet>()
        .map_err(|error| format!("invalid base prefix {text:?}: {error}"))
}

fn parse_v6(text: &str) -> Result<Subnet, String> {
    let subnet = text.parse::<Subnet>().map_err(|error| error.to_string())?;
    match subnet.address() {
        IpAddr::V6(_) if subnet.prefix() < 128 => Ok(subnet),
        _ => Err(format!("{text} is no IPv6 subnet")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools() {
        let check = |text: &str, expect: Result<&str, &str>| {
            let found = parse_pool(text).map(|pool| format!("{} by {}", pool.base, pool.size));
            match (found, expect) {
                (Ok(found), Ok(expect)) => assert_eq!(found, expect, "{text}"),
                (Err(found), Err(expect)) => assert!(found.contains(expect), "{text}: {found}"),
                (found, expect) => panic!("{text}: {found:?}, not {expect:?}"),
            }
        };
        check("base=10.64.0.0/12,size=24", Ok("10.64.0.0/12 by 24"));
        check("SIZE=64,Base=fd12::/48", Ok("fd12::/48 by 64"));
        check("base=10.0.0.0/8", Err("needs both"));
        check(
            "base=10.0.0.0/8,size=x",
            Err("invalid size value: \"x\" (must be integer)"),
        );
        check("base=10.0.0.0/8,size=7", Err("size 7 must be from 8 to 32"));
        check(
            "base=10.0.0.0/8,size=33",
            Err("size 33 must be from 8 to 32"),
        );
        check(
            "base=10.0.0.0,size=24",
            Err("invalid base prefix \"10.0.0.0\""),
        );
        check("base", Err("invalid field 'base' must be a key=value pair"));
        check("a=b", Err("unexpected key 'a' in 'a=b'"));
        check("", Err("EOF"));
    }

    #[test]
    fn bounds() {
        assert_eq!(parse_mtu("1500", false), Ok(1500));
        assert_eq!(parse_mtu("68", false), Ok(68));
        for (text, ipv6) in [
            ("67", false),
            ("1279", true),
            ("65536", false),
            ("-1", false),
            ("x", false),
        ] {
            assert!(parse_mtu(text, ipv6).is_err(), "{text}");
        }
        assert_eq!(
            parse_bip("10.0.0.1/24"),
            Ok((Ipv4Addr::new(10, 0, 0, 1), 24))
        );
        assert!(parse_bip("10.0.0.1/31").is_err() && parse_bip("x").is_err());
        assert!(parse_v6("fd00::/64").is_ok() && parse_v6("10.0.0.0/8").is_err());
        assert_eq!(
            parse_policy("host-firewall"),
            Ok(PublishPolicy::HostFirewall)
        );
        assert!(parse_policy("ufw").is_err());
        assert_eq!(parse_address("::"), Ok("::".parse().unwrap()));
    }
}
