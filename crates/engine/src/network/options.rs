//! Driver options of a network: Docker's keys, their values, and what they come to.
//!
//! Keys that Docker does not know are kept as they are and mean nothing, as with Docker.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use network::{GatewayMode, IpvlanMode, MacvlanMode};
use serde::{Deserialize, Serialize};

use super::plan::Driver;
use crate::error::{Error, Result};

pub(crate) const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
pub(crate) const DEFAULT_BRIDGE: &str = "com.docker.network.bridge.default_bridge";
pub(crate) const ENABLE_ICC: &str = "com.docker.network.bridge.enable_icc";
pub(crate) const ENABLE_MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
pub(crate) const HOST_BINDING: &str = "com.docker.network.bridge.host_binding_ipv4";
pub(crate) const MTU: &str = "com.docker.network.driver.mtu";
pub(crate) const ENABLE_IPV4: &str = "com.docker.network.enable_ipv4";
pub(crate) const ENABLE_IPV6: &str = "com.docker.network.enable_ipv6";
const GATEWAY_MODE_4: &str = "com.docker.network.bridge.gateway_mode_ipv4";
const GATEWAY_MODE_6: &str = "com.docker.network.bridge.gateway_mode_ipv6";
const INHIBIT_4: &str = "com.docker.network.bridge.inhibit_ipv4";
const TRUSTED: &str = "com.docker.network.bridge.trusted_host_interfaces";
const HOST_4: &str = "com.docker.network.host_ipv4";
const HOST_6: &str = "com.docker.network.host_ipv6";
const PREFIX: &str = "com.docker.network.container_iface_prefix";
const PARENT: &str = "parent";
const MACVLAN_MODE: &str = "macvlan_mode";
const IPVLAN_MODE: &str = "ipvlan_mode";
const IPVLAN_FLAG: &str = "ipvlan_flag";

/// The kernel's smallest packet for IPv4 (RFC 791) and the largest that fits its length field.
const MTU_RANGE: std::ops::RangeInclusive<i64> = 68..=65535;
/// Below it the kernel takes IPv6 off a link (RFC 8200, section 5).
const MTU_V6: i64 = 1280;
/// `IFNAMSIZ` without the closing zero.
const LINK_NAME: usize = 15;

/// What the options of a network come to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// The bridge's link.
    pub(crate) bridge: String,
    /// The largest packet in bytes; the engine's default when absent.
    pub(crate) mtu: Option<u32>,
    /// Whether the network's containers reach each other.
    pub(crate) icc: bool,
    /// Whether containers leave with the host's address.
    pub(crate) masquerade: bool,
    pub(crate) mode4: GatewayMode,
    pub(crate) mode6: GatewayMode,
    /// The host's address for published ports that name none.
    pub(crate) host_binding: Option<IpAddr>,
    /// The address that containers leave with, in place of the one the host would choose.
    pub(crate) snat4: Option<IpAddr>,
    pub(crate) snat6: Option<IpAddr>,
    /// Whether the bridge goes without its IPv4 address.
    pub(crate) inhibit_v4: bool,
    /// Links of the host from which containers may be reached by their own addresses.
    pub(crate) trusted: Vec<String>,
    /// The link of the host that macvlan and ipvlan links share; one that leads nowhere when absent.
    pub(crate) parent: Option<String>,
    pub(crate) macvlan_mode: MacvlanMode,
    pub(crate) ipvlan_mode: IpvlanMode,
    /// What names of links in containers start with.
    pub(crate) prefix: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            bridge: String::new(),
            mtu: None,
            icc: true,
            masquerade: true,
            mode4: GatewayMode::default(),
            mode6: GatewayMode::default(),
            host_binding: None,
            snat4: None,
            snat6: None,
            inhibit_v4: false,
            trusted: Vec::new(),
            parent: None,
            macvlan_mode: MacvlanMode::default(),
            ipvlan_mode: IpvlanMode::default(),
            prefix: "eth".to_owned(),
        }
    }
}

