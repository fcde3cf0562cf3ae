//! What the kernel can do without an engine: two namespaces on a bridge of a third, made by hand.

use super::namespace::{Addresses, Namespace, ip};
use super::pair::Ends;
use anyhow::Result;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The name of the hand-made network in the report.
pub(crate) const WIRE: &str = "veth by hand";
/// Which link leads from its host to the outside.
pub(crate) const UPLINK: u8 = 4;

const BRIDGE: &str = "br0";

/// The hand-made network; it goes with this value.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) host: Namespace,
    ends: [Namespace; 2],
}

impl Wire {
    pub(crate) fn new() -> Result<Self> {
        let host = Namespace::new("gorae-bench-wire")?;
        host.ip(&["link", "add", BRIDGE, "type", "bridge"])?;
        host.ip(&["link", "set", BRIDGE, "up"])?;
        let own = address(1);
        for address in own.with_prefix() {
            host.ip(&["address", "add", &address, "dev", BRIDGE, "nodad"])?;
        }
        host.forward()?;
        let ends = [
            Namespace::new("gorae-bench-wire-a")?,
            Namespace::new("gorae-bench-wire-b")?,
        ];
        for (end, number) in ends.iter().zip([2, 3]) {
            join(&host, end, number)?;
        }
        Ok(Self { host, ends })
    }

    /// Its parts as a row sees an engine's; the outside reaches an end by its own address.
    pub(crate) fn ends(&self) -> Ends {
        Ends {
            host: self.host.file(),
            a: self.ends[0].file(),
            b: self.ends[1].file(),
            container: address(3).both(),
            gateway: address(1).both(),
            published: address(3).both(),
        }
    }
}

/// An address in both families.
struct Address {
    v4: Ipv4Addr,
    v6: Ipv6Addr,
}

fn address(number: u8) -> Address {
    Address {
        v4: Ipv4Addr::new(10, 214, 0, number),
        v6: Ipv6Addr::new(0xfd00, 0x214, 0, 0, 0, 0, 0, u16::from(number)),
    }
}

impl Address {
    fn with_prefix(&self) -> [String; 2] {
        [format!("{}/24", self.v4), format!("{}/64", self.v6)]
    }

    fn both(&self) -> Addresses {
        Addresses {
            v4: Some(self.v4.into()),
            v6: Some(self.v6.into()),
        }
    }
}

fn join(host: &Namespace, end: &Namespace, number: u8) -> Result<()> {
    let port = format!("port{number}");
    ip(&[
        "link",
        "add",
        &port,
        "netns",
        &host.file(),
        "type",
        "veth",
        "peer",
        "name",
        "eth0",
        "netns",
        &end.file(),
    ])?;
    host.ip(&["link", "set", &port, "master", BRIDGE, "up"])?;
    for address in address(number).with_prefix() {
        end.ip(&["address", "add", &address, "dev", "eth0", "nodad"])?;
    }
    end.ip(&["link", "set", "eth0", "up"])?;
    let gateway = address(1);
    for gateway in [gateway.v4.to_string(), gateway.v6.to_string()] {
        end.ip(&["route", "add", "default", "via", &gateway])?;
    }
    Ok(())
}

/// The networks that the outside reaches through the hand-made host.
pub(crate) const SUBNETS: [&str; 2] = ["10.214.0.0/24", "fd00:214::/64"];
