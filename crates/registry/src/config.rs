//! What a registry is told: literal values as they stand in a file, with their defaults.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

use crate::tls::TlsFiles;

/// Settings of one registry.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Config {
    /// The folder of blobs, database and uploads.
    pub root: PathBuf,
    /// Where clients connect.
    pub listen: Vec<SocketAddr>,
    /// Where figures are served; nowhere without it.
    pub metrics_address: Option<SocketAddr>,
    /// The socket for `gorae registry gc`; absent for `admin.sock` in the root.
    pub admin_socket: Option<PathBuf>,
    /// Whether pushes and deletions are refused.
    pub read_only: bool,
    /// Whether manifests, tags and blobs may be deleted.
    pub delete: bool,
    /// Whether the page at `/` is shown.
    pub web: bool,
    /// The folder of another content store, `.../content`, with which equal blobs share the disk.
    pub share_content: Option<PathBuf>,
    /// The longest manifest.
    pub manifest_max_size: Size,
    /// The longest blob; absent for any that fits the disk.
    pub blob_max_size: Option<Size>,
    /// Memory for manifests that are asked for often.
    pub manifest_cache: Size,
    /// TLS of the listeners.
    pub tls: Option<Tls>,
    /// Who clients are.
    pub auth: Auth,
    /// Users by group.
    pub groups: BTreeMap<String, Vec<String>>,
    /// Who may do what.
    pub access: Vec<Rule>,
    /// How much one client may ask for.
    pub limits: Limits,
    /// Another registry, whose content this one fetches and keeps.
    pub proxy: Option<Proxy>,
    /// Collection of what nothing refers to.
    pub gc: Gc,
    /// Bounds on what repositories take.
    pub quota: Vec<Quota>,
    /// Who is told of pushes and deletions.
    pub webhook: Vec<Webhook>,
    /// A file with one JSON line a request; `-` for the standard output.
    pub access_log: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            root: "/var/lib/gorae/registry".into(),
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 5000))],
            metrics_address: None,
            admin_socket: None,
            read_only: false,
            delete: true,
            web: true,
            share_content: None,
            manifest_max_size: Size(4 << 20),
            blob_max_size: None,
            manifest_cache: Size(4 << 20),
            tls: None,
            auth: Auth::default(),
            groups: BTreeMap::new(),
            access: Vec::new(),
            limits: Limits::default(),
            proxy: None,
            gc: Gc::default(),
            quota: Vec::new(),
            webhook: Vec::new(),
            access_log: None,
        }
    }
}

impl Config {
    /// The socket for commands to a registry that runs.
    #[must_use]
    pub fn admin_socket(&self) -> PathBuf {
        let own = || self.root.join("admin.sock");
        self.admin_socket.clone().unwrap_or_else(own)
    }
}

/// TLS of the listeners.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Tls {
    /// The certificate, with those between it and its authority, in PEM.
    pub certificate: PathBuf,
    /// Its key, in PEM.
    pub key: PathBuf,
    /// Authorities whose certificates clients must show; absent where clients need none.
    #[serde(default)]
    pub client_ca: Option<PathBuf>,
}

impl Tls {
    /// The same as files to read.
    pub(crate) fn files(&self) -> TlsFiles {
        TlsFiles {
            authority: self.client_ca.clone(),
            certificate: self.certificate.clone(),
            key: self.key.clone(),
        }
    }
}

/// Who clients are.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Auth {
    /// What a client's password prompt names.
    pub realm: String,
    /// A file of users and bcrypt hashes, as `htpasswd -B` writes it.
    pub htpasswd: Option<PathBuf>,
    /// Tokens that are accepted.
    pub token: Option<Token>,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            realm: "gorae".to_owned(),
            htpasswd: None,
            token: None,
        }
    }
}

/// Bearer tokens, as Docker's token authentication has them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Token {
    /// Where clients get tokens; absent with `issue`, where it is this registry.
    #[serde(default)]
    pub realm: Option<String>,
    /// The name of this registry, which tokens must be for.
    pub service: String,
    /// Who signs tokens.
    pub issuer: String,
    /// Public keys that tokens are verified with: PEM, or a JSON Web Key Set.
    #[serde(default)]
    pub keys: Vec<PathBuf>,
    /// Whether the registry gives tokens itself, to the users of `htpasswd` and by the rules of `access`.
    #[serde(default)]
    pub issue: bool,
    /// How long a token that the registry gives is good.
    #[serde(default = "token_life")]
    pub life: Span,
}

fn token_life() -> Span {
    Span(Duration::from_secs(300))
}

/// One rule of who may do what; what no rule allows is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Rule {
    /// Users by name; `*` for everybody who has signed in.
    pub users: Vec<String>,
    /// Groups by name.
    pub groups: Vec<String>,
    /// Whether the rule is also for clients that did not sign in.
    pub anonymous: bool,
    /// Patterns of repositories: `*` for any part of a name between slashes, `**` for any part.
    pub repositories: Vec<String>,
    /// What is allowed.
    pub rights: Vec<Right>,
}

/// Something that is done with a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Right {
    /// Reading.
    Pull,
    /// Adding and replacing.
    Push,
    /// Removing.
    Delete,
}

