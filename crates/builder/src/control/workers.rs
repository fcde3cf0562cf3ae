//! The one worker: what it is called, what it runs, and how its cache is kept small.

use std::collections::HashMap;
use std::net::IpAddr;

use bollard_buildkit_proto::moby::buildkit::v1::types::{BuildkitVersion, GcPolicy, WorkerRecord};
use oci::Platform;
use tonic::Status;

use super::filter::Filters;
use crate::Builder;
use crate::llb::pb;
use crate::platforms;

/// The version of BuildKit whose API this is; clients compare it with those that brought a feature.
const API: &str = "v0.25.2";

/// What stands before the names of a worker's labels.
const LABELS: &str = "org.mobyproject.buildkit.worker.";

/// Who answers.
pub(super) fn version() -> BuildkitVersion {
    BuildkitVersion {
        package: "github.com/moby/buildkit".to_owned(),
        version: API.to_owned(),
        revision: format!("gorae-{}", env!("CARGO_PKG_VERSION")),
    }
}

/// The worker as clients list it.
pub(crate) fn worker(builder: &Builder) -> WorkerRecord {
    let label = |name: &str, value: String| (format!("{LABELS}{name}"), value);
    let mut labels = HashMap::from([
        // what the clients of dockerd look for: with it they know that images of several platforms,
        // statements about images, archives of images, and caches elsewhere are possible
        label("snapshotter", "overlayfs".to_owned()),
        label("executor", "gorae".to_owned()),
        label("network", "bridge".to_owned()),
    ]);
    let gateway = host_gateway(builder);
    labels.extend(gateway.map(|address| label("moby.host-gateway-ip", address.to_string())));
    WorkerRecord {
        id: builder.engine.id().to_owned(),
        labels,
        platforms: platforms::supported().iter().map(wire).collect(),
        gc_policy: vec![policy(builder)],
        buildkit_version: Some(version()),
        cdi_devices: Vec::new(),
    }
}

fn wire(platform: &Platform) -> pb::Platform {
    pb::Platform {
        architecture: platform.architecture.clone(),
        os: platform.os.clone(),
        variant: platform.variant.clone().unwrap_or_default(),
        os_version: String::new(),
        os_features: Vec::new(),
    }
}

/// The limits of the cache, which are hard ones: what was not used for longest goes first.
fn policy(builder: &Builder) -> GcPolicy {
    let settings = builder.settings();
    let bytes =
        |limit: Option<u64>| limit.map_or(0, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
    GcPolicy {
        all: true,
        keep_duration: 0,
        filters: Vec::new(),
        reserved_space: 0,
        max_used_space: bytes(settings.cache_max_size),
        min_free_space: bytes(settings.cache_min_free),
    }
}

/// The host's address as steps see it, which clients put in place of `host-gateway`.
fn host_gateway(builder: &Builder) -> Option<IpAddr> {
    let bridge = builder.engine.network_inspect("bridge").ok()?;
    let configs = bridge.ipam.config?;
    configs
        .iter()
        .find_map(|config| config.gateway.parse().ok())
}

/// Tells whether a client's filters want the worker.
pub(super) fn wanted(worker: &WorkerRecord, filters: &[String]) -> Result<bool, Status> {
    let filters = Filters::parse(filters);
    let filters = filters.map_err(|error| Status::invalid_argument(error.to_string()))?;
    Ok(filters.accept(|field| match field {
        "id" => Some(worker.id.clone()),
        _ => worker.labels.get(field.strip_prefix("labels.")?).cloned(),
    }))
}
