//! Front ends that are images: run as a step whose standard streams speak the gateway's protocol.
//!
//! The program is nobody's friend: it sees results of its own build alone, which it names by names that it
//! was given, its messages are bounded, and it ends with the build.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use engine::{LiveProcess, StepEnd, StepOutput, StepStream, StepStreams};
use oci::image::{ContainerDefaults, ImageConfig};
use prost::Message as _;
use serde_json::json;
use tokio::io::{AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::mpsc;

use super::source::Source;
use super::{FrontResult, FrontendRequest};
use crate::builder::Builder;
use crate::control::Grpc;
use crate::control::bridge::Bridge;
use crate::control::workers;
use crate::error::{Error, Result};
use crate::job::{Job, Ref};
use crate::llb::pb;
use crate::ops::exec::container::{Container, ContainerRequest, ProcessRequest};
use crate::snapshot::Snapshot;
use crate::source::image::{self, ConfigRequest};

/// Front ends that ask each other, at most.
const MAX_DEPTH: u8 = 8;
/// Bytes on their way between a front end and its bridge.
const PIPE: usize = 256 << 10;
/// How long a front end may go on after it has closed its connection.
const LINGER: Duration = Duration::from_secs(10);
/// Bytes of the end of what a front end says on its standard error.
const TAIL: usize = 2048;
/// Where the definition of its own image is shown to a front end.
const METADATA: &str = "/run/config/buildkit/metadata/frontend.bin";
/// The labels by which an image says what its front end can, and that it needs no network.
const CAPS: &str = "moby.buildkit.frontend.caps";
const NO_NETWORK: &str = "moby.buildkit.frontend.network.none";
/// The feature of front ends that take graphs by name.
const INPUTS: &str = "moby.buildkit.frontend.inputs";

/// Whether an image is the front end that is built in.
pub(super) fn is_built_in(image: &str) -> bool {
    let name = image
        .strip_prefix("docker.io/")
        .or_else(|| image.strip_prefix("index.docker.io/"))
        .unwrap_or(image);
    let name = name.split(['@']).next().unwrap_or_default();
    let name = name.rsplit_once(':').map_or(name, |(name, _)| name);
    matches!(name, "docker/dockerfile" | "docker/dockerfile-upstream")
}

/// What a front end's name means in a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meant {
    BuiltIn,
    Image(String),
}

/// Finds what runs for a front end's name: the client may have given another image in its place
/// (`--build-context docker/dockerfile=docker-image://…`).
pub(super) fn meant(attrs: &BTreeMap<String, String>, name: &str) -> Result<Meant> {
    let image = match replaced(attrs, name) {
        Some((key, value)) => {
            let image = value.strip_prefix(image::SCHEME);
            image.ok_or_else(|| {
                Error::not_implemented(format!(
                    "the context {key} is {value}: only {}… can take the place of a front end",
                    image::SCHEME
                ))
            })?
        }
        None => name,
    };
    Ok(match is_built_in(image) {
        true => Meant::BuiltIn,
        false => Meant::Image(image.to_owned()),
    })
}

/// The named context that is called as an image, with the name that it has.
fn replaced<'a>(attrs: &'a BTreeMap<String, String>, name: &str) -> Option<(String, &'a str)> {
    let reference: oci::Reference = name.parse().ok()?;
    let familiar = reference.familiar();
    let short = familiar.strip_suffix(":latest").unwrap_or(&familiar);
    let exact = format!("{short}::{}", oci::Platform::host());
    let mut keys = [exact, short.to_owned()].into_iter();
    keys.find_map(|key| {
        let value = attrs.get(&format!("context:{key}"))?;
        Some((key, value.as_str()))
    })
}

/// The image that a syntax line names.
pub(super) fn image(line: &str) -> &str {
    line.split_whitespace().next().unwrap_or_default()
}

/// Asks the front end that a Dockerfile's first line names.
pub(super) async fn forward(
    job: &Arc<Job>,
    (line, image): (&str, &str),
    mut request: FrontendRequest,
) -> Result<FrontResult> {
    let name = self::image(line).to_owned();
    request.attrs.insert("cmdline".to_owned(), line.to_owned());
    request.attrs.insert("source".to_owned(), name);
    solve(job, image, request).await
}

