//! Proxies: which one a request goes through, and the tunnel for https.

use std::io;
use std::time::Duration;

use http::{HeaderValue, Uri};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::TransportError;
use crate::config::ProxyConfig;
use crate::location::{Origin, is_loopback};

/// The longest head of an answer to `CONNECT` that is read.
const HEAD_MAX: usize = 8 * 1024;

#[derive(Debug)]
pub(crate) struct Proxies {
    matcher: Matcher,
}

/// A proxy for one request.
pub(super) struct Proxy {
    pub(super) origin: Origin,
    authorization: Option<HeaderValue>,
}

impl Proxies {
    pub(crate) fn new(config: &ProxyConfig) -> Self {
        let matcher = Matcher::builder()
            .http(config.http.clone())
            .https(config.https.clone())
            .no(config.no_proxy.clone())
            .build();
        Self { matcher }
    }

    /// The proxy for an address; none for the machine itself, as Go's clients do.
    pub(super) fn find(&self, uri: &Uri) -> Result<Option<Proxy>, TransportError> {
        let Some(found) = self.intercept(uri) else {
            return Ok(None);
        };
        let origin = proxy_origin(&found).ok_or_else(|| TransportError::Proxy {
            proxy: found.uri().host().unwrap_or_default().to_owned(),
            problem: "only http and https proxies are supported".to_owned(),
        })?;
        Ok(Some(Proxy {
            origin,
            authorization: found.basic_auth().cloned(),
        }))
    }

    /// The header that a plain http request through a proxy carries for it.
    pub(crate) fn authorization(&self, uri: &Uri) -> Option<HeaderValue> {
        if crate::location::is_https(uri) {
            return None;
        }
        self.intercept(uri)?.basic_auth().cloned()
    }

    fn intercept(&self, uri: &Uri) -> Option<Intercept> {
        if uri.host().is_none_or(is_loopback) {
            return None;
        }
        self.matcher.intercept(uri)
    }
}

fn proxy_origin(found: &Intercept) -> Option<Origin> {
    Origin::of(found.uri())
}

impl Proxy {
    fn name(&self) -> String {
        format!("{}:{}", self.origin.host, self.origin.port)
    }

    /// Asks the proxy for a tunnel to `target` (RFC 9110, 9.3.6).
    pub(super) async fn tunnel<S>(
        &self,
        mut stream: S,
        target: &Origin,
        limit: Duration,
    ) -> Result<S, TransportError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let request = self.connect_request(target);
        let exchange = async {
            stream.write_all(&request).await?;
            stream.flush().await?;
            read_head(&mut stream).await
        };
        let head = match tokio::time::timeout(limit, exchange).await {
            Ok(Ok(head)) => head,
            Ok(Err(error)) => return Err(self.failed(error.to_string())),
            Err(_) => return Err(self.failed(format!("no answer to CONNECT within {limit:?}"))),
        };
        let status = head.lines().next().unwrap_or_default();
        let granted = status.starts_with("HTTP/1.")
            && status.split(' ').nth(1).is_some_and(|code| code == "200");
        if granted {
            return Ok(stream);
        }
        let shown: String = status
            .chars()
            .filter(|c| !c.is_control())
            .take(120)
            .collect();
        Err(self.failed(format!("CONNECT was answered by {shown:?}")))
    }

    fn connect_request(&self, target: &Origin) -> Vec<u8> {
        let name = format!("{}:{}", target.host, target.port);
        let mut request = format!("CONNECT {name} HTTP/1.1\r\nHost: {name}\r\n").into_bytes();
        if let Some(value) = &self.authorization {
            request.extend_from_slice(b"Proxy-Authorization: ");
            request.extend_from_slice(value.as_bytes());
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        request
    }

    fn failed(&self, problem: String) -> TransportError {
        TransportError::Proxy {
            proxy: self.name(),
            problem,
        }
    }
}

/// Reads up to the empty line, byte by byte, so that nothing of the tunnel's content is taken.
async fn read_head<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= HEAD_MAX {
            return Err(io::Error::other("the answer to CONNECT is too long"));
        }
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}
