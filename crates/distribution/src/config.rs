//! What a client is told at its making.

use std::path::PathBuf;
use std::time::Duration;

/// Settings of a [`Client`](crate::Client).
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Registries that may be spoken to without TLS or without a trusted certificate: `host`,
    /// `host:port`, or a network as `10.0.0.0/8` that matches registries named by address.
    pub insecure_registries: Vec<String>,
    /// Where certificates of authorities come from.
    pub trust: Trust,
    /// The `User-Agent` of each request.
    pub user_agent: String,
    /// How long each step may take.
    pub timeouts: Timeouts,
    /// When and how often a failed request is repeated.
    pub retry: RetryPolicy,
    /// How many blobs are streamed from one registry at the same time; more wait for their turn.
    pub max_connections_per_host: usize,
    /// Where requests go through.
    pub proxy: ProxyConfig,
    /// Where host names are looked up.
    pub names: NameSources,
    /// Where it is said how registries are reached.
    pub hosts: HostFiles,
}

/// Folders with files about registries.
#[derive(Clone, Debug)]
pub struct HostFiles {
    /// Gorae's own, with `*.toml`.
    pub own: Vec<PathBuf>,
    /// Containerd's, with a folder a registry and a `hosts.toml` in it.
    pub containerd: Vec<PathBuf>,
}

impl Default for HostFiles {
    fn default() -> Self {
        Self {
            own: vec!["/etc/gorae/registries.d".into()],
            containerd: vec![
                "/etc/containerd/certs.d".into(),
                "/etc/docker/certs.d".into(),
            ],
        }
    }
}

/// Sources of trusted certificates.
#[derive(Clone, Debug)]
pub struct Trust {
    /// A bundle in place of the system's, as `SSL_CERT_FILE` names it.
    pub bundle: Option<PathBuf>,
    /// Directories with certificates, as `SSL_CERT_DIR` lists them.
    pub directories: Vec<PathBuf>,
    /// Files with further roots, in PEM.
    pub extra: Vec<PathBuf>,
    /// Directories with a folder a registry (`host` or `host:port`), which holds `*.crt` roots
    /// and pairs of `*.cert` and `*.key` for the client's own identity.
    pub per_host: Vec<PathBuf>,
}

/// Time limits, each for one step.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// Name lookup and TCP connection together.
    pub connect: Duration,
    /// The TLS handshake.
    pub handshake: Duration,
    /// From the request's end to the head of the answer.
    pub response: Duration,
    /// Between two pieces of a body.
    pub stall: Duration,
    /// What a body's reads may take together, before [`Timeouts::slowest`] adds to it.
    pub body: Duration,
    /// Bytes a second below which a long body is given up.
    pub slowest: u64,
}

/// Repetition of failed requests.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// How many times a request is sent at most without any progress between the times.
    pub attempts: u32,
    /// How many times a blob is resumed at most, progress or not.
    pub resumes: u32,
    /// The first pause; each further one is twice as long, less a random part.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
    /// The longest `Retry-After` that is waited for; a longer one ends in an error at once.
    pub longest_retry_after: Duration,
}

/// Proxies for requests to hosts other than loopback.
#[derive(Clone, Debug, Default)]
pub struct ProxyConfig {
    /// Proxy for http, empty for none.
    pub http: String,
    /// Proxy for https, empty for none.
    pub https: String,
    /// Hosts, domains and networks that are reached directly, separated by commas.
    pub no_proxy: String,
}

/// Files that say how host names become addresses.
#[derive(Clone, Debug)]
pub struct NameSources {
    /// Usually `/etc/hosts`.
    pub hosts: PathBuf,
    /// Usually `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            insecure_registries: Vec::new(),
            trust: Trust::default(),
            user_agent: concat!("gorae/", env!("CARGO_PKG_VERSION")).to_owned(),
            timeouts: Timeouts::default(),
            retry: RetryPolicy::default(),
            max_connections_per_host: 8,
            proxy: ProxyConfig::default(),
            names: NameSources::default(),
            hosts: HostFiles::default(),
        }
    }
}

impl ClientConfig {
    /// The defaults, with trust and proxies as the environment says: `SSL_CERT_FILE`,
    /// `SSL_CERT_DIR`, `HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY` (or lower case).
    #[must_use]
    pub fn from_env() -> Self {
        Self {
            trust: Trust::from_env(),
            proxy: ProxyConfig::from_env(),
            ..Self::default()
        }
    }
}

impl Default for Trust {
    fn default() -> Self {
        Self {
            bundle: None,
            directories: Vec::new(),
            extra: Vec::new(),
            per_host: vec![
                "/etc/docker/certs.d".into(),
                "/etc/containerd/certs.d".into(),
            ],
        }
    }
}

impl Trust {
    fn from_env() -> Self {
        let directories = variable(&["SSL_CERT_DIR"]);
        Self {
            bundle: Some(variable(&["SSL_CERT_FILE"]))
                .filter(|file| !file.is_empty())
                .map(PathBuf::from),
            directories: std::env::split_paths(&directories)
                .filter(|path| !path.as_os_str().is_empty())
                .collect(),
            ..Self::default()
        }
    }
}

impl ProxyConfig {
    fn from_env() -> Self {
        Self {
            http: variable(&["HTTP_PROXY", "http_proxy"]),
            https: variable(&["HTTPS_PROXY", "https_proxy"]),
            no_proxy: variable(&["NO_PROXY", "no_proxy"]),
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(30),
            handshake: Duration::from_secs(10),
            response: Duration::from_secs(30),
            stall: Duration::from_secs(30),
            body: Duration::from_secs(600),
            slowest: 16 * 1024,
        }
    }
}

impl Timeouts {
    /// The time that the reads of a body of `size` bytes may take together.
    pub(crate) fn whole_body(&self, size: u64) -> Duration {
        let for_size = size.checked_div(self.slowest).unwrap_or(0);
        self.body.saturating_add(Duration::from_secs(for_size))
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 5,
            resumes: 50,
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(15),
            longest_retry_after: Duration::from_secs(60),
        }
    }
}

impl Default for NameSources {
    fn default() -> Self {
        Self {
            hosts: "/etc/hosts".into(),
            resolv_conf: "/etc/resolv.conf".into(),
        }
    }
}

fn variable(names: &[&str]) -> String {
    let mut values = names.iter().filter_map(|name| std::env::var(name).ok());
    values.find(|value| !value.is_empty()).unwrap_or_default()
}
