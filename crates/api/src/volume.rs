//! Volumes.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::wire::wire;

wire! {
    /// A volume.
    pub struct Volume {
        /// Swarm's cluster volume.
        "ClusterVolume" [omitempty] => cluster_volume: Option<Value>,
        /// Time of creation, RFC 3339.
        "CreatedAt" [omitempty] => created_at: String,
        /// Driver.
        "Driver" => driver: String,
        /// Labels.
        "Labels" => labels: Option<BTreeMap<String, String>>,
        /// Path on the host.
        "Mountpoint" => mountpoint: String,
        /// Name.
        "Name" => name: String,
        /// Options of the driver.
        "Options" => options: Option<BTreeMap<String, String>>,
        /// `local` or `global`.
        "Scope" => scope: String,
        /// State by the driver.
        "Status" [omitempty] => status: BTreeMap<String, Value>,
        /// Use, in `GET /system/df`.
        "UsageData" [omitempty] => usage_data: Option<UsageData>,
    }

    /// Use of a volume; -1 for unknown.
    #[derive(Eq)]
    pub struct UsageData {
        /// Containers that refer to it.
        "RefCount" => ref_count: i64,
        /// Bytes.
        "Size" => size: i64,
    }

    /// The answer of `GET /volumes`.
    pub struct ListResponse {
        /// Volumes.
        "Volumes" => volumes: Option<Vec<Volume>>,
        /// Warnings.
        "Warnings" => warnings: Option<Vec<String>>,
    }

    /// The body of `POST /volumes/create`.
    pub struct CreateRequest {
        /// Swarm's cluster volume.
        "ClusterVolumeSpec" [omitempty] => cluster_volume_spec: Option<Value>,
        /// Driver; empty for `local`.
        "Driver" [omitempty] => driver: String,
        /// Options of the driver.
        "DriverOpts" [omitempty] => driver_opts: BTreeMap<String, String>,
        /// Labels.
        "Labels" [omitempty] => labels: BTreeMap<String, String>,
        /// Name; empty for a random one.
        "Name" [omitempty] => name: String,
    }

    /// The answer of `POST /volumes/prune`.
    #[derive(Eq)]
    pub struct PruneReport {
        /// Names.
        "VolumesDeleted" => volumes_deleted: Option<Vec<String>>,
        /// Bytes.
        "SpaceReclaimed" => space_reclaimed: u64,
    }
}
