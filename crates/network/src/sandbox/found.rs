//! What is really in a namespace, as after a restart of the engine.

use std::net::IpAddr;
use std::os::fd::AsFd;

use super::inside::LOOPBACK_INDEX;
use super::{Gateway, HostInterface, Sandbox, SandboxError, is_port_name, lock};
use crate::mac::MacAddress;
use crate::netlink::{NetlinkError, Socket};
use crate::route::{self, Link};

/// A link as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The link's name in the container.
    pub name: String,
    /// The Ethernet address.
    pub mac: Option<MacAddress>,
    /// The largest packet.
    pub mtu: u32,
    /// The link is switched on.
    pub up: bool,
    /// The IP addresses with the lengths of their prefixes, without IPv6's link-local ones.
    pub addresses: Vec<(IpAddr, u8)>,
    /// The host's end of the veth pair, if it is one.
    pub host: Option<HostInterface>,
}

impl Sandbox {
    /// Lists the links inside with what they really have, the loopback link left out.
    pub fn interfaces(&mut self) -> Result<Vec<Found>, SandboxError> {
        let mut links = route::links(&mut self.inside).map_err(SandboxError::Inside)?;
        links.retain(|link| link.index != LOOPBACK_INDEX);
        let assigned = route::addresses(&mut self.inside).map_err(SandboxError::Inside)?;
        let socket = self.host()?;
        let mut host = lock(&socket);
        let number = route::namespace_number(&mut host, self.namespace.as_fd())
            .map_err(SandboxError::Inside)?;
        let found = links.into_iter().map(|link| {
            let own = assigned.iter().filter(|a| a.link == link.index);
            Ok(Found {
                addresses: own
                    .filter(|a| !is_link_local(a.address))
                    .map(|a| (a.address, a.prefix))
                    .collect(),
                host: host_end(&mut host, &link, number)?,
                mac: link.mac,
                mtu: link.mtu,
                up: link.up,
                name: link.name,
            })
        });
        found
            .collect::<Result<_, _>>()
            .map_err(SandboxError::Inside)
    }

    /// Lists the default routes of both families.
    pub fn default_routes(&mut self) -> Result<Vec<Gateway>, SandboxError> {
        let links = route::links(&mut self.inside).map_err(SandboxError::Inside)?;
        let routes = route::default_routes(&mut self.inside).map_err(SandboxError::Inside)?;
        let named = routes.into_iter().filter_map(|(index, address)| {
            let link = links.iter().find(|link| link.index == index)?;
            Some(Gateway {
                address,
                interface: link.name.clone(),
            })
        });
        Ok(named.collect())
    }
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

/// Finds the other end of a link among the host's: one that says the same of this end.
///
/// `number` is what the host knows the link's namespace by; indexes repeat in every namespace, and a
/// container may choose its own.
fn host_end(
    host: &mut Socket,
    inside: &Link,
    number: Option<i32>,
) -> Result<Option<HostInterface>, NetlinkError> {
    let (Some(index), true, Some(_)) = (inside.peer, inside.kind == "veth", number) else {
        return Ok(None);
    };
    let link = route::link_by_index(host, index)?;
    let ours = |link: &Link| {
        link.kind == "veth"
            && link.peer == Some(inside.index)
            && link.peer_namespace == number
            && is_port_name(&link.name)
    };
    let end = |link: Link| HostInterface {
        index: link.index,
        name: link.name,
    };
    Ok(link.filter(ours).map(end))
}