/// What the meaning of options depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context<'a> {
    /// The network's id, which names its bridge where no option does.
    pub(crate) id: &'a str,
    pub(crate) driver: Driver,
    pub(crate) internal: bool,
    pub(crate) ipv6: bool,
}

/// Reads the options of a network.
pub(crate) fn parse(options: &BTreeMap<String, String>, context: Context<'_>) -> Result<Settings> {
    let mut settings = Settings::default();
    for (key, value) in options {
        match key.as_str() {
            MTU => settings.mtu = mtu(value, context.ipv6)?,
            PREFIX => settings.prefix = prefix(value)?,
            _ => match context.driver {
                Driver::Bridge => settings.bridge_option(key, value)?,
                Driver::Macvlan => settings.macvlan_option(key, value)?,
                Driver::Ipvlan => settings.ipvlan_option(key, value)?,
                Driver::Host | Driver::Null => (),
            },
        }
    }
    if context.driver == Driver::Bridge {
        if settings.bridge.is_empty() {
            settings.bridge = context.id.chars().take(12).collect();
            settings.bridge.insert_str(0, "br-");
        }
        let isolated = [settings.mode4, settings.mode6].contains(&GatewayMode::Isolated);
        if isolated && !context.internal {
            return Err(Error::internal(
                "gateway mode 'isolated' can only be used for an internal network",
            ));
        }
    }
    Ok(settings)
}

impl Settings {
    fn bridge_option(&mut self, key: &str, value: &str) -> Result<()> {
        match key {
            BRIDGE_NAME if value.is_empty() => (),
            BRIDGE_NAME => self.bridge = link_name("bridge", value)?.to_owned(),
            ENABLE_ICC => self.icc = boolean(key, value)?,
            ENABLE_MASQUERADE => self.masquerade = boolean(key, value)?,
            GATEWAY_MODE_4 => self.mode4 = gateway_mode(key, value)?,
            GATEWAY_MODE_6 => self.mode6 = gateway_mode(key, value)?,
            HOST_BINDING => self.host_binding = Some(address(key, value)?),
            HOST_4 => self.snat4 = Some(address_of::<Ipv4Addr>(key, value, "IPv4")?.into()),
            HOST_6 => self.snat6 = Some(address_of::<Ipv6Addr>(key, value, "IPv6")?.into()),
            INHIBIT_4 => self.inhibit_v4 = boolean(key, value)?,
            TRUSTED => {
                let names = value.split(':').filter(|name| !name.is_empty());
                self.trusted = names
                    .map(|name| link_name("trusted host", name).map(str::to_owned))
                    .collect::<Result<_>>()?;
            }
            // which network is the default bridge is not for a request to say
            DEFAULT_BRIDGE => {
                boolean(key, value)?;
            }
            _ => (),
        }
        Ok(())
    }

    fn macvlan_option(&mut self, key: &str, value: &str) -> Result<()> {
        match key {
            PARENT => self.parent = parent(value, "macvlan", link_exists)?,
            MACVLAN_MODE => self.macvlan_mode = macvlan_mode(value)?,
            _ => (),
        }
        Ok(())
    }

    fn ipvlan_option(&mut self, key: &str, value: &str) -> Result<()> {
        match key {
            PARENT => self.parent = parent(value, "ipvlan", link_exists)?,
            IPVLAN_MODE => self.ipvlan_mode = ipvlan_mode(value)?,
            IPVLAN_FLAG => ipvlan_flag(value)?,
            _ => (),
        }
        Ok(())
    }
}

fn malformed(key: &str, value: &str, why: impl std::fmt::Display) -> Error {
    Error::invalid(format!("failed to parse {key} value: {value} ({why})"))
}

/// Go's `strconv.ParseBool`.
fn go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// Reads one of the options that turn a family on or off.
pub(crate) fn family_switch(options: &BTreeMap<String, String>, key: &str) -> Result<Option<bool>> {
    let invalid = || Error::invalid(format!("driver-opt {key:?} is not a valid bool"));
    options
        .get(key)
        .map(|value| go_bool(value).ok_or_else(invalid))
        .transpose()
}

