//! What a container uses: the figures of Docker's `stats`, from v1's files or v2's.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::error::CgroupError;
use super::file::{self, field};
use super::hierarchy::{Controller, Version};
use super::limit::UNLIMITED;
use super::{Cgroup, Place};

const NANOSECONDS: u64 = 1000;

/// A container's use of the machine at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Processor time.
    pub cpu: CpuStats,
    /// Memory.
    pub memory: MemoryStats,
    /// Tasks.
    pub pids: PidsStats,
    /// Block devices.
    pub block: BlockStats,
}

/// Processor time in nanoseconds since the cgroup was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuStats {
    /// All of it.
    pub total: u64,
    /// The part in programs.
    pub user: u64,
    /// The part in the kernel.
    pub kernel: u64,
    /// Each processor's part; v1 only.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub per_cpu: Vec<u64>,
    /// What the limit of processor time did.
    pub throttling: Throttling,
}

/// What a limit of processor time did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Throttling {
    /// Periods that passed.
    pub periods: u64,
    /// Periods in which the container had to wait.
    pub throttled_periods: u64,
    /// Nanoseconds that it waited.
    pub throttled_time: u64,
}

/// Memory in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryStats {
    /// In use, with the page cache.
    pub usage: u64,
    /// The most that was in use; the kernel tells it on v1, and on v2 since Linux 5.19.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub max_usage: Option<u64>,
    /// The limit; `None` without one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub limit: Option<u64>,
    /// How often the limit was hit; v1 only.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub failures: Option<u64>,
    /// How often a process was killed for lack of memory.
    pub oom_kills: u64,
    /// The kernel's breakdown, `memory.stat`.
    pub stats: BTreeMap<String, u64>,
}

/// Tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PidsStats {
    /// How many there are.
    pub current: u64,
    /// The limit; `None` without one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub limit: Option<u64>,
}

/// Block devices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockStats {
    /// Bytes moved.
    pub bytes: Vec<BlockEntry>,
    /// Requests made.
    pub requests: Vec<BlockEntry>,
}

/// One figure of one block device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockEntry {
    /// The device's major number.
    pub major: u64,
    /// The device's minor number.
    pub minor: u64,
    /// `Read`, `Write`, `Sync` ... on v1, `read` and `write` on v2.
    pub op: String,
    /// The figure.
    pub value: u64,
}

/// Reads everything; a controller that the machine lacks counts nothing.
pub(super) fn read(cgroup: &Cgroup) -> Result<Stats, CgroupError> {
    let mut stats = Stats::default();
    if let Some(place) = cgroup.place(Controller::Cpuacct) {
        read_cpu_time(place, &mut stats.cpu)?;
    }
    if let Some(place) = cgroup.place(Controller::Cpu) {
        stats.cpu.throttling = read_throttling(place)?;
    }
    if let Some(place) = cgroup.place(Controller::Memory) {
        stats.memory = match place.version {
            Version::V1 => read_memory_v1(place)?,
            Version::V2 => read_memory_v2(place)?,
        };
    }
    if let Some(place) = cgroup.place(Controller::Pids) {
        stats.pids = PidsStats {
            current: number(place, "pids.current")?.unwrap_or(0),
            limit: number(place, "pids.max")?,
        };
    }
    if let Some(place) = cgroup.place(Controller::Blkio) {
        stats.block = match place.version {
            Version::V1 => read_block_v1(place)?,
            Version::V2 => read_block_v2(place)?,
        };
    }
    Ok(stats)
}

fn number(place: Place<'_>, name: &str) -> Result<Option<u64>, CgroupError> {
    file::read_number(&place.file(name))
}

/// A number of a file that not every kernel has.
fn number_if_there(place: Place<'_>, name: &str) -> Result<Option<u64>, CgroupError> {
    let path = place.file(name);
    match file::read_if_there(&path)? {
        Some(text) => file::parse_number(&path, &text),
        None => Ok(None),
    }
}

fn text_if_there(place: Place<'_>, name: &str) -> Result<String, CgroupError> {
    Ok(file::read_if_there(&place.file(name))?.unwrap_or_default())
}

fn read_cpu_time(place: Place<'_>, cpu: &mut CpuStats) -> Result<(), CgroupError> {
    match place.version {
        Version::V1 => {
            cpu.total = number(place, "cpuacct.usage")?.unwrap_or(0);
            cpu.user = number_if_there(place, "cpuacct.usage_user")?.unwrap_or(0);
            cpu.kernel = number_if_there(place, "cpuacct.usage_sys")?.unwrap_or(0);
            let each = text_if_there(place, "cpuacct.usage_percpu")?;
            let each = each
                .split_whitespace()
                .map(|word| word.parse().unwrap_or(0));
            cpu.per_cpu = each.collect();
        }
        Version::V2 => {
            let text = place.read("cpu.stat")?;
            let time = |word| field(&text, word).unwrap_or(0) * NANOSECONDS;
            cpu.total = time("usage_usec");
            cpu.user = time("user_usec");
            cpu.kernel = time("system_usec");
        }
    }
    Ok(())
}

