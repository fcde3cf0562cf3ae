//! Images.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::container::{Config, GraphDriver, HealthConfig};
use crate::error::InvalidParameter;
use crate::wire::{EmptyObject, wire};

wire! {
    /// A pointer to a blob, as the OCI image specification writes it.
    #[derive(Eq)]
    pub struct Descriptor {
        /// What the blob is.
        "mediaType" => media_type: String,
        /// Content address.
        "digest" => digest: String,
        /// Bytes.
        "size" => size: i64,
        /// Further places.
        "urls" [omitempty] => urls: Vec<String>,
        /// Annotations.
        "annotations" [omitempty] => annotations: BTreeMap<String, String>,
        /// The blob itself.
        "data" [omitempty] => data: crate::wire::Bytes,
        /// Platform.
        "platform" [omitempty] => platform: Option<Platform>,
        /// What the artifact is.
        "artifactType" [omitempty] => artifact_type: String,
    }

    /// A platform, as the OCI image specification writes it.
    #[derive(Eq)]
    pub struct Platform {
        /// GOARCH.
        "architecture" => architecture: String,
        /// GOOS.
        "os" => os: String,
        /// Version of the operating system.
        "os.version" [omitempty] => os_version: String,
        /// Features of the operating system.
        "os.features" [omitempty] => os_features: Vec<String>,
        /// CPU variant.
        "variant" [omitempty] => variant: String,
    }

    /// A statement about an image (`GET /images/{name}/attestations`).
    pub struct AttestationStatement {
        /// Where it is.
        "Descriptor" => descriptor: Descriptor,
        /// What it states, by the type's URI.
        "PredicateType" => predicate_type: String,
        /// The statement itself, where it was asked for.
        "Statement" [omitempty] => statement: Option<Value>,
    }

    /// A line of `GET /images/json`.
    pub struct Summary {
        /// Containers that use it; -1 for not counted.
        "Containers" => containers: i64,
        /// Time of creation, Unix seconds.
        "Created" => created: i64,
        /// Id.
        "Id" => id: String,
        /// Labels.
        "Labels" => labels: Option<BTreeMap<String, String>>,
        /// Parent; only for images built here by the old builder.
        "ParentId" => parent_id: String,
        /// Manifest of the image (or index) since 1.48.
        "Descriptor" [omitempty] => descriptor: Option<Descriptor>,
        /// Manifests, when asked for.
        "Manifests" [omitempty] => manifests: Vec<Value>,
        /// `name@digest`.
        "RepoDigests" => repo_digests: Option<Vec<String>>,
        /// `name:tag`.
        "RepoTags" => repo_tags: Option<Vec<String>>,
        /// Bytes shared with other images; -1 for not computed.
        "SharedSize" => shared_size: i64,
        /// Bytes.
        "Size" => size: i64,
        /// Bytes again, for clients below 1.44.
        "VirtualSize" [omitempty] => virtual_size: i64,
    }

    /// The answer of `GET /images/{name}/json`.
    pub struct Inspect {
        /// Id.
        "Id" => id: String,
        /// `name:tag`.
        "RepoTags" => repo_tags: Option<Vec<String>>,
        /// `name@digest`.
        "RepoDigests" => repo_digests: Option<Vec<String>>,
        /// Parent.
        "Parent" => parent: String,
        /// Remark of the last step.
        "Comment" => comment: String,
        /// Time of creation, RFC 3339.
        "Created" [omitempty] => created: String,
        /// Container of a commit, for clients below 1.45.
        "Container" [omitempty] => container: String,
        /// Configuration of that container, for clients below 1.45.
        "ContainerConfig" [omitempty] => container_config: Option<Config>,
        /// Engine that built it.
        "DockerVersion" => docker_version: String,
        /// Maintainer.
        "Author" => author: String,
        /// Defaults for containers.
        "Config" => config: Option<ImageConfig>,
        /// GOARCH.
        "Architecture" => architecture: String,
        /// CPU variant.
        "Variant" [omitempty] => variant: String,
        /// GOOS.
        "Os" => os: String,
        /// Version of the operating system.
        "OsVersion" [omitempty] => os_version: String,
        /// Bytes.
        "Size" => size: i64,
        /// Bytes again, for clients below 1.44.
        "VirtualSize" [omitempty] => virtual_size: i64,
        /// Storage.
        "GraphDriver" => graph_driver: GraphDriver,
        /// Layers.
        "RootFS" => root_fs: RootFs,
        /// Local details.
        "Metadata" => metadata: Metadata,
        /// Manifest of the image (or index) since 1.48.
        "Descriptor" [omitempty] => descriptor: Option<Descriptor>,
        /// Manifests, when asked for.
        "Manifests" [omitempty] => manifests: Vec<Value>,
    }

    /// An image's defaults for containers.
    pub struct ImageConfig {
        /// For clients below 1.50.
        "Hostname" [omitempty] => hostname: Option<String>,
        /// For clients below 1.50.
        "Domainname" [omitempty] => domainname: Option<String>,
        /// User.
        "User" => user: String,
        /// For clients below 1.50.
        "AttachStdin" [omitempty] => attach_stdin: Option<bool>,
        /// For clients below 1.50.
        "AttachStdout" [omitempty] => attach_stdout: Option<bool>,
        /// For clients below 1.50.
        "AttachStderr" [omitempty] => attach_stderr: Option<bool>,
        /// Ports.
        "ExposedPorts" [omitempty] => exposed_ports: BTreeMap<String, EmptyObject>,
        /// For clients below 1.50.
        "Tty" [omitempty] => tty: Option<bool>,
        /// For clients below 1.50.
        "OpenStdin" [omitempty] => open_stdin: Option<bool>,
        /// For clients below 1.50.
        "StdinOnce" [omitempty] => stdin_once: Option<bool>,
        /// Environment.
        "Env" => env: Option<Vec<String>>,
        /// Command.
        "Cmd" => cmd: Option<Vec<String>>,
        /// Health check.
        "Healthcheck" [omitempty] => healthcheck: Option<HealthConfig>,
        /// Windows only.
        "ArgsEscaped" [omitempty] => args_escaped: bool,
        /// For clients below 1.50.
        "Image" [omitempty] => image: Option<String>,
        /// Anonymous volumes.
        "Volumes" => volumes: Option<BTreeMap<String, EmptyObject>>,
        /// Working directory.
        "WorkingDir" => working_dir: String,
        /// Words in front of the command.
        "Entrypoint" => entrypoint: Option<Vec<String>>,
        /// Triggers for child builds.
        "OnBuild" => on_build: Option<Vec<String>>,
        /// Labels.
        "Labels" => labels: Option<BTreeMap<String, String>>,
        /// Stop signal.
        "StopSignal" [omitempty] => stop_signal: String,
        /// Seconds between stop signal and SIGKILL.
        "StopTimeout" [omitempty] => stop_timeout: Option<i64>,
        /// Shell of the shell form.
        "Shell" [omitempty] => shell: Vec<String>,
    }

    /// Layers of an image.
    #[derive(Eq)]
    pub struct RootFs {
        /// `layers`.
        "Type" [omitempty] => kind: String,
        /// Diff ids, lowest first.
        "Layers" [omitempty] => layers: Vec<String>,
    }

    /// Local details of an image.
    #[derive(Eq)]
    pub struct Metadata {
        /// When it last got a tag here, RFC 3339, or year 1.
        "LastTagTime" => last_tag_time: String,
    }

    /// A line of `GET /images/{name}/history`.
    #[derive(Eq)]
    pub struct HistoryItem {
        /// Remark.
        "Comment" => comment: String,
        /// Unix seconds.
        "Created" => created: i64,
        /// Command.
        "CreatedBy" => created_by: String,
        /// Id, or `<missing>`.
        "Id" => id: String,
        /// Bytes.
        "Size" => size: i64,
        /// Names.
        "Tags" => tags: Option<Vec<String>>,
    }

    /// A line of the answer of `DELETE /images/{name}`.
    #[derive(Eq)]
    pub struct DeleteItem {
        /// An image or layer that is gone.
        "Deleted" [omitempty] => deleted: String,
        /// A name that is gone.
        "Untagged" [omitempty] => untagged: String,
    }

    /// The answer of `POST /images/prune`.
    #[derive(Eq)]
    pub struct PruneReport {
        /// What is gone.
        "ImagesDeleted" => images_deleted: Option<Vec<DeleteItem>>,
        /// Bytes.
        "SpaceReclaimed" => space_reclaimed: u64,
    }

    /// A line of `GET /images/search`.
    #[derive(Eq)]
    pub struct SearchResult {
        /// How many people have marked it.
        "star_count" => star_count: i64,
        /// Whether the registry's owner answers for it.
        "is_official" => is_official: bool,
        /// Name.
        "name" => name: String,
        /// Obsolete.
        "is_automated" => is_automated: bool,
        /// What its owner says of it.
        "description" => description: String,
    }

    /// The answer of `GET /distribution/{name}/json`.
    #[derive(Eq)]
    pub struct DistributionInspect {
        /// The manifest or index.
        "Descriptor" => descriptor: Descriptor,
        /// The platforms that it is for.
        "Platforms" => platforms: Option<Vec<Platform>>,
    }

    /// What a push gives programs (`aux`).
    #[derive(Eq)]
    pub struct PushResult {
        /// Tag.
        "Tag" => tag: String,
        /// The manifest's digest.
        "Digest" => digest: String,
        /// The manifest's bytes.
        "Size" => size: i64,
    }

    /// A message of a progress stream (pull, push, import, load, build).
    pub struct Progress {
        /// Text of a build.
        "stream" [omitempty] => stream: String,
        /// What happens.
        "status" [omitempty] => status: String,
        /// How far it is.
        "progressDetail" [omitempty] => progress_detail: Option<ProgressDetail>,
        /// The bar, ready to print; for old clients.
        "progress" [omitempty] => progress: String,
        /// Layer, tag or other object.
        "id" [omitempty] => id: String,
        /// Where it comes from.
        "from" [omitempty] => from: String,
        /// Unix seconds.
        "time" [omitempty] => time: i64,
        /// Unix nanoseconds.
        "timeNano" [omitempty] => time_nano: i64,
        /// The error that ended the stream.
        "errorDetail" [omitempty] => error_detail: Option<ProgressError>,
        /// The same error's text.
        "error" [omitempty] => error: String,
        /// A result for programs.
        "aux" [omitempty] => aux: Option<Value>,
    }

    /// How far a step is.
    #[derive(Eq)]
    pub struct ProgressDetail {
        /// Done.
        "current" [omitempty] => current: i64,
        /// Of how much; 0 for unknown.
        "total" [omitempty] => total: i64,
        /// Start, Unix seconds.
        "start" [omitempty] => start: i64,
        /// Whether only the bar is shown.
        "hidecounts" [omitempty] => hide_counts: bool,
        /// Unit; empty for bytes.
        "units" [omitempty] => units: String,
    }

    /// The error that ended a stream.
    #[derive(Eq)]
    pub struct ProgressError {
        /// Code.
        "code" [omitempty] => code: i64,
        /// Text.
        "message" [omitempty] => message: String,
    }
}