fn boolean(key: &str, value: &str) -> Result<bool> {
    let why = || format!("strconv.ParseBool: parsing {value:?}: invalid syntax");
    go_bool(value).ok_or_else(|| malformed(key, value, why()))
}

/// Reads a number as Go's `strconv.Atoi`; zero stands for the default.
fn mtu(value: &str, ipv6: bool) -> Result<Option<u32>> {
    let number: i64 = value.parse().map_err(|error: std::num::ParseIntError| {
        use std::num::IntErrorKind::{NegOverflow, PosOverflow};
        let why = match error.kind() {
            NegOverflow | PosOverflow => "value out of range",
            _ => "invalid syntax",
        };
        malformed(
            MTU,
            value,
            format!("strconv.Atoi: parsing {value:?}: {why}"),
        )
    })?;
    let refused = |why| Error::invalid(format!("invalid MTU number: {number}{why}"));
    match number {
        0 => Ok(None),
        ..0 => Err(refused("")),
        _ if !MTU_RANGE.contains(&number) => Err(refused(": must be between 68 and 65535")),
        ..MTU_V6 if ipv6 => Err(refused(": IPv6 needs at least 1280")),
        _ => Ok(u32::try_from(number).ok()),
    }
}

fn address(key: &str, value: &str) -> Result<IpAddr> {
    value.parse().map_err(|_| malformed(key, value, "nil ip"))
}

fn address_of<A: std::str::FromStr>(key: &str, value: &str, family: &str) -> Result<A> {
    address(key, value)?;
    value
        .parse()
        .map_err(|_| malformed(key, value, format!("not an {family} address")))
}

fn gateway_mode(key: &str, value: &str) -> Result<GatewayMode> {
    match value {
        "nat" => Ok(GatewayMode::Nat),
        "nat-unprotected" => Ok(GatewayMode::NatUnprotected),
        "routed" => Ok(GatewayMode::Routed),
        "isolated" => Ok(GatewayMode::Isolated),
        _ => Err(malformed(
            key,
            value,
            format!("unknown gateway mode {value}"),
        )),
    }
}

fn macvlan_mode(value: &str) -> Result<MacvlanMode> {
    match value {
        "" | "bridge" => Ok(MacvlanMode::Bridge),
        "private" => Ok(MacvlanMode::Private),
        "vepa" => Ok(MacvlanMode::Vepa),
        "passthru" => Ok(MacvlanMode::Passthru),
        _ => Err(Error::internal(format!(
            "requested macvlan mode '{value}' is not valid, 'bridge' mode is the macvlan driver default"
        ))),
    }
}

fn ipvlan_mode(value: &str) -> Result<IpvlanMode> {
    match value {
        "" | "l2" => Ok(IpvlanMode::L2),
        "l3" => Ok(IpvlanMode::L3),
        "l3s" => Ok(IpvlanMode::L3s),
        _ => Err(Error::internal(format!(
            "requested ipvlan mode '{value}' is not valid, 'l2' mode is the ipvlan driver default"
        ))),
    }
}

fn ipvlan_flag(value: &str) -> Result<()> {
    match value {
        "" | "bridge" => Ok(()),
        "private" | "vepa" => Err(Error::not_implemented(format!(
            "ipvlan flag '{value}' is not supported, only 'bridge' is"
        ))),
        _ => Err(Error::internal(format!(
            "requested ipvlan flag '{value}' is not valid, 'bridge' is the ipvlan driver default"
        ))),
    }
}

/// Checks what links in containers are called; a number is appended to it.
fn prefix(value: &str) -> Result<String> {
    if value.is_empty() {
        return Ok(Settings::default().prefix);
    }
    if value.len() + 3 > LINK_NAME || !is_link_name(value) {
        return Err(Error::invalid(format!(
            "invalid container interface prefix {value:?}: must be 1 to 12 characters that a link's name may have"
        )));
    }
    Ok(value.to_owned())
}

