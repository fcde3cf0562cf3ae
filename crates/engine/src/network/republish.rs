//! Publishing other ports of a container that runs: what stays is not touched, so its connections
//! go on.

use network::{HostAddress, HostPort, PortMapping, PortRequest};

use super::Networks;
use super::connection::{Attachments, Connection};
use super::publish;
use crate::container::Record;
use crate::error::{Result, Step};

/// What becomes of the ports that a container has.
#[derive(Debug, Default)]
struct Change {
    stay: Vec<PortMapping>,
    go: Vec<PortMapping>,
    come: Vec<PortRequest>,
}

impl Networks {
    /// Publishes the ports that `record` asks for, and no other. When one cannot be had, all is as
    /// it was before.
    ///
    /// Blocks: it talks to the kernel.
    pub(crate) fn republish(&self, record: &Record, connection: &mut Connection) -> Result<()> {
        let wanted = publish::wanted(record)?;
        let requests = publish::reservable(self, record, connection, &wanted)?;
        let change = change(&connection.ports, requests);
        let open = publish::opened(connection, &wanted);
        let before = std::mem::replace(&mut connection.open, open);
        self.close_ports(connection, &change, before);
        let added = self.open_ports(record, connection, &change.come);
        if added.is_err() && !change.go.is_empty() {
            let back: Vec<PortRequest> = change.go.iter().map(|m| again(m, record)).collect();
            self.open_ports(record, connection, &back)?;
        }
        added
    }

    /// Takes away what goes, and all that was open at the container's own address.
    fn close_ports(
        &self,
        connection: &mut Connection,
        change: &Change,
        open: Vec<super::connection::Opened>,
    ) {
        self.forget(&Attachments {
            endpoints: Vec::new(),
            ports: change.go.clone(),
            open,
        });
        connection.ports.clone_from(&change.stay);
        for lease in &mut connection.leases {
            lease.retain(|mapping| change.stay.contains(mapping));
        }
        connection.leases.retain(|l| !l.mappings().is_empty());
    }

    fn open_ports(
        &self,
        record: &Record,
        connection: &mut Connection,
        requests: &[PortRequest],
    ) -> Result<()> {
        let lease = self
            .ports
            .reserve_all(requests)
            .map_err(|e| publish::driver_failed(record, connection, &e))?;
        let fresh = Attachments {
            endpoints: Vec::new(),
            ports: lease.mappings().to_vec(),
            open: connection.open.clone(),
        };
        self.firewall
            .add(&fresh.rules())
            .step(|| format!("publish the ports of container {}", record.name))?;
        connection.ports.extend(fresh.ports);
        if !lease.mappings().is_empty() {
            connection.leases.push(lease);
            publish::serve(self, connection);
        }
        Ok(())
    }
}

/// Compares what there is with what is asked for. A port that may be any is the one it was.
fn change(have: &[PortMapping], requests: Vec<PortRequest>) -> Change {
    let mut change = Change {
        go: have.to_vec(),
        ..Change::default()
    };
    let chooses =
        |r: &PortRequest| !matches!(r.port, HostPort::Range { first, last } if first == last);
    let mut requests = requests;
    // a port that is asked for by number is not another's to keep
    requests.sort_by_key(chooses);
    for request in requests {
        let Some(first) = change.go.iter().position(|m| answers(m, &request)) else {
            change.come.push(request);
            continue;
        };
        let number = change.go[first].host_port;
        let (stay, go) = std::mem::take(&mut change.go)
            .into_iter()
            .partition(|m| m.host_port == number && answers(m, &request));
        change.go = go;
        change.stay.extend::<Vec<_>>(stay);
    }
    change
}

/// Whether a mapping is what a request asks for.
fn answers(mapping: &PortMapping, request: &PortRequest) -> bool {
    let address = match request.host {
        HostAddress::Any => mapping.host_ip.is_unspecified(),
        HostAddress::Ip(ip) => mapping.host_ip == ip,
    };
    let port = match request.port {
        HostPort::Ephemeral => true,
        HostPort::Range { first, last } => (first..=last).contains(&mapping.host_port),
    };
    let inside = mapping.container.port() == request.container_port;
    address && port && inside && mapping.protocol == request.protocol
}

/// Asks for a mapping that was there.
fn again(mapping: &PortMapping, record: &Record) -> PortRequest {
    let (v4, v6) = match mapping.container.ip() {
        std::net::IpAddr::V4(ip) => (Some(ip), None),
        std::net::IpAddr::V6(ip) => (None, Some(ip)),
    };
    PortRequest {
        protocol: mapping.protocol,
        host: HostAddress::Ip(mapping.host_ip),
        port: HostPort::Range {
            first: mapping.host_port,
            last: mapping.host_port,
        },
        container_port: mapping.container.port(),
        v4,
        v6,
        owner: record.name.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use network::Protocol;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

    fn mapping(ip: impl Into<IpAddr>, port: u16, inside: u16) -> PortMapping {
        PortMapping {
            protocol: Protocol::Tcp,
            host_ip: ip.into(),
            host_port: port,
            container: SocketAddr::new([172, 17, 0, 2].into(), inside),
        }
    }

    fn request(host: HostAddress, port: HostPort, inside: u16) -> PortRequest {
        PortRequest {
            protocol: Protocol::Tcp,
            host,
            port,
            container_port: inside,
            v4: Some([172, 17, 0, 2].into()),
            v6: None,
            owner: "web".into(),
        }
    }

    #[test]
    fn only_what_differs_changes() {
        let exactly = |port| HostPort::Range {
            first: port,
            last: port,
        };
        let any4 = Ipv4Addr::UNSPECIFIED;
        let have = [
            mapping(any4, 8080, 80),
            mapping(Ipv6Addr::UNSPECIFIED, 8080, 80),
            mapping(any4, 49153, 443),
            mapping([127, 0, 0, 1], 9000, 90),
        ];
        let same = vec![
            request(HostAddress::Any, HostPort::Ephemeral, 443),
            request(HostAddress::Any, exactly(8080), 80),
        ];
        let found = change(&have, same);
        assert_eq!(found.go, [have[3].clone()]);
        assert_eq!(found.stay.len(), 3);
        assert!(found.come.is_empty());

        let other = vec![
            request(HostAddress::Any, exactly(8081), 80),
            request(HostAddress::Ip([127, 0, 0, 1].into()), exactly(9000), 91),
        ];
        let found = change(&have, other);
        assert_eq!((found.go.len(), found.come.len()), (4, 2));
        // one that chooses does not keep the port that another names
        let both = vec![
            request(HostAddress::Any, HostPort::Ephemeral, 80),
            request(HostAddress::Any, exactly(8080), 80),
        ];
        let found = change(&have, both);
        assert_eq!(found.come.len(), 1);
        assert_eq!(found.come[0].port, HostPort::Ephemeral);
    }
}
