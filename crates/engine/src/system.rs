//! What the engine tells about itself, its host and its disk.

use std::collections::BTreeMap;

use api::registry::{AuthConfig, AuthResponse};
use api::system::{
    AddressPool, Commit, Component, FirewallInfo, Info, PluginsInfo, RegistryConfig, Runtime,
    SwarmInfo, Version,
};
use jiff::Timestamp;

use crate::config::Config;
use crate::container::Status;
use crate::db::{Db, Table};
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};
use crate::names;

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// What whoever builds a release says of it; empty where nobody does.
const COMMIT: &str = match option_env!("GORAE_COMMIT") {
    Some(commit) => commit,
    None => "",
};
const BUILD_TIME: &str = match option_env!("GORAE_BUILD_TIME") {
    Some(time) => time,
    None => "",
};
/// Where Docker's clients look for Go's version.
const TOOLCHAIN: &str = concat!("rust", env!("CARGO_PKG_RUST_VERSION"));

/// Whether the host has the v2 hierarchy alone.
pub(crate) fn cgroup_v2() -> bool {
    static V2: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *V2.get_or_init(|| {
        runtime::cgroup::Hierarchies::detect().is_ok_and(|h| h.kind() == runtime::cgroup::Kind::V2)
    })
}

/// The machine's processors that the engine may use, counted once: the count reads several files.
pub(crate) fn processors() -> usize {
    static COUNT: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    *COUNT.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}

/// The engine's id, drawn once and kept.
pub(crate) async fn engine_id(db: &Db) -> Result<String> {
    const KEY: &str = "engine.id";
    if let Some(id) = db.load_one(Table::Meta, KEY)? {
        return Ok(id);
    }
    let [a, b, c, d, rest @ ..] = names::random::<16>()?;
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    // the shape of a UUID, version 4 (RFC 9562)
    let id = format!(
        "{}-{}-4{}-8{}-{}",
        hex(&[a, b, c, d]),
        hex(&rest[..2]),
        &hex(&rest[2..4])[1..],
        &hex(&rest[4..6])[1..],
        hex(&rest[6..])
    );
    db.put(Table::Meta, KEY, &id).await?;
    Ok(id)
}

impl Engine {
    /// The versions of everything.
    #[must_use]
    pub fn version(&self) -> Version {
        let kernel = uname(rustix::system::Uname::release);
        let architecture = oci::Platform::host().architecture;
        let details = BTreeMap::from([
            ("ApiVersion".to_owned(), api::VERSION.to_owned()),
            ("Arch".to_owned(), architecture.clone()),
            ("KernelVersion".to_owned(), kernel.clone()),
            ("MinAPIVersion".to_owned(), api::MIN_VERSION.to_owned()),
            ("BuildTime".to_owned(), BUILD_TIME.to_owned()),
            ("Experimental".to_owned(), "false".to_owned()),
            ("GitCommit".to_owned(), COMMIT.to_owned()),
            ("GoVersion".to_owned(), TOOLCHAIN.to_owned()),
            ("Os".to_owned(), "linux".to_owned()),
        ]);
        Version {
            platform: api::system::Platform {
                name: "Gorae Engine".to_owned(),
            },
            components: vec![
                Component {
                    name: "Engine".to_owned(),
                    version: VERSION.to_owned(),
                    details,
                },
                Component {
                    name: "gorae-shim".to_owned(),
                    version: VERSION.to_owned(),
                    details: BTreeMap::from([("GitCommit".to_owned(), COMMIT.to_owned())]),
                },
            ],
            git_commit: COMMIT.to_owned(),
            go_version: TOOLCHAIN.to_owned(),
            build_time: BUILD_TIME.to_owned(),
            version: VERSION.to_owned(),
            api_version: api::VERSION.to_owned(),
            min_api_version: api::MIN_VERSION.to_owned(),
            os: "linux".to_owned(),
            arch: architecture,
            kernel_version: kernel,
            ..Version::default()
        }
    }

