//! Where an engine listens.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use tokio::net::{TcpStream, UnixStream};

use super::ssh::{self, Ssh};
use super::tls::Tls;
use super::transport::{Inner, Transport};

/// The port of an engine that listens without TLS.
const DEFAULT_TCP_PORT: u16 = 2375;
/// The port of one that listens with TLS.
const DEFAULT_TLS_PORT: u16 = 2376;

/// Where an engine listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A unix stream socket.
    Unix(PathBuf),
    /// A TCP socket without TLS.
    Tcp(SocketAddr),
    /// A TCP socket with TLS.
    Tls {
        /// The address.
        address: SocketAddr,
        /// The name that the server's certificate has to have.
        name: String,
        /// Certificates.
        tls: Tls,
    },
    /// An engine on another host, reached by its command line over ssh.
    Ssh(Ssh),
}

/// A text that names no endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseEndpointError {
    /// The text has no `scheme://`.
    #[error("unable to parse docker host `{0}`")]
    NoScheme(String),
    /// The scheme is none that the client speaks.
    #[error("unsupported scheme of host `{0}`: use unix://, tcp:// or ssh://")]
    Scheme(String),
    /// The address of a TCP endpoint is a name; the client resolves none.
    #[error("invalid address in host `{0}`: give an IP address and a port")]
    Address(String),
    /// The text names no host to reach by ssh.
    #[error("invalid host `{0}`: give ssh://[user@]host[:port][/path/of/socket]")]
    Ssh(String),
}

impl FromStr for Endpoint {
    type Err = ParseEndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| ParseEndpointError::NoScheme(text.to_owned()))?;
        match scheme {
            "unix" => Ok(Self::Unix(PathBuf::from(rest))),
            "tcp" | "http" => tcp_address(rest, DEFAULT_TCP_PORT)
                .map(Self::Tcp)
                .ok_or_else(|| ParseEndpointError::Address(text.to_owned())),
            "ssh" => ssh::parse(rest)
                .map(Self::Ssh)
                .ok_or_else(|| ParseEndpointError::Ssh(text.to_owned())),
            _ => Err(ParseEndpointError::Scheme(text.to_owned())),
        }
    }
}

fn tcp_address(rest: &str, default: u16) -> Option<SocketAddr> {
    let rest = rest.trim_end_matches('/');
    if let Ok(address) = rest.parse::<SocketAddr>() {
        return Some(address);
    }
    if let Ok(ip) = rest.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Some(SocketAddr::new(ip, default));
    }
    let (host, port) = rest.rsplit_once(':').unwrap_or((rest, ""));
    if host != "localhost" && !host.is_empty() {
        return None;
    }
    let port = if port.is_empty() {
        default
    } else {
        port.parse().ok()?
    };
    Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) | Self::Tls { address, .. } => write!(f, "tcp://{address}"),
            Self::Ssh(ssh) => ssh.fmt(f),
        }
    }
}

impl Endpoint {
    /// Reads the address of an engine that speaks TLS, `tcp://ip:port`. Its certificate has to have `name`,
    /// or the address where that is absent.
    ///
    /// # Errors
    /// When the text names no TCP address.
    pub fn with_tls(text: &str, name: Option<&str>, tls: Tls) -> Result<Self, ParseEndpointError> {
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| ParseEndpointError::NoScheme(text.to_owned()))?;
        if !matches!(scheme, "tcp" | "http" | "https") {
            return Err(ParseEndpointError::Scheme(text.to_owned()));
        }
        let address = tcp_address(rest, DEFAULT_TLS_PORT)
            .ok_or_else(|| ParseEndpointError::Address(text.to_owned()))?;
        let local = rest.starts_with("localhost").then_some("localhost");
        let name = name.or(local).map(str::to_owned);
        Ok(Self::Tls {
            address,
            name: name.unwrap_or_else(|| address.ip().to_string()),
            tls,
        })
    }

    /// Connects, for bytes that are no request of this client.
    ///
    /// # Errors
    /// When nothing accepts connections there.
    pub async fn dial(&self) -> io::Result<Transport> {
        match self {
            Self::Unix(path) => {
                let stream = UnixStream::connect(path).await?;
                Ok(Transport(Inner::Unix(stream)))
            }
            Self::Tcp(address) => Ok(Transport(Inner::Tcp(tcp(*address).await?))),
            Self::Tls { address, name, tls } => {
                let stream = tls.connect(name, tcp(*address).await?).await?;
                Ok(Transport(Inner::Tls(Box::new(stream))))
            }
            Self::Ssh(ssh) => Ok(Transport(Inner::Ssh(Box::new(ssh.run()?)))),
        }
    }
}

async fn tcp(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
