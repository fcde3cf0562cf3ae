//! What an engine is told at its start.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use network::{AddressPool, PublishPolicy, Subnet};

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
    /// How many network namespaces and shims are kept ready.
    pub warm: usize,
    /// The log driver of containers that name none.
    pub log_driver: String,
    /// Options for it; those of the cache go to every driver that sends on.
    pub log_opts: BTreeMap<String, String>,
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
            warm: 6,
            log_driver: "json-file".to_owned(),
            log_opts: BTreeMap::new(),
            journal_socket: "/run/systemd/journal/socket".into(),
            builtin_image: None,
        }
    }
}
