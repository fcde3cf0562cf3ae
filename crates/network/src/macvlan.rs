//! Links that share the wire of a link of the host, and that link: their parent.

use std::fmt;
use std::str::FromStr;

use rustix::io::Errno;
use sys::netns::Family;

use crate::bounds::is_link_name;
use crate::netlink::{Batch, NetlinkError, Socket, tolerate};
use crate::route::{self, Change, Link, NewLink};
use crate::sysctl;

/// What the name of a parent begins with that leads nowhere: for networks of this host only.
const PRIVATE_PREFIX: &str = "dm-";
/// Kinds of links that are always ready and throw away what is sent; not every kernel has each.
const PRIVATE_KINDS: [&str; 2] = ["dummy", "ifb"];

/// Whom a macvlan link reaches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MacvlanMode {
    /// Its siblings and the world.
    #[default]
    Bridge,
    /// The world, but no sibling.
    Private,
    /// The world, and siblings by way of a switch that sends frames back.
    Vepa,
    /// The world, as the parent's only link.
    Passthru,
}

/// Whom an ipvlan link reaches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IpvlanMode {
    /// Its siblings and the world, with neighbours of its own.
    #[default]
    L2,
    /// Networks that the host routes, without neighbours.
    L3,
    /// The same, through the host's connection tracking.
    L3s,
}

/// The text is no mode of such links.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown {kind} mode {text:?}: must be one of {known}")]
pub struct ParseModeError {
    kind: &'static str,
    text: String,
    known: &'static str,
}

/// The step of a parent's making or removal that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParentError {
    /// The name cannot be a link's.
    #[error("invalid parent link name {name:?}")]
    Name {
        /// The name as given.
        name: String,
    },
    /// There is no such link, and the name does not say how to make one.
    #[error("the parent link {name} does not exist")]
    Missing {
        /// The name.
        name: String,
    },
    /// The VLAN's number is out of range.
    #[error("invalid VLAN in the parent link name {name:?}: must be 1 to 4094")]
    Vlan {
        /// The name as given.
        name: String,
    },
    /// The link that is to carry the VLAN is not there.
    #[error("the link {carrier} that is to carry {name} does not exist")]
    NoCarrier {
        /// The VLAN's link.
        name: String,
        /// The link that it needs.
        carrier: String,
    },
    /// The kernel cannot make links of this kind.
    #[error("cannot make the parent link {name}: this kernel lacks the module {module} ({option})")]
    KindMissing {
        /// The link.
        name: String,
        /// The module.
        module: &'static str,
        /// The kernel's build option.
        option: &'static str,
    },
    /// The kernel refused.
    #[error("cannot set up the parent link {name}")]
    Kernel {
        /// The link.
        name: String,
        /// What was refused.
        #[source]
        source: NetlinkError,
    },
}

impl MacvlanMode {
    /// Returns `enum macvlan_mode` of `linux/if_link.h`.
    pub(crate) const fn number(self) -> u32 {
        match self {
            Self::Private => 1,
            Self::Vepa => 2,
            Self::Bridge => 4,
            Self::Passthru => 8,
        }
    }
}

impl IpvlanMode {
    /// Returns `enum ipvlan_mode` of `linux/if_link.h`.
    pub(crate) const fn number(self) -> u16 {
        match self {
            Self::L2 => 0,
            Self::L3 => 1,
            Self::L3s => 2,
        }
    }
}

impl fmt::Display for MacvlanMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bridge => "bridge",
            Self::Private => "private",
            Self::Vepa => "vepa",
            Self::Passthru => "passthru",
        })
    }
}

impl fmt::Display for IpvlanMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::L2 => "l2",
            Self::L3 => "l3",
            Self::L3s => "l3s",
        })
    }
}

impl FromStr for MacvlanMode {
    type Err = ParseModeError;

    fn from_str(text: &str) -> Result<Self, ParseModeError> {
        match text {
            "bridge" => Ok(Self::Bridge),
            "private" => Ok(Self::Private),
            "vepa" => Ok(Self::Vepa),
            "passthru" => Ok(Self::Passthru),
            _ => Err(ParseModeError {
                kind: "macvlan",
                text: text.chars().take(64).collect(),
                known: "bridge, private, vepa, passthru",
            }),
        }
    }
}

impl FromStr for IpvlanMode {
    type Err = ParseModeError;

    fn from_str(text: &str) -> Result<Self, ParseModeError> {
        match text {
            "l2" => Ok(Self::L2),
            "l3" => Ok(Self::L3),
            "l3s" => Ok(Self::L3s),
            _ => Err(ParseModeError {
                kind: "ipvlan",
                text: text.chars().take(64).collect(),
                known: "l2, l3, l3s",
            }),
        }
    }
}

/// Names the parent for a network that was given none, and that stays within this host.
pub fn private_parent(network_id: &str) -> String {
    let short: String = network_id.chars().take(12).collect();
    format!("{PRIVATE_PREFIX}{short}")
}

/// Makes sure that a parent is there and up; tells whether it had to be made.
///
/// A link of the host must exist, but `eth0.10` is made as the VLAN 10 of `eth0`, and a name of
/// [`private_parent`] as a link that leads nowhere. What is made bears the owner's mark.
pub fn ensure_parent(name: &str, owner: Option<&str>) -> Result<bool, ParentError> {
    if !is_link_name(name) {
        let name = name.to_owned();
        return Err(ParentError::Name { name });
    }
    let kernel = |source| kernel_error(name, source);
    let mut socket = Socket::open(Family::Route).map_err(kernel)?;
    let found = route::link_by_name(&mut socket, name).map_err(kernel)?;
    let made = found.is_none();
    let link = match found {
        Some(link) => link,
        None => make(&mut socket, name, owner)?,
    };
    bring_up(&mut socket, &link).map_err(kernel)?;
    Ok(made)
}

