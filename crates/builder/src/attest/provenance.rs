//! How an image was built: SLSA provenance in the versions 0.2 and 1, as BuildKit writes it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use oci::{Digest, Platform, Reference};
use serde_json::{Value, json};

use super::purl;
use crate::error::{Error, Result};
use crate::export::Attestation;
use crate::llb::{Graph, pb};
use crate::source::image::SCHEME;

/// The kind of builds that these are.
const BUILD_TYPE: &str = "https://mobyproject.org/buildkit@v1";
/// The same in version 1 of SLSA.
const BUILD_TYPE_V1: &str =
    "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md";
/// What BuildKit adds to the metadata.
const METADATA: &str = "https://mobyproject.org/buildkit@v1#metadata";
/// The versions of the predicate.
const V02: &str = "https://slsa.dev/provenance/v0.2";
const V1: &str = "https://slsa.dev/provenance/v1";
/// The name of its file where results are folders.
const FILE: &str = "provenance.json";

/// How much is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// No arguments and no steps, which may tell what is nobody's business.
    #[default]
    Min,
    /// Everything but secrets.
    Max,
}

/// What kind of provenance is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provenance {
    /// How much is told.
    pub mode: Mode,
    /// Whether it is the predicate of SLSA 1.
    pub is_v1: bool,
    /// Whether it is left away where an exporter was not asked to attach any.
    pub inline_only: bool,
    /// The client says itself that its build gives the same again.
    pub reproducible: bool,
    /// Who has built.
    pub builder_id: String,
}

impl Provenance {
    pub(super) fn read(fields: &BTreeMap<String, String>) -> Result<Self> {
        let mut wanted = Self::default();
        for (key, value) in fields {
            let flag = || match value.as_str() {
                "" | "1" | "true" => Ok(true),
                "0" | "false" => Ok(false),
                _ => Err(Error::invalid(format!("invalid value {value:?} for {key}"))),
            };
            match (key.as_str(), value.as_str()) {
                ("mode", "min") => wanted.mode = Mode::Min,
                ("mode", "max") | ("mode", "full") => wanted.mode = Mode::Max,
                ("mode", _) => return Err(Error::invalid(format!("invalid mode {value:?}"))),
                ("version", "v0.2" | "0.2") => wanted.is_v1 = false,
                ("version", "v1" | "1") => wanted.is_v1 = true,
                ("version", _) => {
                    return Err(Error::invalid(format!(
                        "invalid provenance version {value:?}"
                    )));
                }
                ("inline-only", _) => wanted.inline_only = flag()?,
                ("reproducible", _) => wanted.reproducible = flag()?,
                ("builder-id", _) => wanted.builder_id.clone_from(value),
                _ => {}
            }
        }
        Ok(wanted)
    }
}

/// Something that a build was made of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Material {
    /// What and where it is.
    pub uri: String,
    /// Its digests by their algorithms.
    pub digest: BTreeMap<String, String>,
}

/// A secret or an agent that steps were given, by its id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretUse {
    /// The id.
    pub id: String,
    /// Whether the build goes on without it.
    pub optional: bool,
}

/// What is known of a build when it is done.
#[derive(Clone, Debug, Default)]
pub struct Capture {
    /// The name of the build.
    pub id: String,
    /// The front end.
    pub frontend: String,
    /// Its attributes as the client sent them.
    pub args: BTreeMap<String, String>,
    /// What it was made of.
    pub materials: BTreeSet<Material>,
    /// Names of the client's folders.
    pub locals: BTreeSet<String>,
    /// Secrets that steps were given.
    pub secrets: BTreeSet<SecretUse>,
    /// Agents that steps were given.
    pub ssh: BTreeSet<SecretUse>,
    /// Whether steps could reach the network.
    pub network: bool,
    /// What it was built on.
    pub platform: Option<Platform>,
    /// When it began.
    pub started: Option<Timestamp>,
    /// When it was done.
    pub finished: Option<Timestamp>,
    /// The operations, for those who want to know everything.
    pub steps: Vec<Value>,
}