impl Platform {
    /// Reads a query parameter, which has a platform as JSON since API 1.48; none where it is empty.
    pub fn from_param(text: &str) -> Result<Option<Self>, InvalidParameter> {
        if text.is_empty() {
            return Ok(None);
        }
        let platform: Self = serde_json::from_str(text)
            .map_err(|error| InvalidParameter(format!("failed to parse platform: {error}")))?;
        let refuse = |why: &str| Err(InvalidParameter(why.to_owned()));
        match (platform.os.as_str(), platform.architecture.as_str()) {
            ("", "") => {
                refuse("optional platform components provided, but OS and Architecture are missing")
            }
            ("", _) | (_, "") => refuse("both OS and Architecture must be provided"),
            _ => Ok(Some(platform)),
        }
    }
}

impl Progress {
    /// A plain line.
    #[must_use]
    pub fn status(text: impl Into<String>) -> Self {
        Self {
            status: text.into(),
            ..Self::default()
        }
    }

    /// A line about an object, without figures.
    #[must_use]
    pub fn of(id: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            status: text.into(),
            progress_detail: Some(ProgressDetail::default()),
            ..Self::default()
        }
    }

    /// The line that ends a stream in failure.
    #[must_use]
    pub fn failed(message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            error_detail: Some(ProgressError {
                code: 0,
                message: message.clone(),
            }),
            error: message,
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_in_queries() {
        for (text, expect) in [
            ("", Ok(None)),
            (
                r#"{"os":"linux","architecture":"arm64"}"#,
                Ok(Some("arm64")),
            ),
            ("linux/arm64", Err("failed to parse platform: ")),
            (
                r#"{"os":"linux"}"#,
                Err("both OS and Architecture must be provided"),
            ),
            (
                r#"{"variant":"v7"}"#,
                Err("optional platform components provided, but OS and"),
            ),
        ] {
            match (Platform::from_param(text), expect) {
                (Ok(found), Ok(expect)) => {
                    let found = found.map(|platform| platform.architecture);
                    assert_eq!(found.as_deref(), expect, "{text}");
                }
                (Err(error), Err(expect)) => assert!(error.0.starts_with(expect), "{}", error.0),
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
    }
}
