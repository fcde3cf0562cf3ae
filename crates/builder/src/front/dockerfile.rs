//! The built-in front end: Dockerfiles.

use std::collections::BTreeMap;
use std::sync::Arc;

use dockerfile::convert::{Converted, Options, Outcome, Request};
use oci::Platform;

use super::context::{self, Loaded};
use super::gateway::Meant;
use super::resolve::Resolver;
use super::{BASE_CONFIG, EPOCH, FrontResult, FrontendRequest, IMAGE_CONFIG, PLATFORMS, Refs};
use super::{gateway, subrequest, warn};
use crate::error::{Error, Result, Step as _};
use crate::job::{Job, Ref};
use crate::llb::SourceSpan;

/// Makes graphs of a Dockerfile, one for each platform.
pub(super) async fn solve(job: &Arc<Job>, request: FrontendRequest) -> Result<FrontResult> {
    let asked = subrequest::asked(&request.attrs);
    if asked == Some(subrequest::DESCRIBE) {
        return subrequest::describe();
    }
    let wanted =
        Request::from_attrs(&request.attrs).map_err(|error| Error::invalid(error.to_string()))?;
    let loaded = context::load(job, &request).await?;
    if let Some((line, image)) = other_front_end(&request.attrs, &loaded)? {
        return gateway::forward(job, (&line, &image), request).await;
    }
    let options = options(job, wanted.options, &loaded)?;
    if let Some(asked) = asked {
        return subrequest::answer(job, asked, options, request.inputs).await;
    }
    let platforms = wanted.platforms;
    let multi = options.multi_platform;
    let own = options.build_platforms.first().cloned();
    let targets = if platforms.is_empty() {
        vec![None]
    } else {
        platforms.into_iter().map(Some).collect()
    };
    let mut all = Vec::new();
    for target in targets {
        let options = Options {
            platform: target.clone(),
            ..options.clone()
        };
        let first = all.is_empty();
        let converted = convert(job, options, &loaded, &request.inputs, first).await?;
        all.push((target.or_else(|| own.clone()), converted));
    }
    result(job, all, multi)
}

/// The line that names a front end and the image that runs for it, unless that is the one that is built in.
fn other_front_end(
    attrs: &BTreeMap<String, String>,
    loaded: &Loaded,
) -> Result<Option<(String, String)>> {
    // asked by a client that has chosen this front end for this file already
    if attrs.get("cmdline").is_some_and(|line| !line.is_empty()) {
        return Ok(None);
    }
    let given = context::text(attrs, "build-arg:BUILDKIT_SYNTAX").map(str::to_owned);
    let line = || dockerfile::syntax::syntax(&loaded.file.data);
    let Some(line) = given.or_else(|| line().map(|directive| directive.value)) else {
        return Ok(None);
    };
    Ok(match gateway::meant(attrs, gateway::image(&line))? {
        Meant::BuiltIn => None,
        Meant::Image(image) => Some((line, image)),
    })
}

fn options(job: &Arc<Job>, options: Options, loaded: &Loaded) -> Result<Options> {
    let session = job.sessions.all().into_iter().next().unwrap_or_default();
    Ok(Options {
        build_platforms: crate::platforms::supported(),
        session,
        context: loaded.context.clone(),
        file: loaded.file.clone(),
        ..options
    })
}

/// Converts for one platform where it may wait.
async fn convert(
    job: &Arc<Job>,
    options: Options,
    loaded: &Loaded,
    inputs: &BTreeMap<String, bollard_buildkit_proto::pb::Definition>,
    tell: bool,
) -> Result<Converted> {
    let mut resolver = Resolver::new(job, inputs.clone());
    let work = tokio::task::spawn_blocking(move || {
        let outcome = dockerfile::convert::convert(&options.file.data, &options, &mut resolver);
        (outcome, options)
    });
    let (Outcome { warnings, result }, options) = work.await.step(|| "convert the Dockerfile")?;
    if tell {
        warn::tell(job, &warnings, &options.file, &loaded.step);
    }
    result.map_err(|error| located(&error, &options))
}

/// An error of the language with its places in the file.
pub(super) fn located(error: &dockerfile::DockerfileError, options: &Options) -> Error {
    let ranges = error.spans.iter().flat_map(|span| span.ranges()).collect();
    let source = SourceSpan {
        info: Arc::new(options.file.info()),
        ranges,
    };
    let message = error.to_string();
    let plain = Error::invalid(message);
    if error.spans.is_empty() {
        return plain;
    }
    plain.with_sources(vec![source])
}

/// References and documents, by platform where there are several.
fn result(
    job: &Arc<Job>,
    all: Vec<(Option<Platform>, Converted)>,
    multi: bool,
) -> Result<FrontResult> {
    let mut metadata = BTreeMap::new();
    let mut refs = BTreeMap::new();
    let mut single = None;
    let mut listed = Vec::new();
    for (platform, converted) in all {
        let platform = platform.unwrap_or_else(|| converted.platform.clone());
        let name = platform.to_string();
        let reference = Ref::new(job, converted.definition)?;
        let reference = reference.graph().is_some().then_some(reference);
        let key = |document: &str| {
            if multi {
                format!("{document}/{name}")
            } else {
                document.to_owned()
            }
        };
        metadata.insert(key(IMAGE_CONFIG), converted.config);
        if let Some(base) = converted.base_config {
            metadata.insert(key(BASE_CONFIG), base);
        }
        if let Some(epoch) = converted.epoch {
            metadata.insert(EPOCH.to_owned(), epoch.to_string().into_bytes());
        }
        listed.push(serde_json::json!({"ID": name, "Platform": platform_json(&platform)}));
        if multi {
            refs.insert(name, reference);
        } else {
            single = reference;
        }
    }
    let platforms = serde_json::json!({"Platforms": listed});
    metadata.insert(PLATFORMS.to_owned(), platforms.to_string().into_bytes());
    Ok(FrontResult {
        refs: if multi {
            Refs::Platforms(refs)
        } else {
            Refs::Single(single)
        },
        metadata,
        attestations: BTreeMap::new(),
    })
}

fn platform_json(platform: &Platform) -> serde_json::Value {
    let mut value = serde_json::json!({
        "architecture": platform.architecture,
        "os": platform.os,
    });
    if let Some(variant) = &platform.variant {
        value["variant"] = variant.as_str().into();
    }
    value
}
