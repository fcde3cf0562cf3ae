//! A container's use, asked for again and again: the files stay open, and one buffer serves all.
//!
//! An open file of a cgroup holds a page of the kernel's memory, so a meter is kept only while
//! somebody asks. Limits are read once: who changes them makes a new meter.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use super::error::CgroupError;
use super::file::{self, field};
use super::hierarchy::{Controller, Version};
use super::limit::UNLIMITED;
use super::stats::{
    BlockStats, CpuStats, MemoryStats, PidsStats, Stats, Throttling, add_block_line_v2,
    block_line_v1,
};
use super::{Cgroup, Place};

const NANOSECONDS: u64 = 1000;
/// A file of the kernel's usual length; longer ones make the buffer grow.
const USUAL: usize = 4 << 10;
/// No file of figures is longer.
const LONGEST: usize = 1 << 20;

/// The open files of a cgroup's figures; a controller that the machine lacks counts nothing.
#[derive(Debug)]
pub struct Meter {
    cpu: Option<Cpu>,
    /// None where nothing is throttled, or where the file of the processor time tells it, too.
    throttling: Option<Counter>,
    memory: Option<Memory>,
    pids: Option<Tasks>,
    block: Option<Block>,
    buffer: Vec<u8>,
}

/// One open file.
#[derive(Debug)]
struct Counter {
    path: PathBuf,
    /// None where the kernel has no such file.
    fd: Option<OwnedFd>,
}

#[derive(Debug)]
enum Cpu {
    V1 {
        total: Counter,
        each: Counter,
        kinds: Counter,
        user: Counter,
        kernel: Counter,
    },
    V2(Counter),
}

#[derive(Debug)]
struct Memory {
    usage: Counter,
    max_usage: Counter,
    limit: Option<u64>,
    /// None without a limit that could be hit.
    failures: Option<Counter>,
    breakdown: Counter,
}

#[derive(Debug)]
struct Tasks {
    current: Counter,
    limit: Option<u64>,
}

#[derive(Debug)]
enum Block {
    V1 { bytes: Counter, requests: Counter },
    V2(Counter),
}

impl Counter {
    fn open(place: Place<'_>, name: &str) -> Result<Self, CgroupError> {
        let path = place.file(name);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        match openat(CWD, &path, flags, Mode::empty()) {
            Ok(fd) => Ok(Self { path, fd: Some(fd) }),
            Err(Errno::NOENT) => Ok(Self { path, fd: None }),
            Err(source) => Err(CgroupError::Read { path, source }),
        }
    }

    /// The first of these files that the kernel has, or else the last.
    fn either(place: Place<'_>, [first, second]: [&str; 2]) -> Result<Self, CgroupError> {
        let found = Self::open(place, first)?;
        if found.fd.is_some() {
            return Ok(found);
        }
        Self::open(place, second)
    }

    /// Reads the file as it is now; nothing where there is none.
    fn text<'b>(&self, buffer: &'b mut Vec<u8>) -> Result<&'b str, CgroupError> {
        let failed = |source| CgroupError::Read {
            path: self.path.clone(),
            source,
        };
        let Some(fd) = &self.fd else { return Ok("") };
        if buffer.is_empty() {
            buffer.resize(USUAL, 0);
        }
        let mut length = 0;
        loop {
            let offset = u64::try_from(length).unwrap_or(u64::MAX);
            let count = rustix::io::pread(fd, &mut buffer[length..], offset).map_err(failed)?;
            length += count;
            // a file of the kernel gives all that fits: less is the end
            if length < buffer.len() || count == 0 || length >= LONGEST {
                break;
            }
            buffer.resize(length * 2, 0);
        }
        std::str::from_utf8(&buffer[..length]).map_err(|_| failed(Errno::ILSEQ))
    }

    /// Reads a number; none is `max`, or no file.
    fn number(&self, buffer: &mut Vec<u8>) -> Result<Option<u64>, CgroupError> {
        match self.text(buffer)? {
            "" => Ok(None),
            text => file::parse_number(&self.path, text),
        }
    }

    fn number_or_0(&self, buffer: &mut Vec<u8>) -> Result<u64, CgroupError> {
        Ok(self.number(buffer)?.unwrap_or(0))
    }
}

