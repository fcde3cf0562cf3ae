//! A registry that does what a test tells it, byte by byte.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use distribution::config::{HostFiles, RetryPolicy, Timeouts, Trust};
use distribution::{Client, ClientConfig, Repository};
use oci::Digest;
use oci::image::{Descriptor, media_type};
use serde_json::{Value, json};
use testkit::image::digest_of;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut all = self.headers.iter();
        all.find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

/// What to do with a connection after a request. It is closed after each.
pub(crate) enum Act {
    Send(Vec<u8>),
    SendAndHang(Vec<u8>),
    /// The bytes, then one byte after each pause for ever.
    Drip(Vec<u8>, Duration),
}

/// The server; ends with this value.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Fake {
    /// Serves `act`, which gets the request and how many of the same method and target were before.
    pub(crate) async fn start<F>(act: F) -> Self
    where
        F: Fn(&Seen, usize) -> Act + Send + Sync + 'static,
    {
        Self::start_with(None, act).await
    }

    pub(crate) async fn start_with<F>(tls: Option<TlsAcceptor>, act: F) -> Self
    where
        F: Fn(&Seen, usize) -> Act + Send + Sync + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (log, act) = (seen.clone(), Arc::new(act));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (log, act, tls) = (log.clone(), act.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, &log, &*act).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, &log, &*act).await;
                            }
                        }
                    }
                });
            }
        });
        Self {
            address,
            seen,
            task,
        }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn seen_at(&self, part: &str) -> Vec<Seen> {
        let all = self.seen();
        all.into_iter()
            .filter(|s| s.target.contains(part))
            .collect()
    }

    pub(crate) fn repository(&self) -> Repository {
        repository(&format!("{}/a/b:tag", self.address), quick())
    }
}

async fn serve<S, F>(mut stream: S, log: &Mutex<Vec<Seen>>, act: &F)
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Fn(&Seen, usize) -> Act,
{
    let Some(seen) = read_request(&mut stream).await else {
        return;
    };
    let before = {
        let mut log = log.lock().unwrap();
        let same = |s: &&Seen| s.method == seen.method && s.target == seen.target;
        let before = log.iter().filter(same).count();
        log.push(seen.clone());
        before
    };
    match act(&seen, before) {
        Act::Send(bytes) => {
            let _client_may_be_gone = stream.write_all(&bytes).await;
        }
        Act::SendAndHang(bytes) => {
            let _client_may_be_gone = stream.write_all(&bytes).await;
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        Act::Drip(bytes, pause) => {
            let _client_may_be_gone = stream.write_all(&bytes).await;
            while stream.write_all(b"x").await.is_ok() {
                tokio::time::sleep(pause).await;
            }
        }
    }
    let _client_may_be_gone = stream.shutdown().await;
}

async fn read_request<S: AsyncRead + Unpin>(stream: &mut S) -> Option<Seen> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
        // The beginning of a TLS handshake has no end of line to wait for.
        if !head[0].is_ascii_uppercase() {
            return None;
        }
    }
    let head = String::from_utf8(head).ok()?;
    let mut lines = head.trim_end().split("\r\n");
    let mut first = lines.next()?.split(' ').map(str::to_owned);
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let mut seen = Seen {
        method: first.next()?,
        target: first.next()?,
        headers,
        body: String::new(),
    };
    let length = seen.header("content-length").unwrap_or("0").parse().ok()?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    seen.body = String::from_utf8(body).ok()?;
    Some(seen)
}

/// A whole answer.
pub(crate) fn answer(status: &str, headers: &[(&str, &str)], body: &[u8]) -> Act {
    let length = body.len().to_string();
    let mut all = headers.to_vec();
    all.push(("Content-Length", &length));
    Act::Send(raw(status, &all, body))
}

/// An answer with exactly these headers.
pub(crate) fn raw(status: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {status}\r\nConnection: close\r\n").into_bytes();
    for (name, value) in headers {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

pub(crate) fn ok(body: &[u8]) -> Act {
    answer("200 OK", &[], body)
}

/// A registry's error body.
pub(crate) fn complaint(status: &str, code: &str, message: &str) -> Act {
    let body = json!({"errors": [{"code": code, "message": message}]});
    answer(status, &[], body.to_string().as_bytes())
}

/// Short limits, so that a test of a failure ends soon.
pub(crate) fn quick() -> ClientConfig {
    ClientConfig {
        timeouts: Timeouts {
            connect: Duration::from_secs(20),
            handshake: Duration::from_secs(20),
            response: Duration::from_secs(2),
            stall: Duration::from_secs(2),
            body: Duration::from_secs(5),
            slowest: 1 << 20,
        },
        retry: RetryPolicy {
            attempts: 3,
            resumes: 20,
            first_pause: Duration::from_millis(10),
            longest_pause: Duration::from_millis(50),
            longest_retry_after: Duration::from_secs(3),
        },
        trust: Trust {
            per_host: Vec::new(),
            ..Trust::default()
        },
        hosts: HostFiles {
            own: Vec::new(),
            containerd: Vec::new(),
        },
        ..ClientConfig::default()
    }
}

pub(crate) fn repository(reference: &str, config: ClientConfig) -> Repository {
    Client::new(config).repository(&reference.parse().unwrap(), None)
}

pub(crate) fn descriptor(bytes: &[u8]) -> Descriptor {
    Descriptor {
        media_type: media_type::OCI_LAYER.into(),
        digest: digest_of(bytes),
        size: bytes.len() as u64,
        platform: None,
        annotations: std::collections::BTreeMap::new(),
    }
}

pub(crate) fn manifest_json() -> Value {
    let config = descriptor(b"{}");
    json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "config": config,
        "layers": [],
    })
}

pub(crate) fn manifest_answer(document: &Value) -> Act {
    let media_type = document["mediaType"].as_str().unwrap_or("application/json");
    answer(
        "200 OK",
        &[("Content-Type", media_type)],
        document.to_string().as_bytes(),
    )
}

pub(crate) fn some_digest() -> Digest {
    digest_of(b"nobody has this")
}

/// Reads a blob to its end.
pub(crate) async fn read_all(
    repository: &Repository,
    blob: &Descriptor,
) -> Result<Vec<u8>, distribution::RegistryError> {
    let mut stream = repository.fetch_blob(blob).await?;
    let mut all = Vec::new();
    while let Some(chunk) = stream.chunk().await? {
        all.extend_from_slice(&chunk);
    }
    assert_eq!(stream.received(), stream.size());
    Ok(all)
}
