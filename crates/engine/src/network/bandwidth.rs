//! How fast a container may send and receive.

use api::container::Config;
use api::host_config::HostConfig;
use network::{Bandwidth, Rate, bandwidth};

use super::attach::UNLIMITED;
use super::connection::{Attached, Endpoint};
use crate::error::{Error, Result, Step};

/// The labels that do what `--net-ingress` and `--net-egress` do, for clients that know no flag.
const INGRESS_LABEL: &str = "io.gorae.net.ingress";
const EGRESS_LABEL: &str = "io.gorae.net.egress";

/// Fills limits that a new container's labels set, and refuses those that cannot be.
pub(crate) fn fill(config: &Config, host: &mut HostConfig) -> Result<()> {
    let labels = config.labels.as_ref();
    let resources = &mut host.resources;
    for (set, label) in [
        (&mut resources.network_ingress_rate, INGRESS_LABEL),
        (&mut resources.network_egress_rate, EGRESS_LABEL),
    ] {
        if *set == 0
            && let Some(text) = labels.and_then(|labels| labels.get(label))
        {
            let invalid =
                |e: &dyn std::fmt::Display| Error::invalid(format!("label {label}={text}: {e}"));
            let rate: Rate = text.parse().map_err(|e| invalid(&e))?;
            *set = i64::try_from(rate.bits()).map_err(|e| invalid(&e))?;
        }
    }
    check(host)
}

/// Refuses limits of a container that has no link to limit.
pub(crate) fn check(host: &HostConfig) -> Result<()> {
    if limits(host)? != UNLIMITED && !has_own_links(&host.network_mode) {
        return Err(Error::invalid(format!(
            "conflicting options: bandwidth limits and the network mode {}: the container has no link of its own",
            host.network_mode
        )));
    }
    Ok(())
}

fn has_own_links(mode: &str) -> bool {
    !matches!(mode, "host" | "none") && !mode.starts_with("container:")
}

/// What a container's limits are.
pub(crate) fn limits(host: &HostConfig) -> Result<Bandwidth> {
    let rate = |set: i64| match u64::try_from(set) {
        Ok(0) | Err(_) => Ok(None),
        Ok(bits) => Rate::from_bits(bits)
            .map(Some)
            .map_err(|e| Error::invalid(format!("invalid network rate {set}: {e}"))),
    };
    Ok(Bandwidth {
        ingress: rate(host.resources.network_ingress_rate)?,
        egress: rate(host.resources.network_egress_rate)?,
    })
}

/// Limits the link of an endpoint, or takes its limits away; most containers have none.
pub(crate) fn apply(endpoint: &mut Endpoint, limits: &Bandwidth) -> Result<()> {
    if *limits == UNLIMITED && !endpoint.attached.limited {
        return Ok(());
    }
    let name = endpoint.net().name().to_owned();
    let Some(host) = &endpoint.attached.host else {
        return Err(Error::invalid(format!(
            "network {name} of driver {} cannot limit bandwidth: its links do not pass the host",
            endpoint.net().record.driver
        )));
    };
    bandwidth::limit(host, limits)
        .step(|| format!("limit the bandwidth of {} in network {name}", host.name))?;
    endpoint.attached.limited = *limits != UNLIMITED;
    Ok(())
}

/// Takes away what is left of limits when the link has gone.
pub(super) fn forget(attached: &Attached) {
    let Some(host) = &attached.host else { return };
    if let Err(error) = bandwidth::limit(host, &UNLIMITED) {
        tracing::debug!(
            link = host.name,
            error = crate::error::chain(&error),
            "bandwidth limits stay"
        );
    }
}