impl Meter {
    pub(super) fn open(cgroup: &Cgroup) -> Result<Self, CgroupError> {
        let at = |controller| cgroup.place(controller);
        let throttling = match at(Controller::Cpu) {
            Some(place) if place.version == Version::V1 && is_throttled(place)? => {
                Some(Counter::open(place, "cpu.stat")?)
            }
            _ => None,
        };
        Ok(Self {
            cpu: at(Controller::Cpuacct).map(Cpu::open).transpose()?,
            throttling,
            memory: at(Controller::Memory).map(Memory::open).transpose()?,
            pids: at(Controller::Pids).map(Tasks::open).transpose()?,
            block: at(Controller::Blkio).map(Block::open).transpose()?,
            buffer: Vec::new(),
        })
    }

    /// Reads everything.
    ///
    /// # Errors
    /// A file that cannot be read: the cgroup was removed.
    pub fn read(&mut self) -> Result<Stats, CgroupError> {
        let buffer = &mut self.buffer;
        let mut stats = Stats::default();
        if let Some(cpu) = &self.cpu {
            stats.cpu = cpu.read(buffer)?;
        }
        if let Some(counter) = &self.throttling {
            stats.cpu.throttling = throttling(counter.text(buffer)?, "throttled_time", 1);
        }
        if let Some(memory) = &self.memory {
            stats.memory = memory.read(buffer)?;
        }
        if let Some(tasks) = &self.pids {
            stats.pids = PidsStats {
                current: tasks.current.number_or_0(buffer)?,
                limit: tasks.limit,
            };
        }
        if let Some(block) = &self.block {
            stats.block = block.read(buffer)?;
        }
        Ok(stats)
    }
}

impl Cpu {
    fn open(place: Place<'_>) -> Result<Self, CgroupError> {
        let open = |name| Counter::open(place, name);
        Ok(match place.version {
            Version::V1 => Self::V1 {
                total: open("cpuacct.usage")?,
                each: open("cpuacct.usage_percpu")?,
                kinds: open("cpuacct.usage_all")?,
                user: open("cpuacct.usage_user")?,
                kernel: open("cpuacct.usage_sys")?,
            },
            Version::V2 => Self::V2(open("cpu.stat")?),
        })
    }

    fn read(&self, buffer: &mut Vec<u8>) -> Result<CpuStats, CgroupError> {
        let mut cpu = CpuStats::default();
        match self {
            Self::V1 {
                total,
                each,
                kinds,
                user,
                kernel,
            } => {
                let words = each.text(buffer)?.split_ascii_whitespace();
                cpu.per_cpu = words.map(|word| word.parse().unwrap_or(0)).collect();
                cpu.total = if cpu.per_cpu.is_empty() {
                    total.number_or_0(buffer)?
                } else {
                    cpu.per_cpu.iter().sum()
                };
                if kinds.fd.is_some() {
                    (cpu.user, cpu.kernel) = sum_kinds(kinds.text(buffer)?);
                } else {
                    cpu.user = user.number_or_0(buffer)?;
                    cpu.kernel = kernel.number_or_0(buffer)?;
                }
            }
            Self::V2(counter) => {
                let text = counter.text(buffer)?;
                let time = |word| field(text, word).unwrap_or(0) * NANOSECONDS;
                cpu.total = time("usage_usec");
                cpu.user = time("user_usec");
                cpu.kernel = time("system_usec");
                cpu.throttling = throttling(text, "throttled_usec", NANOSECONDS);
            }
        }
        Ok(cpu)
    }
}

/// Time in programs and in the kernel from lines of `processor user system`, behind a head line.
fn sum_kinds(text: &str) -> (u64, u64) {
    let mut sums = (0, 0);
    for line in text.lines().skip(1) {
        let mut words = line.split_ascii_whitespace().skip(1);
        let mut next = || words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
        sums.0 += next();
        sums.1 += next();
    }
    sums
}

