//! What becomes of the result, and which caches are read and written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::bail;
use builder::client::{Exporter, Output};

use crate::args::Call;
use crate::csv;
use crate::failure::Failure;

/// Exporters, and where those that give something to the client put it, in the order of exporters.
#[derive(Debug, Default)]
pub(crate) struct Exports {
    pub(crate) exporters: Vec<Exporter>,
    pub(crate) outputs: BTreeMap<usize, Output>,
}

/// Reads `--output`, `--push`, `--load`, `--tag` and `--annotation`.
pub(crate) fn of_flags(call: &Call) -> anyhow::Result<Exports> {
    let mut exports = Exports::default();
    for text in call.list("output") {
        add(&mut exports, text)?;
    }
    let push = call.on("push");
    if push && exports.exporters.is_empty() {
        exports.exporters.push(image());
    }
    if call.on("load") && !exports.exporters.iter().any(is_image) {
        exports.exporters.push(image());
    }
    if exports.exporters.is_empty() {
        exports.exporters.push(image());
    }
    let names = call.list("tag").join(",");
    for exporter in &mut exports.exporters {
        if push && is_image(exporter) {
            exporter
                .attributes
                .insert("push".to_owned(), "true".to_owned());
        }
        if is_of_images(exporter) && !names.is_empty() {
            let given = exporter.attributes.entry("name".to_owned());
            given.or_insert_with(|| names.clone());
        }
        annotate(exporter, &call.list("annotation"))?;
    }
    Ok(exports)
}

fn image() -> Exporter {
    Exporter {
        kind: "image".to_owned(),
        ..Exporter::default()
    }
}

fn is_image(exporter: &Exporter) -> bool {
    exporter.kind == "image"
}

fn is_of_images(exporter: &Exporter) -> bool {
    matches!(exporter.kind.as_str(), "image" | "docker" | "oci")
}

/// `[level[,level]:]name=value`, where the manifest is meant unless another level is said.
fn annotate(exporter: &mut Exporter, annotations: &[&str]) -> anyhow::Result<()> {
    const LEVELS: [&str; 4] = [
        "manifest",
        "index",
        "manifest-descriptor",
        "index-descriptor",
    ];
    if !is_of_images(exporter) {
        return Ok(());
    }
    for text in annotations {
        let Some((name, value)) = text.split_once('=') else {
            bail!(Failure::message(format!(
                "invalid annotation {text:?}, expected key=value"
            )));
        };
        let (levels, name) = match name.split_once(':') {
            Some((levels, name)) if levels.split(',').all(is_level) => (levels, name),
            _ => ("manifest", name),
        };
        for level in levels.split(',') {
            let (kind, platform) = match level.split_once('[') {
                Some((kind, platform)) => (kind, format!("[{platform}")),
                None => (level, String::new()),
            };
            let key = match kind {
                "manifest" if platform.is_empty() => format!("annotation.{name}"),
                _ => format!("annotation-{kind}{platform}.{name}"),
            };
            exporter.attributes.insert(key, value.to_owned());
        }
    }
    return Ok(());

    fn is_level(text: &str) -> bool {
        let kind = text.split('[').next().unwrap_or_default();
        LEVELS.contains(&kind)
    }
}

/// One `--output`: fields, or a path alone for the files themselves.
fn add(exports: &mut Exports, text: &str) -> anyhow::Result<()> {
    let fields = csv::fields(text).map_err(Failure::message)?;
    let mut kind = String::new();
    let mut attributes = BTreeMap::new();
    if let [path] = fields.as_slice()
        && !path.contains('=')
    {
        kind.push_str(if path == "-" { "tar" } else { "local" });
        attributes.insert("dest".to_owned(), path.clone());
    } else {
        for field in &fields {
            let Some((name, value)) = field.split_once('=') else {
                bail!(Failure::message(format!(
                    "invalid value {field}, expected key=value"
                )));
            };
            match name.trim().to_lowercase().as_str() {
                "type" => value.clone_into(&mut kind),
                other => {
                    attributes.insert(other.to_owned(), value.to_owned());
                }
            }
        }
    }
    if kind.is_empty() {
        bail!(Failure::message("type is required for output"));
    }
    if kind == "registry" {
        "image".clone_into(&mut kind);
        attributes
            .entry("push".to_owned())
            .or_insert_with(|| "true".to_owned());
    }
    let dest = attributes.remove("dest");
    if let Some(output) = output(&mut kind, dest.as_deref(), &attributes)? {
        exports.outputs.insert(exports.exporters.len(), output);
    }
    exports.exporters.push(Exporter { kind, attributes });
    Ok(())
}