impl Capture {
    /// Adds what a graph says. `images` tells the digest that an image's name meant in this build.
    pub fn add(&mut self, graph: &Graph, images: impl Fn(&str) -> Option<Digest>) {
        for vertex in graph.iter() {
            match &vertex.op.op {
                Some(pb::op::Op::Source(source)) => {
                    let platform = crate::source::image::platform_of(vertex.op.platform.as_ref());
                    self.add_source(source, &platform, &images);
                }
                Some(pb::op::Op::Exec(exec)) => self.add_exec(exec),
                _ => {}
            }
            let inputs = vertex.inputs.iter();
            let inputs: Vec<String> = inputs
                .map(|edge| format!("{}:{}", edge.vertex, edge.output))
                .collect();
            self.steps.push(json!({
                "id": vertex.digest.to_string(),
                "name": vertex.name,
                "inputs": inputs,
            }));
        }
    }

    /// Notes the digest of something that the build was made of.
    pub(super) fn resolve(&mut self, uri: &str, digest: Option<&str>) {
        let Some((algorithm, hex)) = digest.and_then(|digest| digest.split_once(':')) else {
            return;
        };
        let uri = redacted(uri);
        self.materials.retain(|one| one.uri != uri);
        let digest = BTreeMap::from([(algorithm.to_owned(), hex.to_owned())]);
        self.materials.insert(Material { uri, digest });
    }

    fn add_source(
        &mut self,
        source: &pb::SourceOp,
        platform: &Platform,
        images: &impl Fn(&str) -> Option<Digest>,
    ) {
        let identifier = source.identifier.as_str();
        if let Some(name) = identifier.strip_prefix(SCHEME) {
            let Ok(reference) = name.parse::<Reference>() else {
                return;
            };
            let digest = reference.digest().cloned().or_else(|| images(name));
            self.materials.insert(Material {
                uri: purl::of_image(&reference, Some(platform)),
                digest: digest.iter().map(by_algorithm).collect(),
            });
        } else if let Some(name) = identifier.strip_prefix("local://") {
            self.locals.insert(name.to_owned());
        } else {
            let checksum = source.attrs.get("http.checksum");
            let checksum = checksum.and_then(|text| text.parse::<Digest>().ok());
            self.materials.insert(Material {
                uri: redacted(identifier.strip_prefix("git://").unwrap_or(identifier)),
                digest: checksum.iter().map(by_algorithm).collect(),
            });
        }
    }

    fn add_exec(&mut self, exec: &pb::ExecOp) {
        self.network |= exec.network != i32::from(pb::NetMode::None);
        let used = |id: &str, optional: bool| SecretUse {
            id: id.to_owned(),
            optional,
        };
        for mount in &exec.mounts {
            if let Some(secret) = &mount.secret_opt {
                self.secrets.insert(used(&secret.id, secret.optional));
            }
            if let Some(ssh) = &mount.ssh_opt {
                self.ssh.insert(used(&ssh.id, ssh.optional));
            }
        }
        let env = exec.secretenv.iter();
        self.secrets
            .extend(env.map(|secret| used(&secret.id, secret.optional)));
    }

    /// Writes what is known.
    #[must_use]
    pub fn state(&self, wanted: &Provenance) -> Attestation {
        let (predicate_type, predicate) = if wanted.is_v1 {
            (V1, self.v1(wanted))
        } else {
            (V02, self.v02(wanted))
        };
        Attestation {
            predicate_type: predicate_type.to_owned(),
            predicate,
            file: FILE.to_owned(),
            inline_only: wanted.inline_only,
        }
    }

