//! Whether a container's configuration makes sense, in Docker's words, and the defaults it leaves open.

mod health;
mod limits;
mod modes;
#[cfg(test)]
mod tests;

pub(super) use limits::limits;
pub(super) use modes::network;

use api::container::Config;
use api::host_config::HostConfig;

use super::{defaults, spec};
use crate::error::{Error, Result};
use crate::signal;

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
    health::check(config)?;
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
    modes::check(host)?;
    capabilities(host)?;
    ulimits(host)?;
    security(host)?;
    options(host)
}

/// Looks all names of capabilities up, which a privileged container would not do.
fn capabilities(host: &HostConfig) -> Result<()> {
    let plain = HostConfig {
        privileged: false,
        cap_add: host.cap_add.clone(),
        cap_drop: host.cap_drop.clone(),
        ..HostConfig::default()
    };
    spec::capabilities(&plain).map(drop)
}

/// Refuses what the storage driver and the volumes cannot do.
fn options(host: &HostConfig) -> Result<()> {
    if !host.storage_opt.is_empty() {
        return Err(Error::invalid(
            "--storage-opt is supported only for overlay over xfs with 'pquota' mount option",
        ));
    }
    if let Some(request) = host.resources.device_requests.iter().flatten().next() {
        return Err(Error::internal(no_driver(request)));
    }
    if host.annotations.contains_key("") {
        return Err(Error::invalid(
            "invalid Annotations: the empty string is not permitted as an annotation key",
        ));
    }
    let driver = host.volume_driver.as_str();
    let named = host
        .binds
        .iter()
        .flatten()
        .find(|bind| !bind.starts_with('/'));
    match named.and_then(|bind| bind.split(':').next()) {
        Some(name) if !matches!(driver, "" | "local") => Err(Error::not_found(format!(
            "create {name}: error looking up volume plugin {driver}: plugin {driver:?} not found"
        ))),
        _ => Ok(()),
    }
}

/// Docker's words for a request such as that of `--gpus`, which only a vendor's driver could answer.
fn no_driver(request: &api::host_config::DeviceRequest) -> String {
    let sets = request.capabilities.iter().flatten();
    let sets: Vec<String> = sets.map(|set| format!("[{}]", set.join(" "))).collect();
    format!(
        "could not select device driver {:?} with capabilities: [{}]",
        request.driver,
        sets.join(" ")
    )
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
    const KNOWN: [&str; 4] = ["seccomp", "apparmor", "label", "writable-cgroups"];
    for option in host.security_opt.iter().flatten() {
        if matches!(option.as_str(), "no-new-privileges" | "disable") {
            continue;
        }
        let parts = option.split_once('=').or_else(|| option.split_once(':'));
        let Some((name, value)) = parts else {
            let why = format!("invalid --security-opt 1: {option:?}");
            return Err(Error::invalid(why));
        };
        let is_boolean = || super::boolean(value).is_some();
        if !(KNOWN.contains(&name) || name == "no-new-privileges" && is_boolean()) {
            let why = format!("invalid --security-opt 2: {option:?}");
            return Err(Error::invalid(why));
        }
    }
    Ok(())
}
