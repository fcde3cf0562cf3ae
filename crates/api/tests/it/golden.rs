//! Each recorded document parses, and is written again as the same JSON value: what was `null`
//! stays `null`, what was absent stays absent.

use std::fmt::Debug;
use std::path::Path;

use api::{container, error, event, exec, image, network, registry, stats, system, volume};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

fn load(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
        .with_extension("json");
    let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Names the first place where two values differ.
fn difference(at: &str, left: &Value, right: &Value) -> Option<String> {
    match (left, right) {
        (Value::Object(a), Value::Object(b)) => {
            a.keys()
                .chain(b.keys())
                .find_map(|key| match (a.get(key), b.get(key)) {
                    (Some(x), Some(y)) => difference(&format!("{at}.{key}"), x, y),
                    (x, y) => Some(format!("{at}.{key}: {x:?} became {y:?}")),
                })
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => a
            .iter()
            .zip(b)
            .enumerate()
            .find_map(|(index, (x, y))| difference(&format!("{at}[{index}]"), x, y)),
        _ => (left != right).then(|| format!("{at}: {left} became {right}")),
    }
}

fn check<T: DeserializeOwned + Serialize + Debug + PartialEq>(names: &[&str]) {
    for name in names {
        let golden = load(name);
        // both ways of serde_json: from text and from a value
        let value: T = serde_json::from_str(&golden.to_string())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let again: T = serde_json::from_value(golden.clone()).unwrap();
        assert_eq!(value, again, "{name}");
        let written = serde_json::to_value(&value).unwrap();
        if let Some(text) = difference(name, &golden, &written) {
            panic!("{text}");
        }
    }
}

#[test]
fn containers() {
    check::<container::CreateResponse>(&["container_create_response"]);
    check::<Vec<container::Summary>>(&["container_list", "container_list_size"]);
    check::<container::Inspect>(&[
        "container_inspect_created",
        "container_inspect_full",
        "container_inspect_ports",
        "container_inspect_size",
        "container_inspect_exited",
    ]);
    check::<container::TopResponse>(&["container_top"]);
    check::<stats::Stats>(&["container_stats", "container_stats_stopped"]);
    check::<container::WaitResponse>(&["container_wait"]);
    check::<container::UpdateResponse>(&["container_update"]);
    check::<container::PruneReport>(&["container_prune", "container_prune_none"]);
    check::<Vec<container::FilesystemChange>>(&["container_changes"]);
}

#[test]
fn execs() {
    check::<exec::CreateResponse>(&["exec_create"]);
    check::<exec::Inspect>(&[
        "exec_inspect_created",
        "exec_inspect_running",
        "exec_inspect_exited",
    ]);
}

#[test]
fn images() {
    check::<Vec<image::Summary>>(&["image_list", "image_list_legacy"]);
    check::<image::Inspect>(&[
        "image_inspect",
        "image_inspect_plain",
        "image_inspect_legacy",
    ]);
    check::<Vec<image::HistoryItem>>(&["image_history"]);
    check::<Vec<image::DeleteItem>>(&["image_delete"]);
    check::<image::PruneReport>(&["image_prune"]);
    check::<Vec<image::Progress>>(&["progress_pull", "progress_push"]);
}

#[test]
fn volumes_and_networks() {
    check::<volume::Volume>(&["volume_create", "volume_create_options"]);
    check::<volume::ListResponse>(&["volume_list", "volume_list_empty"]);
    check::<volume::PruneReport>(&["volume_prune"]);
    check::<Vec<network::Network>>(&["network_list"]);
    check::<network::Network>(&["network_inspect", "network_inspect_bridge"]);
    check::<network::CreateResponse>(&["network_create"]);
    check::<network::PruneReport>(&["network_prune"]);
}

#[test]
fn the_engine() {
    check::<system::Version>(&["version"]);
    check::<system::Info>(&["info", "info_legacy"]);
    check::<system::DiskUsage>(&["system_df", "system_df_volumes", "system_df_legacy"]);
    check::<Vec<event::Message>>(&["events"]);
    check::<registry::AuthResponse>(&["auth"]);
    check::<error::ErrorResponse>(&["error"]);
}

/// A request loses nothing: every value that the client sent is in what is written again.
#[test]
fn create_request() {
    fn contains(at: &str, sent: &Value, read: &Value) {
        match (sent, read) {
            (Value::Object(sent), Value::Object(read)) => {
                for (key, value) in sent {
                    let zero = matches!(value, Value::Null | Value::Bool(false))
                        || value.as_object().is_some_and(serde_json::Map::is_empty);
                    match read.get(key) {
                        Some(found) => contains(&format!("{at}.{key}"), value, found),
                        None => assert!(zero, "{at}.{key} is lost"),
                    }
                }
            }
            _ => assert_eq!(sent, read, "{at}"),
        }
    }
    let sent = load("container_create_request");
    let request: container::CreateRequest = serde_json::from_value(sent.clone()).unwrap();
    contains("body", &sent, &serde_json::to_value(&request).unwrap());
    let host = request.host_config.unwrap();
    assert_eq!(host.resources.memory, 64 << 20);
    assert_eq!(host.mounts.len(), 3);
    assert_eq!(request.config.image, "plain:1");
}

/// What clients send that is not as the documents say.
#[test]
fn tolerance() {
    let parse = serde_json::from_str::<container::CreateRequest>;
    let body = parse(
        r#"{"image":"x","Cmd":"ls","Entrypoint":null,"Env":null,"Volumes":{"/a":null},
            "ExposedPorts":{"80/tcp":null},"Future":{"x":[1]},
            "HostConfig":{"Memory":null,"PortBindings":{"80/tcp":null},"CapAdd":"SYS_ADMIN",
                          "MemorySwappiness":null,"LogConfig":null,"RestartPolicy":null},
            "NetworkingConfig":{"EndpointsConfig":{"n":null}}}"#,
    )
    .unwrap();
    assert_eq!(body.config.image, "x");
    assert_eq!(body.config.cmd.as_deref(), Some(&vec!["ls".to_owned()]));
    assert_eq!(body.config.volumes.unwrap().len(), 1);
    let host = body.host_config.unwrap();
    assert_eq!(host.port_bindings.unwrap()["80/tcp"], None);
    assert_eq!(host.cap_add.unwrap().0, ["SYS_ADMIN"]);
    assert_eq!(host.resources.memory_swappiness, None);
    assert_eq!(parse("null").unwrap(), container::CreateRequest::default());
    for bad in [
        r#"{"Image":1}"#,
        r#"{"HostConfig":{"Memory":"64m"}}"#,
        r#"{"HostConfig":{"BlkioWeight":70000}}"#,
        "[]",
        "{",
    ] {
        assert!(parse(bad).is_err(), "{bad}");
    }
}
