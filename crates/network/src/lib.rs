//! Bridge and veth by netlink, nftables by netlink, address management, published ports.
//!
//! Synchronous and without processes of its own: every change is a netlink batch or a write below
//! `/proc/sys/net`. This crate knows namespaces, links, addresses and ports; it never sees a
//! container, keeps nothing on disk, and never runs `ip`, `nft` or `iptables`.
#![forbid(unsafe_code)]

mod bridge;
mod conntrack;
mod counters;
pub mod files;
mod firewall;
mod ipam;
mod mac;
mod netlink;
mod network;
mod nft;
mod pool;
mod ports;
mod random;
mod route;
mod sandbox;
mod subnet;
mod sysctl;
mod watch;

pub use bridge::{Bridge, BridgeConfig, BridgeError};
pub use counters::{CounterReader, Counters};
pub use firewall::{
    Firewall, FirewallError, GatewayMode, Member, Obstacle, OpenPort, Origin, PublishPolicy, Rules,
    Zone, ZoneSide,
};
pub use ipam::{Ipam, IpamError};
pub use mac::{MacAddress, ParseMacError, mac_for};
pub use netlink::NetlinkError;
pub use network::{Alive, Network, NetworkConfig, NetworkError};
pub use pool::{Pool, PoolSize};
pub use ports::{
    HostAddress, HostPort, ParseProtocolError, PortError, PortLease, PortMapping, PortRequest,
    Ports, Protocol,
};
pub use sandbox::{Endpoint, HostInterface, Sandbox, SandboxError, find_host_interface};
pub use subnet::{AddressPool, ParseSubnetError, PickError, Subnet, pick_subnet};
pub use sysctl::SysctlError;
pub use watch::{Disturbance, WatchError, Watcher};
