//! The links of the host.

use sys::netns::Family;

use crate::netlink::{NetlinkError, Socket};
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
    });
    Ok(shown.collect())
}
