//! Limits, and the restart policy.

use super::device;
use crate::args::Call;
use crate::failure::Failure;
use crate::units::{parse_cpus, parse_rate, parse_size};
use api::host_config::{Resources, RestartPolicy, ThrottleDevice, Ulimit, WeightDevice};
use std::collections::BTreeMap;

pub(super) fn resources(call: &Call) -> Result<Resources, Failure> {
    let swappiness = call.integer("memory-swappiness")?.unwrap_or(-1);
    if swappiness != -1 && !(0..=100).contains(&swappiness) {
        return Err(Failure::message(format!(
            "invalid value: {swappiness}. Valid memory swappiness range is 0-100"
        )));
    }
    // the limit on kernel memory has no effect on any kernel that Docker 28 supports; a bad value is still refused
    call.parsed("kernel-memory", parse_size)?;
    let (devices, device_requests) = device::read(call)?;
    let limits = changeable(call)?;
    Ok(Resources {
        cgroup_parent: call.text_or_empty("cgroup-parent"),
        blkio_weight_device: Some(call.parsed_list("blkio-weight-device", weight_device)?),
        blkio_device_read_bps: Some(call.parsed_list("device-read-bps", bytes_device)?),
        blkio_device_write_bps: Some(call.parsed_list("device-write-bps", bytes_device)?),
        blkio_device_read_iops: Some(call.parsed_list("device-read-iops", operations_device)?),
        blkio_device_write_iops: Some(call.parsed_list("device-write-iops", operations_device)?),
        devices: Some(devices),
        device_cgroup_rules: super::none_if_empty(
            call.parsed_list("device-cgroup-rule", device::cgroup_rule)?,
        ),
        device_requests: super::none_if_empty(device_requests),
        memory_swappiness: Some(swappiness),
        oom_kill_disable: Some(call.on("oom-kill-disable")),
        ulimits: Some(ulimits(call)?),
        pids_limit: Some(limits.pids_limit.unwrap_or(0)),
        ..limits
    })
}

/// The limits that a container can be given later too.
pub(crate) fn changeable(call: &Call) -> Result<Resources, Failure> {
    let integer = |name: &str| -> Result<i64, Failure> { Ok(call.integer(name)?.unwrap_or(0)) };
    let size =
        |name: &str| -> Result<i64, Failure> { Ok(call.parsed(name, parse_size)?.unwrap_or(0)) };
    let rate =
        |name: &str| -> Result<i64, Failure> { Ok(call.parsed(name, parse_rate)?.unwrap_or(0)) };
    Ok(Resources {
        blkio_weight: call.parsed("blkio-weight", parse_u16)?.unwrap_or(0),
        cpu_period: integer("cpu-period")?,
        cpu_quota: integer("cpu-quota")?,
        cpu_realtime_period: integer("cpu-rt-period")?,
        cpu_realtime_runtime: integer("cpu-rt-runtime")?,
        cpu_shares: integer("cpu-shares")?,
        nano_cpus: call.parsed("cpus", parse_cpus)?.unwrap_or(0),
        cpuset_cpus: call.text_or_empty("cpuset-cpus"),
        cpuset_mems: call.text_or_empty("cpuset-mems"),
        memory: size("memory")?,
        memory_reservation: size("memory-reservation")?,
        memory_swap: memory_swap(call)?,
        // as Docker's client, for which zero is a flag that was not given
        pids_limit: call.integer("pids-limit")?.filter(|limit| *limit != 0),
        network_ingress_rate: rate("net-ingress")?,
        network_egress_rate: rate("net-egress")?,
        ..Resources::default()
    })
}

/// `--memory-swap`, where -1 stands for no limit.
fn memory_swap(call: &Call) -> Result<i64, Failure> {
    let parse = |text: &str| {
        if text == "-1" {
            Ok(-1)
        } else {
            parse_size(text)
        }
    };
    Ok(call.parsed("memory-swap", parse)?.unwrap_or(0))
}

