//! Processor time and processors.

use oci::runtime::Cpu;
use rustix::io::Errno;

use super::super::error::CgroupError;
use super::super::hierarchy::{Controller, Version};
use super::super::{Cgroup, Place};

const SHARES: &str = "a limit of processor shares";
const BANDWIDTH: &str = "a limit of processor time";
const REALTIME: &str = "a limit of real-time processor time";
const SET: &str = "binding to processors";

/// The kernel's period where none is told.
const PERIOD: u64 = 100_000;

pub(super) fn apply(cgroup: &Cgroup, cpu: &Cpu) -> Result<(), CgroupError> {
    if let Some(shares) = cpu.shares.filter(|&shares| shares != 0) {
        let place = super::need(cgroup, Controller::Cpu, SHARES, "cpu.shares")?;
        match place.version {
            Version::V1 => super::write(place, SHARES, "cpu.shares", &shares)?,
            Version::V2 => super::write(place, SHARES, "cpu.weight", &weight(shares))?,
        }
    }
    apply_realtime(cgroup, cpu)?;
    apply_bandwidth(cgroup, cpu)?;
    apply_set(cgroup, "cpuset.cpus", cpu.cpus.as_deref())?;
    apply_set(cgroup, "cpuset.mems", cpu.mems.as_deref())
}

fn apply_set(cgroup: &Cgroup, name: &'static str, list: Option<&str>) -> Result<(), CgroupError> {
    let Some(list) = list.filter(|list| !list.is_empty()) else {
        return Ok(());
    };
    let place = super::need(cgroup, Controller::Cpuset, SET, name)?;
    super::write(place, SET, name, list)
}

fn apply_bandwidth(cgroup: &Cgroup, cpu: &Cpu) -> Result<(), CgroupError> {
    let period = cpu.period.filter(|&period| period != 0);
    let quota = cpu.quota.filter(|&quota| quota != 0);
    if period.is_none() && quota.is_none() {
        return Ok(());
    }
    let place = super::need(cgroup, Controller::Cpu, BANDWIDTH, "cpu.cfs_quota_us")?;
    match place.version {
        Version::V1 => apply_bandwidth_v1(place, period, quota),
        Version::V2 => apply_bandwidth_v2(place, period, quota),
    }
}

fn apply_bandwidth_v1(
    place: Place<'_>,
    period: Option<u64>,
    quota: Option<i64>,
) -> Result<(), CgroupError> {
    let set_period = || {
        period.map_or(Ok(()), |period| {
            super::write(place, BANDWIDTH, "cpu.cfs_period_us", &period)
        })
    };
    let set_quota = || {
        quota.map_or(Ok(()), |quota| {
            super::write(place, BANDWIDTH, "cpu.cfs_quota_us", &quota)
        })
    };
    match set_period() {
        // the old quota may be more than the parent's in the new period: then the new quota goes first
        Err(error) if error.errno() == Some(Errno::INVAL) && quota.is_some() => {
            set_quota()?;
            set_period()
        }
        Err(error) => Err(error),
        Ok(()) => set_quota(),
    }
}

fn apply_bandwidth_v2(
    place: Place<'_>,
    period: Option<u64>,
    quota: Option<i64>,
) -> Result<(), CgroupError> {
    let value = match (quota, period) {
        (Some(quota), period) => {
            let quota = if quota > 0 {
                quota.to_string()
            } else {
                "max".to_owned()
            };
            format!("{quota} {}", period.unwrap_or(PERIOD))
        }
        (None, period) => {
            let now = place.read("cpu.max")?;
            let quota = now.split_whitespace().next().unwrap_or("max");
            format!("{quota} {}", period.unwrap_or(PERIOD))
        }
    };
    super::write(place, BANDWIDTH, "cpu.max", &value)
}

fn apply_realtime(cgroup: &Cgroup, cpu: &Cpu) -> Result<(), CgroupError> {
    let period = cpu.realtime_period.filter(|&period| period != 0);
    let runtime = cpu.realtime_runtime.filter(|&runtime| runtime != 0);
    if period.is_none() && runtime.is_none() {
        return Ok(());
    }
    let place = super::need(cgroup, Controller::Cpu, REALTIME, "cpu.rt_runtime_us")?;
    if place.version == Version::V2 {
        return Err(CgroupError::Unsupported {
            what: REALTIME,
            version: "v2",
        });
    }
    if let Some(period) = period {
        super::write(place, REALTIME, "cpu.rt_period_us", &period)?;
    }
    if let Some(runtime) = runtime {
        super::write(place, REALTIME, "cpu.rt_runtime_us", &runtime)?;
    }
    Ok(())
}

/// v2's weight of v1's shares: the curve through 2 -> 1, 1024 -> 100 and 262144 -> 10000, the ends and defaults of
/// both scales, as runc (since 1.3.2) and crun (since 1.23) draw it. The straight line that they had before made the
/// default share less than half of v2's default weight.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "shares are below 2^18 and the result is between 1 and 10000"
)]
pub(super) fn weight(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            10f64.powf(exponent).ceil() as u64
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_of_shares() {
        for (shares, expect) in [
            (1, 1),
            (2, 1),
            (1024, 100),
            (2000, 170),
            (262_144, 10_000),
            (300_000, 10_000),
        ] {
            assert_eq!(weight(shares), expect, "{shares}");
        }
        let all: Vec<u64> = (2..3000).map(weight).collect();
        assert!(all.is_sorted());
    }
}
