//! What a container uses right now.

use api::stats::{
    BlkioEntry, BlkioStats, CpuStats, CpuUsage, MemoryStats, PidsStats, Stats, Throttling,
};
use jiff::Timestamp;
use runtime::cgroup::Stats as Figures;
use shim::{Reply, Request};

use super::inspect::ZERO_TIME;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::shim_link::ask;

impl Engine {
    /// One sample of a container's use; a stopped one uses nothing.
    ///
    /// # Errors
    /// When there is no such container, or its shim does not answer.
    pub async fn container_stats(&self, name: &str) -> Result<Stats> {
        let container = self.containers.get(name)?;
        let (id, shown, alive) = {
            let record = container.record();
            (
                record.id.to_string(),
                format!("/{}", record.name),
                record.state.status.is_alive(),
            )
        };
        let mut stats = Stats {
            name: shown,
            id,
            read: ZERO_TIME.into(),
            preread: ZERO_TIME.into(),
            ..Stats::default()
        };
        if !alive {
            return Ok(stats);
        }
        let reply = ask(&self.run_dir(&container.id), &Request::Stats).await?;
        let Reply::Stats(figures) = reply else {
            return Err(Error::internal(format!(
                "read statistics: unexpected answer {reply:?}"
            )));
        };
        stats.read = Timestamp::now().to_string();
        stats.networks = self.network_stats(&container)?;
        fill(&mut stats, *figures);
        Ok(stats)
    }
}

fn fill(stats: &mut Stats, figures: Figures) {
    let online = crate::system::processors();
    stats.cpu = CpuStats {
        usage: CpuUsage {
            total: figures.cpu.total,
            percpu: figures.cpu.per_cpu,
            kernel: figures.cpu.kernel,
            user: figures.cpu.user,
        },
        system_usage: system_usage(),
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
        stats: memory.stats,
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
