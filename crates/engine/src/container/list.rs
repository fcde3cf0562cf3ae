//! Listing containers.

use std::collections::HashMap;
use std::sync::Arc;

use api::container::{
    HealthSummary, MountPoint, Port, Summary, SummaryHostConfig, SummaryNetworkSettings,
};
use api::query::ContainerList;
use jiff::Timestamp;
use oci::Digest;

use super::health::Condition;
use super::wanted::Wanted;
use super::{Container, Mount, MountKind, Record, State, Status, lock};
use crate::engine::Engine;
use crate::error::Result;
use crate::image::Images;

impl Engine {
    /// Lists containers, newest first.
    ///
    /// # Errors
    /// When a filter is unknown or malformed, or names a container that does not exist.
    pub async fn container_list(self: &Arc<Self>, options: &ContainerList) -> Result<Vec<Summary>> {
        let wanted = Wanted::new(self, options)?;
        let most = usize::try_from(options.limit)
            .ok()
            .filter(|n| *n > 0)
            .unwrap_or(usize::MAX);
        let all = self.containers.all();
        let chosen: Vec<_> = all
            .into_iter()
            .filter(|container| wanted.matches(self, container))
            .take(most)
            .collect();
        let mut list = Vec::with_capacity(chosen.len());
        let mut shown = ShownImages::default();
        for container in chosen {
            let mut summary = self.summary(&container, &mut shown);
            if options.size {
                let (rw, root) = self.sizes(&container).await?;
                (summary.size_rw, summary.size_root_fs) = (rw, root);
            }
            list.push(summary);
        }
        Ok(list)
    }

    /// Size of the writable layer, and of that and the image, in bytes.
    pub(super) async fn sizes(self: &Arc<Self>, container: &Container) -> Result<(i64, i64)> {
        let image = self
            .images
            .by_id(&container.record().image)
            .map_or(0, |image| image.size);
        let rw = self.container_size(&container.id).await?;
        let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        Ok((signed(rw), signed(rw.saturating_add(image))))
    }

    /// What a list tells of a container; `shown` is kept for the whole list.
    fn summary(&self, container: &Container, shown: &mut ShownImages) -> Summary {
        // in this order, as everywhere
        let live = lock(&container.live);
        let record = &*container.record();
        let connection = live.connection.as_ref();
        let command = record.args().join(" ");
        Summary {
            id: record.id.to_string(),
            names: Some(vec![format!("/{}", record.name)]),
            image: shown.name(&self.images, record),
            image_id: record.image.to_string(),
            image_manifest_descriptor: None,
            command,
            created: record.created.as_second(),
            ports: Some(ports(record, connection)),
            size_rw: 0,
            size_root_fs: 0,
            labels: Some(record.config.labels.clone().unwrap_or_default()),
            state: record.state.status.word().to_owned(),
            status: status_text(&record.state),
            host_config: SummaryHostConfig {
                network_mode: record.host.network_mode.clone(),
                annotations: record.host.annotations.clone(),
            },
            network_settings: Some(SummaryNetworkSettings {
                networks: Some(self.networks.endpoints_of(record, connection)),
            }),
            mounts: Some(mount_points(record)),
            health: Some(match &record.state.health {
                Some(health) => health.summary(),
                None => HealthSummary {
                    status: "none".to_owned(),
                    failing_streak: 0,
                },
            }),
        }
    }
}

/// What `ps` shows as the images of containers, found once for those of the same image.
#[derive(Debug, Default)]
struct ShownImages(HashMap<(String, Digest), String>);

impl ShownImages {
    fn name(&mut self, images: &Images, record: &Record) -> String {
        let key = (record.config.image.clone(), record.image.clone());
        let shown = self
            .0
            .entry(key)
            .or_insert_with_key(|(name, id)| images.shown_name(name, id));
        shown.clone()
    }
}

