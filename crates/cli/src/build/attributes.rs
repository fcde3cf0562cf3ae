//! The settings of the Dockerfile front end, from the flags.

use std::collections::BTreeMap;

use anyhow::bail;

use super::context::Named;
use crate::args::Call;
use crate::csv;
use crate::failure::Failure;

/// The settings that flags alone decide.
pub(crate) fn of_flags(call: &Call) -> anyhow::Result<BTreeMap<String, String>> {
    let mut attributes = BTreeMap::new();
    let mut set = |name: &str, value: String| attributes.insert(name.to_owned(), value);
    if let Some(target) = call.text("target") {
        set("target", target.to_owned());
    }
    platforms(call, &mut set);
    for argument in call.list("build-arg") {
        // a name alone takes the variable of the client's environment, or nothing
        let (name, value) = match argument.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (argument, std::env::var(argument).ok()),
        };
        if let Some(value) = value {
            set(&format!("build-arg:{name}"), value);
        }
    }
    if !call.list("build-arg").iter().any(|a| a.starts_with(EPOCH))
        && let Ok(epoch) = std::env::var(EPOCH)
    {
        set(&format!("build-arg:{EPOCH}"), epoch);
    }
    for label in call.list("label") {
        let (name, value) = label.split_once('=').unwrap_or((label, ""));
        set(&format!("label:{name}"), value.to_owned());
    }
    no_cache(call, &mut set);
    if call.on("pull") {
        set("image-resolve-mode", "pull".to_owned());
    }
    steps(call, &mut set)?;
    attestations(call, &mut set)?;
    Ok(attributes)
}

/// The variable that makes a build reproducible.
const EPOCH: &str = "SOURCE_DATE_EPOCH";

fn platforms(call: &Call, set: &mut impl FnMut(&str, String) -> Option<String>) {
    let platforms: Vec<&str> = call
        .list("platform")
        .into_iter()
        .flat_map(|list| list.split(','))
        .filter(|platform| !platform.is_empty())
        .collect();
    if !platforms.is_empty() {
        set("platform", platforms.join(","));
    }
}

fn no_cache(call: &Call, set: &mut impl FnMut(&str, String) -> Option<String>) {
    let filters: Vec<&str> = call
        .list("no-cache-filter")
        .into_iter()
        .flat_map(|list| list.split(','))
        .collect();
    if call.on("no-cache") {
        set("no-cache", String::new());
    } else if !filters.is_empty() {
        set("no-cache", filters.join(","));
    }
}

/// What holds for the steps.
fn steps(call: &Call, set: &mut impl FnMut(&str, String) -> Option<String>) -> anyhow::Result<()> {
    match call.text("network") {
        None | Some("" | "default") => {}
        Some(mode @ ("host" | "none")) => {
            set("force-network-mode", mode.to_owned());
        }
        Some(other) => {
            bail!(Failure::message(format!(
                "network mode {other:?} not supported by buildkit - you can define a custom network for your builder using the network driver-opt in buildx create"
            )));
        }
    }
    let hosts = call
        .list("add-host")
        .into_iter()
        .map(host)
        .collect::<anyhow::Result<Vec<_>>>()?;
    if !hosts.is_empty() {
        set("add-hosts", hosts.join(","));
    }
    if let Some(parent) = call.text("cgroup-parent") {
        set("cgroup-parent", parent.to_owned());
    }
    if let Some(size) = call.parsed("shm-size", crate::units::parse_size)? {
        set("shm-size", size.to_string());
    }
    let limits = call.list("ulimit");
    if !limits.is_empty() {
        set("ulimit", limits.join(","));
    }
    Ok(())
}

/// `name:address` or `name=address` as the front end reads it.
fn host(text: &str) -> anyhow::Result<String> {
    let split = text.split_once('=').or_else(|| text.split_once(':'));
    match split {
        Some((name, address)) if !name.is_empty() && !address.is_empty() => {
            let address = address.trim_start_matches('[').trim_end_matches(']');
            Ok(format!("{name}={address}"))
        }
        _ => bail!(Failure::message(format!("invalid host {text}"))),
    }
}

fn attestations(
    call: &Call,
    set: &mut impl FnMut(&str, String) -> Option<String>,
) -> anyhow::Result<()> {
    for text in call.list("attest") {
        let mut kind = None;
        let mut rest = Vec::new();
        for field in csv::fields(text).map_err(Failure::message)? {
            match field.split_once('=') {
                Some(("type", value)) => kind = Some(value.to_owned()),
                Some(_) => rest.push(field),
                None => bail!(Failure::message(format!(
                    "invalid value {field:?} for attest"
                ))),
            }
        }
        let Some(kind) = kind else {
            bail!(Failure::message("attestation type not specified"));
        };
        attest(set, &kind, &rest.join(","));
    }
    for kind in ["provenance", "sbom"] {
        match call.text(kind) {
            None => {}
            Some("" | "true") => attest(set, kind, ""),
            Some("false") => attest(set, kind, "disabled=true"),
            Some(settings) => attest(set, kind, settings),
        }
    }
    Ok(())
}

fn attest(set: &mut impl FnMut(&str, String) -> Option<String>, kind: &str, settings: &str) {
    set(&format!("attest:{kind}"), settings.to_owned());
}

/// Adds the named contexts.
pub(crate) fn add_contexts(attributes: &mut BTreeMap<String, String>, contexts: &[Named]) {
    for named in contexts {
        attributes.insert(format!("context:{}", named.name), named.attribute.clone());
    }
}
