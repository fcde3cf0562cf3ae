//! Where the daemon listens, as `-H` and `host` name it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

/// The ports that Docker's clients take where none is named.
const PLAIN_PORT: u16 = 2375;
const TLS_PORT: u16 = 2376;

/// Where the daemon listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A unix socket.
    Unix(PathBuf),
    /// A TCP address; a port that is left out depends on TLS.
    Tcp(IpAddr, Option<u16>),
    /// Sockets that the service manager opened: all, or those of one name or number.
    Inherited(Option<String>),
}

/// An address that cannot be listened on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseAddressError {
    /// The protocol is none of ours.
    #[error("invalid bind address format: {0}: must be unix:///path, tcp://ip:port or fd://")]
    Scheme(String),
    /// A path that is none.
    #[error("invalid bind address format: {0}: the path of a unix socket must be absolute")]
    Path(String),
    /// A host that is not an IP address, or a port that is none.
    #[error("invalid bind address (tcp://{0}): give an IP address and a port")]
    Tcp(String),
}

impl FromStr for Address {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Self, ParseAddressError> {
        // dockerd takes an address without a protocol for TCP
        let (scheme, rest) = text.split_once("://").unwrap_or(("tcp", text));
        match scheme {
            "unix" if rest.starts_with('/') => Ok(Self::Unix(rest.into())),
            "unix" => Err(ParseAddressError::Path(text.to_owned())),
            "fd" => Ok(Self::Inherited(
                Some(rest.trim_start_matches('*'))
                    .filter(|name| !name.is_empty())
                    .map(str::to_owned),
            )),
            "tcp" => tcp(rest),
            _ => Err(ParseAddressError::Scheme(text.to_owned())),
        }
    }
}

fn tcp(text: &str) -> Result<Address, ParseAddressError> {
    let invalid = || ParseAddressError::Tcp(text.to_owned());
    let text_of_address = text.trim_end_matches('/');
    if let Ok(address) = text_of_address.parse::<SocketAddr>() {
        return Ok(Address::Tcp(address.ip(), Some(address.port())));
    }
    if let Ok(ip) = text_of_address.trim_matches(['[', ']']).parse() {
        return Ok(Address::Tcp(ip, None));
    }
    let (host, port) = match text_of_address.rsplit_once(':') {
        Some((host, port)) => (host, Some(port.parse().map_err(|_| invalid())?)),
        None => (text_of_address, None),
    };
    // as in dockerd, an address without a host is this host's own
    match host {
        "" | "localhost" => Ok(Address::Tcp(Ipv4Addr::LOCALHOST.into(), port)),
        _ => Err(invalid()),
    }
}

impl Address {
    /// The port of a TCP address, with the one that clients expect where none is named.
    pub(crate) fn port(given: Option<u16>, tls: bool) -> u16 {
        given.unwrap_or(if tls { TLS_PORT } else { PLAIN_PORT })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(formatter, "unix://{}", path.display()),
            Self::Tcp(ip, port) => {
                let port = port.map(|port| format!(":{port}")).unwrap_or_default();
                match ip {
                    IpAddr::V4(ip) => write!(formatter, "tcp://{ip}{port}"),
                    IpAddr::V6(ip) => write!(formatter, "tcp://[{ip}]{port}"),
                }
            }
            Self::Inherited(name) => {
                write!(formatter, "fd://{}", name.as_deref().unwrap_or_default())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let check = |text: &str, expect: Result<&str, &str>| {
            let found = text.parse::<Address>();
            match (found, expect) {
                (Ok(found), Ok(expect)) => assert_eq!(found.to_string(), expect, "{text}"),
                (Err(found), Err(expect)) => {
                    assert!(found.to_string().contains(expect), "{text}: {found}");
                }
                (found, expect) => panic!("{text}: {found:?}, not {expect:?}"),
            }
        };
        check("unix:///run/a.sock", Ok("unix:///run/a.sock"));
        check("unix://a.sock", Err("must be absolute"));
        check("unix://", Err("must be absolute"));
        check("tcp://127.0.0.1:2375", Ok("tcp://127.0.0.1:2375"));
        check("tcp://0.0.0.0", Ok("tcp://0.0.0.0"));
        check("tcp://[::1]:2376/", Ok("tcp://[::1]:2376"));
        check("tcp://::1", Ok("tcp://[::1]"));
        check("tcp://localhost:1", Ok("tcp://127.0.0.1:1"));
        check("tcp://:2375", Ok("tcp://127.0.0.1:2375"));
        check(":2375", Ok("tcp://127.0.0.1:2375"));
        check("10.0.0.1:2376", Ok("tcp://10.0.0.1:2376"));
        check("tcp://engine.example:2376", Err("give an IP address"));
        check("tcp://127.0.0.1:65536", Err("give an IP address"));
        check("fd://", Ok("fd://"));
        check("fd://*", Ok("fd://"));
        check("fd://api", Ok("fd://api"));
        check("npipe:////./x", Err("invalid bind address format: npipe"));
    }

    #[test]
    fn ports() {
        assert_eq!(Address::port(None, false), 2375);
        assert_eq!(Address::port(None, true), 2376);
        assert_eq!(Address::port(Some(1), true), 1);
    }
}
