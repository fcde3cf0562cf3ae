//! The limits and the use of this process's cgroup, in version 2, version 1 or both side by side.

use crate::proc::{Mount, mounts, read};
use std::path::PathBuf;

/// Version 1 says "no limit" with the largest number of pages; nobody has this much.
const UNLIMITED: u64 = 1 << 60;

/// Where the files of this process's cgroup lie.
#[derive(Debug)]
pub(crate) struct Cgroup {
    mounts: Vec<Mount>,
    /// Lines of `/proc/self/cgroup`: controllers (none for version 2) and path.
    paths: Vec<(String, String)>,
}

impl Cgroup {
    /// Finds this process's cgroup.
    pub(crate) fn find() -> Self {
        let own = read("/proc/self/cgroup").unwrap_or_default();
        let paths = own.lines().filter_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            Some((controllers.to_owned(), path.to_owned()))
        });
        let mounts = mounts()
            .into_iter()
            .filter(|mount| mount.kind.starts_with("cgroup"));
        Self {
            mounts: mounts.collect(),
            paths: paths.collect(),
        }
    }

    /// Reads a file of version 2, or of version 1 in the hierarchy of `controller`.
    fn read(&self, v2: &str, controller: &str, v1: &str) -> Option<Value> {
        if let Some(text) = self.file("", v2) {
            return Some(Value::V2(text));
        }
        self.file(controller, v1).map(Value::V1)
    }

    fn file(&self, controller: &str, name: &str) -> Option<String> {
        let is_it = |list: &str| list.split(',').any(|word| word == controller);
        let mount = self.mounts.iter().find(|mount| match controller {
            "" => mount.kind == "cgroup2",
            _ => mount.kind == "cgroup" && is_it(&mount.super_options),
        })?;
        let path = self
            .paths
            .iter()
            .find(|(controllers, _)| is_it(controllers))
            .map_or("/", |(_, path)| path.as_str());
        // without a cgroup namespace the path is the host's, and the mount may show only a part of it
        let below = path
            .strip_prefix(mount.root.as_str())
            .unwrap_or(path)
            .trim_start_matches('/');
        let top = PathBuf::from(&mount.target);
        read(top.join(below).join(name)).or_else(|| read(top.join(name)))
    }

    /// The memory limit in bytes.
    pub(crate) fn memory_limit(&self) -> Option<u64> {
        self.read("memory.max", "memory", "memory.limit_in_bytes")
            .and_then(|value| value.bytes())
    }

    /// The memory in use, in bytes.
    pub(crate) fn memory(&self) -> Option<u64> {
        self.read("memory.current", "memory", "memory.usage_in_bytes")
            .and_then(|value| value.bytes())
    }

    /// The limit of swap, in bytes: of swap alone in version 2, with memory in version 1.
    fn swap_limit(&self) -> Option<String> {
        let value = self.read("memory.swap.max", "memory", "memory.memsw.limit_in_bytes")?;
        let which = if matches!(value, Value::V1(_)) {
            " (memory and swap)"
        } else {
            ""
        };
        Some(value.bytes().map_or_else(
            || "unlimited".to_owned(),
            |bytes| format!("{}{which}", size(bytes)),
        ))
    }

    /// The processor time used so far, in microseconds.
    pub(crate) fn cpu_micros(&self) -> Option<u64> {
        match self.read("cpu.stat", "cpuacct", "cpuacct.usage")? {
            Value::V2(text) => text
                .lines()
                .find_map(|line| line.strip_prefix("usage_usec "))?
                .parse()
                .ok(),
            Value::V1(text) => text.parse::<u64>().ok().map(|nanos| nanos / 1000),
        }
    }

    /// The processors that may be used at once, in thousandths.
    pub(crate) fn cpu_limit_milli(&self) -> Option<u64> {
        let (quota, period) = match self.read("cpu.max", "cpu", "cpu.cfs_quota_us")? {
            Value::V2(text) => {
                let (quota, period) = text.split_once(' ')?;
                (quota.parse::<u64>().ok()?, period.parse::<u64>().ok()?)
            }
            // -1 is no limit, and no u64
            Value::V1(text) => (
                text.parse::<u64>().ok()?,
                self.file("cpu", "cpu.cfs_period_us")?.parse::<u64>().ok()?,
            ),
        };
        quota.checked_mul(1000)?.checked_div(period)
    }

    /// The number of processes and threads.
    pub(crate) fn tasks(&self) -> Option<u64> {
        self.read("pids.current", "pids", "pids.current")
            .and_then(|value| value.bytes())
    }

    fn word(&self, v2: &str, controller: &str, v1: &str) -> Option<String> {
        match self.read(v2, controller, v1)? {
            Value::V1(text) | Value::V2(text) if text == "max" => Some("unlimited".to_owned()),
            Value::V1(text) | Value::V2(text) => Some(text).filter(|text| !text.is_empty()),
        }
    }

    /// The limits as names and words.
    pub(crate) fn limits(&self) -> Vec<(&'static str, String)> {
        let memory = self.memory().map(|_| {
            self.memory_limit()
                .map_or_else(|| "unlimited".to_owned(), size)
        });
        let cpus = self.cpu_micros().map(|_| match self.cpu_limit_milli() {
            Some(milli) => format!("{}.{:02} processors", milli / 1000, milli % 1000 / 10),
            None => "unlimited".to_owned(),
        });
        let weight = self.word("cpu.weight", "cpu", "cpu.shares");
        let places = self.word("cpuset.cpus.effective", "cpuset", "cpuset.effective_cpus");
        let version = match (
            self.mounts.iter().any(|m| m.kind == "cgroup2"),
            self.mounts.iter().any(|m| m.kind == "cgroup"),
        ) {
            (true, true) => "versions 1 and 2 side by side",
            (true, false) => "version 2",
            (false, true) => "version 1",
            (false, false) => "not mounted here",
        };
        [
            ("memory", memory),
            ("swap", self.swap_limit()),
            ("cpu", cpus),
            ("cpu weight", weight),
            ("cpu set", places),
            ("processes", self.word("pids.max", "pids", "pids.max")),
            ("cgroups", Some(version.to_owned())),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
    }
}

/// A file's text, and the version that it follows.
#[derive(Debug)]
enum Value {
    V1(String),
    V2(String),
}

impl Value {
    /// A number of bytes, absent where there is no limit.
    fn bytes(&self) -> Option<u64> {
        let (Self::V1(text) | Self::V2(text)) = self;
        text.parse().ok().filter(|bytes| *bytes < UNLIMITED)
    }
}

/// Writes a number of bytes for people.
pub(crate) fn size(bytes: u64) -> String {
    let mut unit = 1_u64;
    for name in ["bytes", "KiB", "MiB", "GiB"] {
        if bytes < unit << 10 || name == "GiB" {
            let tenths = bytes % unit * 10 / unit;
            return if tenths == 0 {
                format!("{} {name}", bytes / unit)
            } else {
                format!("{}.{tenths} {name}", bytes / unit)
            };
        }
        unit <<= 10;
    }
    format!("{bytes} bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1536, "1.5 KiB"),
            (64 << 20, "64 MiB"),
            (5 << 40, "5120 GiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn no_limit() {
        assert_eq!(Value::V2("max".to_owned()).bytes(), None);
        assert_eq!(Value::V1("9223372036854771712".to_owned()).bytes(), None);
        assert_eq!(Value::V1("67108864".to_owned()).bytes(), Some(64 << 20));
    }
}
