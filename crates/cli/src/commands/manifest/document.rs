//! The manifests of a list, and the list itself, as Docker's command line writes them.

use crate::failure::Failure;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oci::image::{Descriptor, Manifest, media_type};
use oci::{Digest, Reference};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt::Write as _;

/// Pairs of system and architecture that Go builds for, as Docker's command line takes them.
const PLATFORMS: &[(&str, &[&str])] = &[
    ("darwin", &["386", "amd64", "arm", "arm64"]),
    ("dragonfly", &["amd64"]),
    ("freebsd", &["386", "amd64", "arm"]),
    (
        "linux",
        &[
            "386", "amd64", "arm", "arm64", "ppc64le", "mips64", "mips64le", "riscv64", "s390x",
        ],
    ),
    ("netbsd", &["386", "amd64", "arm"]),
    ("openbsd", &["386", "amd64", "arm"]),
    ("plan9", &["386", "amd64"]),
    ("solaris", &["amd64"]),
    ("windows", &["386", "amd64"]),
];

/// A manifest of a list.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Entry {
    #[serde(rename = "Ref")]
    pub(super) reference: String,
    pub(super) descriptor: EntryDescriptor,
    /// The manifest's bytes in base64.
    #[serde(default)]
    pub(super) raw: String,
    #[serde(
        rename = "SchemaV2Manifest",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    docker: Option<Value>,
    #[serde(
        rename = "OCIManifest",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    oci: Option<Value>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EntryDescriptor {
    pub(super) media_type: String,
    pub(super) digest: Digest,
    pub(super) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) platform: Option<EntryPlatform>,
}

/// A platform with all that Go's type has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct EntryPlatform {
    pub(super) architecture: String,
    pub(super) os: String,
    #[serde(rename = "os.version", skip_serializing_if = "String::is_empty")]
    pub(super) os_version: String,
    #[serde(
        rename = "os.features",
        deserialize_with = "or_empty",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub(super) os_features: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) variant: String,
}

fn or_empty<'de, D: serde::Deserializer<'de>>(source: D) -> Result<Vec<String>, D::Error> {
    Option::<Vec<String>>::deserialize(source).map(Option::unwrap_or_default)
}

impl EntryPlatform {
    /// Whether Go builds for it.
    pub(super) fn is_known(&self) -> bool {
        PLATFORMS
            .iter()
            .any(|(os, all)| *os == self.os && all.contains(&self.architecture.as_str()))
    }
}

impl Entry {
    /// An entry for a manifest that a registry has.
    pub(super) fn new(
        reference: &Reference,
        descriptor: &Descriptor,
        bytes: &[u8],
        platform: EntryPlatform,
    ) -> anyhow::Result<Self> {
        let value: Value = serde_json::from_slice(bytes)?;
        let is_docker = descriptor.media_type == media_type::DOCKER_MANIFEST;
        let (docker, oci) = match is_docker {
            true => (Some(value), None),
            false => (None, Some(value)),
        };
        Ok(Self {
            reference: reference.to_string(),
            descriptor: EntryDescriptor {
                media_type: descriptor.media_type.clone(),
                digest: descriptor.digest.clone(),
                size: descriptor.size,
                platform: Some(platform),
            },
            raw: STANDARD.encode(bytes),
            docker,
            oci,
        })
    }

    /// The manifest's bytes, which are what the descriptor says.
    pub(super) fn bytes(&self) -> Result<Vec<u8>, Failure> {
        let damaged = || Failure::message(format!("the manifest of {} is damaged", self.reference));
        let bytes = STANDARD.decode(&self.raw).map_err(|_| damaged())?;
        match distribution::digest_of(&bytes) == self.descriptor.digest {
            true => Ok(bytes),
            false => Err(damaged()),
        }
    }

    pub(super) fn named(&self) -> Result<Reference, Failure> {
        crate::remote::reference(&self.reference)
    }

    /// What the manifest names, the configuration first.
    pub(super) fn blobs(&self) -> anyhow::Result<Vec<Descriptor>> {
        let manifest: Manifest = serde_json::from_slice(&self.bytes()?)?;
        let mut blobs = vec![manifest.config];
        blobs.extend(manifest.layers);
        Ok(blobs)
    }
}

