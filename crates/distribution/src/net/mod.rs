//! Connections: names to addresses, addresses to streams, proxies and TLS.

mod connect;
mod dial;
mod names;
mod proxy;
mod tls;

pub(crate) use connect::Connector;
pub use names::HostNames;
pub(crate) use proxy::Proxies;
pub(crate) use tls::Verify;

use std::error::Error as StdError;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Why no answer came from a host, or why it broke off.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The host's name has no address.
    #[error("dial tcp: lookup {host}: no such host")]
    NoSuchHost {
        /// The name.
        host: String,
    },
    /// The name servers could not be asked.
    #[error("dial tcp: lookup {host}")]
    Lookup {
        /// The name.
        host: String,
        /// What the resolver says.
        #[source]
        source: hickory_resolver::net::NetError,
    },
    /// The name servers did not answer in time.
    #[error("dial tcp: lookup {host}: i/o timeout after {limit:?}")]
    LookupTimeout {
        /// The name.
        host: String,
        /// The time limit.
        limit: Duration,
    },
    /// The TCP connection was refused or cannot be made.
    #[error("dial tcp {address}: connect")]
    Dial {
        /// The address of the host.
        address: SocketAddr,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The TCP connection did not come about in time.
    #[error("dial tcp {target}: i/o timeout after {limit:?}")]
    DialTimeout {
        /// Host and port.
        target: String,
        /// The time limit.
        limit: Duration,
    },
    /// A file with certificates cannot be used.
    #[error("read certificates from {}", path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The TLS set-up for a host is impossible.
    #[error("set up TLS for {host}")]
    TlsSetup {
        /// The host.
        host: String,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// The host's certificate is not trusted.
    #[error("tls: failed to verify certificate: x509: {problem}")]
    Certificate {
        /// What is wrong with it.
        problem: String,
    },
    /// The host does not speak TLS on this port.
    #[error("http: server gave HTTP response to HTTPS client")]
    NotTls,
    /// The TLS handshake failed.
    #[error("tls handshake with {host}")]
    Tls {
        /// The host.
        host: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The TLS handshake did not end in time.
    #[error("net/http: TLS handshake timeout: {host} did not answer within {limit:?}")]
    TlsTimeout {
        /// The host.
        host: String,
        /// The time limit.
        limit: Duration,
    },
    /// The proxy does not connect to the host.
    #[error("proxyconnect tcp: {proxy}: {problem}")]
    Proxy {
        /// The proxy's host and port.
        proxy: String,
        /// What went wrong.
        problem: String,
    },
    /// The host took the request and sent no head of an answer in time.
    #[error("net/http: timeout awaiting response headers: {host} sent nothing within {limit:?}")]
    ResponseTimeout {
        /// The host.
        host: String,
        /// The time limit.
        limit: Duration,
    },
    /// The body of an answer stands still.
    #[error("reading the answer of {host}: nothing came within {limit:?}, {received} bytes read")]
    Stalled {
        /// The host.
        host: String,
        /// The time limit.
        limit: Duration,
        /// The bytes of the body so far.
        received: u64,
    },
    /// The host takes no more of a body.
    #[error("sending a blob to {host}: nothing was taken within {limit:?}, {sent} bytes sent")]
    UploadStalled {
        /// The host.
        host: String,
        /// The time limit.
        limit: Duration,
        /// The bytes of the body so far.
        sent: u64,
    },
    /// The body of an answer comes, but too slowly to ever end.
    #[error("reading the answer of {host}: only {received} bytes came within {limit:?}")]
    TooSlow {
        /// The host.
        host: String,
        /// The time limit.
        limit: Duration,
        /// The bytes of the body so far.
        received: u64,
    },
    /// The connection broke, or what came is no HTTP.
    #[error("{step} {host}")]
    Broken {
        /// What was going on, as `reading the answer of`.
        step: &'static str,
        /// The host.
        host: String,
        /// What the HTTP layer says.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// There are too many redirects.
    #[error("stopped after {limit} redirects")]
    Redirects {
        /// The most redirects that are followed.
        limit: usize,
    },
    /// A redirect leads to where no request goes.
    #[error("refused a redirect to {target:?}: {problem}")]
    BadRedirect {
        /// The target as sent, cut to a printable length.
        target: String,
        /// Why it is refused.
        problem: &'static str,
    },
}

impl TransportError {
    /// Whether the other side was too slow, rather than wrong or absent.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(
            self,
            Self::LookupTimeout { .. }
                | Self::DialTimeout { .. }
                | Self::TlsTimeout { .. }
                | Self::ResponseTimeout { .. }
                | Self::Stalled { .. }
                | Self::UploadStalled { .. }
                | Self::TooSlow { .. }
        )
    }

    /// Whether the same request may well succeed on a new connection.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Broken { .. } | Self::Stalled { .. } | Self::UploadStalled { .. }
        )
    }

    /// Whether there was no connection at all.
    pub(crate) fn is_unreachable(&self) -> bool {
        matches!(self, Self::Dial { .. } | Self::DialTimeout { .. })
    }

    /// Whether there was a connection, but no common protocol on it.
    pub(crate) fn is_other_protocol(&self) -> bool {
        match self {
            Self::NotTls | Self::Tls { .. } | Self::TlsTimeout { .. } => true,
            Self::Broken { source, .. } => {
                let mut next: Option<&(dyn StdError + 'static)> = Some(source.as_ref());
                while let Some(error) = next {
                    if let Some(hyper) = error.downcast_ref::<hyper::Error>() {
                        return hyper.is_parse() || hyper.is_incomplete_message();
                    }
                    next = error.source();
                }
                false
            }
            _ => false,
        }
    }
}

/// A connector's error on its way through the HTTP client, which only lends its sources out.
#[derive(Debug, thiserror::Error)]
#[error("connect")]
pub(crate) struct ConnectFailure(Mutex<Option<TransportError>>);

impl ConnectFailure {
    pub(crate) fn new(error: TransportError) -> Self {
        Self(Mutex::new(Some(error)))
    }

    fn take(&self) -> Option<TransportError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Finds our own error in what the HTTP client wraps it in.
pub(crate) fn unwrap_transport<E>(error: E, step: &'static str, host: &str) -> TransportError
where
    E: StdError + Send + Sync + 'static,
{
    let mut next: Option<&(dyn StdError + 'static)> = Some(&error);
    while let Some(inner) = next {
        let own = inner.downcast_ref::<ConnectFailure>();
        if let Some(own) = own.and_then(ConnectFailure::take) {
            return own;
        }
        next = inner.source();
    }
    TransportError::Broken {
        step,
        host: host.to_owned(),
        source: Box::new(error),
    }
}
