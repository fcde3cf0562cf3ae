//! A running container's place in its networks; what it holds is let go with it.

use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use api::container::Port;
use api::host_config::{PortBinding, PortMap};
use network::{
    DnsGuard, HostInterface, Member, OpenPort, PortLease, PortMapping, Protocol, Rules, Sandbox,
    Scope,
};
use serde::{Deserialize, Serialize};

use super::net::{Address, Hold, Net};

/// What of a container's networks must be found again by the next engine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Attachments {
    pub(crate) endpoints: Vec<Attached>,
    /// Published ports.
    pub(crate) ports: Vec<PortMapping>,
    /// Ports that are open at the container's own address, in networks that are routed.
    pub(crate) open: Vec<Opened>,
}

/// One network of a container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Attached {
    /// The network's id.
    pub(crate) network: String,
    /// The endpoint's id.
    pub(crate) id: String,
    /// The link's name inside.
    pub(crate) interface: String,
    /// The link's end on the host, where it has one.
    pub(crate) host: Option<HostInterface>,
    /// One address a family at most.
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) mac: String,
    /// The highest gives the default route.
    pub(crate) priority: i64,
    /// Its bandwidth is limited, by what must be taken away at its end.
    #[serde(default)]
    pub(crate) limited: bool,
}

/// A port that is open at a container's own address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Opened {
    pub(crate) bridge: String,
    pub(crate) protocol: Protocol,
    pub(crate) container: std::net::SocketAddr,
}

/// A running container's networks.
#[derive(Debug)]
pub(crate) struct Connection {
    /// The namespace, until the container's init holds it.
    pub(crate) netns: Netns,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) ports: Vec<PortMapping>,
    pub(crate) open: Vec<Opened>,
    /// The reserved ports: those of the start, and those that were published later.
    pub(crate) leases: Vec<PortLease>,
    /// The resolver inside, and what it answers from.
    pub(crate) resolver: Option<Resolver>,
}

/// A container's resolver.
#[derive(Debug)]
pub(crate) struct Resolver {
    pub(crate) scope: Arc<Scope>,
    pub(crate) _guard: DnsGuard,
}

/// A running container's place in one network.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) hold: Hold,
    pub(crate) attached: Attached,
    /// Given back with the endpoint.
    pub(crate) _addresses: Vec<Address>,
}

#[derive(Debug)]
pub(crate) enum Netns {
    Sandbox(Sandbox),
    Joined(OwnedFd),
    /// Held by the container's init.
    Container,
}

impl Attached {
    /// Its address of a family.
    pub(crate) fn address(&self, v6: bool) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|ip| ip.is_ipv6() == v6)
    }

    fn member(&self) -> Option<Member> {
        Some(Member {
            port: self.host.as_ref()?.name.clone(),
            mac: self.mac.parse().ok()?,
            addresses: self.addresses.clone(),
        })
    }
}

impl Attachments {
    /// What the firewall is to know of it.
    pub(crate) fn rules(&self) -> Rules {
        Rules {
            zones: Vec::new(),
            members: self.endpoints.iter().filter_map(Attached::member).collect(),
            published: self
                .ports
                .iter()
                .filter(|port| !port.relayed())
                .cloned()
                .collect(),
            open: self.open.iter().map(Opened::rule).collect(),
        }
    }
}

impl Opened {
    fn rule(&self) -> OpenPort {
        OpenPort {
            bridge: self.bridge.clone(),
            protocol: self.protocol,
            container: self.container,
        }
    }
}

impl Endpoint {
    pub(crate) fn net(&self) -> &Arc<Net> {
        self.hold.net()
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.net().names.remove(&self.attached.id);
    }
}

impl Connection {
    /// A place in no network.
    pub(crate) fn bare(netns: Netns) -> Self {
        Self {
            netns,
            endpoints: Vec::new(),
            ports: Vec::new(),
            open: Vec::new(),
            leases: Vec::new(),
            resolver: None,
        }
    }

    /// The namespace to enter.
    pub(crate) fn netns(&self) -> Option<BorrowedFd<'_>> {
        match &self.netns {
            Netns::Sandbox(sandbox) => Some(sandbox.netns()),
            Netns::Joined(fd) => Some(fd.as_fd()),
            Netns::Container => None,
        }
    }

    /// Lets go of the namespace, which the container's init holds now.
    pub(crate) fn settle(&mut self) {
        self.netns = Netns::Container;
    }

    /// What the next engine must know.
    pub(crate) fn attachments(&self) -> Attachments {
        Attachments {
            endpoints: self.endpoints.iter().map(|e| e.attached.clone()).collect(),
            ports: self.ports.clone(),
            open: self.open.clone(),
        }
    }

    /// The container's addresses in all of its networks.
    pub(crate) fn addresses(&self) -> Vec<IpAddr> {
        self.endpoints
            .iter()
            .flat_map(|e| e.attached.addresses.iter().copied())
            .collect()
    }

    /// The endpoint in a network.
    pub(crate) fn endpoint(&self, network: &str) -> Option<&Endpoint> {
        self.endpoints.iter().find(|e| e.net().id() == network)
    }

    /// Whether a link of the host is the end of one of the container's.
    pub(crate) fn has(&self, link: &str) -> bool {
        let own = self.endpoints.iter();
        own.filter_map(|endpoint| endpoint.attached.host.as_ref())
            .any(|host| host.name == link)
    }

    /// The endpoint whose network gives the default route of a family: the highest priority, then
    /// the first by name, as with Docker.
    pub(crate) fn way_out(&self, v6: bool) -> Option<&Endpoint> {
        self.endpoints
            .iter()
            .filter(|e| e.attached.address(v6).is_some() && e.net().gateway(v6).is_some())
            .min_by_key(|e| (std::cmp::Reverse(e.attached.priority), e.net().name()))
    }

    /// The published ports as lists show them.
    pub(crate) fn listed_ports(&self) -> Vec<Port> {
        let mut ports: Vec<Port> = self
            .ports
            .iter()
            .map(|m| Port {
                ip: m.host_ip.to_string(),
                private_port: m.container.port(),
                public_port: m.host_port,
                kind: m.protocol.to_string(),
            })
            .collect();
        ports.sort_by(|a, b| {
            (a.private_port, &a.kind, a.public_port, &a.ip).cmp(&(
                b.private_port,
                &b.kind,
                b.public_port,
                &b.ip,
            ))
        });
        ports
    }

    /// The published ports as `inspect` shows them.
    pub(crate) fn port_map(&self) -> PortMap {
        let mut map = PortMap::new();
        for mapping in &self.ports {
            let inside = format!("{}/{}", mapping.container.port(), mapping.protocol);
            map.entry(inside)
                .or_default()
                .get_or_insert_default()
                .push(PortBinding {
                    host_ip: mapping.host_ip.to_string(),
                    host_port: mapping.host_port.to_string(),
                });
        }
        map
    }
}
