//! What an engine is told at its start.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api::host_config::Ulimit;
use network::{AddressPool, PublishPolicy, Subnet};
use oci::Digest;

/// Somebody beside the engine who keeps blobs and layers in its store, such as a registry or a build cache.
#[derive(Clone)]
pub struct Keeper(Arc<KeptBlobs>);

type KeptBlobs = dyn Fn() -> io::Result<HashSet<Digest>> + Send + Sync;

impl Keeper {
    /// Asks a function at each collection, on a thread that may block. It has to name a blob, or a layer by
    /// its chain id, from before that is put in its place until it may go.
    pub fn new(kept: impl Fn() -> io::Result<HashSet<Digest>> + Send + Sync + 'static) -> Self {
        Self(Arc::new(kept))
    }

    pub(crate) fn kept(&self) -> io::Result<HashSet<Digest>> {
        (self.0)()
    }
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper").finish_non_exhaustive()
    }
}

/// What the collector of images goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreLimits {
    /// What blobs and layers may take, bytes. No pull goes beyond; near it, unused images go.
    pub max_size: Option<u64>,
    /// What is to be free on the file system, bytes; with less, unused images go.
    pub min_free: Option<u64>,
    /// Images that were not used for so long go; absent for never.
    pub unused_for: Option<Duration>,
    /// Whether images with tags may go, too.
    pub tagged: bool,
    /// How long parts of interrupted downloads are kept.
    pub partial_for: Duration,
    /// What these parts may take together, bytes.
    pub partial_max: u64,
    /// How often the collector looks.
    pub interval: Duration,
}

impl Default for StoreLimits {
    fn default() -> Self {
        Self {
            max_size: None,
            min_free: None,
            unused_for: None,
            tagged: false,
            partial_for: Duration::from_secs(24 * 3600),
            partial_max: 4 << 30,
            interval: Duration::from_secs(60),
        }
    }
}

use crate::image::SignaturePolicy;

/// Settings of one engine. Two engines never share `root` or `run`.
#[derive(Clone, Debug)]
pub struct Config {
    /// Everything that survives a reboot, `/var/lib/gorae` by default.
    pub root: PathBuf,
    /// Everything that does not, `/run/gorae` by default.
    pub run: PathBuf,
    /// The `gorae-shim` executable.
    pub shim: PathBuf,
    /// The default bridge's name.
    pub bridge: String,
    /// The default bridge's address and prefix length; a free subnet is chosen when absent.
    pub bip: Option<(Ipv4Addr, u8)>,
    /// Address for published ports that name none.
    pub publish_address: IpAddr,
    /// Who has the last word on connections to published ports.
    pub publish_policy: PublishPolicy,
    /// Where the subnets of new networks come from; the built-in pools when empty.
    pub address_pools: Vec<AddressPool>,
    /// Whether the default bridge has IPv6.
    pub ipv6: bool,
    /// The default bridge's IPv6 network; one is chosen when absent and `ipv6` is on.
    pub fixed_cidr_v6: Option<Subnet>,
    /// The largest packet on the default bridge and on networks that name none, in bytes.
    pub mtu: u32,
    /// Whether containers of the default bridge reach each other.
    pub icc: bool,
    /// The cgroup below which each engine makes one, and in that one for each container.
    pub cgroup_parent: PathBuf,
    /// Registries that may be reached over plain http or with an unknown certificate.
    pub insecure_registries: Vec<String>,
    /// Mirrors of Docker Hub that are asked first, such as `https://mirror.example/`.
    pub registry_mirrors: Vec<String>,
    /// Folder of files that say how registries are reached.
    pub registries: PathBuf,
    /// How many layers are downloaded from one registry at the same time.
    pub max_concurrent_downloads: usize,
    /// How often a request to a registry is sent without progress.
    pub max_download_attempts: u32,
    /// How layers that were made here are packed for registries.
    pub push_compression: storage::Packing,
    /// Proxy to registries over http; what the environment says when absent.
    pub http_proxy: Option<String>,
    /// Proxy to registries over https; what the environment says when absent.
    pub https_proxy: Option<String>,
    /// Hosts that are reached without a proxy; what the environment says when absent.
    pub no_proxy: Option<String>,
    /// The engine's labels, `key=value`.
    pub labels: Vec<String>,
    /// Log driver of containers that name none.
    pub log_driver: String,
    /// Options of that driver for containers that do not set them; those of the cache go to every
    /// driver that sends on.
    pub log_opts: BTreeMap<String, String>,
    /// Name servers of containers that name none.
    pub dns: Vec<String>,
    /// Resolver options of containers that name none.
    pub dns_options: Vec<String>,
    /// Search domains of containers that name none.
    pub dns_search: Vec<String>,
    /// What the layers of images are unpacked into.
    pub snapshotter: storage::SnapshotterChoice,
    /// What the layers of images may be, against bombs.
    pub layer_limits: storage::LayerLimits,
    /// Limits of containers that do not set them.
    pub default_ulimits: Vec<Ulimit>,
    /// Size of `/dev/shm` of containers that name none, in bytes.
    pub default_shm_size: i64,
    /// IPC namespace of containers that name none.
    pub default_ipc_mode: String,
    /// Cgroup namespace of containers that name none.
    pub default_cgroupns_mode: String,
    /// Whether containers that do not say get an init.
    pub init: bool,
    /// Whether containers that do not say are kept from gaining privileges.
    pub no_new_privileges: bool,
    /// Seccomp profile of containers that name none: its text, or `unconfined`; absent for the built-in one.
    pub seccomp_profile: Option<String>,
    /// Whose ranges of ids the users of containers get that do not say: `default`, `user[:group]` or
    /// `uid[:gid]`; absent for the host's own.
    pub userns_remap: Option<String>,
    /// Which images must be signed, and by whom.
    pub signature_policy: SignaturePolicy,
    /// What the collector of images goes by.
    pub store: StoreLimits,
    /// Who else keeps blobs in the content store.
    pub keepers: Vec<Keeper>,
    /// How many network namespaces and shims are kept ready.
    pub warm: usize,
    /// Where systemd's journal listens.
    pub journal_socket: PathBuf,
    /// An image that the engine carries, as an OCI layout in a tar archive.
    pub builtin_image: Option<&'static [u8]>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            root: "/var/lib/gorae".into(),
            run: "/run/gorae".into(),
            shim: "gorae-shim".into(),
            bridge: "gorae0".into(),
            bip: None,
            publish_address: Ipv4Addr::UNSPECIFIED.into(),
            publish_policy: PublishPolicy::default(),
            address_pools: Vec::new(),
            ipv6: false,
            fixed_cidr_v6: None,
            mtu: 1500,
            icc: true,
            cgroup_parent: "/gorae".into(),
            insecure_registries: Vec::new(),
            registry_mirrors: Vec::new(),
            registries: "/etc/gorae/registries.d".into(),
            max_concurrent_downloads: 8,
            max_download_attempts: 5,
            push_compression: storage::Packing::default(),
            http_proxy: None,
            https_proxy: None,
            no_proxy: None,
            labels: Vec::new(),
            log_driver: "json-file".to_owned(),
            log_opts: BTreeMap::new(),
            dns: Vec::new(),
            dns_options: Vec::new(),
            dns_search: Vec::new(),
            snapshotter: storage::SnapshotterChoice::Auto,
            layer_limits: storage::LayerLimits::default(),
            default_ulimits: Vec::new(),
            default_shm_size: 64 << 20,
            default_ipc_mode: "private".to_owned(),
            default_cgroupns_mode: "private".to_owned(),
            init: false,
            no_new_privileges: false,
            seccomp_profile: None,
            userns_remap: None,
            signature_policy: SignaturePolicy::default(),
            store: StoreLimits::default(),
            keepers: Vec::new(),
            warm: 6,
            journal_socket: "/run/systemd/journal/socket".into(),
            builtin_image: None,
        }
    }
}