/// How much one client may ask for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Limits {
    /// Connections at the same time.
    pub connections: usize,
    /// Connections at the same time from one address; 0 for any number.
    pub connections_per_client: usize,
    /// Requests a second from one address; 0 for any number.
    pub requests_per_second: u32,
    /// Uploads that are not finished, of all clients.
    pub uploads: usize,
    /// How long a connection may stand still in the middle of a request or an answer.
    pub stall: Span,
    /// How long a connection may wait for its next request.
    pub idle: Span,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            connections_per_client: 0,
            requests_per_second: 0,
            uploads: 10_000,
            stall: Span(Duration::from_secs(60)),
            idle: Span(Duration::from_secs(120)),
        }
    }
}

/// A registry whose content this one fetches and keeps.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Proxy {
    /// The registry: `docker.io`, `quay.io`, `host:port`.
    pub upstream: String,
    /// The user there.
    #[serde(default)]
    pub username: String,
    /// A file with the password.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// How long a tag is believed without asking again.
    #[serde(default = "proxy_ttl")]
    pub ttl: Span,
    /// Whether the upstream may be spoken to without TLS, or without a trusted certificate.
    #[serde(default)]
    pub insecure: bool,
}

fn proxy_ttl() -> Span {
    Span(Duration::from_secs(60))
}

/// Collection of what nothing refers to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Gc {
    /// Time between two collections; 0 for none but on demand.
    pub interval: Span,
    /// How long a blob that no manifest refers to is kept, so that a push has the time to end.
    pub grace: Span,
    /// How long a manifest without a tag is kept; absent for ever.
    pub untagged: Option<Span>,
    /// How long an upload may rest before it is dropped.
    pub uploads: Span,
    /// How long a proxy keeps what nobody asks for; absent for ever.
    pub unused: Option<Span>,
}

impl Default for Gc {
    fn default() -> Self {
        Self {
            interval: Span(Duration::from_secs(3600)),
            grace: Span(Duration::from_secs(3600)),
            untagged: None,
            uploads: Span(Duration::from_secs(86_400)),
            unused: None,
        }
    }
}

/// A bound on what repositories take.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Quota {
    /// Which: those whose name begins so; all where it is empty.
    #[serde(default)]
    pub prefix: String,
    /// Bytes that their content may take.
    pub size: Size,
}

/// Who is told of pushes and deletions.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Webhook {
    /// Where events are posted.
    pub url: String,
    /// Further headers of the request, such as `Authorization`.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Kinds of events: `push`, `delete`, `pull`, `mount`; empty for `push` and `delete`.
    #[serde(default)]
    pub events: Vec<String>,
    /// Patterns of repositories, as in `access`; empty for all.
    #[serde(default)]
    pub repositories: Vec<String>,
    /// How long one request may take.
    #[serde(default = "webhook_timeout")]
    pub timeout: Span,
    /// How many events wait at most while the receiver is away; the oldest go first.
    #[serde(default = "webhook_queue")]
    pub queue: usize,
}

fn webhook_timeout() -> Span {
    Span(Duration::from_secs(10))
}

fn webhook_queue() -> usize {
    1000
}

/// A number of bytes: a whole number, or a text such as `10GiB` or `512m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl Size {
    /// Reads a size.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (number, unit) = split(text)?;
        let shift = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 10,
            "m" | "mb" | "mib" => 20,
            "g" | "gb" | "gib" => 30,
            "t" | "tb" | "tib" => 40,
            _ => return None,
        };
        number.checked_mul(1 << shift).map(Self)
    }
}

/// A length of time: a text such as `30s`, `15m`, `24h` or `7d`, or a whole number of seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl Span {
    /// Reads a length of time.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (number, unit) = split(text)?;
        let milliseconds: u64 = match unit {
            "ms" => 1,
            "" | "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        let total = number.checked_mul(milliseconds)?;
        Some(Self(Duration::from_millis(total)))
    }
}

fn split(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    Some((number.parse().ok()?, unit.trim()))
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Literal {
    Number(u64),
    Text(String),
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Literal::deserialize(deserializer)? {
            Literal::Number(bytes) => Ok(Self(bytes)),
            Literal::Text(text) => Self::parse(&text)
                .ok_or_else(|| de::Error::custom(format!("{text:?} is no size such as 10GiB"))),
        }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Literal::deserialize(deserializer)? {
            Literal::Number(seconds) => Ok(Self(Duration::from_secs(seconds))),
            Literal::Text(text) => Self::parse(&text).ok_or_else(|| {
                de::Error::custom(format!("{text:?} is no time such as 90s or 24h"))
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_spans() {
        assert_eq!(Size::parse("10GiB"), Some(Size(10 << 30)));
        assert_eq!(Size::parse("512 k"), Some(Size(512 << 10)));
        assert_eq!(Size::parse("7"), Some(Size(7)));
        assert_eq!(Span::parse("24h"), Some(Span(Duration::from_secs(86_400))));
        assert_eq!(Span::parse("250ms"), Some(Span(Duration::from_millis(250))));
        for bad in ["", "x", "1x", "-1", "99999999999999999999", "20000000000t"] {
            assert_eq!(Size::parse(bad), None, "{bad}");
            assert_eq!(Span::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_file() {
        let json = r#"{"listen": ["[::]:5000"], "manifest-max-size": "1MiB", "gc": {"grace": "10m"},
            "access": [{"anonymous": true, "repositories": ["**"], "rights": ["pull"]}]}"#;
        let config: Config = serde_json::from_str(json).unwrap();
        assert_eq!(config.manifest_max_size, Size(1 << 20));
        assert_eq!(config.gc.interval, Gc::default().interval);
        assert_eq!(config.access[0].rights, [Right::Pull]);
        assert!(serde_json::from_str::<Config>(r#"{"colour": 1}"#).is_err());
    }
}
