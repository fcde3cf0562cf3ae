//! What a container uses: the figures of Docker's `stats`, from v1's files or v2's.

use serde::{Deserialize, Serialize};

use super::error::CgroupError;
use super::file::{self, field};
use super::hierarchy::{Controller, Version};
use super::{Cgroup, Place};

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
    /// How often the limit was hit; v1 only, and only with a limit.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub failures: Option<u64>,
    /// The kernel's breakdown, `memory.stat`, as it is.
    pub breakdown: String,
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

impl MemoryStats {
    /// The kernel's breakdown as words and numbers.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, u64)> {
        file::pairs(&self.breakdown)
    }
}

fn text_if_there(place: Place<'_>, name: &str) -> Result<String, CgroupError> {
    Ok(file::read_if_there(&place.file(name))?.unwrap_or_default())
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

/// `8:0 Read 4096`; the last line is a sum over all devices.
pub(super) fn block_line_v1(line: &str) -> Option<BlockEntry> {
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

/// `8:0 rbytes=4096 wbytes=0 rios=1 wios=0 ...`.
pub(super) fn add_block_line_v2(stats: &mut BlockStats, line: &str) -> Option<()> {
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
