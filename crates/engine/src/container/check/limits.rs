//! Limits and the restart policy: what may change while a container runs.

use std::path::Path;

use api::host_config::HostConfig;

use crate::error::{Error, Result};

/// The least memory a container can be limited to, bytes.
const MEMORY_MIN: i64 = 6 << 20;

/// Checks what may change while a container runs: its limits and restart policy.
pub(in crate::container) fn limits(
    host: &mut HostConfig,
    warnings: &mut Vec<String>,
) -> Result<()> {
    foreign(host, warnings)?;
    memory(host, warnings)?;
    processors(host)?;
    blocks(host, warnings)?;
    if host.resources.pids_limit.is_some_and(|most| most <= 0) {
        host.resources.pids_limit = None;
    }
    restart_policy(host)
}

/// What only Windows has, and what clients before 1.42 sent.
fn foreign(host: &mut HostConfig, warnings: &mut Vec<String>) -> Result<()> {
    let resources = &mut host.resources;
    resources.kernel_memory = 0;
    if resources.cpu_percent > 0 {
        warnings.push("linux does not support CPU percent. Percent discarded.".to_owned());
        resources.cpu_percent = 0;
    }
    let what = match (resources.io_maximum_iops, resources.io_maximum_bandwidth) {
        (0, 0) => return Ok(()),
        (0, _) => "bandwidth",
        _ => "IOPs",
    };
    Err(Error::invalid(format!(
        "invalid option: QoS maximum {what} configuration is not supported on linux"
    )))
}

/// Drops weights where the kernel has none, with a word about it.
fn blocks(host: &mut HostConfig, warnings: &mut Vec<String>) -> Result<()> {
    let resources = &mut host.resources;
    let devices = resources.blkio_weight_device.as_ref();
    let by_device = devices.is_some_and(|devices| !devices.is_empty());
    if (resources.blkio_weight > 0 || by_device) && !has_weights() {
        let mut discard = |what: &str, which: &str| {
            warnings.push(format!(
                "Your kernel does not support Block I/O {what} or the cgroup is not mounted. {which} discarded."
            ));
        };
        if resources.blkio_weight > 0 {
            discard("weight", "Weight");
        }
        if by_device {
            discard("weight_device", "Weight-device");
        }
        resources.blkio_weight = 0;
        resources.blkio_weight_device = Some(Vec::new()).filter(|_| by_device);
    }
    if resources.blkio_weight > 0 && !(10..=1000).contains(&resources.blkio_weight) {
        return Err(Error::invalid("Range of blkio weight is from 10 to 1000"));
    }
    Ok(())
}

/// Whether a weight of block I/O can be set: v1 without the scheduler CFQ or BFQ cannot.
fn has_weights() -> bool {
    let root = Path::new("/sys/fs/cgroup");
    let v1 = root.join("blkio");
    if v1.exists() {
        return v1.join("blkio.weight").exists() || v1.join("blkio.bfq.weight").exists();
    }
    let controllers = std::fs::read_to_string(root.join("cgroup.controllers"));
    controllers.is_ok_and(|list| list.split_whitespace().any(|name| name == "io"))
}

fn memory(host: &mut HostConfig, warnings: &mut Vec<String>) -> Result<()> {
    if host.resources.memory < 0
        || (host.resources.memory > 0 && host.resources.memory < MEMORY_MIN)
    {
        return Err(Error::invalid("Minimum memory limit allowed is 6MB"));
    }
    if host.resources.memory > 0
        && host.resources.memory_swap > 0
        && host.resources.memory_swap < host.resources.memory
    {
        return Err(Error::invalid(
            "Minimum memoryswap limit should be larger than memory limit, see usage",
        ));
    }
    if host.resources.memory == 0 && host.resources.memory_swap > 0 {
        return Err(Error::invalid(
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        ));
    }
    if host.resources.memory > 0 && host.resources.memory_swap == 0 {
        host.resources.memory_swap = host.resources.memory.saturating_mul(2);
    }
    if host
        .resources
        .memory_swappiness
        .is_some_and(|n| !(-1..=100).contains(&n))
    {
        let value = host.resources.memory_swappiness.unwrap_or_default();
        return Err(Error::invalid(format!(
            "Invalid value: {value}, valid memory swappiness range is 0-100"
        )));
    }
    if host.resources.memory_reservation > 0 && host.resources.memory_reservation < MEMORY_MIN {
        return Err(Error::invalid("Minimum memory reservation allowed is 6MB"));
    }
    if host.resources.memory > 0 && host.resources.memory_reservation > host.resources.memory {
        return Err(Error::invalid(
            "Minimum memory limit can not be less than memory reservation limit, see usage",
        ));
    }
    if host.resources.oom_kill_disable == Some(true) && host.resources.memory == 0 {
        warnings.push(
            "OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.".to_owned(),
        );
    }
    Ok(())
}