/// Whether the kernel takes this as a link's name, and as it is written.
pub(crate) fn is_link_name(text: &str) -> bool {
    let refused = |c: char| c.is_whitespace() || c.is_control() || "/:%".contains(c);
    !text.is_empty()
        && text.len() <= LINK_NAME
        && !matches!(text, "." | "..")
        && !text.contains(refused)
}

fn link_name<'a>(what: &str, text: &'a str) -> Result<&'a str> {
    let invalid = || {
        Error::invalid(format!(
            "invalid {what} interface name {text:?}: must be 1 to 15 characters without '/', ':', '%' and white space"
        ))
    };
    is_link_name(text).then_some(text).ok_or_else(invalid)
}

/// Checks a parent link: it is there, or it is a VLAN of one that is, such as `eth0.10`.
fn parent(value: &str, driver: &str, exists: impl Fn(&str) -> bool) -> Result<Option<String>> {
    if value.is_empty() {
        return Ok(None);
    }
    if value == "lo" {
        return Err(Error::internal(format!(
            "loopback interface is not a valid {driver} parent link"
        )));
    }
    if exists(value) {
        return Ok(Some(value.to_owned()));
    }
    let Some((carrier, vlan)) = value.rsplit_once('.') else {
        return Err(Error::internal(format!(
            "invalid subinterface vlan name {value}, example formatting is eth0.10"
        )));
    };
    let vlan: i64 = vlan.parse().map_err(|_| {
        Error::internal(format!(
            "unable to parse a valid vlan id from: {vlan} (ex. eth0.10 for vlan 10)"
        ))
    })?;
    if !(1..=4094).contains(&vlan) {
        return Err(Error::internal(format!(
            "vlan id must be between 1-4094, received: {vlan}"
        )));
    }
    if !exists(carrier) {
        return Err(Error::internal(format!(
            "-o parent interface was not found on the host: {carrier}"
        )));
    }
    link_name("parent", value).map(|name| Some(name.to_owned()))
}

