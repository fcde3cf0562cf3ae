//! From the flags of `run` and `create` to the body of `POST /containers/create`.

mod device;
mod env;
pub(crate) mod flags;
mod health;
mod limits;
mod mount;
mod network;
mod ports;
mod security;
mod volume;

pub(crate) use env::{from_flags as environment, labels, map};
pub(crate) use limits::{changeable, restart_policy};
pub(crate) use network::{driver_option, link};
pub(crate) use ports::published;

use crate::args::Call;
use crate::failure::Failure;
use api::container::{Config, CreateRequest};
use api::host_config::{HostConfig, LogConfig};
use api::wire::{EmptyObject, StrSlice};
use std::collections::BTreeMap;
use std::path::Path;

/// What the flags ask for beside the body.
#[derive(Debug)]
pub(crate) struct Creation {
    pub(crate) request: CreateRequest,
    pub(crate) name: Option<String>,
    pub(crate) platform: Option<String>,
    pub(crate) cidfile: Option<String>,
    pub(crate) pull: Pull,
    pub(crate) quiet: bool,
}

/// When the image is pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pull {
    Always,
    Missing,
    Never,
}

/// Reads the flags.
///
/// # Errors
/// With Docker's words, of the first flag that makes no sense.
pub(crate) fn from_flags(call: &Call) -> Result<Creation, Failure> {
    let image = call.operands[0].clone();
    check_reference(&image)?;
    let pull = match call.text("pull") {
        None | Some("missing" | "") => Pull::Missing,
        Some("always") => Pull::Always,
        Some("never") => Pull::Never,
        Some(other) => {
            return Err(Failure::message(format!(
                "invalid pull option: '{other}': must be one of \"always\", \"missing\" or \"never\""
            )));
        }
    };
    let platform = call
        .text("platform")
        .filter(|text| !text.is_empty())
        .map(str::to_owned);
    if let Some(text) = &platform {
        text.parse::<oci::Platform>().map_err(|error| {
            Failure::message(format!("error parsing specified platform: {error}"))
        })?;
    }
    let config = config(call, image)?;
    let host_config = host_config(call)?;
    let networking_config = network::networking_config(call)?;
    let cidfile = call
        .text("cidfile")
        .filter(|path| !path.is_empty())
        .map(str::to_owned);
    if let Some(path) = cidfile.as_deref().filter(|path| Path::new(path).exists()) {
        return Err(Failure::message(format!(
            "container ID file found, make sure the other container isn't running or delete {path}"
        )));
    }
    Ok(Creation {
        request: CreateRequest {
            config,
            host_config: Some(host_config),
            networking_config: Some(networking_config),
        },
        name: call
            .text("name")
            .filter(|name| !name.is_empty())
            .map(str::to_owned),
        platform,
        cidfile,
        pull,
        quiet: call.on("quiet"),
    })
}

/// Refuses what can name no image; a bare id is left to the engine.
fn check_reference(image: &str) -> Result<(), Failure> {
    match image.parse::<oci::Reference>() {
        Ok(_) | Err(oci::reference::ParseReferenceError::IsId { .. }) => Ok(()),
        Err(error) => Err(Failure::message(error.to_string())),
    }
}

fn config(call: &Call, image: String) -> Result<Config, Failure> {
    let command = &call.operands[1..];
    let streams = Streams::read(call)?;
    let interactive = call.on("interactive");
    let ports = ports::read(call)?;
    let volumes = volume::read(call)?;
    Ok(Config {
        hostname: call.text_or_empty("hostname"),
        domainname: call.text_or_empty("domainname"),
        user: call.text_or_empty("user"),
        attach_stdin: streams.stdin,
        attach_stdout: streams.stdout,
        attach_stderr: streams.stderr,
        exposed_ports: ports
            .exposed
            .into_iter()
            .map(|port| (port, EmptyObject))
            .collect(),
        tty: call.on("tty"),
        open_stdin: interactive,
        stdin_once: interactive && streams.stdin,
        env: none_if_empty(env::from_flags(call)?),
        cmd: (!command.is_empty()).then(|| StrSlice(command.to_vec())),
        healthcheck: health::from_flags(call)?,
        image,
        volumes: Some(
            volumes
                .anonymous
                .into_iter()
                .map(|path| (path, EmptyObject))
                .collect(),
        ),
        working_dir: call.text_or_empty("workdir"),
        entrypoint: call
            .text("entrypoint")
            .map(|program| StrSlice(vec![program.to_owned()])),
        labels: Some(env::labels(call)?),
        stop_signal: call.text_or_empty("stop-signal"),
        stop_timeout: call.integer("stop-timeout")?,
        ..Config::default()
    })
}

/// Which streams are attached.
struct Streams {
    stdin: bool,
    stdout: bool,
    stderr: bool,
}

