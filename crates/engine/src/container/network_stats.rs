//! What a container's links have carried.

use std::collections::BTreeMap;

use api::stats::NetworkStats;
use network::{CounterReader, Rate};

use super::{Container, lock};
use crate::engine::Engine;
use crate::error::{Result, Step};
use crate::network::bandwidth;

/// The kernel's counters of links, open for more than one reading.
#[derive(Debug, Default)]
pub(super) struct Counters(Option<CounterReader>);

impl Engine {
    /// The figures of a container's links, by their names inside.
    pub(super) fn network_stats(
        &self,
        container: &Container,
        counters: &mut Counters,
    ) -> Result<BTreeMap<String, NetworkStats>> {
        let (limits, pid, joins) = {
            let record = container.record();
            let limits = bandwidth::limits(&record.host)?;
            let joins = record.host.network_mode.starts_with("container:");
            (limits, record.state.pid, joins.then(|| record.clone()))
        };
        let owner = joins.map_or_else(
            || container.id.clone(),
            |record| self.network_owner(&record),
        );
        let links: Vec<(String, Option<u32>)> = {
            let container = self.containers.get(owner.as_str())?;
            let live = lock(&container.live);
            let endpoints = live.connection.iter().flat_map(|c| &c.endpoints);
            endpoints
                .map(|e| {
                    let host = e.attached.host.as_ref();
                    (e.attached.interface.clone(), host.map(|h| h.index))
                })
                .collect()
        };
        let step = || "read the counters of a container's links";
        let limit = |rate: Option<Rate>| rate.map_or(0, Rate::bits);
        let mut figures = BTreeMap::new();
        for (name, index) in links {
            let counters = match index {
                Some(index) => {
                    let reader = match &mut counters.0 {
                        Some(reader) => reader,
                        none => none.insert(CounterReader::open().step(step)?),
                    };
                    reader
                        .read(index)
                        .step(step)?
                        .map(network::Counters::from_peer)
                }
                None => inside(pid, &name),
            };
            let Some(counters) = counters else { continue };
            let mut stats = shown(&counters);
            (stats.rx_limit, stats.tx_limit) = (limit(limits.ingress), limit(limits.egress));
            figures.insert(name, stats);
        }
        Ok(figures)
    }
}

fn shown(counters: &network::Counters) -> NetworkStats {
    NetworkStats {
        rx_bytes: counters.rx_bytes,
        rx_packets: counters.rx_packets,
        rx_errors: counters.rx_errors,
        rx_dropped: counters.rx_dropped,
        tx_bytes: counters.tx_bytes,
        tx_packets: counters.tx_packets,
        tx_errors: counters.tx_errors,
        tx_dropped: counters.tx_dropped,
        ..NetworkStats::default()
    }
}

/// The counters of a link that the host does not see, as its container does (proc_pid_net(5)).
fn inside(pid: i32, name: &str) -> Option<network::Counters> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/net/dev")).ok()?;
    let line = text.lines().find_map(|line| {
        let (link, figures) = line.split_once(':')?;
        (link.trim() == name).then_some(figures)
    })?;
    let figures: Vec<u64> = line
        .split_whitespace()
        .filter_map(|n| n.parse().ok())
        .collect();
    let figure = |index: usize| figures.get(index).copied().unwrap_or_default();
    Some(network::Counters {
        rx_bytes: figure(0),
        rx_packets: figure(1),
        rx_errors: figure(2),
        rx_dropped: figure(3),
        tx_bytes: figure(8),
        tx_packets: figure(9),
        tx_errors: figure(10),
        tx_dropped: figure(11),
    })
}
