//! What can go wrong with a sandbox.

use sys::netns;

use super::Interface;
use crate::bounds::{MAXIMUM_MTU, MAXIMUM_PORTS};
use crate::mac::MacAddress;
use crate::netlink::NetlinkError;
use crate::sysctl::SysctlError;

/// The step of a sandbox's making or use that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SandboxError {
    /// No namespace could be made or entered.
    #[error("cannot prepare a network namespace")]
    Namespace(#[source] netns::NetnsError),
    /// The links inside could not be read or set up.
    #[error("cannot set up a network namespace")]
    Inside(#[source] NetlinkError),
    /// A setting inside could not be made.
    #[error("cannot set up a network namespace")]
    Sysctl(#[source] SysctlError),
    /// There is no way to the settings inside.
    #[error("open the settings of a network namespace")]
    Settings(#[source] std::io::Error),
    /// The link could not be made.
    #[error("cannot attach a network namespace to {to}")]
    Attach {
        /// The bridge or the parent link.
        to: String,
        /// What was refused.
        #[source]
        source: NetlinkError,
    },
    /// The bridge has as many ports as the kernel lets it have.
    #[error(
        "the bridge {bridge} is full: Linux lets a bridge have {MAXIMUM_PORTS} ports; use another network for more containers"
    )]
    BridgeFull {
        /// The bridge.
        bridge: String,
    },
    /// The parent link is not there.
    #[error("the parent link {parent} does not exist")]
    NoParent {
        /// The link's name.
        parent: String,
    },
    /// The kernel cannot make links of this kind.
    #[error("this kernel has no {kind} links: it needs the module {kind} ({option})")]
    KindMissing {
        /// The kind of link.
        kind: &'static str,
        /// The kernel's build option.
        option: &'static str,
    },
    /// There is no link of this name inside.
    #[error("the network namespace has no link {name}")]
    NoInterface {
        /// The name.
        name: String,
    },
    /// There is a link of this name inside.
    #[error("the network namespace has a link {name} already")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// The name cannot be a link's.
    #[error("invalid name {name:?} of a network interface")]
    Name {
        /// The name as given.
        name: String,
    },
    /// No link can have packets of this size.
    #[error("invalid MTU {mtu} of {name}: must be {minimum} to {MAXIMUM_MTU}")]
    Mtu {
        /// The link's name.
        name: String,
        /// The size as given.
        mtu: u32,
        /// The least that the link's protocols need.
        minimum: u32,
    },
    /// No link can have this Ethernet address.
    #[error("invalid MAC address {mac} of {name}: it is a group's address or zero")]
    Mac {
        /// The link's name.
        name: String,
        /// The address as given.
        mac: MacAddress,
    },
    /// An ipvlan link has its parent's Ethernet address.
    #[error("{name} cannot have the MAC address {mac}: ipvlan links share that of their parent")]
    MacOfIpvlan {
        /// The link's name.
        name: String,
        /// The address as given.
        mac: MacAddress,
    },
    /// The setting does not belong to networks, or has no proper name.
    #[error("invalid kernel setting {setting:?} of {name}: must begin with \"net.\"")]
    Setting {
        /// The link's name.
        name: String,
        /// The setting's name as given.
        setting: String,
    },
    /// The addresses or the routes could not be set.
    #[error("cannot give {name} the addresses {addresses}")]
    Configure {
        /// The link's name.
        name: String,
        /// The addresses.
        addresses: String,
        /// What was refused.
        #[source]
        source: NetlinkError,
    },
    /// The default routes could not be set.
    #[error("cannot set the default routes of a container")]
    Route(#[source] NetlinkError),
    /// The link could not be removed.
    #[error("cannot remove {name} from a container")]
    Detach {
        /// The link's name.
        name: String,
        /// What was refused.
        #[source]
        source: NetlinkError,
    },
}

impl SandboxError {
    pub(super) fn configure(interface: &Interface, source: NetlinkError) -> Self {
        let addresses: Vec<String> = interface
            .addresses
            .iter()
            .map(|(address, prefix)| format!("{address}/{prefix}"))
            .collect();
        Self::Configure {
            name: interface.name.clone(),
            addresses: addresses.join(", "),
            source,
        }
    }
}
