//! The kernel settings that make a bridge route.

use super::{BridgeConfig, BridgeFault};
use crate::sysctl::{self, SysctlError};

/// `arp_ignore`: answer as usual.
const ARP_AS_USUAL: &str = "0";
/// `arp_ignore`: do not answer for any address of this host.
const NO_ARP: &str = "8";

pub(super) fn ensure(config: &BridgeConfig) -> Result<(), SysctlError> {
    let has_gateway = |ipv6: bool| {
        config
            .gateways()
            .any(|(gateway, _)| gateway.is_ipv6() == ipv6)
    };
    ensure_ipv4(&config.name, has_gateway(false))?;
    if sysctl::has_ipv6() {
        ensure_ipv6(&config.name, has_gateway(true))?;
    }
    Ok(())
}

/// Tells which setting is not as it must be for packets to pass.
pub(super) fn fault(config: &BridgeConfig) -> Option<BridgeFault> {
    let name = &config.name;
    let has_gateway = |ipv6: bool| {
        config
            .gateways()
            .any(|(gateway, _)| gateway.is_ipv6() == ipv6)
    };
    let v4 = [
        "ipv4/ip_forward".to_owned(),
        format!("ipv4/conf/{name}/route_localnet"),
    ];
    let v6 = [
        "ipv6/conf/all/forwarding".to_owned(),
        format!("ipv6/conf/{name}/forwarding"),
    ];
    let own = v4.into_iter().filter(|_| has_gateway(false));
    let mut settings = own.chain(v6.into_iter().filter(|_| has_gateway(true)));
    let wanted = "1";
    let is_off = |name: &String| sysctl::read(name).is_ok_and(|value| value.trim() != wanted);
    settings
        .find(is_off)
        .map(|name| BridgeFault::Setting { name, wanted })
}

fn ensure_ipv4(name: &str, gateway: bool) -> Result<(), SysctlError> {
    let arp_ignore = format!("ipv4/conf/{name}/arp_ignore");
    if !gateway {
        // every link answers for every address of the host, and this host is not to be reached here
        return sysctl::ensure(&arp_ignore, NO_ARP);
    }
    if sysctl::read(&arp_ignore).is_ok_and(|value| value.trim() == NO_ARP) {
        sysctl::ensure(&arp_ignore, ARP_AS_USUAL)?;
    }
    sysctl::ensure("ipv4/ip_forward", "1")?;
    // A connection to a port published on 127.0.0.1 leaves by the bridge with a loopback source.
    // What this opens for others, the guard chain of the firewall closes.
    sysctl::ensure(&format!("ipv4/conf/{name}/route_localnet"), "1")
}

fn ensure_ipv6(name: &str, gateway: bool) -> Result<(), SysctlError> {
    let setting = |setting: &str| format!("ipv6/conf/{name}/{setting}");
    if !gateway {
        // a network without IPv6 must not carry it (GHSA-x84c-p2g9-rqv9), and where the host has no
        // address it must not have the one that every link gets by itself; a link with packets too
        // small for IPv6 has no settings of it either
        return sysctl::ensure_if_present(&setting("disable_ipv6"), "1");
    }
    for (own, value) in [
        // the one link-local address is given with the others
        ("addr_gen_mode", "1"),
        // what a container announces is nothing to the host
        ("accept_ra", "0"),
        ("disable_ipv6", "0"),
    ] {
        sysctl::ensure(&setting(own), value)?;
    }
    forward_ipv6()?;
    sysctl::ensure(&setting("forwarding"), "1")
}

/// Makes the host route IPv6 and remain a host on the links where it is one.
///
/// A link that forwards ignores router advertisements unless `accept_ra` is 2, and the moment it
/// begins to forward the kernel drops the default route it had learnt there
/// (Documentation/networking/ip-sysctl.rst; `rt6_purge_dflt_routers`).
fn forward_ipv6() -> Result<(), SysctlError> {
    let is = |name: &str, value: &str| sysctl::read(name).is_ok_and(|text| text.trim() == value);
    if is("ipv6/conf/all/forwarding", "1") {
        return Ok(());
    }
    let links = sysctl::ipv6_links().unwrap_or_default();
    for link in links.iter().map(String::as_str).chain(["default"]) {
        let accept_ra = format!("ipv6/conf/{link}/accept_ra");
        let is_host = is(&format!("ipv6/conf/{link}/forwarding"), "0");
        if is_host && is(&accept_ra, "1") {
            // it may go by itself at any moment
            sysctl::write_if_present(&accept_ra, "2")?;
        }
    }
    sysctl::write("ipv6/conf/all/forwarding", "1")
}
