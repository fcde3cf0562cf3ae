//! What is wanted of the host's ports.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::str::FromStr;

use super::{PortError, PortMapping, Protocol};

/// Which addresses of the host a port is wanted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostAddress {
    /// All addresses, of IPv4 and, where the host has it, of IPv6.
    Any,
    /// This one; the unspecified one stands for all of its family.
    Ip(IpAddr),
}

/// Which port of the host is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostPort {
    /// Any that is free, from the range that the kernel uses itself.
    Ephemeral,
    /// The first of these that is free.
    Range {
        /// The lowest.
        first: u16,
        /// The highest.
        last: u16,
    },
}

/// The text is not a port, nor a range of ports that goes upwards. The words are Docker's.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid port specification: {text:?}")]
pub struct ParsePortError {
    text: String,
}

/// What is to be reserved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortRequest {
    /// The protocol, on both sides.
    pub protocol: Protocol,
    /// The host's address.
    pub host: HostAddress,
    /// The host's port.
    pub port: HostPort,
    /// The container's port.
    pub container_port: u16,
    /// The container's address of IPv4, if it has one.
    pub v4: Option<Ipv4Addr>,
    /// The container's address of IPv6, if it has one.
    pub v6: Option<Ipv6Addr>,
    /// Whose port it will be: the container's name, for the message to whoever wants it next.
    pub owner: String,
}

impl PortRequest {
    /// Pairs each wanted address of the host with the container's address that it leads to, which
    /// is of the same family where the container has it.
    pub(super) fn ends(&self, host_has_ipv6: bool) -> Result<Vec<(IpAddr, SocketAddr)>, PortError> {
        let hosts = match self.host {
            HostAddress::Ip(address) => [Some(address), None],
            HostAddress::Any => [
                Some(Ipv4Addr::UNSPECIFIED.into()),
                host_has_ipv6.then_some(Ipv6Addr::UNSPECIFIED.into()),
            ],
        };
        let (v4, v6) = (self.v4.map(IpAddr::from), self.v6.map(IpAddr::from));
        let container = |host: IpAddr| {
            let address = if host.is_ipv4() { v4.or(v6) } else { v6.or(v4) };
            let address = address.ok_or(PortError::NoAddress {
                port: self.container_port,
                protocol: self.protocol,
            })?;
            Ok((host, SocketAddr::new(address, self.container_port)))
        };
        hosts.into_iter().flatten().map(container).collect()
    }

    /// Orders requests by how little choice they leave, so that no range and no chosen port takes
    /// one that another request names.
    pub(super) fn freedom(&self) -> u32 {
        match self.port {
            HostPort::Range { first, last } => u32::from(last.saturating_sub(first)),
            HostPort::Ephemeral => u32::MAX,
        }
    }

    /// Describes one attempt as Docker does.
    pub(super) fn attempt(&self, mapping: &PortMapping) -> String {
        match self.port {
            HostPort::Range { first, last } if first != last => {
                let PortMapping {
                    protocol,
                    host_port,
                    container,
                    ..
                } = mapping;
                let range = SocketAddr::new(mapping.host_ip, first);
                format!("{host_port} for {range}-{last}:{container}/{protocol}")
            }
            HostPort::Range { .. } | HostPort::Ephemeral => format!("for {mapping}"),
        }
    }
}

/// Tells whether the host has IPv6 and has not switched it off, by what a program would see.
pub(super) fn host_has_ipv6() -> bool {
    UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

impl FromStr for HostPort {
    type Err = ParsePortError;

    fn from_str(text: &str) -> Result<Self, ParsePortError> {
        let invalid = || ParsePortError {
            text: text.chars().take(64).collect(),
        };
        // a sign is none of a port's digits, but parse takes one
        let number = |text: &str| {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|_| digits).ok_or_else(invalid)
        };
        if text.is_empty() {
            return Ok(Self::Ephemeral);
        }
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (number(first)?, number(last)?) {
            (0, 0) => Ok(Self::Ephemeral),
            (first, last) if 0 < first && first <= last => Ok(Self::Range { first, last }),
            _ => Err(invalid()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_as_docker_reads_them() {
        let range = |first, last| Ok(HostPort::Range { first, last });
        let check = |text: &str, wanted| assert_eq!(text.parse::<HostPort>(), wanted, "{text}");
        check("", Ok(HostPort::Ephemeral));
        check("0", Ok(HostPort::Ephemeral));
        check("80", range(80, 80));
        check("8000-8010", range(8000, 8010));
        check("65535", range(65535, 65535));
        for text in [
            "99999",
            "9080-9070",
            "abc",
            "-1",
            "+1",
            "70000-70001",
            "9071-",
            " 9071",
            "1-2-3",
            "0-5",
        ] {
            let error = text.parse::<HostPort>().unwrap_err().to_string();
            assert_eq!(error, format!("invalid port specification: {text:?}"));
        }
    }
}
