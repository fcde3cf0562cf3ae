//! Changing a container's limits and restart policy.

use std::sync::Arc;

use api::container::{UpdateRequest, UpdateResponse};
use api::host_config::{HostConfig, Resources};
use oci::runtime::Pids;
use shim::Request;

use super::{Container, Record, Status, check, lock, spec};
use crate::db::Table;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::network::bandwidth;

impl Engine {
    /// Changes limits, of a running container at once, and the restart policy.
    ///
    /// # Errors
    /// When a value is out of range or the kernel refuses it; then nothing is changed.
    pub async fn container_update(
        self: &Arc<Self>,
        name: &str,
        request: UpdateRequest,
    ) -> Result<UpdateResponse> {
        let mut warnings = Vec::new();
        let request = alone(request, &mut warnings)?;
        let container = self.containers.get(name)?;
        let _turn = container.lifecycle.lock().await;
        let refuse = |e: Error| e.context(format!("Cannot update container {}", container.id));
        let mut host = container.record().host.clone();
        check_state(&container, &request, &host).map_err(refuse)?;
        let lifts_pids = request.resources.pids_limit.is_some_and(|most| most <= 0);
        merge(&mut host.resources, request.resources);
        if !request.restart_policy.name.is_empty() {
            host.restart_policy = request.restart_policy;
        }
        let ports = request.port_bindings;
        check::limits(&mut host, &mut Vec::new()).map_err(refuse)?;
        bandwidth::check(&host)?;
        if container.status().is_alive() {
            let mut resources = spec::resources(&host, &[])?;
            resources.devices = Vec::new();
            if lifts_pids {
                resources.pids = Some(Pids { limit: -1 });
            }
            let order = Request::Update(Box::new(resources));
            self.ask_running(&container, &order).await.map_err(refuse)?;
        }
        let record = {
            let mut record = container.record();
            record.host = host;
            record.clone()
        };
        self.limit_bandwidth(&container, &record).await?;
        let record = match ports {
            Some(ports) => self.publish_again(&container, ports).await?,
            None => record,
        };
        self.db
            .put(Table::Containers, record.id.as_str(), &record)
            .await?;
        self.container_event("update", &container, &[]);
        Ok(UpdateResponse {
            warnings: Some(warnings).filter(|w| !w.is_empty()),
        })
    }
}

/// Checks a request by itself, before anybody asks whether there is such a container.
fn alone(mut request: UpdateRequest, warnings: &mut Vec<String>) -> Result<UpdateRequest> {
    let mut host = HostConfig {
        resources: request.resources.clone(),
        restart_policy: request.restart_policy.clone(),
        ..HostConfig::default()
    };
    if host.restart_policy.name.is_empty() {
        "no".clone_into(&mut host.restart_policy.name);
        host.restart_policy.maximum_retry_count = 0;
    }
    if host.resources.memory == 0 {
        // it goes with the memory that is set already
        host.resources.memory_swap = 0;
    }
    check::limits(&mut host, warnings)?;
    request.resources.blkio_weight = host.resources.blkio_weight;
    Ok(request)
}

/// Refuses what the container's own settings contradict.
fn check_state(container: &Container, request: &UpdateRequest, own: &HostConfig) -> Result<()> {
    if matches!(container.status(), Status::Removing | Status::Dead) {
        return Err(Error::conflict(
            "container is marked for removal and cannot be \"update\"",
        ));
    }
    let policy = request.restart_policy.name.as_str();
    if own.auto_remove && !matches!(policy, "" | "no") {
        return Err(Error::conflict(
            "Restart policy cannot be updated because AutoRemove is enabled for the container",
        ));
    }
    let (new, old) = (&request.resources, &own.resources);
    let conflicts = [
        (new.nano_cpus, old.cpu_period, "Nano CPUs", "CPU Period"),
        (new.nano_cpus, old.cpu_quota, "Nano CPUs", "CPU Quota"),
        (new.cpu_period, old.nano_cpus, "CPU Period", "NanoCPUs"),
        (new.cpu_quota, old.nano_cpus, "CPU Quota", "NanoCPUs"),
    ];
    for (wanted, present, what, other) in conflicts {
        if wanted > 0 && present > 0 {
            return Err(Error::conflict(format!(
                "Conflicting options: {what} cannot be updated as {other} has already been set"
            )));
        }
    }
    let swap_moves = old.memory_swap == 0 || is_default_swap(old);
    if new.memory > old.memory_swap && old.memory_swap >= 0 && new.memory_swap == 0 && !swap_moves {
        return Err(Error::conflict(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
        ));
    }
    Ok(())
}

/// Whether nobody has chosen the limit of memory and swap: it is twice that of memory.
fn is_default_swap(resources: &Resources) -> bool {
    resources.memory_swap == resources.memory.saturating_mul(2)
}

impl Engine {
    /// Limits the links of a running container as its record says.
    async fn limit_bandwidth(
        self: &Arc<Self>,
        container: &Arc<Container>,
        record: &Record,
    ) -> Result<()> {
        let limits = bandwidth::limits(&record.host)?;
        let container = Arc::clone(container);
        self.blocking(move || {
            let mut live = lock(&container.live);
            let Some(connection) = &mut live.connection else {
                return Ok(());
            };
            for endpoint in &mut connection.endpoints {
                bandwidth::apply(endpoint, &limits)?;
            }
            let attachments = connection.attachments();
            container.record().attached = Some(attachments);
            Ok(())
        })
        .await
    }
}

fn take_over<T: Default + PartialEq>(own: &mut T, new: T) {
    if new != T::default() {
        *own = new;
    }
}

/// Takes over what the request sets; zero and empty mean unchanged.
fn merge(own: &mut Resources, new: Resources) {
    macro_rules! take {
        ($($field:ident),*) => {$(
            take_over(&mut own.$field, new.$field);
        )*};
    }
    if new.memory > 0 && new.memory_swap == 0 && is_default_swap(own) {
        // the default of twice the memory moves along
        own.memory_swap = new.memory.saturating_mul(2);
    }
    take!(
        cpu_shares,
        memory,
        nano_cpus,
        blkio_weight,
        cpu_period,
        cpu_quota,
        cpu_realtime_period,
        cpu_realtime_runtime,
        cpuset_cpus,
        cpuset_mems,
        memory_reservation,
        memory_swap,
        memory_swappiness,
        pids_limit,
        network_ingress_rate,
        network_egress_rate
    );
    // what is negative lifts the limit
    own.network_ingress_rate = own.network_ingress_rate.max(0);
    own.network_egress_rate = own.network_egress_rate.max(0);
}
