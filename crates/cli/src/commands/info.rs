//! `gorae info`.

use crate::args::{Call, Operands, Verb};
use crate::inspect::{self, FORMAT};
use crate::output::{self, complain};
use crate::{connect, units};
use api::system::Info;
use serde_json::json;
use std::fmt::Write;

pub(crate) static VERB: Verb = Verb {
    about: "Display system-wide information",
    usage: "[OPTIONS]",
    operands: Operands::NONE,
    flags: &[&[FORMAT]],
    examples: &[(
        "info -f '{{.Driver}} {{.CgroupVersion}}'",
        "Show how the engine stores layers and limits resources",
    )],
    run: |call| Box::pin(run(call)),
};

async fn run(call: &Call) -> anyhow::Result<u8> {
    connect::ready(&call.client, &call.globals).await?;
    let info: Info = call.client.get("/info").fetch().await?;
    let mut value = serde_json::to_value(&info)?;
    value["ClientInfo"] = json!({
        "Debug": call.globals.debug,
        "Version": env!("CARGO_PKG_VERSION"),
        "Context": "default",
        "Plugins": [],
        "Warnings": null,
    });
    if inspect::one(call.text("format"), &value)?.is_some() {
        return Ok(0);
    }
    let mut text = String::new();
    describe(&mut text, &info, call.globals.debug)?;
    output::line(text)?;
    for warning in info.warnings.unwrap_or_default() {
        complain(warning);
    }
    Ok(0)
}

fn describe(out: &mut String, info: &Info, debug: bool) -> std::fmt::Result {
    writeln!(
        out,
        "Client: Gorae\n Version:    {}\n Debug Mode: {debug}\n",
        env!("CARGO_PKG_VERSION")
    )?;
    writeln!(out, "Server:\n Containers: {}", info.containers)?;
    writeln!(
        out,
        "  Running: {}\n  Paused: {}",
        info.containers_running, info.containers_paused
    )?;
    writeln!(
        out,
        "  Stopped: {}\n Images: {}",
        info.containers_stopped, info.images
    )?;
    writeln!(
        out,
        " Server Version: {}\n Storage Driver: {}",
        info.server_version, info.driver
    )?;
    for (name, value) in info.driver_status.iter().flatten() {
        writeln!(out, "  {name}: {value}")?;
    }
    for (name, value) in [
        ("Logging Driver", &info.logging_driver),
        ("Cgroup Driver", &info.cgroup_driver),
        ("Cgroup Version", &info.cgroup_version),
    ] {
        if !value.is_empty() {
            writeln!(out, " {name}: {value}")?;
        }
    }
    writeln!(out, " Plugins:")?;
    for (name, list) in [
        ("Volume", &info.plugins.volume),
        ("Network", &info.plugins.network),
        ("Log", &info.plugins.log),
    ] {
        writeln!(
            out,
            "  {name}: {}",
            list.as_deref().unwrap_or_default().join(" ")
        )?;
    }
    if let Some(dirs) = info
        .cdi_spec_dirs
        .as_deref()
        .filter(|dirs| !dirs.is_empty())
    {
        writeln!(out, " CDI spec directories:\n  {}", dirs.join("\n  "))?;
    }
    writeln!(out, " Swarm: {}", info.swarm.local_node_state)?;
    let runtimes: Vec<&str> = info
        .runtimes
        .iter()
        .flatten()
        .map(|(name, _)| name.as_str())
        .collect();
    writeln!(
        out,
        " Runtimes: {}\n Default Runtime: {}",
        runtimes.join(" "),
        info.default_runtime
    )?;
    writeln!(out, " Init Binary: {}", info.init_binary)?;
    security(out, info.security_options.as_deref().unwrap_or_default())?;
    host(out, info)
}

/// `name=seccomp,profile=builtin` as a name with its details below.
fn security(out: &mut String, options: &[String]) -> std::fmt::Result {
    if !options.is_empty() {
        writeln!(out, " Security Options:")?;
    }
    for option in options {
        for pair in option.split(',') {
            match pair.split_once('=') {
                Some(("name", name)) => writeln!(out, "  {name}")?,
                Some(("profile", profile)) => writeln!(out, "   Profile: {profile}")?,
                Some((key, value)) => writeln!(out, "   {key}: {value}")?,
                None => writeln!(out, "  {pair}")?,
            }
        }
    }
    Ok(())
}

fn host(out: &mut String, info: &Info) -> std::fmt::Result {
    for (name, value) in [
        ("Kernel Version", info.kernel_version.clone()),
        ("Operating System", info.operating_system.clone()),
        ("OSType", info.os_type.clone()),
        ("Architecture", info.architecture.clone()),
        ("CPUs", info.n_cpu.to_string()),
        ("Total Memory", units::binary_size(info.mem_total)),
        ("Name", info.name.clone()),
        ("ID", info.id.clone()),
        ("Docker Root Dir", info.docker_root_dir.clone()),
        ("Debug Mode", info.debug.to_string()),
        ("HTTP Proxy", info.http_proxy.clone()),
        ("HTTPS Proxy", info.https_proxy.clone()),
        ("No Proxy", info.no_proxy.clone()),
    ] {
        if !value.is_empty() {
            writeln!(out, " {name}: {value}")?;
        }
    }
    if let Some(labels) = info.labels.as_deref().filter(|labels| !labels.is_empty()) {
        writeln!(out, " Labels:\n  {}", labels.join("\n  "))?;
    }
    writeln!(out, " Experimental: {}", info.experimental_build)?;
    if let Some(registries) = &info.registry_config {
        writeln!(out, " Insecure Registries:")?;
        let configs = registries
            .index_configs
            .iter()
            .flatten()
            .filter(|(_, index)| !index.secure);
        for (name, _) in configs {
            writeln!(out, "  {name}")?;
        }
        for network in registries.insecure_registry_cidrs.iter().flatten() {
            writeln!(out, "  {network}")?;
        }
        if let Some(mirrors) = registries
            .mirrors
            .as_deref()
            .filter(|mirrors| !mirrors.is_empty())
        {
            writeln!(out, " Registry Mirrors:\n  {}", mirrors.join("\n  "))?;
        }
    }
    write!(out, " Live Restore Enabled: {}", info.live_restore_enabled)?;
    if let Some(firewall) = &info.firewall_backend {
        write!(out, "\n Firewall Backend: {}", firewall.driver)?;
    }
    writeln!(out)
}
