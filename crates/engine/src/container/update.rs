//! Changing a container's limits and restart policy.

use std::sync::Arc;

use api::container::{UpdateRequest, UpdateResponse};
use shim::Request;

use super::{Container, Record, check, lock, spec};
use crate::db::Table;
use crate::engine::Engine;
use crate::error::Result;
use crate::network::bandwidth;
use crate::shim_link::ask;

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
        let container = self.containers.get(name)?;
        let _turn = container.lifecycle.lock().await;
        let mut host = container.record().host.clone();
        merge(&mut host.resources, request.resources);
        if !request.restart_policy.name.is_empty() {
            host.restart_policy = request.restart_policy;
        }
        let ports = request.port_bindings;
        let mut warnings = Vec::new();
        check::limits(&mut host, &mut warnings)?;
        bandwidth::check(&host)?;
        if container.status().is_alive() {
            let resources = spec::resources(&host, &[])?;
            let resources = oci::runtime::Resources {
                devices: Vec::new(),
                ..resources
            };
            ask(
                &self.run_dir(&container.id),
                &Request::Update(Box::new(resources)),
            )
            .await?;
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
fn merge(own: &mut api::host_config::Resources, new: api::host_config::Resources) {
    macro_rules! take {
        ($($field:ident),*) => {$(
            take_over(&mut own.$field, new.$field);
        )*};
    }
    if new.memory > 0 && new.memory_swap == 0 && own.memory_swap == own.memory.saturating_mul(2) {
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
