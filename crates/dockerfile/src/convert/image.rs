//! Image configurations, as a build reads and writes them.

use std::collections::BTreeMap;

use oci::Platform;
use serde::{Deserialize, Deserializer, Serialize};

use crate::gofmt;
use crate::instruction::Healthcheck;

/// The comment of every history entry.
const COMMENT: &str = "buildkit.dockerfile.v0";
/// Where programs are looked for, if the image does not say.
pub(super) const DEFAULT_PATH: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Go writes an absent list or map as `null`.
fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(d: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(d)?.unwrap_or_default())
}

fn is_zero(n: &i64) -> bool {
    *n == 0
}

fn is_false(b: &bool) -> bool {
    !b
}

/// The empty object that stands for a member of a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Present {}

/// An image configuration: what `BuildKit` keeps of it, in the order of its fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Creation time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Maintainer.
    #[serde(
        default,
        skip_serializing_if = "String::is_empty",
        deserialize_with = "nullable"
    )]
    pub author: String,
    /// GOARCH.
    #[serde(default, deserialize_with = "nullable")]
    pub architecture: String,
    /// GOOS.
    #[serde(default, deserialize_with = "nullable")]
    pub os: String,
    /// Version of the operating system, of Windows images.
    #[serde(
        default,
        rename = "os.version",
        skip_serializing_if = "String::is_empty",
        deserialize_with = "nullable"
    )]
    pub os_version: String,
    /// CPU variant.
    #[serde(
        default,
        skip_serializing_if = "String::is_empty",
        deserialize_with = "nullable"
    )]
    pub variant: String,
    /// Defaults for containers.
    #[serde(default, deserialize_with = "nullable")]
    pub config: Config,
    /// The layers.
    #[serde(default, deserialize_with = "nullable")]
    pub rootfs: RootFs,
    /// How the layers came to be.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "nullable"
    )]
    pub history: Vec<History>,
}

/// The layers of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(default, rename = "type", deserialize_with = "nullable")]
    pub kind: String,
    /// Digests of the uncompressed layers.
    #[serde(default, deserialize_with = "nullable")]
    pub diff_ids: Vec<String>,
}

/// An entry of an image's history.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// By which instruction.
    #[serde(
        default,
        skip_serializing_if = "String::is_empty",
        deserialize_with = "nullable"
    )]
    pub created_by: String,
    /// By whom.
    #[serde(
        default,
        skip_serializing_if = "String::is_empty",
        deserialize_with = "nullable"
    )]
    pub author: String,
    /// By which program.
    #[serde(
        default,
        skip_serializing_if = "String::is_empty",
        deserialize_with = "nullable"
    )]
    pub comment: String,
    /// Whether there is no layer for it.
    #[serde(
        default,
        skip_serializing_if = "is_false",
        deserialize_with = "nullable"
    )]
    pub empty_layer: bool,
}

/// An image's defaults for its containers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Config {
    /// Who runs.
    #[serde(
        default,
        skip_serializing_if = "String::is_empty",
        deserialize_with = "nullable"
    )]
    pub user: String,
    /// Ports that the program listens on.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "nullable"
    )]
    pub exposed_ports: BTreeMap<String, Present>,
    /// Environment.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "nullable"
    )]
    pub env: Vec<String>,
    /// The program.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "nullable"
    )]
    pub entrypoint: Vec<String>,
    /// Its arguments, or the program.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "nullable"
    )]
    pub cmd: Vec<String>,
    /// Folders that get a volume.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "nullable"
    )]
    pub volumes: BTreeMap<String, Present>,
    /// Where it runs.
    #[serde(
        default,
        skip_serializing_if = "String::is_empty",
        deserialize_with = "nullable"
    )]
    pub working_dir: String,
    /// Labels.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "nullable"
    )]
    pub labels: BTreeMap<String, String>,
    /// The signal that stops it.
    #[serde(
        default,
        skip_serializing_if = "String::is_empty",
        deserialize_with = "nullable"
    )]
    pub stop_signal: String,
    /// Whether the command is one line already (Windows).
    #[serde(
        default,
        skip_serializing_if = "is_false",
        deserialize_with = "nullable"
    )]
    pub args_escaped: bool,
    /// How its health is checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthConfig>,
    /// Instructions for images built upon this one.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "nullable"
    )]
    pub on_build: Vec<String>,
    /// The shell of `RUN`, `CMD` and `ENTRYPOINT`.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "nullable"
    )]
    pub shell: Vec<String>,
}

/// A health check in an image's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
#[expect(missing_docs, reason = "the fields are those of the instruction")]
pub struct HealthConfig {
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "nullable"
    )]
    pub test: Vec<String>,
    #[serde(
        default,
        skip_serializing_if = "is_zero",
        deserialize_with = "nullable"
    )]
    pub interval: i64,
    #[serde(
        default,
        skip_serializing_if = "is_zero",
        deserialize_with = "nullable"
    )]
    pub timeout: i64,
    #[serde(
        default,
        skip_serializing_if = "is_zero",
        deserialize_with = "nullable"
    )]
    pub start_period: i64,
    #[serde(
        default,
        skip_serializing_if = "is_zero",
        deserialize_with = "nullable"
    )]
    pub start_interval: i64,
    #[serde(
        default,
        skip_serializing_if = "is_zero",
        deserialize_with = "nullable"
    )]
    pub retries: i64,
}