    /// The engine's settings, its host, and how many of everything there are.
    ///
    /// # Errors
    /// When the cgroup hierarchies cannot be read.
    pub fn info(&self) -> Result<Info> {
        let settings = self.settings();
        let containers = self.containers.all();
        let count = |test: &dyn Fn(Status) -> bool| {
            i64::try_from(containers.iter().filter(|c| test(c.status())).count())
                .unwrap_or(i64::MAX)
        };
        let running = count(&|s| matches!(s, Status::Running | Status::Restarting));
        let paused = count(&|s| s == Status::Paused);
        let all = i64::try_from(containers.len()).unwrap_or(i64::MAX);
        let hierarchies = runtime::cgroup::Hierarchies::detect()
            .map_err(|e| Error::system("read the cgroup hierarchies", &e))?;
        let support = hierarchies.support();
        let system = rustix::system::sysinfo();
        Ok(Info {
            id: self.id.clone(),
            containers: all,
            containers_running: running,
            containers_paused: paused,
            containers_stopped: all - running - paused,
            images: i64::try_from(self.images.listed().len()).unwrap_or(i64::MAX),
            driver: "overlay2".to_owned(),
            driver_status: Some(self.driver_status()),
            plugins: plugins(),
            kernel_memory_tcp: !cgroup_v2() && support.memory,
            memory_limit: support.memory,
            swap_limit: support.swap,
            cpu_cfs_period: support.cpu_quota,
            cpu_cfs_quota: support.cpu_quota,
            cpu_shares: support.cpu_shares,
            cpu_set: support.cpuset,
            pids_limit: support.pids,
            oom_kill_disable: support.oom_kill_disable,
            ipv4_forwarding: read_flag("/proc/sys/net/ipv4/ip_forward"),
            n_fd: i64::try_from(std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count))
                .unwrap_or(0),
            n_goroutines: tasks(),
            n_events_listener: i64::try_from(self.events.listeners()).unwrap_or(i64::MAX),
            system_time: Timestamp::now().to_string(),
            logging_driver: settings.log_driver.clone(),
            cgroup_driver: "cgroupfs".to_owned(),
            cgroup_version: if cgroup_v2() { "2" } else { "1" }.to_owned(),
            kernel_version: uname(rustix::system::Uname::release),
            operating_system: os_release("PRETTY_NAME"),
            os_version: os_release("VERSION_ID"),
            os_type: "linux".to_owned(),
            architecture: uname(rustix::system::Uname::machine),
            index_server_address: "https://index.docker.io/v1/".to_owned(),
            registry_config: Some(registry_config(&settings)),
            n_cpu: i64::try_from(processors()).unwrap_or(1),
            mem_total: i64::try_from(system.totalram.saturating_mul(system.mem_unit.into()))
                .unwrap_or(i64::MAX),
            docker_root_dir: self.config.root.to_string_lossy().into_owned(),
            http_proxy: proxy(settings.http_proxy.as_deref(), "HTTP_PROXY"),
            https_proxy: proxy(settings.https_proxy.as_deref(), "HTTPS_PROXY"),
            no_proxy: proxy(settings.no_proxy.as_deref(), "NO_PROXY"),
            name: uname(rustix::system::Uname::nodename),
            labels: Some(settings.labels.clone()),
            server_version: VERSION.to_owned(),
            runtimes: Some(self.runtimes()),
            default_runtime: "runc".to_owned(),
            swarm: SwarmInfo {
                local_node_state: "inactive".to_owned(),
                ..SwarmInfo::default()
            },
            live_restore_enabled: true,
            init_binary: "docker-init".to_owned(),
            runc_commit: Commit {
                id: VERSION.to_owned(),
                ..Commit::default()
            },
            init_commit: Commit {
                id: VERSION.to_owned(),
                ..Commit::default()
            },
            security_options: Some(security_options(&settings, self.userns.is_default())),
            cdi_spec_dirs: Some(Vec::new()),
            default_address_pools: self.address_pools(),
            firewall_backend: Some(FirewallInfo {
                driver: "nftables".to_owned(),
                ..FirewallInfo::default()
            }),
            warnings: Some(warnings(&support)).filter(|lines| !lines.is_empty()),
            ..Info::default()
        })
    }

    fn driver_status(&self) -> Vec<(String, String)> {
        let backing = self.backing_file_system();
        let layers = match self.store.layers().format() {
            Ok(storage::Format::Erofs) => "EROFS images".to_owned(),
            Ok(storage::Format::Folder) => "folders".to_owned(),
            Err(error) => error.to_string(),
        };
        [
            ("Backing Filesystem", backing.as_str()),
            ("New Layers", layers.as_str()),
            ("Supports d_type", "true"),
            ("Using metacopy", "false"),
            ("Native Overlay Diff", "true"),
            ("userxattr", "false"),
            // by this word buildx knows that images of several platforms can be loaded
            ("driver-type", "io.containerd.snapshotter.v1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    /// The one runtime, by both names that Docker's clients ask for.
    fn runtimes(&self) -> BTreeMap<String, Runtime> {
        let runtime = Runtime {
            path: self.config.shim.to_string_lossy().into_owned(),
            ..Runtime::default()
        };
        ["io.containerd.runc.v2", "runc"]
            .map(|name| (name.to_owned(), runtime.clone()))
            .into()
    }

    fn address_pools(&self) -> Vec<AddressPool> {
        let shown = |pool: &network::AddressPool| AddressPool {
            base: pool.base.to_string(),
            size: pool.size.into(),
        };
        self.config.address_pools.iter().map(shown).collect()
    }

    fn backing_file_system(&self) -> String {
        const NAMES: [(u64, &str); 5] = [
            (0xef53, "extfs"),
            (0x5846_5342, "xfs"),
            (0x9123_683e, "btrfs"),
            (0x0102_1994, "tmpfs"),
            (0xf2f5_2010, "f2fs"),
        ];
        let kind =
            rustix::fs::statfs(&self.config.root).map(|s| u64::try_from(s.f_type).unwrap_or(0));
        let name = kind
            .ok()
            .and_then(|kind| NAMES.iter().find(|(magic, _)| *magic == kind));
        name.map_or("unknown", |(_, name)| name).to_owned()
    }

    /// Checks credentials with their registry.
    ///
    /// # Errors
    /// When the registry refuses them or cannot be reached.
    pub async fn auth_check(&self, auth: &AuthConfig) -> Result<AuthResponse> {
        let address = Some(auth.server_address.as_str()).filter(|a| !a.is_empty());
        let registry = address.unwrap_or("https://index.docker.io/v1/");
        match self
            .registries()
            .login(registry, &crate::image::credentials(auth))
            .await
        {
            Ok(login) => Ok(AuthResponse {
                identity_token: login.identity_token.unwrap_or_default(),
                status: login.status,
            }),
            Err(error) => {
                let error = crate::image::registry_error(&error);
                let kind = if error.kind() == Kind::NotFound {
                    Kind::Unauthorized
                } else {
                    error.kind()
                };
                Err(Error::new(kind, error.message()))
            }
        }
    }
}

/// The tasks of the engine, and none outside of it.
fn tasks() -> i64 {
    let count = tokio::runtime::Handle::try_current()
        .map_or(0, |handle| handle.metrics().num_alive_tasks());
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// What the host cannot do, in dockerd's words.
fn warnings(support: &runtime::cgroup::Support) -> Vec<String> {
    let v1_only = |there: bool| there || cgroup_v2();
    [
        (support.memory, "WARNING: No memory limit support"),
        (support.swap, "WARNING: No swap limit support"),
        (
            v1_only(support.oom_kill_disable),
            "WARNING: No oom kill disable support",
        ),
        (support.cpu_quota, "WARNING: No cpu cfs quota support"),
        (support.cpu_quota, "WARNING: No cpu cfs period support"),
        (support.cpu_shares, "WARNING: No cpu shares support"),
        (support.cpuset, "WARNING: No cpuset support"),
        (
            read_flag("/proc/sys/net/ipv4/ip_forward"),
            "WARNING: IPv4 forwarding is disabled",
        ),
    ]
    .into_iter()
    .filter(|(there, _)| !there)
    .map(|(_, text)| text.to_owned())
    .collect()
}

fn plugins() -> PluginsInfo {
    let list = |names: &[&str]| Some(names.iter().map(|&n| n.to_owned()).collect());
    PluginsInfo {
        volume: list(&["local"]),
        network: list(&["bridge", "host", "ipvlan", "macvlan", "null"]),
        authorization: None,
        log: list(&crate::container::logs::options::DRIVERS),
    }
}

fn uname(field: impl Fn(&rustix::system::Uname) -> &std::ffi::CStr) -> String {
    field(&rustix::system::uname())
        .to_string_lossy()
        .into_owned()
}

fn read_flag(path: &str) -> bool {
    std::fs::read_to_string(path).is_ok_and(|text| text.trim() == "1")
}

/// What protects containers that do not say.
fn security_options(settings: &Config, own_users: bool) -> Vec<String> {
    let profile = match settings.seccomp_profile.as_deref() {
        None => "builtin",
        Some("unconfined") => "unconfined",
        Some(_) => "custom",
    };
    let mut options = vec![format!("name=seccomp,profile={profile}")];
    if own_users {
        options.push("name=userns".to_owned());
    }
    if settings.no_new_privileges {
        options.push("name=no-new-privileges".to_owned());
    }
    options
}

/// Docker Hub with its mirrors, and the registries that may do without TLS.
fn registry_config(settings: &Config) -> RegistryConfig {
    let index = |name: &str, mirrors: Vec<String>, official| api::system::IndexInfo {
        mirrors: Some(mirrors),
        name: name.to_owned(),
        official,
        secure: official,
    };
    let mirrors = settings.registry_mirrors.clone();
    let hub = index("docker.io", mirrors.clone(), true);
    let mut indexes = BTreeMap::from([("docker.io".to_owned(), hub)]);
    let mut networks = vec!["::1/128".to_owned(), "127.0.0.0/8".to_owned()];
    for name in &settings.insecure_registries {
        if name.parse::<network::Subnet>().is_ok() {
            networks.push(name.clone());
        } else {
            indexes.insert(name.clone(), index(name, Vec::new(), false));
        }
    }
    RegistryConfig {
        insecure_registry_cidrs: Some(networks),
        index_configs: Some(indexes),
        mirrors: Some(mirrors).filter(|list| !list.is_empty()),
        ..RegistryConfig::default()
    }
}

fn proxy(set: Option<&str>, name: &str) -> String {
    let value = set.map_or_else(
        || {
            std::env::var(name)
                .or_else(|_| std::env::var(name.to_ascii_lowercase()))
                .unwrap_or_default()
        },
        str::to_owned,
    );
    // user and password of a proxy are nobody's business
    match value
        .split_once("://")
        .and_then(|(scheme, rest)| rest.rsplit_once('@').map(|(_, host)| (scheme, host)))
    {
        Some((scheme, host)) => format!("{scheme}://xxxxx:xxxxx@{host}"),
        None => value,
    }
}

fn os_release(key: &str) -> String {
    let text = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    line.map(|value| value.trim_matches('"').to_owned())
        .unwrap_or_default()
}