fn read_throttling(place: Place<'_>) -> Result<Throttling, CgroupError> {
    let text = text_if_there(place, "cpu.stat")?;
    let told = |word| field(&text, word).unwrap_or(0);
    Ok(Throttling {
        periods: told("nr_periods"),
        throttled_periods: told("nr_throttled"),
        throttled_time: match place.version {
            Version::V1 => told("throttled_time"),
            Version::V2 => told("throttled_usec") * NANOSECONDS,
        },
    })
}

fn read_memory_v1(place: Place<'_>) -> Result<MemoryStats, CgroupError> {
    let limit = number(place, "memory.limit_in_bytes")?;
    Ok(MemoryStats {
        usage: number(place, "memory.usage_in_bytes")?.unwrap_or(0),
        max_usage: number(place, "memory.max_usage_in_bytes")?,
        limit: limit.filter(|&limit| limit < UNLIMITED),
        failures: number(place, "memory.failcnt")?,
        oom_kills: oom_kills_at(place)?,
        stats: breakdown(place)?,
    })
}

fn read_memory_v2(place: Place<'_>) -> Result<MemoryStats, CgroupError> {
    Ok(MemoryStats {
        usage: number(place, "memory.current")?.unwrap_or(0),
        max_usage: number_if_there(place, "memory.peak")?,
        limit: number(place, "memory.max")?,
        failures: None,
        oom_kills: oom_kills_at(place)?,
        stats: breakdown(place)?,
    })
}

fn breakdown(place: Place<'_>) -> Result<BTreeMap<String, u64>, CgroupError> {
    let text = place.read("memory.stat")?;
    let pairs = file::pairs(&text).map(|(word, number)| (word.to_owned(), number));
    Ok(pairs.collect())
}

pub(super) fn oom_kills(cgroup: &Cgroup) -> Result<u64, CgroupError> {
    cgroup.place(Controller::Memory).map_or(Ok(0), oom_kills_at)
}

fn oom_kills_at(place: Place<'_>) -> Result<u64, CgroupError> {
    let name = match place.version {
        Version::V1 => "memory.oom_control",
        Version::V2 => "memory.events",
    };
    Ok(field(&text_if_there(place, name)?, "oom_kill").unwrap_or(0))
}

fn read_block_v1(place: Place<'_>) -> Result<BlockStats, CgroupError> {
    let read = |plain: &str| {
        let mut text = text_if_there(place, &format!("{plain}_recursive"))?;
        if text.is_empty() {
            text = text_if_there(place, plain)?;
        }
        Ok(text.lines().filter_map(block_line_v1).collect())
    };
    Ok(BlockStats {
        bytes: read("blkio.throttle.io_service_bytes")?,
        requests: read("blkio.throttle.io_serviced")?,
    })
}

/// `8:0 Read 4096`; the last line is a sum over all devices.
fn block_line_v1(line: &str) -> Option<BlockEntry> {
    let mut words = line.split(' ');
    let (major, minor) = device(words.next()?)?;
    Some(BlockEntry {
        major,
        minor,
        op: words.next()?.to_owned(),
        value: words.next()?.parse().ok()?,
    })
}

fn device(word: &str) -> Option<(u64, u64)> {
    let (major, minor) = word.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn read_block_v2(place: Place<'_>) -> Result<BlockStats, CgroupError> {
    let text = text_if_there(place, "io.stat")?;
    let mut stats = BlockStats::default();
    for line in text.lines() {
        add_block_line_v2(&mut stats, line);
    }
    Ok(stats)
}

/// `8:0 rbytes=4096 wbytes=0 rios=1 wios=0 ...`.
fn add_block_line_v2(stats: &mut BlockStats, line: &str) -> Option<()> {
    let mut words = line.split(' ');
    let (major, minor) = device(words.next()?)?;
    for word in words {
        let (name, value) = word.split_once('=')?;
        let (list, op) = match name {
            "rbytes" => (&mut stats.bytes, "read"),
            "wbytes" => (&mut stats.bytes, "write"),
            "rios" => (&mut stats.requests, "read"),
            "wios" => (&mut stats.requests, "write"),
            _ => continue,
        };
        list.push(BlockEntry {
            major,
            minor,
            op: op.to_owned(),
            value: value.parse().ok()?,
        });
    }
    Some(())
}
