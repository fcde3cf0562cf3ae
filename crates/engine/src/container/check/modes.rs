//! Which namespaces a container shares with whom, and what contradicts that.

use std::net::IpAddr;

use api::container::Config;
use api::host_config::HostConfig;

use crate::error::{Error, Result};

/// The address of the host, to be found by the engine.
const HOST_GATEWAY: &str = "host-gateway";

/// Checks the modes of the namespaces.
pub(super) fn check(host: &HostConfig) -> Result<()> {
    let is_container = |mode: &str| {
        mode.strip_prefix("container:")
            .is_some_and(|name| !name.is_empty())
    };
    if !matches!(host.pid_mode.as_str(), "" | "host") && !is_container(&host.pid_mode) {
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
    if !matches!(host.isolation.as_str(), "" | "default") {
        return Err(Error::invalid(format!(
            "invalid isolation ({}): linux only supports 'default'",
            host.isolation
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

/// Checks what a container wants of its network against the network it has.
pub(in crate::container) fn network(config: &Config, host: &HostConfig) -> Result<()> {
    let conflict = |what: &str| Err(Error::invalid(format!("conflicting options: {what}")));
    let has = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
    if host.uts_mode == "host" && !config.hostname.is_empty() {
        return conflict("hostname and the UTS mode");
    }
    let links = has(&host.links);
    if host.network_mode == "host" && links {
        return conflict(
            "host type networking can't be used with links. This would result in undefined behavior",
        );
    }
    if let Some(name) = host.network_mode.strip_prefix("container:") {
        let contradictions = [
            (!config.hostname.is_empty(), "hostname and the network mode"),
            (
                links,
                "container type network can't be used with links. This would result in undefined behavior",
            ),
            (has(&host.dns), "dns and the network mode"),
            (
                has(&host.extra_hosts),
                "custom host-to-IP mapping and the network mode",
            ),
            (
                !config.exposed_ports.is_empty(),
                "port exposing and the container type network mode",
            ),
        ];
        if name.is_empty() {
            return Err(Error::invalid(
                "invalid network mode: invalid container format container:<name|id>",
            ));
        }
        if let Some((_, what)) = contradictions.iter().find(|(is_so, _)| *is_so) {
            return conflict(what);
        }
    }
    host.extra_hosts
        .iter()
        .flatten()
        .try_for_each(|line| extra_host(line))
}

/// Checks one `--add-host`, `name:address`.
fn extra_host(line: &str) -> Result<()> {
    let parts = line.split_once(':');
    let Some((_, address)) = parts.filter(|(name, _)| !name.is_empty()) else {
        return Err(Error::invalid(format!("bad format for add-host: {line:?}")));
    };
    if address == HOST_GATEWAY || address.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "invalid IP address in add-host: {address:?}"
    )))
}
