//! What a build is asked to do.

use std::collections::BTreeMap;
use std::net::IpAddr;

use oci::Platform;

use super::ConvertError;
use crate::gofmt::{parse_bool, parse_size, quote};
use crate::lint;
use crate::llb::SourceFile;
use crate::pb;

/// Where images are looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResolveMode {
    /// As the solver sees fit.
    #[default]
    Default,
    /// At the registry.
    Pull,
    /// In the local store first.
    Local,
}

impl ResolveMode {
    /// The mode's name in LLB's attributes.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Pull => "pull",
            Self::Local => "local",
        }
    }
}

/// The build's main context.
#[derive(Clone, Debug)]
pub enum Context {
    /// A folder of the client's.
    Local {
        /// Its name in the session, `context` by default.
        name: String,
        /// The session.
        session: String,
        /// What stays out of it: the patterns of its ignore file.
        excludes: Vec<String>,
        /// What later builds find their files by.
        hint: String,
    },
    /// A git repository, by URL.
    Git {
        /// The URL, with `#ref:subdir`.
        url: String,
        /// Whether `.git` stays.
        keep_git_dir: bool,
    },
    /// An archive or a single file, by URL.
    Http {
        /// The URL.
        url: String,
        /// Whether it is an archive that is unpacked.
        unpack: bool,
    },
    /// Another maker's graph.
    Definition(pb::Definition),
    /// Nothing.
    Empty,
}

impl Default for Context {
    fn default() -> Self {
        Self::Local {
            name: "context".to_owned(),
            session: String::new(),
            excludes: Vec::new(),
            hint: "context".to_owned(),
        }
    }
}

/// What a build is asked to do.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `--build-arg`.
    pub build_args: BTreeMap<String, String>,
    /// `--target`; the last stage by default.
    pub target: String,
    /// `--platform`, if it is given.
    pub platform: Option<Platform>,
    /// The platforms that the builder runs; the first is its own.
    pub build_platforms: Vec<Platform>,
    /// Whether step names show platforms.
    pub multi_platform: bool,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// `--add-host`.
    pub extra_hosts: Vec<(String, IpAddr)>,
    /// `--network`.
    pub network: pb::NetMode,
    /// `--shm-size`, 0 without one.
    pub shm_size: i64,
    /// `--ulimit`.
    pub ulimits: Vec<pb::Ulimit>,
    /// `--device`.
    pub devices: Vec<pb::CdiDevice>,
    /// `--cgroup-parent`.
    pub cgroup_parent: String,
    /// The name of the steps' host.
    pub hostname: String,
    /// What the names of cache mounts begin with.
    pub cache_namespace: String,
    /// `--no-cache` (an empty list) or `--no-cache-filter`.
    pub no_cache: Option<Vec<String>>,
    /// `--pull`.
    pub resolve_mode: ResolveMode,
    /// `--build-context`: `docker-image://…`, `git://…`, `https://…`, `local:…`, `oci-layout://…`, `input:…`.
    pub contexts: BTreeMap<String, String>,
    /// The client's session, for its folders and OCI layouts.
    pub session: String,
    /// The main context.
    pub context: Context,
    /// The Dockerfile's name and the graph that loads it; its data are filled in.
    pub file: SourceFile,
    /// Options of the checks, if they are not those of the file.
    pub checks: Option<lint::Config>,
    /// Whether unused stages are converted too: the checks look at all.
    pub all_stages: bool,
}

/// Options as a front end gets them, and the platforms to build for.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The options, without a platform.
    pub options: Options,
    /// The platforms; none means the builder's own.
    pub platforms: Vec<Platform>,
}

