//! What the engine publishes when something has happened, with the attributes that dockerd gives.

use std::collections::BTreeMap;

use api::event::{Actor, Message};
use jiff::Timestamp;

use crate::container::{Container, MountKind};
use crate::engine::Engine;
use crate::network::net::Net;

impl Engine {
    /// Tells that something happened to a container.
    pub(crate) fn container_event(
        &self,
        action: &str,
        container: &Container,
        extra: &[(&str, &str)],
    ) {
        let (mut attributes, image) = {
            let record = container.record();
            let mut attributes = record.config.labels.clone().unwrap_or_default();
            attributes.insert("name".to_owned(), record.name.clone());
            attributes.insert("image".to_owned(), record.config.image.clone());
            (attributes, record.config.image.clone())
        };
        attributes.extend(
            extra
                .iter()
                .map(|&(key, value)| (key.to_owned(), value.to_owned())),
        );
        let id = container.id.to_string();
        let message = message("container", action, &id, attributes);
        // what API versions before 1.22 had, and clients still read
        self.events.publish(Message {
            status: action.to_owned(),
            id,
            from: image,
            ..message
        });
    }

    /// Tells that something happened to an image, with the labels that it has.
    pub(crate) fn image_event(&self, action: &str, id: &str, name: &str) {
        let image = self.images.get(id, None).ok();
        let labels = image.and_then(|image| image.config.config.as_ref()?.labels.clone());
        let mut attributes = labels.unwrap_or_default();
        attributes.insert("name".to_owned(), name.to_owned());
        let message = message("image", action, id, attributes);
        self.events.publish(Message {
            status: action.to_owned(),
            id: id.to_owned(),
            ..message
        });
    }

    /// Tells that something happened to a volume.
    pub(crate) fn volume_event(&self, action: &str, name: &str, extra: &[(&str, &str)]) {
        let mut attributes = BTreeMap::from([("driver".to_owned(), "local".to_owned())]);
        attributes.extend(
            extra
                .iter()
                .map(|&(key, value)| (key.to_owned(), value.to_owned())),
        );
        self.events
            .publish(message("volume", action, name, attributes));
    }

    /// Tells that something happened to a network.
    pub(crate) fn network_event(&self, action: &str, net: &Net, extra: &[(&str, &str)]) {
        let driver = net.record.driver.to_string();
        let attributes: BTreeMap<String, String> = [("name", net.name()), ("type", &driver)]
            .into_iter()
            .chain(extra.iter().copied())
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        self.events
            .publish(message("network", action, net.id(), attributes));
    }

    /// Tells that a container with these volumes starts.
    pub(crate) fn mount_events(&self, container: &Container) {
        let mounts = container.record().mounts.clone();
        for mount in mounts.iter().filter(|m| m.kind == MountKind::Volume) {
            let writable = if mount.read_only { "false" } else { "true" };
            let extra = [
                ("container", container.id.as_str()),
                ("destination", &mount.destination),
                ("propagation", &mount.propagation),
                ("read/write", writable),
            ];
            self.volume_event("mount", &mount.name, &extra);
        }
    }

    /// Tells that a container with these volumes has ended.
    pub(crate) fn unmount_events(&self, container: &Container) {
        let mounts = container.record().mounts.clone();
        for mount in mounts.iter().filter(|m| m.kind == MountKind::Volume) {
            let extra = [("container", container.id.as_str())];
            self.volume_event("unmount", &mount.name, &extra);
        }
    }

    /// Tells that a prune of a kind of objects has ended, and how many bytes it freed.
    pub(crate) fn prune_event(&self, kind: &str, reclaimed: u64) {
        let attributes = BTreeMap::from([("reclaimed".to_owned(), reclaimed.to_string())]);
        let message = message(kind, "prune", "", attributes);
        // containers and images are told in the way of API versions before 1.22 too
        let status = match kind {
            "container" | "image" => "prune",
            _ => "",
        };
        self.events.publish(Message {
            status: status.to_owned(),
            ..message
        });
    }

    /// Tells that a prune of the build cache has ended, and how many bytes it freed.
    pub fn build_cache_pruned(&self, reclaimed: u64) {
        self.prune_event("builder", reclaimed);
    }

    /// Tells that something happened to the engine itself, such as `reload`, with its settings.
    pub fn daemon_event(&self, action: &str, settings: BTreeMap<String, String>) {
        let mut attributes = settings;
        let host = rustix::system::uname();
        let name = host.nodename().to_string_lossy().into_owned();
        attributes.insert("name".to_owned(), name);
        self.events
            .publish(message("daemon", action, &self.id, attributes));
    }

    /// Tells that the engine put something back that others had taken away.
    pub(crate) fn restored_event(&self, what: &str, object: &str) {
        match what {
            "rules" => self.metrics.repaired_rules.add(1),
            _ => self.metrics.repaired_bridges.add(1),
        }
        let attributes = BTreeMap::from([
            ("name".to_owned(), object.to_owned()),
            ("what".to_owned(), what.to_owned()),
        ]);
        self.events
            .publish(message("network", "restore", object, attributes));
    }
}

fn message(kind: &str, action: &str, id: &str, attributes: BTreeMap<String, String>) -> Message {
    let now = Timestamp::now();
    Message {
        kind: kind.to_owned(),
        action: action.to_owned(),
        actor: Actor {
            id: id.to_owned(),
            attributes: Some(attributes),
        },
        scope: "local".to_owned(),
        time: now.as_second(),
        time_nano: i64::try_from(now.as_nanosecond()).unwrap_or(i64::MAX),
        ..Message::default()
    }
}
