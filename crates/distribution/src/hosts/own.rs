//! `registries.d/*.toml`, Gorae's own files.

use std::io;
use std::path::{Path, PathBuf};

use super::table::{self, Table};
use super::{HostsError, Rules, Site, read_file};

/// More files of one folder are not read.
const FILES_MAX: usize = 1024;
const REGISTRY: [&str; 9] = [
    "host",
    "address",
    "plain-http",
    "skip-verify",
    "ca",
    "cert",
    "key",
    "headers",
    "mirror",
];
const MIRROR: [&str; 8] = [
    "address",
    "capabilities",
    "override-path",
    "skip-verify",
    "ca",
    "cert",
    "key",
    "headers",
];

/// How closely an entry names a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    Any,
    Below(usize),
    Name,
}

/// The rules of the entry that names the registry most closely. All files are checked, so that a
/// mistake is told whichever registry is asked for.
pub(super) fn read(folder: &Path, domain: &str) -> Result<Option<Rules>, HostsError> {
    let mut best: Option<(Fit, PathBuf, Rules)> = None;
    for path in files(folder)? {
        let Some(text) = read_file(&path)? else {
            continue;
        };
        table::with(&path, &text, |root| {
            root.only(&["registry"])?;
            for entry in root.tables("registry")? {
                let (host, rules) = registry(&entry, &path)?;
                let Some(fit) = fit(host, domain) else {
                    continue;
                };
                match &best {
                    Some((other, file, _)) if *other == fit => {
                        let file = file.display();
                        let problem = format!("{host:?} is named already in {file}");
                        return Err(entry.wrong(problem));
                    }
                    Some((other, ..)) if *other > fit => {}
                    _ => best = Some((fit, path.clone(), rules)),
                }
            }
            Ok(())
        })?;
    }
    Ok(best.map(|(_, _, rules)| rules))
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, HostsError> {
    let failed = |source| HostsError::Read {
        path: folder.to_owned(),
        source,
    };
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed)?,
    };
    let mut found = Vec::new();
    for entry in entries.take(FILES_MAX) {
        let path = entry.map_err(failed)?.path();
        let hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if path.extension().is_some_and(|end| end == "toml") && !hidden {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn fit(host: &str, domain: &str) -> Option<Fit> {
    if host == "*" {
        return Some(Fit::Any);
    }
    match host.strip_prefix('*') {
        Some(end) => domain.ends_with(end).then_some(Fit::Below(end.len())),
        None => (host == domain).then_some(Fit::Name),
    }
}

fn registry<'a>(entry: &Table<'a>, path: &Path) -> Result<(&'a str, Rules), HostsError> {
    entry.only(&REGISTRY)?;
    let host = entry
        .text("host")?
        .ok_or_else(|| entry.wrong("a registry needs its host, such as host = \"docker.io\""))?;
    if !is_host(host) {
        let problem = format!("{host:?} is no registry's name, such as quay.io or 10.0.0.1:5000");
        return Err(entry.wrong_at("host", problem));
    }
    let mut own = Site::new(path);
    own.plain_http = entry.switch("plain-http")?.unwrap_or(false);
    if let Some(address) = entry.text("address")? {
        own.set_address(address, false)
            .map_err(|problem| entry.wrong_at("address", problem))?;
        if own.plain_http {
            let problem = "an address says by itself whether it is plain http";
            return Err(entry.wrong_at("plain-http", problem));
        }
    }
    common(entry, &mut own)?;
    let mirrors = entry.tables("mirror")?;
    let mirrors: Result<_, _> = mirrors.iter().map(|entry| mirror(entry, path)).collect();
    let rules = Rules {
        own: Some(own),
        mirrors: mirrors?,
    };
    Ok((host, rules))
}

fn is_host(host: &str) -> bool {
    let name = match host.strip_prefix("*.") {
        Some(rest) => rest,
        None if host == "*" => return true,
        None => host,
    };
    !name.is_empty()
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || ".-:[]_".contains(c))
}

fn mirror(entry: &Table<'_>, path: &Path) -> Result<Site, HostsError> {
    entry.only(&MIRROR)?;
    let mut site = Site::new(path);
    let address = entry
        .text("address")?
        .ok_or_else(|| entry.wrong("a mirror needs its address, such as https://mirror.example"))?;
    let override_path = entry.switch("override-path")?.unwrap_or(false);
    site.set_address(address, override_path)
        .map_err(|problem| entry.wrong_at("address", problem))?;
    if let Some(names) = entry.texts("capabilities")? {
        (site.pull, site.resolve) = (false, false);
        for name in names {
            match name {
                "pull" => site.pull = true,
                "resolve" => site.resolve = true,
                other => {
                    let problem = format!("capability {other:?} is not pull or resolve");
                    return Err(entry.wrong_at("capabilities", problem));
                }
            }
        }
    }
    common(entry, &mut site)?;
    Ok(site)
}

/// What registries and mirrors have in common.
fn common(entry: &Table<'_>, site: &mut Site) -> Result<(), HostsError> {
    site.skip_verify = entry.switch("skip-verify")?.unwrap_or(false);
    site.ca = entry.paths("ca")?;
    site.headers = entry.headers("headers")?;
    site.identity = match (entry.text("cert")?, entry.text("key")?) {
        (Some(cert), Some(key)) => Some((entry.path(cert), entry.path(key))),
        (None, None) => None,
        _ => return Err(entry.wrong("a client's cert and its key are given together")),
    };
    Ok(())
}
