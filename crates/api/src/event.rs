//! Events (`GET /events`).

use std::collections::BTreeMap;

use crate::wire::wire;

wire! {
    /// Something that happened.
    #[derive(Eq)]
    pub struct Message {
        /// Legacy: the action; containers and images only.
        "status" [omitempty] => status: String,
        /// Legacy: the object's id; containers and images only.
        "id" [omitempty] => id: String,
        /// Legacy: the container's image.
        "from" [omitempty] => from: String,
        /// `container`, `image`, `volume`, `network`, `daemon`, ...
        "Type" => kind: String,
        /// What happened, such as `start` or `exec_create: sh`.
        "Action" => action: String,
        /// To what.
        "Actor" => actor: Actor,
        /// `local` or `swarm`.
        "scope" [omitempty] => scope: String,
        /// Unix seconds.
        "time" [omitempty] => time: i64,
        /// Unix nanoseconds.
        "timeNano" [omitempty] => time_nano: i64,
    }

    /// The object of an event.
    #[derive(Eq)]
    pub struct Actor {
        /// Id or name.
        "ID" => id: String,
        /// Labels and details.
        "Attributes" => attributes: Option<BTreeMap<String, String>>,
    }
}
