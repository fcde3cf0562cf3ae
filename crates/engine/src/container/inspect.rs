//! Everything about one container.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::container::{GraphDriver, Inspect, NetworkSettings, State as ApiState};
use jiff::Timestamp;

use super::{Container, Record, State, Status, list, lock};
use crate::engine::Engine;
use crate::error::Result;

/// Go's zero time, which Docker shows for what has not happened.
pub(crate) const ZERO_TIME: &str = "0001-01-01T00:00:00Z";

impl Engine {
    /// Tells everything about a container.
    ///
    /// # Errors
    /// When there is no such container.
    pub async fn container_inspect(self: &Arc<Self>, name: &str, size: bool) -> Result<Inspect> {
        let container = self.containers.get(name)?;
        let mut inspect = self.inspect(&container);
        if size {
            let (rw, root) = self.sizes(&container).await?;
            (inspect.size_rw, inspect.size_root_fs) = (Some(rw), Some(root));
        }
        Ok(inspect)
    }

    fn inspect(&self, container: &Container) -> Inspect {
        let record = container.record().clone();
        let folder = self.container_dir(&record.id);
        let file = |name: &str| folder.join(name).to_string_lossy().into_owned();
        let started = record.state.started_at.is_some();
        let made = |name: &str| if started { file(name) } else { String::new() };
        let mut args = record.args();
        let path = if args.is_empty() {
            String::new()
        } else {
            args.remove(0)
        };
        let execs = self.execs.ids_of(&record.id);
        let network_settings = self.network_settings(container, &record);
        Inspect {
            id: record.id.to_string(),
            created: record.created.to_string(),
            path,
            args: Some(args),
            state: Some(state(&record.state)),
            image: record.image.to_string(),
            resolv_conf_path: made("resolv.conf"),
            hostname_path: made("hostname"),
            hosts_path: made("hosts"),
            log_path: if started {
                self.log_path(&record)
            } else {
                String::new()
            },
            name: format!("/{}", record.name),
            restart_count: i64::try_from(record.state.restart_count).unwrap_or(i64::MAX),
            driver: "overlay2".to_owned(),
            platform: record.platform.clone(),
            graph_driver: self.graph_driver(&record),
            exec_ids: Some(execs).filter(|ids| !ids.is_empty()),
            mounts: Some(list::mount_points(&record)),
            network_settings: Some(network_settings),
            config: Some(record.config),
            host_config: Some(record.host),
            ..Inspect::default()
        }
    }

    fn graph_driver(&self, record: &Record) -> GraphDriver {
        let folder = self.container_dir(&record.id);
        let lower: Vec<String> = record
            .layers
            .iter()
            .rev()
            .map(|chain| self.store.layers().path(chain))
            .map(|path| path.to_string_lossy().into_owned())
            .collect();
        let data = BTreeMap::from([
            ("ID".to_owned(), record.id.to_string()),
            ("LowerDir".to_owned(), lower.join(":")),
            (
                "UpperDir".to_owned(),
                folder.join("upper").to_string_lossy().into_owned(),
            ),
            (
                "WorkDir".to_owned(),
                folder.join("work").to_string_lossy().into_owned(),
            ),
        ]);
        GraphDriver {
            name: "overlay2".to_owned(),
            data: Some(data),
        }
    }

    fn network_settings(&self, container: &Container, record: &Record) -> NetworkSettings {
        let live = lock(&container.live);
        let connection = live.connection.as_ref();
        let networks = self.networks.endpoints_of(record, connection);
        let mut settings = NetworkSettings {
            ports: Some(
                connection
                    .map(crate::network::Connection::port_map)
                    .unwrap_or_default(),
            ),
            sandbox_key: if connection.is_some() {
                format!("/proc/{}/ns/net", record.state.pid)
            } else {
                String::new()
            },
            sandbox_id: if connection.is_some() {
                record.id.to_string()
            } else {
                String::new()
            },
            ..NetworkSettings::default()
        };
        if let Some(Some(bridge)) = networks.get("bridge") {
            settings.endpoint_id.clone_from(&bridge.endpoint_id);
            settings.gateway.clone_from(&bridge.gateway);
            settings.ip_address.clone_from(&bridge.ip_address);
            settings.ip_prefix_len = bridge.ip_prefix_len;
            settings.mac_address.clone_from(&bridge.mac_address);
            settings.ipv6_gateway.clone_from(&bridge.ipv6_gateway);
            settings
                .global_ipv6_address
                .clone_from(&bridge.global_ipv6_address);
            settings.global_ipv6_prefix_len = bridge.global_ipv6_prefix_len;
        }
        settings.networks = Some(networks);
        settings
    }
}

fn state(state: &State) -> ApiState {
    let time =
        |time: Option<Timestamp>| time.map_or_else(|| ZERO_TIME.to_owned(), |t| t.to_string());
    ApiState {
        status: state.status.word().to_owned(),
        // a restarting container counts as running, as it does for Docker
        running: state.status.is_alive() || state.status == Status::Restarting,
        paused: state.status == Status::Paused,
        restarting: state.status == Status::Restarting,
        oom_killed: state.oom_killed,
        dead: state.status == Status::Dead,
        pid: state.pid.into(),
        exit_code: state.exit_code,
        error: state.error.clone(),
        started_at: time(state.started_at),
        finished_at: time(state.finished_at),
        health: state.health.as_ref().map(super::health::Health::shown),
    }
}