    fn parameters(&self, mode: Mode) -> Value {
        let mut parameters = json!({
            "frontend": self.frontend,
            "args": self.told_args(mode),
            "locals": names(self.locals.iter()),
        });
        if mode == Mode::Max {
            for (key, uses) in [("secrets", &self.secrets), ("ssh", &self.ssh)] {
                if !uses.is_empty() {
                    parameters[key] = uses
                        .iter()
                        .map(|one| json!({"id": one.id, "optional": one.optional}))
                        .collect();
                }
            }
        }
        parameters
    }

    /// The attributes without what is of this machine alone, and without arguments and labels where
    /// little is to be told.
    fn told_args(&self, mode: Mode) -> BTreeMap<&str, String> {
        const OF_THE_HOST: [&str; 4] = [
            "cgroup-parent",
            "image-resolve-mode",
            "platform",
            "cache-imports",
        ];
        let told = |key: &str| {
            let private = key.starts_with("build-arg:") || key.starts_with("label:");
            !OF_THE_HOST.contains(&key)
                && !key.starts_with("attest:")
                && !key.starts_with("local-sessionid:")
                && (mode == Mode::Max || !private)
        };
        let args = self.args.iter().filter(|(key, _)| told(key));
        args.map(|(key, value)| {
            let is_place = key == "context" || key.starts_with("context:");
            let value = if is_place {
                redacted(value)
            } else {
                value.clone()
            };
            (key.as_str(), value)
        })
        .collect()
    }

    fn materials(&self) -> Vec<Value> {
        let one = |material: &Material| json!({"uri": material.uri, "digest": material.digest});
        self.materials.iter().map(one).collect()
    }

    fn source(&self) -> Value {
        let filename = self.args.get("filename");
        let entry = filename.map_or("Dockerfile", String::as_str);
        let context = self.args.get("context").filter(|text| text.contains("://"));
        match context {
            Some(context) => json!({"uri": redacted(context), "entryPoint": entry}),
            None => json!({"entryPoint": entry}),
        }
    }

    /// Whether nothing came in that no digest was known of before.
    fn is_complete(&self) -> bool {
        let has_digest = |material: &Material| !material.digest.is_empty();
        self.locals.is_empty() && !self.network && self.materials.iter().all(has_digest)
    }

    fn platform_text(&self) -> String {
        let host = Platform::host;
        self.platform.clone().unwrap_or_else(host).to_string()
    }

    fn v02(&self, wanted: &Provenance) -> Value {
        let is_max = wanted.mode == Mode::Max;
        let private = |key: &String| key.starts_with("build-arg:") || key.starts_with("label:");
        let all_args = is_max || !self.args.keys().any(private);
        let mut predicate = json!({
            "builder": {"id": wanted.builder_id},
            "buildType": BUILD_TYPE,
            "materials": self.materials(),
            "invocation": {
                "configSource": self.source(),
                "parameters": self.parameters(wanted.mode),
                "environment": {"platform": self.platform_text()},
            },
            "metadata": {
                "buildInvocationID": self.id,
                "buildStartedOn": time(self.started),
                "buildFinishedOn": time(self.finished),
                "completeness": {
                    "parameters": all_args,
                    "environment": true,
                    "materials": self.is_complete(),
                },
                "reproducible": wanted.reproducible,
                METADATA: {"vcs": self.vcs()},
            },
        });
        if is_max {
            predicate["buildConfig"] = json!({"llbDefinition": self.steps});
        }
        predicate
    }

    fn v1(&self, wanted: &Provenance) -> Value {
        let mut internal = json!({"builderPlatform": self.platform_text()});
        if wanted.mode == Mode::Max {
            internal["buildConfig"] = json!({"llbDefinition": self.steps});
        }
        json!({
            "buildDefinition": {
                "buildType": BUILD_TYPE_V1,
                "externalParameters": {
                    "configSource": self.source(),
                    "request": self.parameters(wanted.mode),
                },
                "internalParameters": internal,
                "resolvedDependencies": self.materials(),
            },
            "runDetails": {
                "builder": {"id": wanted.builder_id},
                "metadata": {
                    "invocationId": self.id,
                    "startedOn": time(self.started),
                    "finishedOn": time(self.finished),
                    "buildkit_hermetic": !self.network,
                    "buildkit_completeness": {
                        "request": wanted.mode == Mode::Max,
                        "resolvedDependencies": self.is_complete(),
                    },
                    "buildkit_reproducible": wanted.reproducible,
                    "buildkit_metadata": {"vcs": self.vcs()},
                },
            },
        })
    }