/// Whether processor time has a limit at which programs have to wait.
fn is_throttled(place: Place<'_>) -> Result<bool, CgroupError> {
    let quota = Counter::open(place, "cpu.cfs_quota_us")?;
    Ok(!quota.text(&mut Vec::new())?.starts_with('-'))
}

fn throttling(text: &str, time: &str, unit: u64) -> Throttling {
    let told = |word| field(text, word).unwrap_or(0);
    Throttling {
        periods: told("nr_periods"),
        throttled_periods: told("nr_throttled"),
        throttled_time: told(time) * unit,
    }
}

impl Tasks {
    fn open(place: Place<'_>) -> Result<Self, CgroupError> {
        let limit = Counter::open(place, "pids.max")?;
        Ok(Self {
            current: Counter::open(place, "pids.current")?,
            limit: limit.number(&mut Vec::new())?,
        })
    }
}

impl Memory {
    fn open(place: Place<'_>) -> Result<Self, CgroupError> {
        let open = |name| Counter::open(place, name);
        let [usage, max_usage, limit] = match place.version {
            Version::V1 => [
                "memory.usage_in_bytes",
                "memory.max_usage_in_bytes",
                "memory.limit_in_bytes",
            ],
            Version::V2 => ["memory.current", "memory.peak", "memory.max"],
        };
        let limit = open(limit)?.number(&mut Vec::new())?;
        let limit = limit.filter(|&limit| limit < UNLIMITED);
        let failures = match (place.version, limit) {
            (Version::V1, Some(_)) => Some(open("memory.failcnt")?),
            _ => None,
        };
        Ok(Self {
            usage: open(usage)?,
            max_usage: open(max_usage)?,
            limit,
            failures,
            breakdown: open("memory.stat")?,
        })
    }

    fn read(&self, buffer: &mut Vec<u8>) -> Result<MemoryStats, CgroupError> {
        let failures = self.failures.as_ref();
        Ok(MemoryStats {
            usage: self.usage.number_or_0(buffer)?,
            max_usage: self.max_usage.number(buffer)?,
            limit: self.limit,
            failures: failures.map(|f| f.number_or_0(buffer)).transpose()?,
            breakdown: self.breakdown.text(buffer)?.to_owned(),
        })
    }
}

impl Block {
    fn open(place: Place<'_>) -> Result<Self, CgroupError> {
        Ok(match place.version {
            Version::V1 => {
                let counter =
                    |plain: &str| Counter::either(place, [&format!("{plain}_recursive"), plain]);
                Self::V1 {
                    bytes: counter("blkio.throttle.io_service_bytes")?,
                    requests: counter("blkio.throttle.io_serviced")?,
                }
            }
            Version::V2 => Self::V2(Counter::open(place, "io.stat")?),
        })
    }

    fn read(&self, buffer: &mut Vec<u8>) -> Result<BlockStats, CgroupError> {
        let mut stats = BlockStats::default();
        match self {
            Self::V1 { bytes, requests } => {
                let lines = bytes.text(buffer)?.lines();
                stats.bytes = lines.filter_map(block_line_v1).collect();
                let lines = requests.text(buffer)?.lines();
                stats.requests = lines.filter_map(block_line_v1).collect();
            }
            Self::V2(counter) => {
                for line in counter.text(buffer)?.lines() {
                    add_block_line_v2(&mut stats, line);
                }
            }
        }
        Ok(stats)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_time() {
        assert_eq!(sum_kinds("cpu user system\n0 5 6\n1 7 8\n"), (12, 14));
        assert_eq!(sum_kinds(""), (0, 0));
    }

    #[test]
    fn long_files_are_read_whole() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = "8:0 Read 1\n".repeat(2000);
        std::fs::write(file.path(), &text).unwrap();
        let counter = Counter {
            path: file.path().to_owned(),
            fd: Some(std::fs::File::open(file.path()).unwrap().into()),
        };
        let mut buffer = Vec::new();
        assert_eq!(counter.text(&mut buffer).unwrap(), text);
        std::fs::write(file.path(), "7\n").unwrap();
        assert_eq!(counter.number(&mut buffer).unwrap(), Some(7));
    }
}
