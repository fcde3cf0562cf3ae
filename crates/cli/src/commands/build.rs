//! `gorae build`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use builder::client::{self, Build, BuildError, Offer, Outcome};
use tokio::sync::mpsc;

use crate::args::{Call, Operands, Verb};
use crate::build::display::{self, Kind, Told};
use crate::build::{attributes, connection, context, exporters, flags, secrets, watch};
use crate::failure::Failure;
use crate::output::complain;
use crate::{auth, connect, output};

pub(crate) static VERB: Verb = Verb {
    about: "Build an image from a Dockerfile",
    usage: "[OPTIONS] PATH | URL | -",
    operands: Operands::between(1, 1),
    flags: &[flags::FLAGS],
    examples: &[
        ("build -t app .", "Build the Dockerfile of this folder"),
        (
            "build --target test -o out .",
            "Put the files of a stage into the folder out",
        ),
        (
            "build --watch -t app .",
            "Build again whenever a file has changed",
        ),
    ],
    run: |call| Box::pin(run(call)),
};

/// The most news that wait to be shown.
const NEWS: usize = 256;

async fn run(call: &Call) -> anyhow::Result<u8> {
    let kind = Kind::of_flags(call)?;
    if let Some(question) = question(call)? {
        return ask(call, kind, question).await;
    }
    if !call.on("watch") {
        connect::ready(&call.client, &call.globals).await?;
        return once(call, kind).await.map(|_| 0);
    }
    again_and_again(call, kind).await
}

/// A question to the front end, instead of a build.
fn question(call: &Call) -> anyhow::Result<Option<&'static str>> {
    let wanted = if call.on("check") {
        "check"
    } else {
        call.text("call").unwrap_or("build")
    };
    match wanted.split(',').next().unwrap_or_default() {
        "build" | "" => Ok(None),
        "check" | "lint" => Ok(Some("frontend.lint")),
        "outline" => Ok(Some("frontend.outline")),
        "targets" => Ok(Some("frontend.targets")),
        other => Err(Failure::message(format!(
            "unknown method {other:?} of --call: use build, check, outline or targets"
        ))
        .into()),
    }
}

/// A build, and what it needs of the client.
struct Prepared {
    build: Build,
    offer: Offer,
    /// What goes when the build has ended.
    _kept: Option<context::Scratch>,
}

fn prepare(call: &Call) -> anyhow::Result<Prepared> {
    let sources = context::find(call, &call.operands[0])?;
    let exports = exporters::of_flags(call)?;
    let mut settings = attributes::of_flags(call)?;
    settings.extend(sources.attributes);
    attributes::add_contexts(&mut settings, &sources.named);
    let cache_from = exporters::caches(call, "cache-from")?;
    let globals = call.globals.clone();
    let lookup: client::Lookup = Arc::new(move |host| {
        let globals = globals.clone();
        Box::pin(async move {
            credentials(&globals, &host)
                .await
                .map_err(|e| format!("{e:#}"))
        })
    });
    Ok(Prepared {
        build: Build {
            id: connection::id(),
            frontend: "dockerfile.v0".to_owned(),
            attributes: settings,
            exporters: exports.exporters,
            cache_from,
            cache_to: exporters::caches(call, "cache-to")?,
            entitlements: call.list("allow").into_iter().map(str::to_owned).collect(),
        },
        offer: Offer {
            session: connection::id(),
            folders: sources.folders,
            upload: sources.upload,
            credentials: lookup,
            secrets: secrets::secrets(call)?,
            agents: secrets::agents(call)?,
            outputs: exports.outputs,
        },
        _kept: sources.kept,
    })
}

/// User name and password for a registry.
async fn credentials(
    globals: &crate::globals::Globals,
    host: &str,
) -> anyhow::Result<Option<(String, String)>> {
    let Ok(path) = auth::path(globals) else {
        return Ok(None);
    };
    if !path.exists() {
        return Ok(None);
    }
    let found = auth::load(globals)?.credentials(host).await?;
    // a refresh token comes without a name, as BuildKit's clients send it
    Ok(found.map(|found| match found.identity_token.as_str() {
        "" => (found.username, found.password),
        token => (String::new(), token.to_owned()),
    }))
}

/// One build, shown, with its files written.
async fn once(call: &Call, kind: Kind) -> anyhow::Result<Outcome> {
    let Prepared {
        build,
        offer,
        _kept,
    } = prepare(call)?;
    let session = connection::session(&call.client, &offer).await?;
    let control = connection::control(&call.client).await?;
    let (sender, news) = mpsc::channel(NEWS);
    let showing = tokio::spawn(display::show(kind, news));
    let outcome = client::run(control, session, &build, offer, sender).await;
    let told = showing.await.unwrap_or_default();
    let outcome = outcome.map_err(|error| failure(&error, &told))?;
    warn(kind, &told);
    write_files(call, &build, &outcome)?;
    if call.on("quiet") {
        output::line(image_id(&outcome))?;
    }
    Ok(outcome)
}

