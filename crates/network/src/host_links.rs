//! The links of the host, and which of them are somebody's own.

use rustix::io::Errno;
use sys::netns::Family;

use crate::netlink::{Batch, NetlinkError, Socket, tolerate};
use crate::route;

/// A link in the calling thread's namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostLink {
    /// Its name.
    pub name: String,
    /// The kernel's word for its kind, such as `bridge`; empty for hardware.
    pub kind: String,
    /// The name of the bridge that it is a port of.
    pub master: Option<String>,
    /// What is written on it (`ip link set alias`): its owner, if it was made here.
    pub alias: String,
    /// It is switched on.
    pub up: bool,
}

/// Lists the links of the calling thread's namespace.
pub fn host_links() -> Result<Vec<HostLink>, NetlinkError> {
    let mut socket = Socket::open(Family::Route)?;
    let links = route::links(&mut socket)?;
    let name_of = |index: u32| links.iter().find(|link| link.index == index);
    let shown = links.iter().map(|link| HostLink {
        name: link.name.clone(),
        kind: link.kind.clone(),
        master: link.master.and_then(name_of).map(|link| link.name.clone()),
        alias: link.alias.clone(),
        up: link.up,
    });
    Ok(shown.collect())
}

/// Deletes a link that bears the owner's mark; one of somebody else, or none, is left as it is.
pub fn delete_owned(owner: &str, name: &str) -> Result<(), NetlinkError> {
    let mut socket = Socket::open(Family::Route)?;
    let found = route::link_by_name(&mut socket, name)?;
    let Some(link) = found.filter(|link| !owner.is_empty() && link.alias == owner) else {
        return Ok(());
    };
    let mut batch = Batch::default();
    route::delete(&mut batch, link.index, name);
    // it may go by itself at any moment
    tolerate(socket.transact(&mut batch), Errno::NODEV)
}