impl Request {
    /// Reads a front end's attributes (`target`, `build-arg:NAME`, `platform`, `context:NAME`, …).
    ///
    /// Attributes about the context and the file themselves are the caller's.
    ///
    /// # Errors
    /// When a value is malformed.
    pub fn from_attrs(attrs: &BTreeMap<String, String>) -> Result<Self, ConvertError> {
        let get = |key: &str| attrs.get(key).map(String::as_str).unwrap_or_default();
        let arg = |key: &str| {
            attrs
                .get(&format!("build-arg:{key}"))
                .filter(|v| !v.is_empty())
        };
        let invalid = |what: &str, value: &str| ConvertError::Option {
            what: what.to_owned(),
            value: value.to_owned(),
        };
        let with = |prefix: &str| -> BTreeMap<String, String> {
            let found = attrs
                .iter()
                .filter_map(|(k, v)| Some((k.strip_prefix(prefix)?, v)));
            found.map(|(k, v)| (k.to_owned(), v.clone())).collect()
        };
        let platforms: Vec<Platform> = list(get("platform"))
            .map(|p| p.parse().map_err(|_| invalid("platform", p)))
            .collect::<Result<_, _>>()?;
        let shm_size = match get("shm-size") {
            "" => 0,
            text => parse_size(text).ok_or_else(|| invalid("shm-size", text))?,
        };
        let checks = attrs.get("build-arg:BUILDKIT_DOCKERFILE_CHECK");
        let checks = checks.map(|t| lint::Config::parse(t)).transpose();
        let hostname = arg("BUILDKIT_SANDBOX_HOSTNAME").map_or(get("hostname"), String::as_str);
        let options = Options {
            build_args: with("build-arg:"),
            target: get("target").to_owned(),
            multi_platform: multi_platform(attrs, platforms.len())?,
            labels: with("label:"),
            extra_hosts: extra_hosts(get("add-hosts"))?,
            network: network(get("force-network-mode"))?,
            shm_size,
            ulimits: ulimits(get("ulimit"))?,
            cgroup_parent: get("cgroup-parent").to_owned(),
            hostname: hostname.to_owned(),
            cache_namespace: get("build-arg:BUILDKIT_CACHE_MOUNT_NS").to_owned(),
            no_cache: attrs
                .get("no-cache")
                .map(|v| list(v).map(str::to_owned).collect()),
            resolve_mode: match get("image-resolve-mode") {
                "pull" => ResolveMode::Pull,
                "local" => ResolveMode::Local,
                "" | "default" => ResolveMode::Default,
                mode => return Err(invalid("image-resolve-mode", mode)),
            },
            contexts: with("context:"),
            checks: checks.map_err(ConvertError::Checks)?,
            ..Options::default()
        };
        Ok(Self { options, platforms })
    }
}

fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|t| !t.is_empty())
}

fn multi_platform(
    attrs: &BTreeMap<String, String>,
    platforms: usize,
) -> Result<bool, ConvertError> {
    let key = ["build-arg:BUILDKIT_MULTI_PLATFORM", "multi-platform"];
    let Some(text) = key
        .iter()
        .find_map(|k| attrs.get(*k))
        .filter(|t| !t.is_empty())
    else {
        return Ok(platforms > 1);
    };
    match parse_bool(text) {
        Some(false) if platforms > 1 => Err(ConvertError::MultiPlatform),
        Some(multi) => Ok(multi),
        None => Err(ConvertError::Option {
            what: "multi-platform".to_owned(),
            value: text.clone(),
        }),
    }
}

fn network(text: &str) -> Result<pb::NetMode, ConvertError> {
    match text {
        "none" => Ok(pb::NetMode::None),
        "host" => Ok(pb::NetMode::Host),
        "" | "sandbox" | "default" => Ok(pb::NetMode::Unset),
        other => Err(ConvertError::Option {
            what: "netmode".to_owned(),
            value: other.to_owned(),
        }),
    }
}

/// `name=address,…`
fn extra_hosts(text: &str) -> Result<Vec<(String, IpAddr)>, ConvertError> {
    list(text)
        .map(|entry| {
            let (name, address) = entry.split_once('=').unwrap_or((entry, ""));
            let bare = address.trim_start_matches('[').trim_end_matches(']');
            let address = bare.parse().map_err(|_| ConvertError::Option {
                what: "IP".to_owned(),
                value: quote(entry),
            })?;
            Ok((name.to_owned(), address))
        })
        .collect()
}

/// `name=soft:hard,…`
fn ulimits(text: &str) -> Result<Vec<pb::Ulimit>, ConvertError> {
    list(text)
        .map(|entry| {
            let parsed = entry.split_once('=').and_then(|(name, limits)| {
                let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
                Some(pb::Ulimit {
                    name: name.to_owned(),
                    soft: soft.parse().ok()?,
                    hard: hard.parse().ok()?,
                })
            });
            parsed.ok_or_else(|| ConvertError::Option {
                what: "ulimit".to_owned(),
                value: entry.to_owned(),
            })
        })
        .collect()
}