/// Runs a front end's image.
pub(super) async fn solve(
    job: &Arc<Job>,
    image: &str,
    request: FrontendRequest,
) -> Result<FrontResult> {
    if request.depth >= MAX_DEPTH {
        return Err(Error::invalid(format!(
            "the front end {image} is not run: {MAX_DEPTH} front ends ask each other already"
        )));
    }
    let found = find(job, image).await.map_err(|error| {
        match error.is_canceled() {
            true => error,
            // many files name a front end only for what the one that is built in has, too
            false => error.hint(format!(
                "the front end {image} cannot be had; docker/dockerfile is built in and needs no image"
            )),
        }
    })?;
    found.check(&request)?;
    let builder = job.builder()?;
    let program = found.program(job, &builder, &request)?;
    let container = Container::open(job, found.container()).await?;
    let inputs = request.inputs;
    let bridge = Arc::new(Bridge::new(Arc::clone(job), inputs, request.depth));
    let _over = Over(Arc::clone(&bridge));
    let done = run(&builder, &bridge, &container, program).await;
    // what the front end said last explains more than how it ended
    match (bridge.answer(), done) {
        (Some(Err(error)), _) => Err(error),
        (_, Err(error)) if error.is_canceled() => Err(error),
        (_, Err(error)) => Err(error.context(format!("front end {image}"))),
        (Some(Ok(result)), Ok(())) => Ok(result),
        (None, Ok(())) => Err(Error::invalid(format!(
            "front end {image}: no result for incomplete build"
        ))),
    }
}

