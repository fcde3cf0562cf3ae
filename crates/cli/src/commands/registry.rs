//! `gorae registry`: a registry for others to push to and pull from.

use std::path::PathBuf;

use anyhow::Context as _;
use daemon::registry::{REGISTRY_FILE, RegistrySources};

use crate::args::{Call, Flag, Operands, Verb};
use crate::failure::Failure;
use crate::output;
use crate::units;

const CONFIG: Flag = Flag::one(
    "config-file",
    "path",
    "Configuration file; flags override it",
)
.default(REGISTRY_FILE);
const ROOT: Flag = Flag::one("root", "path", "Folder of the registry's content")
    .default("/var/lib/gorae/registry");

pub(crate) static SERVE: Verb = Verb {
    about: "Run a registry",
    usage: "[OPTIONS]",
    operands: Operands::NONE,
    flags: &[&[
        Flag::one(
            "access-log",
            "path",
            "File for one JSON line a request, - for the standard output",
        ),
        CONFIG,
        Flag::many("listen", "ip:port", "Address to listen on").default("127.0.0.1:5000"),
        Flag::one("metrics-addr", "ip:port", "Address for Prometheus metrics"),
        Flag::switch("read-only", "Refuse pushes and deletions"),
        ROOT,
        Flag::switch("validate", "Check the configuration, and quit"),
    ]],
    examples: &[
        ("registry serve", "Serve this host"),
        (
            "registry serve --listen 0.0.0.0:5000 --root /srv/registry",
            "Serve the network, keep content elsewhere",
        ),
        (
            "registry serve --config-file registry.toml --validate",
            "Check a configuration",
        ),
    ],
    run: |call| Box::pin(async move { serve(call) }),
};

pub(crate) static GC: Verb = Verb {
    about: "Remove what nothing in a registry refers to",
    usage: "[OPTIONS]",
    operands: Operands::NONE,
    flags: &[&[
        CONFIG,
        Flag::one(
            "grace",
            "duration",
            "Keep what is younger, so that pushes can end (as 10m, 24h)",
        ),
        ROOT,
    ]],
    examples: &[
        (
            "registry gc",
            "Have the registry that runs do it, or do it where none runs",
        ),
        (
            "registry gc --grace 0s",
            "Leave nothing that is not referred to",
        ),
    ],
    run: |call| Box::pin(gc(call)),
};

fn sources(call: &Call) -> anyhow::Result<RegistrySources> {
    let named = call.text("config-file").filter(|path| !path.is_empty());
    let address = |name: &str, text: &str| {
        let wrong = || call.invalid(name, text, "must be an IP address with a port");
        text.parse().map_err(|_| wrong())
    };
    let listen: Result<Vec<_>, Failure> = call
        .list("listen")
        .into_iter()
        .map(|text| address("listen", text))
        .collect();
    let metrics = call.text("metrics-addr");
    let metrics = metrics
        .map(|text| address("metrics-addr", text))
        .transpose();
    Ok(RegistrySources {
        file: PathBuf::from(named.unwrap_or(REGISTRY_FILE)),
        named: named.is_some(),
        root: call.text("root").map(PathBuf::from),
        listen: listen?,
        access_log: call.text("access-log").map(PathBuf::from),
        metrics_address: metrics?,
        read_only: call.on("read-only"),
    })
}

/// Runs a registry, on threads of its own, until it is told to end.
pub(crate) fn serve(call: &Call) -> anyhow::Result<u8> {
    let sources = sources(call)?;
    if call.on("validate") {
        sources.load()?;
        output::complain("configuration OK");
        return Ok(0);
    }
    let level = call.globals.log_level.as_deref();
    let level = match call.globals.debug {
        true => level.unwrap_or("debug"),
        false => level.unwrap_or("info"),
    };
    daemon::registry::run(&sources, level, |addresses, metrics| {
        for address in addresses {
            output::complain(format!("the registry listens on {address}"));
        }
        if let Some(address) = metrics {
            output::complain(format!("metrics are at http://{address}/metrics"));
        }
    })?;
    Ok(0)
}

async fn gc(call: &Call) -> anyhow::Result<u8> {
    let config = sources(call)?.load()?;
    let grace = match call.text("grace") {
        None => None,
        Some(text) => {
            let wrong = || call.invalid("grace", text, "must be a time such as 10m or 24h");
            let span = registry::config::Span::parse(text).ok_or_else(wrong)?;
            Some(span.0)
        }
    };
    let socket = config.admin_socket();
    let taken = match registry::admin::collect_at(&socket, grace).await {
        Err(error) if error.is_absent() => registry::collect(&config, grace)
            .await
            .context("collect without a registry that runs")?,
        other => other?,
    };
    output::line(format!(
        "Removed {} manifests, {} links, {} uploads",
        taken.manifests, taken.links, taken.uploads
    ))?;
    output::line(format!(
        "Reclaimed {} in {} blobs",
        units::size(i64::try_from(taken.bytes).unwrap_or(i64::MAX)),
        taken.blobs
    ))?;
    Ok(0)
}