    /// What the client says of its repository.
    fn vcs(&self) -> BTreeMap<&str, String> {
        let own = self.args.iter();
        own.filter_map(|(key, value)| Some((key.strip_prefix("vcs:")?, redacted(value))))
            .collect()
    }
}

fn by_algorithm(digest: &Digest) -> (String, String) {
    (Digest::ALGORITHM.to_owned(), digest.hex().to_owned())
}

fn names<'a>(all: impl Iterator<Item = &'a String>) -> Vec<Value> {
    all.map(|name| json!({"name": name})).collect()
}

fn time(time: Option<Timestamp>) -> Option<String> {
    time.map(|time| time.to_string())
}

/// An address without the name and the password that it may have.
fn redacted(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else {
        return address.to_owned();
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    match authority.rsplit_once('@') {
        // a name alone is no secret: git@ is how repositories are reached
        Some((user, host)) if user.contains(':') => format!("{scheme}://xxxxx:xxxxx@{host}{path}"),
        _ => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capture() -> Capture {
        let pairs = [
            ("filename", "Other.Dockerfile"),
            ("build-arg:TOKEN", "arg-secret"),
            ("platform", "linux/amd64"),
            ("context", "https://u:pass-secret@git.example/r.git"),
            ("vcs:revision", "abc"),
        ];
        let mut capture = Capture {
            id: "build".to_owned(),
            frontend: "dockerfile.v0".to_owned(),
            args: pairs
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            network: true,
            ..Capture::default()
        };
        capture.secrets.insert(SecretUse {
            id: "npm".to_owned(),
            optional: true,
        });
        capture.materials.insert(Material {
            uri: "pkg:docker/busybox@latest".to_owned(),
            digest: BTreeMap::new(),
        });
        capture
    }

    #[test]
    fn little_is_told_where_little_is_wanted() {
        let stated = capture().state(&Provenance::default());
        assert_eq!(stated.predicate_type, V02);
        let text = stated.predicate.to_string();
        for secret in ["arg-secret", "pass-secret", "npm", "llbDefinition"] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
        let invocation = &stated.predicate["invocation"];
        assert_eq!(invocation["configSource"]["entryPoint"], "Other.Dockerfile");
        assert!(invocation["parameters"]["args"].get("platform").is_none());
        assert_eq!(
            stated.predicate["metadata"]["completeness"]["parameters"],
            false
        );
        assert_eq!(
            stated.predicate["metadata"][METADATA]["vcs"]["revision"],
            "abc"
        );
    }

    #[test]
    fn everything_is_told_where_it_is_wanted_but_passwords() {
        for is_v1 in [false, true] {
            let wanted = Provenance {
                mode: Mode::Max,
                is_v1,
                ..Provenance::default()
            };
            let text = capture().state(&wanted).predicate.to_string();
            for told in ["arg-secret", "npm", "llbDefinition", "busybox"] {
                assert!(text.contains(told), "{told}: {text}");
            }
            assert!(!text.contains("pass-secret"), "{text}");
        }
    }

    #[test]
    fn addresses_without_passwords() {
        for (address, expect) in [
            ("https://u:p@h/x", "https://xxxxx:xxxxx@h/x"),
            ("https://h/x@y:z", "https://h/x@y:z"),
            ("ssh://git@h/x", "ssh://git@h/x"),
            (".", "."),
        ] {
            assert_eq!(redacted(address), expect);
        }
    }
}
