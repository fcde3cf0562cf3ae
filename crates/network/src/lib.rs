//! Bridge and veth by netlink, nftables by netlink, address management, published ports.
//!
//! Synchronous and without processes of its own: every change is a netlink batch or a write below
//! `/proc/sys/net`. This crate knows namespaces, links, addresses and ports; it never sees a
//! container, keeps nothing on disk, and never runs `ip`, `nft` or `iptables`.
#![forbid(unsafe_code)]

pub mod bandwidth;
mod bounds;
mod bridge;
mod conntrack;
mod counters;
mod dns;
pub mod files;
mod firewall;
mod host_links;
mod ipam;
mod mac;
pub mod macvlan;
mod netlink;
mod nft;
mod pool;
mod ports;
mod random;
mod relay;
mod route;
mod sandbox;
mod subnet;
mod sysctl;
mod watch;

pub use bandwidth::{Bandwidth, BandwidthError, ParseRateError, Rate};
pub use bridge::{Bridge, BridgeConfig, BridgeError, BridgeFault, HostSide};
pub use counters::{CounterReader, Counters};
pub use dns::{
    DnsError, DnsGuard, DnsServer, Entry, NetworkNames, ResolvPaths, Scope, ScopeState, Upstream,
};
pub use firewall::{
    Firewall, FirewallError, GatewayMode, Member, Obstacle, OpenPort, Origin, PublishPolicy, Rules,
    Zone, ZoneSide,
};
pub use host_links::{HostLink, delete_owned, host_links};
pub use ipam::{Ipam, IpamConfig, IpamError};
pub use mac::{MacAddress, ParseMacError, mac_for};
pub use macvlan::{IpvlanMode, MacvlanMode, ParentError, ParseModeError};
pub use netlink::NetlinkError;
pub use pool::{Pool, PoolSize};
pub use ports::{
    HostAddress, HostPort, ParsePortError, ParseProtocolError, PortError, PortLease, PortMapping,
    PortRequest, Ports, Protocol,
};
pub use sandbox::{
    Attachment, Found, Gateway, Gateways, HostInterface, Interface, Sandbox, SandboxError,
};
pub use subnet::{
    AddressPool, ParseSubnetError, PickError, Subnet, default_pools, pick_from, pick_subnet,
    ula_pool, used_by_host,
};
pub use sysctl::SysctlError;
pub use watch::{Disturbance, WatchError, Watcher};