fn link_exists(name: &str) -> bool {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};
    let flags = SocketFlags::CLOEXEC;
    is_link_name(name)
        && socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)
            .is_ok_and(|socket| netdevice::name_to_index(&socket, name).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    const BRIDGE: Context<'_> = Context {
        id: "0123456789abcdef",
        driver: Driver::Bridge,
        internal: false,
        ipv6: false,
    };

    fn one(key: &str, value: &str, context: Context<'_>) -> Result<Settings> {
        let options = BTreeMap::from([(key.to_owned(), value.to_owned())]);
        parse(&options, context)
    }

    /// What Docker 28.5 answers to each value, or what stands for its errors from the kernel.
    #[test]
    #[expect(clippy::too_many_lines, reason = "it is a table")]
    fn refused_values() {
        use Kind::{InvalidParameter as Invalid, System};
        for (key, value, kind, message) in [
            (
                MTU,
                "foo",
                Invalid,
                "failed to parse com.docker.network.driver.mtu value: foo (strconv.Atoi: parsing \"foo\": invalid syntax)",
            ),
            (
                MTU,
                "",
                Invalid,
                "failed to parse com.docker.network.driver.mtu value:  (strconv.Atoi: parsing \"\": invalid syntax)",
            ),
            (
                MTU,
                " 1500",
                Invalid,
                "failed to parse com.docker.network.driver.mtu value:  1500 (strconv.Atoi: parsing \" 1500\": invalid syntax)",
            ),
            (MTU, "-1", Invalid, "invalid MTU number: -1"),
            (
                MTU,
                "67",
                Invalid,
                "invalid MTU number: 67: must be between 68 and 65535",
            ),
            (
                MTU,
                "65536",
                Invalid,
                "invalid MTU number: 65536: must be between 68 and 65535",
            ),
            (
                ENABLE_ICC,
                "yes",
                Invalid,
                "failed to parse com.docker.network.bridge.enable_icc value: yes (strconv.ParseBool: parsing \"yes\": invalid syntax)",
            ),
            (
                ENABLE_ICC,
                "tRUE",
                Invalid,
                "failed to parse com.docker.network.bridge.enable_icc value: tRUE (strconv.ParseBool: parsing \"tRUE\": invalid syntax)",
            ),
            (
                ENABLE_MASQUERADE,
                "",
                Invalid,
                "failed to parse com.docker.network.bridge.enable_ip_masquerade value:  (strconv.ParseBool: parsing \"\": invalid syntax)",
            ),
            (
                INHIBIT_4,
                "x",
                Invalid,
                "failed to parse com.docker.network.bridge.inhibit_ipv4 value: x (strconv.ParseBool: parsing \"x\": invalid syntax)",
            ),
            (
                DEFAULT_BRIDGE,
                "x",
                Invalid,
                "failed to parse com.docker.network.bridge.default_bridge value: x (strconv.ParseBool: parsing \"x\": invalid syntax)",
            ),
            (
                HOST_BINDING,
                "10.0.0.0/8",
                Invalid,
                "failed to parse com.docker.network.bridge.host_binding_ipv4 value: 10.0.0.0/8 (nil ip)",
            ),
            (
                HOST_4,
                "foo",
                Invalid,
                "failed to parse com.docker.network.host_ipv4 value: foo (nil ip)",
            ),
            (
                HOST_4,
                "::1",
                Invalid,
                "failed to parse com.docker.network.host_ipv4 value: ::1 (not an IPv4 address)",
            ),
            (
                HOST_6,
                "10.0.0.1",
                Invalid,
                "failed to parse com.docker.network.host_ipv6 value: 10.0.0.1 (not an IPv6 address)",
            ),
            (
                GATEWAY_MODE_4,
                "NAT",
                Invalid,
                "failed to parse com.docker.network.bridge.gateway_mode_ipv4 value: NAT (unknown gateway mode NAT)",
            ),
            (
                GATEWAY_MODE_6,
                "",
                Invalid,
                "failed to parse com.docker.network.bridge.gateway_mode_ipv6 value:  (unknown gateway mode )",
            ),
            (
                GATEWAY_MODE_4,
                "isolated",
                System,
                "gateway mode 'isolated' can only be used for an internal network",
            ),
            (
                BRIDGE_NAME,
                "a/b",
                Invalid,
                "invalid bridge interface name \"a/b\": must be 1 to 15 characters without '/', ':', '%' and white space",
            ),
            (
                PREFIX,
                "a b",
                Invalid,
                "invalid container interface prefix \"a b\": must be 1 to 12 characters that a link's name may have",
            ),
        ] {
            let error = one(key, value, BRIDGE).unwrap_err();
            assert_eq!(
                (error.kind(), error.message()),
                (kind, message),
                "{key}={value}"
            );
        }
        for bad in [
            "aaaaaaaaaaaaaaaa",
            ".",
            "..",
            "a b",
            "a:b",
            "eth%d",
            "\u{7}",
        ] {
            assert!(one(BRIDGE_NAME, bad, BRIDGE).is_err(), "{bad:?}");
        }
        let six = Context {
            ipv6: true,
            ..BRIDGE
        };
        let error = one(MTU, "1279", six).unwrap_err();
        assert_eq!(
            error.message(),
            "invalid MTU number: 1279: IPv6 needs at least 1280"
        );
        assert_eq!(one(MTU, "1280", six).unwrap().mtu, Some(1280));
    }

    #[test]
    fn accepted_values() {
        let set = |key, value| one(key, value, BRIDGE).unwrap();
        assert_eq!(set(MTU, "+1500").mtu, Some(1500));
        assert_eq!(set(MTU, "0").mtu, None);
        assert!(!set(ENABLE_ICC, "f").icc);
        assert!(!set(ENABLE_MASQUERADE, "False").masquerade);
        assert_eq!(set(BRIDGE_NAME, "").bridge, "br-0123456789ab");
        assert_eq!(set(BRIDGE_NAME, "aaaaaaaaaaaaaaa").bridge.len(), 15);
        assert_eq!(set(GATEWAY_MODE_6, "routed").mode6, GatewayMode::Routed);
        assert_eq!(set(HOST_BINDING, "::1").host_binding, "::1".parse().ok());
        assert_eq!(set(HOST_4, "10.0.0.1").snat4, "10.0.0.1".parse().ok());
        assert_eq!(set(TRUSTED, "eth0:eth1").trusted, ["eth0", "eth1"]);
        assert!(set(TRUSTED, ":").trusted.is_empty());
        assert_eq!(set(PREFIX, "lan").prefix, "lan");
        assert_eq!(set(PREFIX, "").prefix, "eth");
        // what Docker does not know, or another driver's, is not looked at
        for (key, value) in [
            ("foo", "bar"),
            ("", "x"),
            ("mtu", "foo"),
            (PARENT, "nope"),
            (MACVLAN_MODE, "foo"),
            ("internal", "x"),
        ] {
            assert!(one(key, value, BRIDGE).is_ok(), "{key}");
        }
        let internal = Context {
            internal: true,
            ..BRIDGE
        };
        assert_eq!(
            one(GATEWAY_MODE_4, "isolated", internal).unwrap().mode4,
            GatewayMode::Isolated
        );
    }

    #[test]
    fn modes_of_shared_links() {
        let macvlan = Context {
            driver: Driver::Macvlan,
            ..BRIDGE
        };
        let ipvlan = Context {
            driver: Driver::Ipvlan,
            ..BRIDGE
        };
        assert_eq!(
            one(MACVLAN_MODE, "vepa", macvlan).unwrap().macvlan_mode,
            MacvlanMode::Vepa
        );
        assert_eq!(
            one(IPVLAN_MODE, "l3s", ipvlan).unwrap().ipvlan_mode,
            IpvlanMode::L3s
        );
        for (key, value, context, message) in [
            (
                MACVLAN_MODE,
                "Bridge",
                macvlan,
                "requested macvlan mode 'Bridge' is not valid, 'bridge' mode is the macvlan driver default",
            ),
            (
                IPVLAN_MODE,
                "L2",
                ipvlan,
                "requested ipvlan mode 'L2' is not valid, 'l2' mode is the ipvlan driver default",
            ),
            (
                IPVLAN_FLAG,
                "foo",
                ipvlan,
                "requested ipvlan flag 'foo' is not valid, 'bridge' is the ipvlan driver default",
            ),
        ] {
            let error = one(key, value, context).unwrap_err();
            assert_eq!((error.kind(), error.message()), (Kind::System, message));
        }
    }

    #[test]
    fn parents() {
        let check = |value| {
            parent(value, "macvlan", |name| {
                ["lo", "docker0", "eth0.7"].contains(&name)
            })
        };
        for good in ["docker0", "docker0.10", "eth0.7", "docker0.4094"] {
            assert_eq!(check(good).unwrap().as_deref(), Some(good));
        }
        assert_eq!(check("").unwrap(), None);
        for (value, message) in [
            (
                "lo",
                "loopback interface is not a valid macvlan parent link",
            ),
            (
                "nope0",
                "invalid subinterface vlan name nope0, example formatting is eth0.10",
            ),
            (
                "nope0.10",
                "-o parent interface was not found on the host: nope0",
            ),
            (
                "docker0.foo",
                "unable to parse a valid vlan id from: foo (ex. eth0.10 for vlan 10)",
            ),
            ("docker0.0", "vlan id must be between 1-4094, received: 0"),
            (
                "docker0.4095",
                "vlan id must be between 1-4094, received: 4095",
            ),
        ] {
            let error = check(value).unwrap_err();
            assert_eq!((error.kind(), error.message()), (Kind::System, message));
        }
    }

    #[test]
    fn family_switches() {
        let options = BTreeMap::from([(ENABLE_IPV4.to_owned(), "x".to_owned())]);
        assert_eq!(family_switch(&options, ENABLE_IPV6).unwrap(), None);
        let error = family_switch(&options, ENABLE_IPV4).unwrap_err();
        assert_eq!(
            error.message(),
            "driver-opt \"com.docker.network.enable_ipv4\" is not a valid bool"
        );
    }
}