/// The ports of a container: those published, and those only exposed.
fn ports(record: &Record, connection: Option<&crate::network::Connection>) -> Vec<Port> {
    let mut ports: Vec<Port> = connection
        .map(crate::network::Connection::listed_ports)
        .unwrap_or_default();
    for exposed in record.config.exposed_ports.keys() {
        let (number, kind) = exposed.split_once('/').unwrap_or((exposed, "tcp"));
        let Ok(number) = number.parse() else { continue };
        if record.state.status.is_alive()
            && !ports
                .iter()
                .any(|p| p.private_port == number && p.kind == kind)
        {
            ports.push(Port {
                private_port: number,
                kind: kind.to_owned(),
                ..Port::default()
            });
        }
    }
    ports
}

/// The mounts that clients see; those of `--tmpfs` are only in the host configuration.
pub(super) fn mount_points(record: &Record) -> Vec<MountPoint> {
    let by_flag = |mount: &&Mount| {
        let mut flags = record.host.tmpfs.keys();
        mount.kind == MountKind::Tmpfs
            && flags.any(|path| path.trim_end_matches('/') == mount.destination)
    };
    let mounts = record.mounts.iter().filter(|mount| !by_flag(mount));
    mounts.map(mount_point).collect()
}

/// A mount as clients see it.
fn mount_point(mount: &Mount) -> MountPoint {
    MountPoint {
        kind: match mount.kind {
            MountKind::Bind => "bind",
            MountKind::Volume => "volume",
            MountKind::Tmpfs => "tmpfs",
        }
        .to_owned(),
        name: mount.name.clone(),
        source: mount.source.clone(),
        destination: mount.destination.clone(),
        driver: if mount.kind == MountKind::Volume {
            "local".to_owned()
        } else {
            String::new()
        },
        mode: if mount.kind == MountKind::Tmpfs {
            String::new()
        } else {
            mount.mode.clone()
        },
        rw: !mount.read_only,
        propagation: mount.propagation.clone(),
    }
}

/// What `ps` shows in the column STATUS.
fn status_text(state: &State) -> String {
    let since = |time: Option<Timestamp>| {
        let seconds = time.map_or(0, |t| Timestamp::now().duration_since(t).as_secs());
        human(u64::try_from(seconds).unwrap_or(0))
    };
    match state.status {
        Status::Created => "Created".to_owned(),
        Status::Running => {
            let health = state
                .health
                .as_ref()
                .map_or_else(String::new, |h| match h.condition {
                    Condition::Starting => " (health: starting)".to_owned(),
                    condition => format!(" ({})", condition.word()),
                });
            format!("Up {}{health}", since(state.started_at))
        }
        Status::Paused => format!("Up {} (Paused)", since(state.started_at)),
        Status::Restarting => format!(
            "Restarting ({}) {} ago",
            state.exit_code,
            since(state.finished_at)
        ),
        Status::Removing => "Removal In Progress".to_owned(),
        Status::Dead => "Dead".to_owned(),
        Status::Exited => format!(
            "Exited ({}) {} ago",
            state.exit_code,
            since(state.finished_at)
        ),
    }
}

/// A duration as go-units writes it.
pub(crate) fn human(seconds: u64) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    match seconds {
        0 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        s if s < MINUTE => format!("{s} seconds"),
        s if s < 2 * MINUTE => "About a minute".to_owned(),
        s if s < HOUR => format!("{} minutes", s / MINUTE),
        // go-units rounds hours to the nearest
        s if (s + HOUR / 2) / HOUR == 1 => "About an hour".to_owned(),
        s if (s + HOUR / 2) / HOUR < 48 => format!("{} hours", (s + HOUR / 2) / HOUR),
        s if s < 14 * DAY => format!("{} days", s / DAY),
        s if s < 60 * DAY => format!("{} weeks", s / DAY / 7),
        s if s < 730 * DAY => format!("{} months", s / DAY / 30),
        s => format!("{} years", s / DAY / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_dockers() {
        for (seconds, text) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (3600, "About an hour"),
            (2 * 3600, "2 hours"),
            (47 * 3600, "47 hours"),
            (49 * 3600, "2 days"),
            (15 * 86400, "2 weeks"),
        ] {
            assert_eq!(human(seconds), text, "{seconds}");
        }
    }
}
