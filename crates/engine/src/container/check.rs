//! Whether a container's configuration makes sense, in Docker's words, and the defaults it leaves open.

use api::container::Config;
use api::host_config::HostConfig;

use super::{defaults, spec};
use crate::error::{Error, Result};
use crate::signal;

/// The least memory a container can be limited to, bytes.
const MEMORY_MIN: i64 = 6 << 20;

/// Checks a request and fills its defaults; what is odd but possible becomes a warning.
pub(super) fn request(
    config: &Config,
    host: &mut HostConfig,
    warnings: &mut Vec<String>,
) -> Result<()> {
    command(config)?;
    if !config.stop_signal.is_empty() {
        signal::parse(&config.stop_signal)?;
    }
    if !config.working_dir.is_empty() && !config.working_dir.starts_with('/') {
        return Err(Error::invalid(format!(
            "the working directory '{}' is invalid, it needs to be an absolute path",
            config.working_dir
        )));
    }
    environment(config)?;
    fill(host);
    limits(host, warnings)?;
    if !matches!(
        host.runtime.as_str(),
        "runc" | "io.containerd.runc.v2" | "gorae"
    ) {
        return Err(Error::invalid(format!(
            "unknown or invalid runtime name: {}",
            host.runtime
        )));
    }
    modes(host)?;
    spec::capabilities(host)?;
    ulimits(host)?;
    security(host)
}

/// Checks what may change while a container runs: its limits and restart policy.
pub(super) fn limits(host: &mut HostConfig, warnings: &mut Vec<String>) -> Result<()> {
    memory(host, warnings)?;
    processors(host)?;
    restart_policy(host)
}

fn command(config: &Config) -> Result<()> {
    let words = |list: &Option<api::wire::StrSlice>| list.as_ref().map_or(0, |words| words.len());
    if words(&config.entrypoint) + words(&config.cmd) == 0 {
        return Err(Error::invalid("no command specified"));
    }
    Ok(())
}

fn environment(config: &Config) -> Result<()> {
    for variable in config.env.iter().flatten() {
        if variable.is_empty() || variable.starts_with('=') {
            return Err(Error::invalid(format!(
                "invalid environment variable: {variable}"
            )));
        }
        if variable.contains('\0') {
            return Err(Error::invalid(
                "invalid environment variable: it contains a NUL byte",
            ));
        }
    }
    Ok(())
}