impl Streams {
    fn read(call: &Call) -> Result<Self, Failure> {
        let named =
            call.parsed_list("attach", |text| match text.to_ascii_lowercase().as_str() {
                name @ ("stdin" | "stdout" | "stderr") => Ok(name.to_owned()),
                _ => Err("valid streams are STDIN, STDOUT and STDERR".to_owned()),
            })?;
        let has = |name: &str| named.iter().any(|stream| stream == name);
        if !named.is_empty() {
            return Ok(Self {
                stdin: has("stdin"),
                stdout: has("stdout"),
                stderr: has("stderr"),
            });
        }
        // `run -d` attaches nothing; `create` has no such flag
        let attached = call.verb.flags().all(|flag| flag.long != "detach") || !call.on("detach");
        Ok(Self {
            stdin: attached && call.on("interactive"),
            stdout: attached,
            stderr: attached,
        })
    }
}

fn host_config(call: &Call) -> Result<HostConfig, Failure> {
    let restart_policy =
        limits::restart_policy(call.text("restart").unwrap_or("no")).map_err(Failure::message)?;
    let auto_remove = call.on("rm");
    if auto_remove && !matches!(restart_policy.name.as_str(), "" | "no") {
        return Err(Failure::message(
            "conflicting options: cannot specify both --restart and --rm",
        ));
    }
    let security = security::read(call)?;
    let volumes = volume::read(call)?;
    let resources = limits::resources(call)?;
    Ok(HostConfig {
        binds: none_if_empty(volumes.binds),
        container_id_file: call.text_or_empty("cidfile"),
        log_config: log_config(call)?,
        network_mode: network::mode(call)?,
        port_bindings: Some(ports::read(call)?.bindings),
        restart_policy,
        auto_remove,
        volume_driver: call.text_or_empty("volume-driver"),
        volumes_from: none_if_empty(owned(call.list("volumes-from"))),
        annotations: env::map(call, "annotation"),
        cap_add: none_if_empty(security::capabilities(&call.list("cap-add"))).map(StrSlice),
        cap_drop: none_if_empty(security::capabilities(&call.list("cap-drop"))).map(StrSlice),
        cgroupns_mode: security::cgroupns(call)?,
        dns: Some(call.parsed_list("dns", network::address)?),
        dns_options: Some(owned(
            [call.list("dns-opt"), call.list("dns-option")].concat(),
        )),
        dns_search: Some(call.parsed_list("dns-search", network::search_domain)?),
        extra_hosts: none_if_empty(call.parsed_list("add-host", network::extra_host)?),
        group_add: none_if_empty(owned(call.list("group-add"))),
        ipc_mode: call.text_or_empty("ipc"),
        links: none_if_empty(call.parsed_list("link", network::link)?),
        oom_score_adj: call.integer("oom-score-adj")?.unwrap_or(0),
        pid_mode: security::pid_mode(call)?,
        privileged: call.on("privileged"),
        publish_all_ports: call.on("publish-all"),
        readonly_rootfs: call.on("read-only"),
        security_opt: security.options,
        storage_opt: storage_options(call)?,
        tmpfs: env::split_map(&call.list("tmpfs"), ':'),
        uts_mode: security::uts_mode(call)?,
        userns_mode: security::userns_mode(call)?,
        shm_size: call
            .parsed("shm-size", crate::units::parse_size)?
            .unwrap_or(0),
        sysctls: security::sysctls(call)?,
        runtime: call.text_or_empty("runtime"),
        isolation: call.text_or_empty("isolation"),
        mounts: call.parsed_list("mount", mount::parse)?,
        masked_paths: security.masked_paths,
        readonly_paths: security.readonly_paths,
        init: call.given("init").then(|| call.on("init")),
        resources,
        ..HostConfig::default()
    })
}

fn log_config(call: &Call) -> Result<LogConfig, Failure> {
    let kind = call.text_or_empty("log-driver");
    let config = env::map(call, "log-opt");
    if kind == "none" && !config.is_empty() {
        return Err(Failure::message("invalid logging opts for driver none"));
    }
    Ok(LogConfig {
        kind,
        config: Some(config),
    })
}

fn storage_options(call: &Call) -> Result<BTreeMap<String, String>, Failure> {
    let options = call.list("storage-opt");
    if options.iter().any(|option| !option.contains('=')) {
        return Err(Failure::message("invalid storage option"));
    }
    Ok(env::split_map(&options, '='))
}

/// Reads Go's `strconv.ParseInt`; says what is wrong in its words.
fn parse_integer(text: &str) -> Result<i64, &'static str> {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    text.parse()
        .map_err(|error: std::num::ParseIntError| match error.kind() {
            NegOverflow | PosOverflow => "value out of range",
            _ => "invalid syntax",
        })
}

fn owned(list: Vec<&str>) -> Vec<String> {
    list.into_iter().map(str::to_owned).collect()
}

fn none_if_empty<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

#[cfg(test)]
mod tests;