/// Makes the lists of settings by the names that people give them: which of two configurations
/// differ, and how the live ones are taken over.
macro_rules! settings {
    (live: $($live:literal => $($live_field:ident).+,)+ fixed: $($fixed:literal => $($fixed_field:ident).+,)+) => {
        impl Config {
            /// Names the settings that differ and can change while the engine runs.
            #[must_use]
            pub fn live_changes(&self, other: &Self) -> Vec<&'static str> {
                let all = [$(($live, self.$($live_field).+ != other.$($live_field).+)),+];
                differing(&all)
            }

            /// Names the settings that differ and need a restart of the engine.
            #[must_use]
            pub fn fixed_changes(&self, other: &Self) -> Vec<&'static str> {
                let all = [$(($fixed, self.$($fixed_field).+ != other.$($fixed_field).+)),+];
                differing(&all)
            }

            /// Takes the settings of another that can change while the engine runs.
            pub fn take_live(&mut self, other: &Self) {
                $(self.$($live_field).+.clone_from(&other.$($live_field).+);)+
            }
        }
    };
}

settings! {
    live:
    "default-address-pool" => address_pools,
    "default-cgroupns-mode" => default_cgroupns_mode,
    "default-ipc-mode" => default_ipc_mode,
    "default-shm-size" => default_shm_size,
    "default-ulimit" => default_ulimits,
    "dns" => dns,
    "dns-opt" => dns_options,
    "dns-search" => dns_search,
    "http-proxy" => http_proxy,
    "https-proxy" => https_proxy,
    "init" => init,
    "insecure-registry" => insecure_registries,
    "label" => labels,
    "log-driver" => log_driver,
    "log-opt" => log_opts,
    "max-concurrent-downloads" => max_concurrent_downloads,
    "max-download-attempts" => max_download_attempts,
    "no-new-privileges" => no_new_privileges,
    "no-proxy" => no_proxy,
    "push-compression" => push_compression,
    "registry-mirror" => registry_mirrors,
    "seccomp-profile" => seccomp_profile,
    "signature-policy" => signature_policy,
    "store-collect-tagged" => store.tagged,
    "store-interval" => store.interval,
    "store-max-partial" => store.partial_max,
    "store-max-size" => store.max_size,
    "store-min-free" => store.min_free,
    "store-partial-hours" => store.partial_for,
    "store-unused-hours" => store.unused_for,
    fixed:
    "bip" => bip,
    "bridge" => bridge,
    "cgroup-parent" => cgroup_parent,
    "default-address" => publish_address,
    "fixed-cidr-v6" => fixed_cidr_v6,
    "icc" => icc,
    "ipv6" => ipv6,
    "layer-max-entries" => layer_limits.entries,
    "layer-max-ratio" => layer_limits.ratio,
    "layer-max-size" => layer_limits.bytes,
    "mtu" => mtu,
    "publish-policy" => publish_policy,
    "root" => root,
    "run" => run,
    "shim" => shim,
    "snapshotter" => snapshotter,
    "userns-remap" => userns_remap,
    "warm" => warm,
}

fn differing(all: &[(&'static str, bool)]) -> Vec<&'static str> {
    let differ = all.iter().filter(|(_, differs)| *differs);
    differ.map(|(name, _)| *name).collect()
}