impl From<&Healthcheck> for HealthConfig {
    fn from(check: &Healthcheck) -> Self {
        Self {
            test: check.test.clone(),
            interval: check.interval,
            timeout: check.timeout,
            start_period: check.start_period,
            start_interval: check.start_interval,
            retries: check.retries,
        }
    }
}

impl HealthConfig {
    /// The check as a history entry shows it: Go's `%q` of the structure.
    pub(super) fn shown(&self) -> String {
        let times = [
            self.interval,
            self.timeout,
            self.start_period,
            self.start_interval,
        ]
        .map(|n| gofmt::quote(&gofmt::duration(n)))
        .join(" ");
        let retries = gofmt::quote_rune(self.retries);
        format!("&{{{} {times} {retries}}}", gofmt::quote_list(&self.test))
    }
}

impl Image {
    /// The configuration of an empty root.
    pub(super) fn empty(platform: &Platform) -> Self {
        Self {
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            os_version: platform.os_version.clone().unwrap_or_default(),
            variant: platform.variant.clone().unwrap_or_default(),
            rootfs: RootFs {
                kind: "layers".to_owned(),
                diff_ids: Vec::new(),
            },
            config: Config {
                working_dir: "/".to_owned(),
                env: vec![format!("PATH={DEFAULT_PATH}")],
                ..Config::default()
            },
            ..Self::default()
        }
    }

    /// The platform that the configuration names, if it names one.
    #[must_use]
    pub fn platform(&self) -> Option<Platform> {
        if self.os.is_empty() || self.architecture.is_empty() {
            return None;
        }
        let optional = |t: &String| Some(t.clone()).filter(|t| !t.is_empty());
        Some(Platform {
            architecture: self.architecture.clone(),
            os: self.os.clone(),
            variant: optional(&self.variant),
            os_version: optional(&self.os_version),
        })
    }

    /// About how many bytes the history takes.
    pub(super) fn history_size(&self) -> usize {
        let entries = self.history.iter();
        entries
            .map(|h| 100 + h.created_by.len() + h.comment.len() + h.author.len())
            .sum()
    }

    /// Whether the image has no layer.
    pub(super) fn is_scratch(&self) -> bool {
        self.rootfs.diff_ids.is_empty() && self.history.iter().all(|h| h.empty_layer)
    }

    /// Notes an instruction.
    pub(super) fn note(&mut self, text: String, layer: bool, created: Option<&str>) {
        self.history.push(History {
            created: created.map(str::to_owned),
            created_by: text,
            comment: COMMENT.to_owned(),
            empty_layer: !layer,
            ..History::default()
        });
    }

    /// Sets a variable where it stands, or at the end; `known` says whether it may stand there.
    pub(super) fn set_env(&mut self, key: &str, value: &str, known: bool) {
        let text = format!("{key}={value}");
        let mut all = self.config.env.iter_mut().filter(|_| known);
        match all.find(|e| crate::env::split(e).0 == key) {
            Some(old) => *old = text,
            None => self.config.env.push(text),
        }
    }

    /// A command line for the image's shell.
    pub(super) fn in_shell(&self, words: &[String]) -> Vec<String> {
        let mut line = if !self.config.shell.is_empty() {
            self.config.shell.clone()
        } else if self.os == "windows" {
            vec!["cmd".to_owned(), "/S".to_owned(), "/C".to_owned()]
        } else {
            vec!["/bin/sh".to_owned(), "-c".to_owned()]
        };
        line.push(words.join(" "));
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_go_writes() {
        let text = r#"{"architecture":"amd64","os":"linux","config":{"Env":null,"Cmd":["a"],"Volumes":{"/v":{}},"OnBuild":null,"Labels":null},"history":null,"rootfs":{"type":"layers","diff_ids":null},"unknown":1}"#;
        let image: Image = serde_json::from_str(text).unwrap();
        assert_eq!(image.config.cmd, ["a"]);
        assert!(image.is_scratch());
        let bytes = gofmt::json(&image).unwrap();
        assert_eq!(
            String::from_utf8(bytes).unwrap(),
            r#"{"architecture":"amd64","os":"linux","config":{"Cmd":["a"],"Volumes":{"/v":{}}},"rootfs":{"type":"layers","diff_ids":[]}}"#
        );
    }

    #[test]
    fn shows_health_checks_as_go() {
        let check = HealthConfig {
            test: vec!["CMD-SHELL".into(), "echo \"ok\"".into()],
            interval: 30_000_000_000,
            timeout: 90_000_000_000,
            retries: 3,
            ..HealthConfig::default()
        };
        assert_eq!(
            check.shown(),
            "&{[\"CMD-SHELL\" \"echo \\\"ok\\\"\"] \"30s\" \"1m30s\" \"0s\" \"0s\" '\\x03'}"
        );
    }
}