/// Deletes a parent that [`ensure_parent`] made; that it is gone already is no error.
pub fn remove_parent(name: &str) -> Result<(), ParentError> {
    let kernel = |source| kernel_error(name, source);
    let mut socket = Socket::open(Family::Route).map_err(kernel)?;
    let Some(link) = route::link_by_name(&mut socket, name).map_err(kernel)? else {
        return Ok(());
    };
    // a link of the host's own is none of those, whatever the caller believes
    let made_here = link.kind == "vlan" || is_private(&link);
    if !made_here {
        return Ok(());
    }
    let mut batch = Batch::default();
    route::delete(&mut batch, link.index, name);
    tolerate(socket.transact(&mut batch), Errno::NODEV).map_err(kernel)
}

fn is_private(link: &Link) -> bool {
    link.name.starts_with(PRIVATE_PREFIX) && PRIVATE_KINDS.contains(&link.kind.as_str())
}

fn kernel_error(name: &str, source: NetlinkError) -> ParentError {
    ParentError::Kernel {
        name: name.to_owned(),
        source,
    }
}

fn make(socket: &mut Socket, name: &str, owner: Option<&str>) -> Result<Link, ParentError> {
    let kernel = |source| kernel_error(name, source);
    if name.starts_with(PRIVATE_PREFIX) {
        make_private(socket, name, owner)?;
    } else if let Some((carrier, vlan)) = name.rsplit_once('.') {
        make_vlan(socket, (name, owner), carrier, vlan)?;
    } else {
        let name = name.to_owned();
        return Err(ParentError::Missing { name });
    }
    route::link_by_name(socket, name)
        .map_err(kernel)?
        .ok_or_else(|| ParentError::Missing {
            name: name.to_owned(),
        })
}

fn make_private(socket: &mut Socket, name: &str, owner: Option<&str>) -> Result<(), ParentError> {
    for kind in PRIVATE_KINDS {
        let mut batch = Batch::default();
        let new = NewLink {
            alias: owner,
            ..NewLink::named(name, kind)
        };
        route::create(&mut batch, &new, |_| ());
        match tolerate(socket.transact(&mut batch), Errno::EXIST) {
            Err(error) if error.is(Errno::OPNOTSUPP) => {}
            other => return other.map_err(|source| kernel_error(name, source)),
        }
    }
    Err(ParentError::KindMissing {
        name: name.to_owned(),
        module: "dummy",
        option: "CONFIG_DUMMY",
    })
}

fn make_vlan(
    socket: &mut Socket,
    (name, owner): (&str, Option<&str>),
    carrier: &str,
    vlan: &str,
) -> Result<(), ParentError> {
    let vlan = vlan.parse().ok().filter(|vlan| (1..=4094).contains(vlan));
    let vlan: u16 = vlan.ok_or_else(|| ParentError::Vlan {
        name: name.to_owned(),
    })?;
    let found =
        route::link_by_name(socket, carrier).map_err(|source| kernel_error(name, source))?;
    let link = found.ok_or_else(|| ParentError::NoCarrier {
        name: name.to_owned(),
        carrier: carrier.to_owned(),
    })?;
    let new = NewLink {
        parent: Some(link.index),
        alias: owner,
        ..NewLink::named(name, "vlan")
    };
    let mut batch = Batch::default();
    route::create_vlan(&mut batch, &new, vlan);
    match tolerate(socket.transact(&mut batch), Errno::EXIST) {
        Err(error) if error.is(Errno::OPNOTSUPP) => Err(ParentError::KindMissing {
            name: name.to_owned(),
            module: "8021q",
            option: "CONFIG_VLAN_8021Q",
        }),
        other => other.map_err(|source| kernel_error(name, source)),
    }
}

fn bring_up(socket: &mut Socket, link: &Link) -> Result<(), NetlinkError> {
    if link.up {
        return Ok(());
    }
    let mut batch = Batch::default();
    if is_private(link) && sysctl::has_ipv6() {
        // nobody is behind it, the host included
        let quiet = Change {
            without_link_local: true,
            ..Change::default()
        };
        route::set_link(&mut batch, link.index, &link.name, &quiet);
    }
    let up = Change {
        up: true,
        ..Change::default()
    };
    route::set_link(&mut batch, link.index, &link.name, &up);
    socket.transact(&mut batch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_read_as_they_are_written() {
        for mode in ["bridge", "private", "vepa", "passthru"] {
            assert_eq!(mode.parse::<MacvlanMode>().unwrap().to_string(), mode);
        }
        for mode in ["l2", "l3", "l3s"] {
            assert_eq!(mode.parse::<IpvlanMode>().unwrap().to_string(), mode);
        }
        assert!("Bridge".parse::<MacvlanMode>().is_err());
        assert!("l4".parse::<IpvlanMode>().is_err());
    }

    #[test]
    fn a_private_parents_name_fits() {
        let name = private_parent("0123456789abcdef");
        assert_eq!(name, "dm-0123456789ab");
        assert!(is_link_name(&name));
    }
}