fn fill(host: &mut HostConfig) {
    let default = |text: &mut String, value: &str| {
        if text.is_empty() {
            value.clone_into(text);
        }
    };
    if host.network_mode == "default" {
        host.network_mode.clear();
    }
    default(&mut host.network_mode, "bridge");
    default(&mut host.ipc_mode, "private");
    // Docker leaves the host's on v1; a container has no business with the host's paths there either
    default(
        &mut host.cgroupns_mode,
        if host.privileged { "host" } else { "private" },
    );
    default(&mut host.runtime, "runc");
    default(&mut host.restart_policy.name, "no");
    if host.shm_size == 0 {
        host.shm_size = spec::SHM_SIZE;
    }
    if !host.privileged {
        let list = |paths: &[&str]| paths.iter().map(|&p| p.to_owned()).collect::<Vec<_>>();
        let mut masked = list(&defaults::MASKED_PATHS);
        masked.push(defaults::MASKED_POWER.to_owned());
        host.masked_paths.get_or_insert(masked);
        host.readonly_paths
            .get_or_insert_with(|| list(&defaults::READONLY_PATHS));
    }
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
            "Invalid value {list} for cpuset {}",
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
        "on-failure" if retries < 0 => Err(Error::invalid(
            "invalid restart policy: maximum retry count cannot be negative",
        )),
        "no" => Ok(()),
        "always" | "unless-stopped" | "on-failure" if host.auto_remove => Err(Error::invalid(
            "can't create 'AutoRemove' container with restart policy",
        )),
        "always" | "unless-stopped" | "on-failure" => Ok(()),
        name => Err(Error::invalid(format!(
            "invalid restart policy: unknown policy '{name}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        ))),
    }
}

fn modes(host: &HostConfig) -> Result<()> {
    let is_container = |mode: &str| {
        mode.strip_prefix("container:")
            .is_some_and(|name| !name.is_empty())
    };
    if !matches!(host.pid_mode.as_str(), "" | "host" | "private") && !is_container(&host.pid_mode) {
        return Err(Error::invalid(format!(
            "invalid PID mode: {}",
            host.pid_mode
        )));
    }
    if !matches!(
        host.ipc_mode.as_str(),
        "host" | "private" | "shareable" | "none"
    ) && !is_container(&host.ipc_mode)
    {
        return Err(Error::invalid(format!(
            "invalid IPC mode: {}",
            host.ipc_mode
        )));
    }
    if !matches!(host.uts_mode.as_str(), "" | "host") {
        return Err(Error::invalid(format!(
            "invalid UTS mode: {}",
            host.uts_mode
        )));
    }
    if !matches!(host.cgroupns_mode.as_str(), "host" | "private") {
        return Err(Error::invalid(format!(
            "invalid cgroup namespace mode: {}",
            host.cgroupns_mode
        )));
    }
    if host.shm_size < 0 {
        return Err(Error::invalid("SHM size can not be less than 0"));
    }
    if !(-1000..=1000).contains(&host.oom_score_adj) {
        return Err(Error::invalid(format!(
            "Invalid value {}, range for oom score adj is [-1000, 1000]",
            host.oom_score_adj
        )));
    }
    Ok(())
}

fn ulimits(host: &HostConfig) -> Result<()> {
    const NAMES: [&str; 15] = [
        "as",
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
    ];
    for ulimit in host.resources.ulimits.iter().flatten() {
        if ulimit.name != "stack" && !NAMES.contains(&ulimit.name.as_str()) {
            return Err(Error::invalid(format!(
                "invalid ulimit type: {}",
                ulimit.name
            )));
        }
        if ulimit.hard != -1 && (ulimit.soft == -1 || ulimit.soft > ulimit.hard) {
            return Err(Error::invalid(format!(
                "ulimit soft limit must be less than or equal to hard limit: {} > {}",
                ulimit.soft, ulimit.hard
            )));
        }
    }
    Ok(())
}

fn security(host: &HostConfig) -> Result<()> {
    const KNOWN: [&str; 7] = [
        "no-new-privileges",
        "seccomp",
        "apparmor",
        "label",
        "systempaths",
        "writable-cgroups",
        "unmask",
    ];
    for option in host.security_opt.iter().flatten() {
        let name = option.split(['=', ':']).next().unwrap_or_default();
        if !KNOWN.contains(&name) {
            return Err(Error::invalid(format!(
                "invalid --security-opt 2: {option:?}"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(change: impl FnOnce(&mut HostConfig), words: &str) {
        let config = Config {
            cmd: Some(vec!["true".to_owned()].into()),
            ..Config::default()
        };
        let mut host = HostConfig::default();
        change(&mut host);
        let error = request(&config, &mut host, &mut Vec::new()).unwrap_err();
        assert!(
            error.message().contains(words),
            "{} lacks {words}",
            error.message()
        );
    }

    #[test]
    fn refuses_in_dockers_words() {
        refused(
            |h| h.resources.memory = 1 << 20,
            "Minimum memory limit allowed is 6MB",
        );
        refused(
            |h| (h.resources.memory, h.resources.memory_swap) = (64 << 20, 32 << 20),
            "Minimum memoryswap limit should be larger",
        );
        refused(
            |h| h.resources.nano_cpus = 10_000_000_000_000,
            "range of CPUs is from 0.01 to",
        );
        refused(
            |h| h.resources.cpuset_cpus = "4000".into(),
            "Requested CPUs are not available - requested 4000, available: ",
        );
        refused(
            |h| h.ipc_mode = "nonsense".into(),
            "invalid IPC mode: nonsense",
        );
        refused(
            |h| h.cap_add = Some(vec!["CAP_NOPE".to_owned()].into()),
            "CAP_NOPE",
        );
        refused(
            |h| h.restart_policy.name = "maybe".into(),
            "unknown policy 'maybe'",
        );
        let error = request(
            &Config::default(),
            &mut HostConfig::default(),
            &mut Vec::new(),
        )
        .unwrap_err();
        assert_eq!(error.message(), "no command specified");
    }
}
