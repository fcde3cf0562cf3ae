//! What the engine publishes when something has happened.

use std::collections::BTreeMap;

use api::event::{Actor, Message};
use jiff::Timestamp;

use crate::container::Container;
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

    /// Tells that something happened to an image.
    pub(crate) fn image_event(&self, action: &str, id: &str, name: &str) {
        let attributes = BTreeMap::from([("name".to_owned(), name.to_owned())]);
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
        let mut attributes: BTreeMap<String, String> = [("name", net.name()), ("type", &driver)]
            .into_iter()
            .chain(extra.iter().copied())
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        attributes.extend(net.record.labels.clone());
        self.events
            .publish(message("network", action, net.id(), attributes));
    }

    /// Tells that all unused objects of a kind were removed, and how many bytes they took.
    pub(crate) fn prune_event(&self, kind: &str, reclaimed: u64) {
        let attributes = BTreeMap::from([("reclaimed".to_owned(), reclaimed.to_string())]);
        self.events.publish(message(kind, "prune", "", attributes));
    }

    /// Tells that the engine put something back that others had taken away.
    pub(crate) fn restored_event(&self, what: &str, object: &str) {
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