/// A list as it is pushed.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct List {
    schema_version: u32,
    media_type: &'static str,
    manifests: Vec<ListEntry>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ListEntry {
    media_type: String,
    size: u64,
    digest: Digest,
    platform: EntryPlatform,
}

/// The bytes of a list for a repository, and their media type, which the first manifest decides.
pub(super) fn list(
    target: &Reference,
    entries: &[Entry],
) -> anyhow::Result<(&'static str, String)> {
    let mut manifests = Vec::with_capacity(entries.len());
    for entry in entries {
        let from = entry.named()?;
        if from.domain() != target.domain() {
            return Err(Failure::message(format!(
                "cannot use source images from a different registry than the target image: {} != {}",
                from.domain(),
                target.domain()
            ))
            .into());
        }
        manifests.push(ListEntry {
            media_type: entry.descriptor.media_type.clone(),
            size: entry.descriptor.size,
            digest: entry.descriptor.digest.clone(),
            platform: entry.descriptor.platform.clone().unwrap_or_default(),
        });
    }
    let first = manifests.first().map(|entry| entry.media_type.as_str());
    let media_type = match first {
        Some(media_type::OCI_MANIFEST) => media_type::OCI_INDEX,
        _ => media_type::DOCKER_LIST,
    };
    let list = List {
        schema_version: 2,
        media_type,
        manifests,
    };
    Ok((media_type, pretty(&list, b"   ")?))
}

/// JSON as Go's `MarshalIndent` writes it, which makes HTML's characters harmless.
pub(super) fn pretty(value: &impl Serialize, indent: &[u8]) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(indent);
    value.serialize(&mut serde_json::Serializer::with_formatter(
        &mut bytes, formatter,
    ))?;
    let text = String::from_utf8(bytes)?;
    Ok(text.chars().fold(String::new(), |mut out, c| {
        match c {
            // in JSON these stand in texts alone
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                // Writing to a String cannot fail.
                let _infallible = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
        out
    }))
}

/// JSON with new white space and nothing else changed, as Go's `Indent` gives it.
pub(super) fn indented(json: &str) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let (mut depth, mut in_text, mut escaped, mut fresh) = (0, false, false, false);
    for c in json.chars() {
        if in_text {
            out.push(c);
            (in_text, escaped) = match c {
                _ if escaped => (true, false),
                '\\' => (true, true),
                '"' => (false, false),
                _ => (true, false),
            };
            continue;
        }
        if c.is_ascii_whitespace() {
            continue;
        }
        let closes = matches!(c, '}' | ']');
        if fresh && !closes {
            depth += 1;
            line(&mut out, depth);
        }
        if closes && !fresh {
            depth -= 1;
            line(&mut out, depth);
        }
        fresh = matches!(c, '{' | '[');
        out.push(c);
        match c {
            '"' => in_text = true,
            ',' => line(&mut out, depth),
            ':' => out.push(' '),
            _ => {}
        }
    }
    out
}

fn line(out: &mut String, depth: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n('\t', depth));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_alone_changes() {
        for (json, expect) in [
            ("{}", "{}"),
            ("[ ]", "[]"),
            (
                r#"{"a":[1,2,{}],"b":"x, {y}: \"<"}"#,
                "{\n\t\"a\": [\n\t\t1,\n\t\t2,\n\t\t{}\n\t],\n\t\"b\": \"x, {y}: \\\"<\"\n}",
            ),
            (
                "{\n  \"a\" : [ [ ] , null ] }",
                "{\n\t\"a\": [\n\t\t[],\n\t\tnull\n\t]\n}",
            ),
        ] {
            assert_eq!(indented(json), expect);
        }
    }

    #[test]
    fn texts_are_harmless_in_html() {
        let text = pretty(&serde_json::json!({"a": "<b>&"}), b"\t").unwrap();
        assert_eq!(text, "{\n\t\"a\": \"\\u003cb\\u003e\\u0026\"\n}");
    }

    #[test]
    fn platforms() {
        let platform = |os: &str, architecture: &str| EntryPlatform {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            ..EntryPlatform::default()
        };
        assert!(platform("linux", "riscv64").is_known());
        assert!(!platform("linux", "xx").is_known());
        assert!(!platform("", "").is_known());
    }
}
