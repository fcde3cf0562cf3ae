//! `certs.d/<registry>/hosts.toml`, as containerd documents it (docs/hosts.md).

use std::path::{Path, PathBuf};

use http::Uri;

use super::table::{self, Table};
use super::{HostsError, Rules, Site, read_file};
use crate::location::is_loopback;

const FILE: &str = "hosts.toml";

/// The rules of a registry's folder, or of the folder `_default`.
pub(super) fn read(folder: &Path, domain: &str) -> Result<Option<Rules>, HostsError> {
    for name in folders(domain) {
        let path = folder.join(name).join(FILE);
        if let Some(text) = read_file(&path)? {
            let rules = table::with(&path, &text, |root| rules(root, &path));
            return rules.map(Some);
        }
    }
    Ok(None)
}

/// The names that a registry's folder may have; never one that leads elsewhere.
pub(super) fn folders(domain: &str) -> Vec<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
    let mut names = Vec::new();
    if !domain.starts_with('.') && domain.chars().all(plain) {
        names.push(domain.to_owned());
        if let Some((host, port)) = domain.rsplit_once(':') {
            names.push(format!("{host}_{port}_"));
        }
    }
    names.push("_default".to_owned());
    names
}

fn rules(root: &Table<'_>, path: &Path) -> Result<Rules, HostsError> {
    let mut own = Site::new(path);
    if let Some(server) = root.text("server")? {
        let override_path = root.switch("override_path")?.unwrap_or(false);
        own.set_address(&with_scheme(server), override_path)
            .map_err(|problem| root.wrong_at("server", problem))?;
    }
    settings(root, &mut own)?;
    let mut mirrors = Vec::new();
    if let Some(hosts) = root.table("host")? {
        for (name, entry) in hosts.named()? {
            let mut site = Site::new(path);
            let override_path = entry.switch("override_path")?.unwrap_or(false);
            site.set_address(&with_scheme(name), override_path)
                .map_err(|problem| entry.wrong(problem))?;
            settings(&entry, &mut site)?;
            mirrors.push(site);
        }
    }
    Ok(Rules {
        // a default has no registry of its own
        own: Some(own),
        mirrors,
    })
}

/// containerd takes a name without a protocol, too.
fn with_scheme(text: &str) -> String {
    if text.contains("://") {
        return text.to_owned();
    }
    let uri: Option<Uri> = format!("http://{text}").parse().ok();
    let local = uri.as_ref().and_then(Uri::host).is_some_and(is_loopback);
    let scheme = if local { "http" } else { "https" };
    format!("{scheme}://{text}")
}

fn settings(entry: &Table<'_>, site: &mut Site) -> Result<(), HostsError> {
    if let Some(names) = entry.texts("capabilities")? {
        site.pull = names.contains(&"pull");
        site.resolve = names.contains(&"resolve");
        let known = ["pull", "resolve", "push", "referrers"];
        if let Some(other) = names.iter().find(|name| !known.contains(name)) {
            let problem = format!("unknown capability {other:?}");
            return Err(entry.wrong_at("capabilities", problem));
        }
    }
    site.skip_verify = entry.switch("skip_verify")?.unwrap_or(false);
    site.ca = entry.paths("ca")?;
    site.headers = entry.headers("header")?;
    site.identity = identity(entry)?;
    Ok(())
}

/// `client` is a file with both, or pairs of certificate and key; the first one counts.
fn identity(entry: &Table<'_>) -> Result<Option<(PathBuf, PathBuf)>, HostsError> {
    if !entry.has("client") {
        return Ok(None);
    }
    let lists = entry.lists("client")?;
    let Some(first) = lists.first() else {
        return Ok(None);
    };
    match first.as_slice() {
        [both] => Ok(Some((entry.path(both), entry.path(both)))),
        [cert, ""] => Ok(Some((entry.path(cert), entry.path(cert)))),
        [cert, key] => Ok(Some((entry.path(cert), entry.path(key)))),
        _ => Err(entry.wrong_at("client", "a pair is a certificate and its key")),
    }
}