/// `--restart`: a policy and perhaps how many times.
pub(crate) fn restart_policy(text: &str) -> Result<RestartPolicy, String> {
    let (name, count) = match text.split_once(':') {
        None => (text, None),
        Some(("", _)) => {
            return Err(
                "invalid restart policy format: no policy provided before colon".to_owned(),
            );
        }
        Some((name, count)) => (name, Some(count)),
    };
    let maximum_retry_count = match count {
        None | Some("") => 0,
        Some(count) => count.parse().map_err(|_| {
            "invalid restart policy format: maximum retry count must be an integer".to_owned()
        })?,
    };
    Ok(RestartPolicy {
        name: name.to_owned(),
        maximum_retry_count,
    })
}

fn parse_u16(text: &str) -> Result<u16, String> {
    text.parse()
        .map_err(|_| format!("strconv.ParseUint: parsing {text:?}: invalid syntax"))
}

/// `path:value`, cut at the first colon.
fn device_value(text: &str) -> Result<(String, &str), String> {
    let (path, value) = text
        .split_once(':')
        .ok_or_else(|| format!("bad format: {text}"))?;
    if !path.starts_with("/dev/") {
        return Err(format!("bad format for device path: {text}"));
    }
    Ok((path.to_owned(), value))
}

fn weight_device(text: &str) -> Result<WeightDevice, String> {
    let (path, value) = device_value(text)?;
    let weight = value
        .parse()
        .map_err(|_| format!("invalid weight for device: {text}"))?;
    if weight != 0 && !(10..=1000).contains(&weight) {
        return Err(format!("invalid weight for device: {text}"));
    }
    Ok(WeightDevice { path, weight })
}

fn bytes_device(text: &str) -> Result<ThrottleDevice, String> {
    let (path, value) = device_value(text)?;
    let rate = parse_size(value).ok().and_then(|rate| u64::try_from(rate).ok()).ok_or_else(|| {
        format!(
            "invalid rate for device: {text}. The correct format is <device-path>:<number>[<unit>]. Number must be a positive integer. Unit is optional and can be kb, mb, or gb"
        )
    })?;
    Ok(ThrottleDevice { path, rate })
}

fn operations_device(text: &str) -> Result<ThrottleDevice, String> {
    let (path, value) = device_value(text)?;
    let rate = value.parse().map_err(|_| {
        format!(
            "invalid rate for device: {text}. The correct format is <device-path>:<number>. Number must be a positive integer"
        )
    })?;
    Ok(ThrottleDevice { path, rate })
}

/// The names that the kernel's resource limits have in Docker.
const ULIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// The limits in the order of their names, the last of each name.
fn ulimits(call: &Call) -> Result<Vec<Ulimit>, Failure> {
    let all = call.parsed_list("ulimit", ulimit)?;
    let by_name: BTreeMap<String, Ulimit> = all
        .into_iter()
        .map(|limit| (limit.name.clone(), limit))
        .collect();
    Ok(by_name.into_values().collect())
}

fn ulimit(text: &str) -> Result<Ulimit, String> {
    let (name, values) = text
        .split_once('=')
        .ok_or_else(|| format!("invalid ulimit argument: {text}"))?;
    if !ULIMITS.contains(&name) {
        return Err(format!("invalid ulimit type: {name}"));
    }
    let numbers: Vec<&str> = values.split(':').collect();
    let parse = |text: &str| {
        text.parse::<i64>()
            .map_err(|_| format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))
    };
    let (soft, hard) = match numbers.as_slice() {
        [both] => (parse(both)?, parse(both)?),
        [soft, hard] => (parse(soft)?, parse(hard)?),
        _ => {
            return Err(format!(
                "too many limit value arguments - {values}, can only have up to two, `soft[:hard]`"
            ));
        }
    };
    if hard != -1 && soft == -1 {
        return Err(format!(
            "ulimit soft limit must be less than or equal to hard limit: soft: -1 (unlimited), hard: {hard}"
        ));
    }
    if hard != -1 && soft > hard {
        return Err(format!(
            "ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
        ));
    }
    Ok(Ulimit {
        name: name.to_owned(),
        hard,
        soft,
    })
}