fn image_id(outcome: &Outcome) -> &str {
    let names = ["containerimage.digest", "containerimage.config.digest"];
    let found = names.iter().find_map(|name| outcome.response.get(*name));
    found.map_or("", String::as_str)
}

/// The step that failed with its last output, the place in the Dockerfile, and the reason.
fn failure(error: &BuildError, told: &Told) -> anyhow::Error {
    if let BuildError::Refused { excerpts, .. } = error {
        if let Some((name, tail)) = &told.failed {
            complain(format!("------\n > {name}:"));
            for line in tail {
                complain(line);
            }
            complain("------");
        }
        for excerpt in excerpts {
            complain(excerpt.shown());
        }
    }
    let text = error.to_string();
    let text = match text.strip_prefix("failed to solve: ") {
        Some(_) => text,
        None if matches!(error, BuildError::Refused { .. }) => format!("failed to solve: {text}"),
        None => return Failure::message(text).into(),
    };
    Failure::message(format!("ERROR: {text}")).into()
}

fn warn(kind: Kind, told: &Told) {
    if told.warnings.is_empty() || matches!(kind, Kind::Quiet | Kind::RawJson) {
        return;
    }
    let count = told.warnings.len();
    let plural = if count == 1 { "" } else { "s" };
    complain(format!("\n {count} warning{plural} found:"));
    for warning in &told.warnings {
        complain(format!(" - {}", warning.short));
    }
}

/// `--iidfile` and `--metadata-file`.
fn write_files(call: &Call, build: &Build, outcome: &Outcome) -> anyhow::Result<()> {
    if let Some(path) = call.text("iidfile") {
        std::fs::write(path, image_id(outcome)).with_context(|| format!("cannot write {path}"))?;
    }
    let Some(path) = call.text("metadata-file") else {
        return Ok(());
    };
    let mut metadata = serde_json::Map::new();
    metadata.insert("buildx.build.ref".to_owned(), build.id.clone().into());
    for (name, value) in &outcome.response {
        metadata.insert(name.clone(), document(value));
    }
    let text = serde_json::to_string_pretty(&metadata)?;
    std::fs::write(path, text).with_context(|| format!("cannot write {path}"))
}

/// A value of the response: some are documents in base64.
fn document(value: &str) -> serde_json::Value {
    use base64::Engine as _;
    let decoded = base64::engine::general_purpose::STANDARD.decode(value).ok();
    decoded
        .and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok())
        .filter(serde_json::Value::is_object)
        .unwrap_or_else(|| value.into())
}

async fn ask(call: &Call, kind: Kind, question: &str) -> anyhow::Result<u8> {
    connect::ready(&call.client, &call.globals).await?;
    let mut prepared = prepare(call)?;
    let settings = &mut prepared.build.attributes;
    settings.insert("requestid".to_owned(), question.to_owned());
    settings.insert(
        "frontend.caps".to_owned(),
        "moby.buildkit.frontend.subrequests+forward".to_owned(),
    );
    prepared.build.exporters.clear();
    let session = connection::session(&call.client, &prepared.offer).await?;
    let control = connection::control(&call.client).await?;
    let (sender, news) = mpsc::channel(NEWS);
    let showing = tokio::spawn(display::show(kind, news));
    let answer =
        client::subrequest(control, session, &prepared.build, prepared.offer, sender).await;
    let told = showing.await.unwrap_or_default();
    let answer = answer.map_err(|error| failure(&error, &told))?;
    let json = call.text("call").is_some_and(|c| c.contains("format=json"));
    let name = if json { "result.json" } else { "result.txt" };
    let document = answer.metadata.get(name).ok_or(BuildError::Empty)?;
    output::raw(document)?;
    if document.last() != Some(&b'\n') {
        output::raw(b"\n")?;
    }
    let code = answer.metadata.get("result.statuscode");
    let code = code.and_then(|bytes| std::str::from_utf8(bytes).ok()?.parse().ok());
    Ok(code.unwrap_or(0))
}

/// `--watch`: a build that fails waits for the next change, too.
async fn again_and_again(call: &Call, kind: Kind) -> anyhow::Result<u8> {
    connect::ready(&call.client, &call.globals).await?;
    let folders: Vec<PathBuf> = prepare(call)?
        .offer
        .folders
        .iter()
        .map(|folder| folder.local.path.clone())
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    if folders.is_empty() {
        return Err(Failure::message("--watch wants a context that is a folder").into());
    }
    let mut seen = watch::look(&folders);
    loop {
        if let Err(error) = once(call, kind).await {
            complain(crate::failure::chain(&error));
        }
        complain("Waiting for changes; end with Ctrl-C.");
        tokio::select! {
            now = watch::changed(&folders, &seen) => seen = now,
            ended = tokio::signal::ctrl_c() => {
                ended.context("cannot wait for a signal")?;
                return Ok(0);
            }
        }
    }
}
