//! Which engine a command is for: flags, environment, TLS and names.

use crate::failure::Failure;
use crate::globals::{Globals, TlsFlags, own_endpoint};
use anyhow::Context;
use api::client::{Endpoint, Tls, TlsFiles};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Finds the engine that flags or environment name; our own where they name none.
pub(crate) fn find(globals: &Globals) -> anyhow::Result<Endpoint> {
    let given = globals
        .host
        .clone()
        .or_else(|| variable("GORAE_HOST"))
        .or_else(|| variable("DOCKER_HOST"));
    let Some(text) = given else {
        return Ok(own_endpoint());
    };
    let tls = if text.starts_with("tcp://") {
        tls(&globals.tls)?
    } else {
        None
    };
    let (address, name) = resolved(&text)?;
    let endpoint = match tls {
        Some(tls) => Endpoint::with_tls(&address, name.as_deref(), tls),
        None => address.parse::<Endpoint>(),
    };
    endpoint.map_err(|error| {
        Failure::message(format!(
            "{error}\n\nGive -H, GORAE_HOST or DOCKER_HOST as unix:///path, tcp://host:port or ssh://user@host."
        ))
        .into()
    })
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// What flags and environment say of TLS, as Docker's command line reads them.
fn tls(flags: &TlsFlags) -> anyhow::Result<Option<Tls>> {
    // naming a file asks for TLS, too
    let named = flags.authority.is_some() || flags.certificate.is_some() || flags.key.is_some();
    let verify = flags
        .verify
        .unwrap_or_else(|| variable("DOCKER_TLS_VERIFY").is_some());
    let wanted = flags
        .tls
        .unwrap_or_else(|| named || flags.verify.is_some() || variable("DOCKER_TLS").is_some());
    if !verify && !wanted {
        return Ok(None);
    }
    let folder = match variable("DOCKER_CERT_PATH") {
        Some(path) => PathBuf::from(path),
        None => {
            PathBuf::from(variable("HOME").unwrap_or_else(|| "/root".to_owned())).join(".docker")
        }
    };
    let usual = |name: &str| Some(folder.join(name)).filter(|path| path.exists());
    let certificate = flags.certificate.clone().or_else(|| usual("cert.pem"));
    let key = flags.key.clone().or_else(|| usual("key.pem"));
    let files = TlsFiles {
        authority: verify.then(|| {
            let given = flags.authority.clone();
            given.unwrap_or_else(|| folder.join("ca.pem"))
        }),
        identity: certificate.zip(key),
    };
    let tls = Tls::load(&files).context("cannot set up TLS")?;
    Ok(Some(tls))
}

/// The address with an IP address in the place of a host's name, and that name.
fn resolved(text: &str) -> anyhow::Result<(String, Option<String>)> {
    let plain = || (text.to_owned(), None);
    let Some(rest) = text.strip_prefix("tcp://") else {
        return Ok(plain());
    };
    let rest = rest.trim_end_matches('/');
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') => (host, Some(port)),
        Some(_) => return Ok(plain()),
        None => (rest, None),
    };
    if host.is_empty() || host == "localhost" || host.parse::<IpAddr>().is_ok() {
        return Ok(plain());
    }
    let ip = lookup(host).with_context(|| format!("cannot find the engine at {text}"))?;
    let ip = match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    Ok((format!("tcp://{ip}{port}"), Some(host.to_owned())))
}

/// The longest that the search for an engine's address may take.
const LOOKUP: Duration = Duration::from_secs(20);

fn lookup(host: &str) -> anyhow::Result<IpAddr> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let names = distribution::HostNames::default();
    let found = runtime.block_on(names.lookup(host, LOOKUP))?;
    let first = found.first().copied();
    first.with_context(|| format!("{host} has no address"))
}