fn processors(host: &HostConfig) -> Result<()> {
    let count = crate::system::processors();
    let most = i64::try_from(count)
        .unwrap_or(i64::MAX)
        .saturating_mul(1_000_000_000);
    if host.resources.nano_cpus < 0 || host.resources.nano_cpus > most {
        return Err(Error::invalid(format!(
            "range of CPUs is from 0.01 to {count}.00, as there are only {count} CPUs available"
        )));
    }
    if host.resources.nano_cpus > 0
        && (host.resources.cpu_quota > 0 || host.resources.cpu_period > 0)
    {
        let which = if host.resources.cpu_period > 0 {
            "CPU Period"
        } else {
            "CPU Quota"
        };
        return Err(Error::invalid(format!(
            "Conflicting options: Nano CPUs and {which} cannot both be set"
        )));
    }
    if host.resources.cpu_shares < 0 {
        return Err(Error::invalid(format!(
            "invalid CPU shares ({}): value must be a positive integer",
            host.resources.cpu_shares
        )));
    }
    if host.resources.cpu_period != 0 && !(1_000..=1_000_000).contains(&host.resources.cpu_period) {
        return Err(Error::invalid(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        ));
    }
    if host.resources.cpu_quota > 0 && host.resources.cpu_quota < 1_000 {
        return Err(Error::invalid(
            "CPU cfs quota can not be less than 1ms (i.e. 1000)",
        ));
    }
    let (period, runtime) = (
        host.resources.cpu_realtime_period,
        host.resources.cpu_realtime_runtime,
    );
    if period != 0 && runtime != 0 && runtime > period {
        return Err(Error::invalid(
            "cpu real-time runtime cannot be higher than cpu real-time period",
        ));
    }
    cpuset(
        "CPUs",
        &host.resources.cpuset_cpus,
        "/sys/devices/system/cpu/online",
    )?;
    cpuset(
        "memory nodes",
        &host.resources.cpuset_mems,
        "/sys/devices/system/node/online",
    )
}

/// Checks a list as `0-3,7` against what the machine has.
fn cpuset(what: &str, list: &str, available: &str) -> Result<()> {
    if list.is_empty() {
        return Ok(());
    }
    let invalid = || {
        Error::invalid(format!(
            "Invalid value {list} for cpuset {}: invalid format: {list}",
            if what == "CPUs" { "cpus" } else { "mems" }
        ))
    };
    let wanted = parse_list(list).ok_or_else(invalid)?;
    let available = std::fs::read_to_string(available).unwrap_or_else(|_| "0".to_owned());
    let present = parse_list(available.trim()).unwrap_or_default();
    if wanted.iter().all(|n| present.contains(n)) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "Requested {what} are not available - requested {list}, available: {}",
        available.trim()
    )))
}

/// The numbers of a list as the kernel writes it; none when it is no list.
fn parse_list(text: &str) -> Option<Vec<u32>> {
    const MOST: u32 = 8192;
    let mut numbers = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (
            first.trim().parse::<u32>().ok()?,
            last.trim().parse::<u32>().ok()?,
        );
        if last < first || last >= MOST {
            return None;
        }
        numbers.extend(first..=last);
    }
    Some(numbers)
}

/// Checks the restart policy; `on-unhealthy` is an addition to Docker's.
fn restart_policy(host: &HostConfig) -> Result<()> {
    let policy = &host.restart_policy;
    let retries = policy.maximum_retry_count;
    match policy.name.as_str() {
        "no" | "always" | "unless-stopped" if retries != 0 => Err(Error::invalid(format!(
            "invalid restart policy: maximum retry count can only be used with 'on-failure'{}",
            if retries < 0 {
                " and cannot be negative"
            } else {
                ""
            }
        ))),
        "on-failure" | "on-unhealthy" if retries < 0 => Err(Error::invalid(
            "invalid restart policy: maximum retry count cannot be negative",
        )),
        "no" => Ok(()),
        "always" | "unless-stopped" | "on-failure" | "on-unhealthy" if host.auto_remove => Err(
            Error::invalid("can't create 'AutoRemove' container with restart policy"),
        ),
        "always" | "unless-stopped" | "on-failure" | "on-unhealthy" => Ok(()),
        name => Err(Error::invalid(format!(
            "invalid restart policy: unknown policy '{name}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped': Gorae also has 'on-unhealthy'"
        ))),
    }
}