/// Where the client puts what an exporter sends; `docker` without a place means the store.
fn output(
    kind: &mut String,
    dest: Option<&str>,
    attributes: &BTreeMap<String, String>,
) -> anyhow::Result<Option<Output>> {
    let folder = attributes.get("tar").is_some_and(|tar| tar == "false");
    match (kind.as_str(), dest) {
        ("docker", None) => {
            "image".clone_into(kind);
            Ok(None)
        }
        ("image" | "cacheonly", _) => Ok(None),
        ("local", None) => bail!(Failure::message("dest is required for local output")),
        ("local", Some(dest)) => Ok(Some(Output::Folder(PathBuf::from(dest)))),
        ("docker" | "oci", Some(dest)) if folder => Ok(Some(Output::Folder(PathBuf::from(dest)))),
        ("tar" | "oci" | "docker", Some("-") | None) => {
            if crate::terminal::stdout_is_terminal() {
                bail!(Failure::message(format!(
                    "dest file is required for {kind} exporter. refusing to write to console"
                )));
            }
            Ok(Some(Output::Stdout))
        }
        ("tar" | "oci" | "docker", Some(dest)) => {
            if Path::new(dest).is_dir() {
                bail!(Failure::message(format!(
                    "destination file {dest} is a directory"
                )));
            }
            Ok(Some(Output::File(PathBuf::from(dest))))
        }
        (other, _) => bail!(Failure::message(format!(
            "unknown output type {other:?}: use image, registry, local, tar, oci or docker"
        ))),
    }
}

/// Reads `--cache-from` or `--cache-to`.
pub(crate) fn caches(call: &Call, flag: &str) -> anyhow::Result<Vec<Exporter>> {
    let mut caches = Vec::new();
    for text in call.list(flag) {
        let fields = csv::fields(text).map_err(Failure::message)?;
        if fields.iter().all(|field| !field.contains('=')) {
            caches.extend(fields.into_iter().map(|reference| Exporter {
                kind: "registry".to_owned(),
                attributes: BTreeMap::from([("ref".to_owned(), reference)]),
            }));
            continue;
        }
        let mut cache = Exporter::default();
        for field in fields {
            let Some((name, value)) = field.split_once('=') else {
                bail!(Failure::message(format!("invalid value {field}")));
            };
            if name == "type" {
                value.clone_into(&mut cache.kind);
            } else {
                cache
                    .attributes
                    .insert(name.to_lowercase(), value.to_owned());
            }
        }
        if cache.kind.is_empty() {
            bail!(Failure::message("type required form> \"type=...\""));
        }
        // without a runner there is no such cache, and the build goes on without it, as with buildx
        if cache.kind != "gha" || with_github(&mut cache, &|name| std::env::var(name).ok()) {
            caches.push(cache);
        }
    }
    Ok(caches)
}

/// GitHub's cache is reached by what its runner puts into the environment; tells whether it can be.
fn with_github(cache: &mut Exporter, variable: &dyn Fn(&str) -> Option<String>) -> bool {
    let truth = |text: String| matches!(text.as_str(), "1" | "t" | "T" | "true" | "TRUE" | "True");
    let second = match cache.attributes.get("version") {
        Some(version) => version == "2",
        None => variable("ACTIONS_CACHE_SERVICE_V2").is_some_and(truth),
    };
    for (name, variables) in [
        ("token", &["ACTIONS_RUNTIME_TOKEN"][..]),
        (
            "url_v2",
            if second {
                &["ACTIONS_RESULTS_URL"]
            } else {
                &[]
            },
        ),
        ("url", &["ACTIONS_CACHE_URL", "ACTIONS_RESULTS_URL"]),
    ] {
        let mut values = variables.iter().filter_map(|name| variable(name));
        if let Some(value) = values.find(|value| !value.is_empty()) {
            cache.attributes.entry(name.to_owned()).or_insert(value);
        }
    }
    let has = |name: &str| cache.attributes.get(name).is_some_and(|v| !v.is_empty());
    has("token") && (has("url") || has("url_v2"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_runner_of_github_says() {
        let runner = [
            ("ACTIONS_RUNTIME_TOKEN", "t"),
            ("ACTIONS_CACHE_URL", "first"),
            ("ACTIONS_RESULTS_URL", "second"),
        ];
        let second = [&runner[..], &[("ACTIONS_CACHE_SERVICE_V2", "True")]].concat();
        for (given, environment, expect) in [
            (&[][..], &[][..], None),
            (&[], &runner, Some(&["t", "first", ""])),
            (&[], &second, Some(&["t", "first", "second"])),
            (&[("version", "1")], &second, Some(&["t", "first", ""])),
            (
                &[("version", "2")],
                &runner,
                Some(&["t", "first", "second"]),
            ),
            (&[("url", "own")], &runner[..1], Some(&["t", "own", ""])),
            (&[("url", "own")], &[], None),
            (&[("token", "own")], &runner, Some(&["own", "first", ""])),
            (&[], &runner[..1], None),
        ] {
            let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
            let mut cache = Exporter {
                kind: "gha".to_owned(),
                attributes: given.iter().map(owned).collect(),
            };
            let variable = |name: &str| {
                let found = environment.iter().find(|(own, _)| *own == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            let reached = with_github(&mut cache, &variable);
            let found = ["token", "url", "url_v2"]
                .map(|name| cache.attributes.get(name).map_or("", String::as_str));
            assert_eq!(
                reached.then_some(&found),
                expect,
                "{given:?} {environment:?}"
            );
        }
    }
}
