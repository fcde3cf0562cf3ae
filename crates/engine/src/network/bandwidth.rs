//! How fast a container may send and receive.

use network::{Bandwidth, Rate, bandwidth};

use super::attach::UNLIMITED;
use super::connection::{Attached, Endpoint};
use crate::container::Record;
use crate::error::{Error, Result, Step};

/// The labels that do what `--net-ingress` and `--net-egress` do, for clients that know no flag.
const INGRESS_LABEL: &str = "io.gorae.net.ingress";
const EGRESS_LABEL: &str = "io.gorae.net.egress";

/// What a container's limits are: those set by flag or update, else those of its labels.
pub(crate) fn of(record: &Record) -> Result<Bandwidth> {
    let resources = &record.host.resources;
    Ok(Bandwidth {
        ingress: rate(record, resources.network_ingress_rate, INGRESS_LABEL)?,
        egress: rate(record, resources.network_egress_rate, EGRESS_LABEL)?,
    })
}

fn rate(record: &Record, set: i64, label: &str) -> Result<Option<Rate>> {
    let labelled = record.config.labels.as_ref().and_then(|l| l.get(label));
    match (set, labelled) {
        // negative takes a limit away, a label's too
        (..0, _) | (0, None) => Ok(None),
        (0, Some(text)) => text
            .parse()
            .map(Some)
            .map_err(|e| Error::invalid(format!("label {label}={text}: {e}"))),
        (set, _) => set
            .to_string()
            .parse()
            .map(Some)
            .map_err(|e| Error::invalid(format!("invalid network rate {set}: {e}"))),
    }
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
