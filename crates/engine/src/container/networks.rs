//! A container enters its networks and leaves them.

use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci::ContainerId;

use super::{Container, Record, files, lock};
use crate::engine::Engine;
use crate::error::{Result, Step};
use crate::network::names::{needs_resolver, split_link};
use crate::network::{Attachments, Connection};

/// Where a container's places in its networks are noted before it starts.
const NOTE: &str = "network.json";
/// The longest note that is read: some thousand published ports.
const LONGEST_NOTE: u64 = 4 << 20;

/// Notes a container's places in its networks in its run folder.
///
/// The database is told after the start, and not waited for. An engine that dies in between would leave
/// a container on a network that the next one knows nothing of.
pub(crate) fn note(run_dir: &Path, connection: Option<&Connection>) -> Result<()> {
    let Some(connection) = connection.filter(|c| !c.endpoints.is_empty()) else {
        return Ok(());
    };
    let path = run_dir.join(NOTE);
    let step = || format!("write {}", path.display());
    let text = serde_json::to_vec(&connection.attachments()).step(step)?;
    std::fs::write(&path, text).step(step)
}

/// Reads what was noted before a container's start.
pub(crate) fn noted(run_dir: &Path) -> Option<Attachments> {
    let mut text = Vec::new();
    let file = std::fs::File::open(run_dir.join(NOTE)).ok()?;
    file.take(LONGEST_NOTE).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

/// So many containers may stand on each other's network before a circle is suspected.
const DEEPEST: usize = 16;

impl Engine {
    /// Notes where a container that has just started is connected.
    pub(super) fn enter_networks(&self, container: &Container, connection: Option<Connection>) {
        let connection = connection.map(|mut connection| {
            connection.settle();
            connection
        });
        let attachments = connection.as_ref().map(Connection::attachments);
        self.mount_events(container);
        self.lone_network_event("connect", container);
        for endpoint in connection.iter().flat_map(|c| &c.endpoints) {
            let id = container.id.as_str();
            self.network_event("connect", endpoint.net(), &[("container", id)]);
        }
        container.record().attached = attachments;
        let mut live = lock(&container.live);
        live.over = false;
        live.connection = connection;
    }

    /// Lets go of the networks of a container that has ended.
    pub(super) fn leave_networks(&self, container: &Container) {
        let connection = {
            let mut live = lock(&container.live);
            live.over = true;
            live.connection.take()
        };
        let attached: Option<Attachments> = container.record().attached.take();
        if let Some(connection) = connection {
            for endpoint in &connection.endpoints {
                let id = container.id.as_str();
                self.network_event("disconnect", endpoint.net(), &[("container", id)]);
            }
            self.networks.release(connection);
        } else if let Some(attached) = attached {
            // it ended while no engine ran: nobody has taken its places over
            self.networks.forget(&attached);
        }
        self.lone_network_event("disconnect", container);
        self.unmount_events(container);
    }

    /// Tells about a container on the networks that have no endpoints: `none` and `host`.
    fn lone_network_event(&self, action: &str, container: &Container) {
        let mode = container.record().host.network_mode.clone();
        if matches!(mode.as_str(), "none" | "host")
            && let Ok(net) = self.networks.find(&mode)
        {
            self.network_event(action, &net, &[("container", container.id.as_str())]);
        }
    }

    /// Writes `/etc/hosts` and its like, and answers where they are to be mounted; a container on
    /// another's network has that one's.
    pub(super) fn network_files(
        &self,
        record: &Record,
        connection: Option<&Connection>,
    ) -> Result<Vec<(PathBuf, &'static str)>> {
        let owner = self.network_owner(record);
        if owner != record.id {
            return Ok(files::places(&self.container_dir(&owner)));
        }
        let folder = self.container_dir(&record.id);
        files::write(&folder, record, &self.network_view(record, connection)?)?;
        Ok(files::places(&folder))
    }

    /// Writes the files of a running container again, after it was connected or disconnected.
    pub(crate) fn rewrite_hosts(&self, record: &Record, container: &Container) -> Result<()> {
        let live = lock(&container.live);
        let Some(connection) = &live.connection else {
            return Ok(());
        };
        let view = self.network_view(record, Some(connection))?;
        files::rewrite(&self.container_dir(&record.id), record, &view)
            .step(|| format!("write /etc/hosts of container {} again", record.name))
    }

    /// What a container's files say of its networks.
    pub(crate) fn network_view(
        &self,
        record: &Record,
        connection: Option<&Connection>,
    ) -> Result<files::View> {
        let default = self.networks.find("bridge")?;
        let way_out = |v6| {
            let own = connection.and_then(|c| c.way_out(v6));
            own.and_then(|e| e.net().gateway(v6))
        };
        let own: Vec<IpAddr> = connection.map(Connection::addresses).unwrap_or_default();
        Ok(files::View {
            gateway: way_out(false)
                .or_else(|| way_out(true))
                .or_else(|| default.gateway(false)),
            resolver: connection.is_some_and(needs_resolver),
            linked: self.linked(record),
            own,
        })
    }

    /// Legacy links on the default bridge: the names of other containers in `/etc/hosts`.
    fn linked(&self, record: &Record) -> Vec<(IpAddr, Vec<String>)> {
        if record.host.network_mode != "bridge" {
            return Vec::new();
        }
        let mut linked = Vec::new();
        for text in record.host.links.iter().flatten() {
            let (name, alias) = split_link(text);
            let Ok(other) = self.containers.get(name) else {
                continue;
            };
            let live = lock(&other.live);
            let addresses = live.connection.as_ref().map(Connection::addresses);
            for ip in addresses.into_iter().flatten() {
                let record = other.record();
                let mut names = vec![alias.to_owned()];
                for name in [record.config.hostname.clone(), record.name.clone()] {
                    if !name.is_empty() && !names.contains(&name) {
                        names.push(name);
                    }
                }
                linked.push((ip, names));
            }
        }
        linked
    }

    /// The container whose network a container is on: its own, or another's.
    pub(super) fn network_owner(&self, record: &Record) -> ContainerId {
        let mut owner = record.id.clone();
        let mut mode = record.host.network_mode.clone();
        for _ in 0..DEEPEST {
            let donor = mode.strip_prefix("container:");
            let Some(Ok(donor)) = donor.map(|name| self.containers.get(name)) else {
                break;
            };
            owner = donor.id.clone();
            mode = Arc::clone(&donor).record().host.network_mode.clone();
        }
        owner
    }
}