/// Ends what a front end has begun when this is dropped.
struct Over(Arc<Bridge>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// An image with a front end in it.
pub(crate) struct Found {
    pub(crate) defaults: ContainerDefaults,
    definition: pb::Definition,
    pub(crate) snapshot: Snapshot,
}

/// Finds the image of a program that takes part in a build.
pub(crate) async fn find(job: &Arc<Job>, name: &str) -> Result<Found> {
    let complete: oci::Reference = name
        .parse()
        .map_err(|error: oci::reference::ParseReferenceError| Error::invalid(error.to_string()))?;
    let complete = complete.or_latest().to_string();
    let asked = ConfigRequest {
        log_name: format!("resolve image config for docker-image://{complete}"),
        name: complete,
        platform: None,
        mode: image::mode("")?,
    };
    let resolved = image::resolve_config(job, &asked).await?;
    let wrong = |error| Error::invalid(format!("invalid configuration of {name}: {error}"));
    let config: ImageConfig = serde_json::from_slice(&resolved.config).map_err(wrong)?;
    let identifier = match &resolved.digest {
        Some(digest) => format!("{}{}@{digest}", image::SCHEME, resolved.name),
        None => format!("{}{}", image::SCHEME, resolved.name),
    };
    let definition = Source::new(identifier.clone(), identifier).definition();
    let snapshot = Ref::new(job, definition.clone())?.snapshot().await?;
    Ok(Found {
        defaults: config.config.unwrap_or_default(),
        definition,
        snapshot,
    })
}

/// Features in a list with commas, without what follows `+`.
fn features(list: Option<&String>) -> BTreeSet<String> {
    let all = list.map(String::as_str).unwrap_or_default().split(',');
    let names = all.map(|one| one.split('+').next().unwrap_or_default());
    names
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

impl Found {
    fn label(&self, name: &str) -> Option<&String> {
        self.defaults.labels.as_ref()?.get(name)
    }

    /// Whether the front end can what the request needs.
    fn check(&self, request: &FrontendRequest) -> Result<()> {
        let has = features(self.label(CAPS));
        let mut needs = features(request.attrs.get("frontend.caps"));
        if !request.inputs.is_empty() {
            needs.insert(INPUTS.to_owned());
        }
        match needs.difference(&has).next() {
            Some(missing) => Err(Error::not_implemented(format!(
                "unsupported frontend capability {missing}"
            ))),
            None => Ok(()),
        }
    }

    fn container(&self) -> ContainerRequest {
        let none = self.label(NO_NETWORK).map(String::as_str);
        let network = match none {
            Some("1" | "t" | "T" | "true" | "TRUE" | "True") => pb::NetMode::None,
            _ => pb::NetMode::Unset,
        };
        ContainerRequest {
            mounts: vec![pb::Mount {
                dest: "/".to_owned(),
                output: -1,
                ..pb::Mount::default()
            }],
            inputs: vec![self.snapshot.clone()],
            files: vec![(METADATA.to_owned(), self.definition.encode_to_vec())],
            network: network.into(),
            ..ContainerRequest::default()
        }
    }

    /// The program with the environment by which it knows what is wanted.
    fn program(
        &self,
        job: &Arc<Job>,
        builder: &Builder,
        request: &FrontendRequest,
    ) -> Result<ProcessRequest> {
        let defaults = &self.defaults;
        let given = defaults.entrypoint.clone().unwrap_or_default();
        let mut env = defaults.env.clone().unwrap_or_default();
        for (number, (name, value)) in request.attrs.iter().enumerate() {
            env.push(format!("BUILDKIT_FRONTEND_OPT_{number}={name}={value}"));
        }
        if let Some(nul) = env.iter().find(|variable| variable.contains('\0')) {
            let name = nul.split('=').next().unwrap_or_default();
            return Err(Error::invalid(format!("{name} holds a NUL")));
        }
        let session = job.sessions.all().into_iter().next().unwrap_or_default();
        env.push(format!("BUILDKIT_SESSION_ID={session}"));
        env.push(format!("BUILDKIT_WORKERS={}", described(builder)));
        env.push("BUILDKIT_EXPORTEDPRODUCT=gorae".to_owned());
        Ok(ProcessRequest {
            meta: pb::Meta {
                args: match given.is_empty() {
                    true => vec!["/run".to_owned()],
                    false => given,
                },
                env,
                cwd: defaults.working_dir.clone(),
                ..pb::Meta::default()
            },
            streams: StepStreams {
                stdin: true,
                tty: false,
            },
            ..ProcessRequest::default()
        })
    }
}

/// The worker as front ends read it.
fn described(builder: &Builder) -> serde_json::Value {
    let worker = workers::worker(builder);
    let platforms = worker.platforms.iter().map(|platform| {
        let mut one = json!({"architecture": platform.architecture, "os": platform.os});
        if !platform.variant.is_empty() {
            one["variant"] = platform.variant.as_str().into();
        }
        one
    });
    let version = worker.buildkit_version.unwrap_or_default();
    json!([{
        "id": worker.id,
        "labels": worker.labels,
        "platforms": platforms.collect::<Vec<_>>(),
        "gcPolicy": null,
        "buildkitVersion": {
            "package": version.package,
            "version": version.version,
            "revision": version.revision,
        },
        "cdiDevices": null,
    }])
}

/// Runs the program until it has ended, and answers what it asks.
async fn run(
    builder: &Arc<Builder>,
    bridge: &Arc<Bridge>,
    container: &Container,
    program: ProcessRequest,
) -> Result<()> {
    let cancel = &bridge.job.cancel;
    let started = cancel.run(container.start(program)).await?;
    let mut process = match started {
        Ok(process) => process,
        Err(end) => return ended(&end, &[]),
    };
    let (ours, theirs) = tokio::io::duplex(PIPE);
    let talk = converse(&mut process, ours);
    let serve = Grpc::of_front_end(builder, Arc::clone(bridge));
    let serve = serve.serve(theirs, std::future::pending());
    let both = async {
        tokio::pin!(talk, serve);
        tokio::select! {
            said = &mut talk => {
                // what it asked with its last breath is still answered
                drop(tokio::time::timeout(LINGER, &mut serve).await);
                return Ok(said);
            }
            served = &mut serve => if let Err(error) = served {
                tracing::debug!(%error, "the connection of a front end has ended");
            },
        }
        let said = tokio::time::timeout(LINGER, &mut talk).await;
        said.map_err(|_| Error::invalid("frontend grpc server closed unexpectedly"))
    };
    let said = cancel.run(Box::pin(both)).await?;
    let end = (&mut process.end).await;
    let broken = |error: tokio::task::JoinError| Error::internal(error.to_string());
    ended(&end.map_err(broken)??, &said)
}

/// Copies between a process and its connection until the process says no more; answers the end of what it
/// said beside.
async fn converse(process: &mut LiveProcess, connection: DuplexStream) -> Vec<u8> {
    let (from, to) = tokio::io::split(connection);
    let input = process.input.take();
    let feed = async {
        if let Some(input) = input {
            feed(from, input).await;
        }
        // the end of its output ends the conversation
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = feed => Vec::new(),
        tail = listen(&mut process.output, to) => tail,
    }
}

async fn feed(mut from: ReadHalf<DuplexStream>, mut input: engine::StepInput) {
    // a program that does not read any more misses nothing
    tokio::io::copy(&mut from, &mut input).await.ok();
}

async fn listen(
    output: &mut mpsc::Receiver<StepOutput>,
    mut to: WriteHalf<DuplexStream>,
) -> Vec<u8> {
    let mut tail = Vec::new();
    let mut open = true;
    while let Some(piece) = output.recv().await {
        match piece.stream {
            StepStream::Stdout if open => open = to.write_all(&piece.bytes).await.is_ok(),
            StepStream::Stdout => {}
            StepStream::Stderr => {
                tail.extend_from_slice(&piece.bytes);
                let over = tail.len().saturating_sub(TAIL);
                tail.drain(..over);
            }
        }
    }
    // so that who serves the connection learns of its end
    to.shutdown().await.ok();
    tail
}

/// Whether a program ended as it should, with the end of what it said.
fn ended(end: &StepEnd, said: &[u8]) -> Result<()> {
    if end.cancelled {
        return Err(Error::canceled());
    }
    let why = match &end.refusal {
        Some(refusal) => refusal.clone(),
        None if end.out_of_memory => "cannot allocate memory".to_owned(),
        None if end.code == 0 => return Ok(()),
        None => format!("exit code: {}", end.code),
    };
    let said = String::from_utf8_lossy(said);
    let said = said.trim();
    let error = match said.is_empty() {
        true => Error::new(crate::Kind::System, why),
        false => Error::new(crate::Kind::System, format!("{why}: {said}")),
    };
    Err(error.with_exit_code(end.code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_image_in_the_place_of_a_front_end() {
        let own = format!("context:other/front:2::{}", oci::Platform::host());
        let contexts = [
            ("context:docker/dockerfile", "docker-image://my/front:1"),
            (
                "context:docker/dockerfile:1",
                "docker-image://docker/dockerfile:1.7",
            ),
            ("context:other/front:2", "docker-image://my/front:2"),
            (own.as_str(), "docker-image://my/front:3"),
            ("context:a/folder", "local:folder"),
            ("context:base", "docker-image://alpine"),
        ];
        let attrs = contexts.iter();
        let attrs: BTreeMap<_, _> = attrs
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let image = |name: &str| Meant::Image(name.to_owned());
        for (name, expect) in [
            ("docker/dockerfile", image("my/front:1")),
            ("docker.io/docker/dockerfile:latest", image("my/front:1")),
            ("docker/dockerfile:1", Meant::BuiltIn),
            ("docker/dockerfile:1.4", Meant::BuiltIn),
            ("other/front:2", image("my/front:3")),
            ("other/front", image("other/front")),
        ] {
            assert_eq!(meant(&attrs, name).unwrap(), expect, "{name}");
        }
        let refused = meant(&attrs, "a/folder").unwrap_err();
        assert!(refused.message().contains("local:folder"), "{refused}");
    }

    #[test]
    fn the_official_front_end_is_built_in() {
        for image in [
            "docker/dockerfile",
            "docker/dockerfile:1",
            "docker.io/docker/dockerfile:1.7-labs",
            "docker/dockerfile:1@sha256:abc",
            "docker/dockerfile-upstream:master",
        ] {
            assert!(is_built_in(image), "{image}");
        }
        for image in [
            "docker/dockerfiles",
            "me/docker/dockerfile",
            "localhost:5000/front",
        ] {
            assert!(!is_built_in(image), "{image}");
        }
    }

    #[test]
    fn what_a_front_end_can_and_what_is_needed() {
        let found = |label: &str| Found {
            defaults: ContainerDefaults {
                labels: Some(BTreeMap::from([(CAPS.to_owned(), label.to_owned())])),
                ..ContainerDefaults::default()
            },
            definition: pb::Definition::default(),
            snapshot: Snapshot::scratch(),
        };
        let request = |caps: &str, inputs: usize| FrontendRequest {
            attrs: BTreeMap::from([("frontend.caps".to_owned(), caps.to_owned())]),
            inputs: (0..inputs)
                .map(|n| (n.to_string(), pb::Definition::default()))
                .collect(),
            ..FrontendRequest::default()
        };
        for (has, needs, inputs, fits) in [
            ("", "", 0, true),
            ("", "", 1, false),
            (INPUTS, "", 1, true),
            ("a,b", "b+forward", 0, true),
            ("a", "b", 0, false),
        ] {
            let checked = found(has).check(&request(needs, inputs));
            assert_eq!(checked.is_ok(), fits, "{has:?} {needs:?} {inputs}");
        }
    }
}
