//! One port of the host that leads to one port of a container.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::Protocol;

/// One port of the host that leads to one port of a container.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PortMapping {
    /// The protocol, on both sides.
    pub protocol: Protocol,
    /// The host's address; the unspecified one stands for all of its family.
    pub host_ip: IpAddr,
    /// The host's port.
    pub host_port: u16,
    /// Where it leads.
    pub container: SocketAddr,
}

impl PortMapping {
    /// Tells whether no rule of the kernel can redirect this port, so that its traffic is relayed:
    /// the container lacks the family of the host's address, or that is `[::1]`.
    ///
    /// An answer of a container to `::1` comes in over a bridge, where the kernel does not deliver
    /// what is for loopback; IPv6 has no `route_localnet`.
    pub fn relayed(&self) -> bool {
        self.host_ip.is_ipv4() != self.container.is_ipv4()
            || (self.host_ip.is_ipv6() && self.host_ip.is_loopback())
    }

    /// Tells whether a program must serve what the kernel's rules leave: all of a relayed port, and
    /// `[::1]` of one on all addresses of IPv6.
    pub(crate) fn is_served(&self) -> bool {
        self.protocol != Protocol::Sctp
            && (self.relayed() || (self.host_ip.is_ipv6() && self.host_ip.is_unspecified()))
    }

    /// Returns the host's side.
    pub fn host(&self) -> SocketAddr {
        SocketAddr::new(self.host_ip, self.host_port)
    }
}

impl fmt::Display for PortMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}/{}", self.host(), self.container, self.protocol)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_relayed_and_what_is_served() {
        let check = |host: &str, container: &str, relayed, served| {
            let mapping = PortMapping {
                protocol: Protocol::Tcp,
                host_ip: host.parse().unwrap(),
                host_port: 80,
                container: container.parse().unwrap(),
            };
            let found = (mapping.relayed(), mapping.is_served());
            assert_eq!(found, (relayed, served), "{mapping}");
        };
        check("0.0.0.0", "172.17.0.2:80", false, false);
        check("127.0.0.1", "172.17.0.2:80", false, false);
        check("::", "172.17.0.2:80", true, true);
        check("fd00::1", "172.17.0.2:80", true, true);
        check("0.0.0.0", "[fd00::2]:80", true, true);
        check("::", "[fd00::2]:80", false, true);
        check("fd00::1", "[fd00::2]:80", false, false);
        check("::1", "[fd00::2]:80", true, true);
    }
}
