//! Capabilities, security options, kernel settings, and shared namespaces.

use crate::args::Call;
use crate::failure::Failure;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;

/// The most that is read of a seccomp profile.
const PROFILE_MAX: u64 = 4 << 20;

/// What `--security-opt` means.
pub(super) struct Security {
    pub(super) options: Option<Vec<String>>,
    pub(super) masked_paths: Option<Vec<String>>,
    pub(super) readonly_paths: Option<Vec<String>>,
}

pub(super) fn read(call: &Call) -> Result<Security, Failure> {
    let given = call.list("security-opt");
    let mut options = Vec::new();
    let mut open_paths = false;
    for text in &given {
        if *text == "systempaths=unconfined" {
            open_paths = true;
            continue;
        }
        options.push(option(text)?);
    }
    // an empty list opens all paths; none leaves the engine's default
    let paths = open_paths.then(Vec::new);
    Ok(Security {
        options: (!given.is_empty()).then_some(options),
        masked_paths: paths.clone(),
        readonly_paths: paths,
    })
}

/// One option; the engine gets the text of a seccomp profile, for it may not see our files.
fn option(text: &str) -> Result<String, Failure> {
    let (name, value) = match text.split_once('=').or_else(|| text.split_once(':')) {
        Some(pair) => pair,
        None if text == "no-new-privileges" => return Ok(text.to_owned()),
        None => {
            return Err(Failure::message(format!(
                "Invalid --security-opt: {text:?}"
            )));
        }
    };
    if name != "seccomp" || matches!(value, "unconfined" | "builtin") {
        return Ok(text.to_owned());
    }
    let failed =
        |why: &str| Failure::message(format!("opening seccomp profile ({value}) failed: {why}"));
    let mut profile = String::new();
    let file = File::open(value).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => failed(&format!("open {value}: no such file or directory")),
        _ => failed(&format!("open {value}: {error}")),
    })?;
    file.take(PROFILE_MAX)
        .read_to_string(&mut profile)
        .map_err(|error| failed(&error.to_string()))?;
    let json: serde_json::Value = serde_json::from_str(&profile).map_err(|error| {
        Failure::message(format!(
            "compacting json for seccomp profile ({value}) failed: {error}"
        ))
    })?;
    Ok(format!("seccomp={json}"))
}

/// Capabilities by their full names, sorted, each once.
pub(super) fn capabilities(names: &[&str]) -> Vec<String> {
    let mut full = BTreeSet::new();
    for name in names {
        let name = name.trim().to_ascii_uppercase();
        full.insert(
            if name == "ALL" || name == "RESET" || name.starts_with("CAP_") {
                name
            } else {
                format!("CAP_{name}")
            },
        );
    }
    if full.contains("ALL") {
        return vec!["ALL".to_owned()];
    }
    full.into_iter().collect()
}

/// Settings that live in a namespace; others would change the host.
pub(super) fn sysctls(call: &Call) -> Result<BTreeMap<String, String>, Failure> {
    const NAMED: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    let all = call.parsed_list("sysctl", |text| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        let spaced = ["net.", "fs.mqueue."]
            .iter()
            .any(|prefix| name.starts_with(prefix));
        if !text.contains('=') || !(spaced || NAMED.contains(&name)) {
            return Err(format!("sysctl '{text}' is not allowed"));
        }
        Ok((name.to_owned(), value.to_owned()))
    })?;
    Ok(all.into_iter().collect())
}

/// A mode that is the container's own, the host's, or another container's.
fn mode(call: &Call, flag: &str, accepted: &[&str], what: &str) -> Result<String, Failure> {
    let text = call.text_or_empty(flag);
    let container = accepted.contains(&"container:")
        && text
            .strip_prefix("container:")
            .is_some_and(|id| !id.is_empty());
    if text.is_empty() || accepted.contains(&text.as_str()) || container {
        return Ok(text);
    }
    Err(Failure::message(format!("--{flag}: invalid {what} mode")))
}

pub(super) fn pid_mode(call: &Call) -> Result<String, Failure> {
    mode(call, "pid", &["host", "container:"], "PID")
}

pub(super) fn uts_mode(call: &Call) -> Result<String, Failure> {
    mode(call, "uts", &["host"], "UTS")
}

pub(super) fn userns_mode(call: &Call) -> Result<String, Failure> {
    mode(call, "userns", &["host", "auto"], "USER")
}

pub(super) fn cgroupns(call: &Call) -> Result<String, Failure> {
    mode(call, "cgroupns", &["host", "private"], "CGROUP")
}
