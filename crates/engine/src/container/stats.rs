//! What a container uses right now.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use api::stats::{
    BlkioEntry, BlkioStats, CpuStats, CpuUsage, MemoryStats, PidsStats, Stats, Throttling,
};
use jiff::Timestamp;
use runtime::cgroup::Stats as Figures;
use shim::{Reply, Request};

use super::inspect::ZERO_TIME;
use super::network_stats::Counters;
use super::{Container, lock};
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};
use crate::shim_link::Link;

/// One client's view of a container's use: what it needs stays open between two samples.
#[derive(Debug)]
pub struct Sampler {
    engine: Arc<Engine>,
    container: Arc<Container>,
    link: Option<Link>,
    counters: Counters,
    before: Option<(String, CpuStats)>,
}

impl Engine {
    /// Begins to watch what a container uses.
    ///
    /// # Errors
    /// When there is no such container.
    pub fn container_stats(self: &Arc<Self>, name: &str) -> Result<Sampler> {
        Ok(Sampler {
            engine: Arc::clone(self),
            container: self.containers.get(name)?,
            link: None,
            counters: Counters::default(),
            before: None,
        })
    }
}

impl Sampler {
    /// One sample, with the processor time of the one before; a stopped container uses nothing.
    ///
    /// # Errors
    /// When the container has been removed, or its shim does not answer.
    pub async fn sample(&mut self) -> Result<Stats> {
        if self.container.phase.borrow().removed {
            let id = &self.container.id;
            return Err(Error::not_found(format!("No such container: {id}")));
        }
        let mut stats = Stats {
            name: format!("/{}", self.container.name()),
            id: self.container.id.to_string(),
            read: ZERO_TIME.into(),
            preread: ZERO_TIME.into(),
            ..Stats::default()
        };
        let Some(figures) = self.figures().await? else {
            self.before = None;
            return Ok(stats);
        };
        stats.read = Timestamp::now().to_string();
        stats.networks = self
            .engine
            .network_stats(&self.container, &mut self.counters)?;
        fill(&mut stats, figures, self.engine.machine.now());
        let now = (stats.read.clone(), stats.cpu.clone());
        if let Some((read, cpu)) = self.before.replace(now) {
            (stats.preread, stats.precpu) = (read, cpu);
        }
        Ok(stats)
    }

    /// What the shim reads; nothing while the container does not run.
    async fn figures(&mut self) -> Result<Option<Figures>> {
        if !self.container.status().is_alive() {
            self.link = None;
            return Ok(None);
        }
        if let Some(link) = &mut self.link
            && let Ok(Reply::Stats(figures)) = link.call(&Request::Stats, &[]).await
        {
            return Ok(Some(*figures));
        }
        // it was started anew, or has ended, since the last time
        let asked = self
            .engine
            .connect_running(&self.container, &Request::Stats)
            .await;
        match asked {
            Ok((link, Reply::Stats(figures))) => {
                self.link = Some(link);
                Ok(Some(*figures))
            }
            Ok((_, reply)) => Err(Error::internal(format!(
                "read statistics: unexpected answer {reply:?}"
            ))),
            Err(error) if error.kind() == Kind::Conflict => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The machine's processor time, read now and then.
///
/// All processors together count a second each a second, working or idle, so the time between two
/// readings is known: the file is long, and has lines for all interrupts.
#[derive(Debug, Default)]
pub(crate) struct Machine(Mutex<Option<(Instant, u64)>>);

impl Machine {
    /// Nanoseconds that the machine's processors have worked or idled since boot.
    fn now(&self) -> u64 {
        const FRESH: Duration = Duration::from_secs(1);
        let mut read = lock(&self.0);
        let now = Instant::now();
        match *read {
            Some((at, usage)) if now.duration_since(at) < FRESH => {
                let count = u128::try_from(crate::system::processors()).unwrap_or(1);
                let more = now.duration_since(at).as_nanos() * count;
                usage.saturating_add(u64::try_from(more).unwrap_or(0))
            }
            _ => {
                let usage = system_usage();
                *read = Some((now, usage));
                usage
            }
        }
    }
}

fn fill(stats: &mut Stats, figures: Figures, system_usage: u64) {
    let online = crate::system::processors();
    stats.cpu = CpuStats {
        usage: CpuUsage {
            total: figures.cpu.total,
            percpu: figures.cpu.per_cpu,
            kernel: figures.cpu.kernel,
            user: figures.cpu.user,
        },
        system_usage,
        online_cpus: u32::try_from(online).unwrap_or(u32::MAX),
        throttling: Throttling {
            periods: figures.cpu.throttling.periods,
            throttled_periods: figures.cpu.throttling.throttled_periods,
            throttled_time: figures.cpu.throttling.throttled_time,
        },
    };
    let memory = figures.memory;
    stats.memory = MemoryStats {
        usage: memory.usage,
        max_usage: memory.max_usage.unwrap_or(0),
        stats: memory
            .pairs()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
        failcnt: memory.failures.unwrap_or(0),
        // without a limit of its own, the machine's memory is one
        limit: memory.limit.unwrap_or_else(total_memory),
        ..MemoryStats::default()
    };
    stats.pids = PidsStats {
        current: figures.pids.current,
        limit: figures.pids.limit.unwrap_or(0),
    };
    let entries = |list: Vec<runtime::cgroup::BlockEntry>| {
        let entry = |e: runtime::cgroup::BlockEntry| BlkioEntry {
            major: e.major,
            minor: e.minor,
            op: e.op,
            value: e.value,
        };
        Some(list.into_iter().map(entry).collect())
    };
    stats.blkio = BlkioStats {
        io_service_bytes_recursive: entries(figures.block.bytes),
        io_serviced_recursive: entries(figures.block.requests),
        ..BlkioStats::default()
    };
    if !stats.cpu.usage.percpu.is_empty() {
        // v1 has the other files too, which count nothing without the scheduler CFQ
        let none = || Some(Vec::new());
        let blkio = &mut stats.blkio;
        blkio.io_queue_recursive = none();
        blkio.io_service_time_recursive = none();
        blkio.io_wait_time_recursive = none();
        blkio.io_merged_recursive = none();
        blkio.io_time_recursive = none();
        blkio.sectors_recursive = none();
    }
}

/// Nanoseconds that the machine's processors have worked or idled since boot (proc_stat(5)).
fn system_usage() -> u64 {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    // user, nice, system, idle, iowait, irq, softirq, steal; guest is part of user
    let ticks: u64 = line
        .split_ascii_whitespace()
        .skip(1)
        .take(8)
        .filter_map(|n| n.parse::<u64>().ok())
        .sum();
    ticks.saturating_mul(1_000_000_000 / rustix::param::clock_ticks_per_second())
}

fn total_memory() -> u64 {
    let info = rustix::system::sysinfo();
    info.totalram.saturating_mul(info.mem_unit.into())
}
