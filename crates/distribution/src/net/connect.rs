//! The connector under the HTTP client: a stream to the host of an address.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Uri;
use hyper::rt::ReadBufCursor;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::{CertificateError, InvalidMessage};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::dial::dial;
use super::names::Names;
use super::proxy::{Proxies, Proxy};
use super::tls::{TlsSettings, Verify};
use super::{ConnectFailure, TransportError};
use crate::config::{ClientConfig, Timeouts};
use crate::endpoint::InsecureHosts;
use crate::hosts::{Hosts, Site};
use crate::location::Origin;

/// Makes connections for the HTTP client.
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    names: Names,
    tls: TlsSettings,
    proxies: Arc<Proxies>,
    insecure: Arc<InsecureHosts>,
    hosts: Arc<Hosts>,
    timeouts: Timeouts,
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}
type AnyStream = Box<dyn Io>;

impl Connector {
    pub(crate) fn new(
        config: &ClientConfig,
        proxies: Arc<Proxies>,
        insecure: Arc<InsecureHosts>,
        hosts: Arc<Hosts>,
    ) -> Self {
        let shared = Shared {
            names: Names::new(config.names.clone()),
            tls: TlsSettings::new(config.trust.clone()),
            proxies,
            insecure,
            hosts,
            timeouts: config.timeouts,
        };
        Self {
            shared: Arc::new(shared),
        }
    }
}

impl Shared {
    async fn connect(&self, uri: &Uri) -> Result<Stream, TransportError> {
        let origin = Origin::of(uri).ok_or_else(|| TransportError::NoSuchHost {
            host: uri.host().unwrap_or_default().to_owned(),
        })?;
        let proxy = self.proxies.find(uri)?;
        let stream: AnyStream = match &proxy {
            Some(proxy) => self.through(proxy, &origin).await?,
            None => Box::new(self.dial(&origin).await?),
        };
        if !origin.https {
            return Ok(Stream::plain(stream, proxy.is_some()));
        }
        let site = self.hosts.at(&origin);
        let verify = match &site {
            Some(site) if site.skip_verify => Verify::Nothing,
            _ => self.insecure.verify(&origin),
        };
        let stream = self
            .handshake(stream, &origin, verify, site.as_deref())
            .await?;
        Ok(Stream::tls(stream))
    }

    async fn dial(&self, origin: &Origin) -> Result<tokio::net::TcpStream, TransportError> {
        dial(
            &self.names,
            &origin.host,
            origin.port,
            self.timeouts.connect,
        )
        .await
    }

    async fn through(&self, proxy: &Proxy, target: &Origin) -> Result<AnyStream, TransportError> {
        let mut stream: AnyStream = Box::new(self.dial(&proxy.origin).await?);
        if proxy.origin.https {
            let tls = self.handshake(stream, &proxy.origin, Verify::Certificate, None);
            stream = Box::new(tls.await?);
        }
        if target.https {
            stream = proxy.tunnel(stream, target, self.timeouts.connect).await?;
        }
        Ok(stream)
    }

    async fn handshake(
        &self,
        stream: AnyStream,
        origin: &Origin,
        verify: Verify,
        site: Option<&Site>,
    ) -> Result<TlsStream<AnyStream>, TransportError> {
        let settings = self.tls.for_host(origin, verify, site)?;
        let name = ServerName::try_from(origin.bare_host().to_owned()).map_err(|_| {
            TransportError::Certificate {
                problem: format!("{:?} is no name that a certificate can have", origin.host),
            }
        })?;
        let limit = self.timeouts.handshake;
        let handshake = TlsConnector::from(settings).connect(name, stream);
        match tokio::time::timeout(limit, handshake).await {
            Ok(done) => done.map_err(|error| handshake_failure(error, &origin.host)),
            Err(_) => Err(TransportError::TlsTimeout {
                host: origin.host.clone(),
                limit,
            }),
        }
    }
}

/// Puts the usual failures into the words that Go's clients made known.
fn handshake_failure(error: io::Error, host: &str) -> TransportError {
    let inner = error.get_ref().and_then(|e| e.downcast_ref());
    match inner {
        Some(rustls::Error::InvalidCertificate(problem)) => TransportError::Certificate {
            problem: certificate_problem(problem, host),
        },
        Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            TransportError::NotTls
        }
        _ => TransportError::Tls {
            host: host.to_owned(),
            source: error,
        },
    }
}

fn certificate_problem(problem: &CertificateError, host: &str) -> String {
    match problem {
        CertificateError::UnknownIssuer => "certificate signed by unknown authority".to_owned(),
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => {
            format!("certificate has expired or is not yet valid: {problem}")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("certificate is not valid for {host}: {problem}")
        }
        other => other.to_string(),
    }
}

impl tower::Service<Uri> for Connector {
    type Response = Stream;
    type Error = ConnectFailure;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let shared = self.shared.clone();
        Box::pin(async move { shared.connect(&uri).await.map_err(ConnectFailure::new) })
    }
}

/// A connection in the form that hyper takes.
pub(crate) struct Stream {
    io: TokioIo<AnyStream>,
    proxied: bool,
    http2: bool,
}

impl Stream {
    fn plain(stream: AnyStream, proxied: bool) -> Self {
        Self {
            io: TokioIo::new(stream),
            proxied,
            http2: false,
        }
    }

    fn tls(stream: TlsStream<AnyStream>) -> Self {
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Self {
            io: TokioIo::new(Box::new(stream)),
            proxied: false,
            http2,
        }
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        let connected = Connected::new().proxy(self.proxied);
        if self.http2 {
            return connected.negotiated_h2();
        }
        connected
    }
}

impl hyper::rt::Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl hyper::rt::Write for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
