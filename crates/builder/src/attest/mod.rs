//! What is said about an image: its provenance and the software that it holds.
//!
//! A statement names what it is about by digest (in-toto attestation framework, statement v0.1). Secrets
//! are named in it by their ids alone: their values are never where statements are made.

mod attach;
mod generator;
mod provenance;
mod purl;
pub mod sbom;

use std::collections::BTreeMap;

use oci::{Digest, Platform};
use serde_json::json;

pub use attach::{Build, attach};
pub use provenance::{Capture, Material, Mode, Provenance, SecretUse};

use crate::error::{Error, Result, Step};
use crate::export::Attestation;

/// The kind of statement that is written.
const STATEMENT: &str = "https://in-toto.io/Statement/v0.1";
/// The subject of a statement about something without a name.
const NAMELESS: &str = "_";

/// What a client wants to be stated about its results.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// How it was built.
    pub provenance: Option<Provenance>,
    /// What it holds, and the image that looks for it; the built-in scanner where that is empty.
    pub sbom: Option<String>,
    /// What that image is told.
    pub sbom_settings: BTreeMap<String, String>,
}

impl Wanted {
    /// Reads `attest:provenance` and `attest:sbom` among the attributes of a front end.
    ///
    /// # Errors
    /// When a value is wrong, or there is no such statement.
    pub fn read(attrs: &BTreeMap<String, String>) -> Result<Self> {
        let mut wanted = Self::default();
        for (name, value) in attrs {
            let Some(kind) = name.strip_prefix("attest:") else {
                continue;
            };
            let fields = fields(value);
            let disabled = fields.get("disabled").is_some_and(|text| text != "false");
            match kind {
                _ if disabled => {}
                "provenance" => wanted.provenance = Some(Provenance::read(&fields)?),
                "sbom" => {
                    let mut fields = fields;
                    fields.remove("disabled");
                    wanted.sbom = Some(fields.remove("generator").unwrap_or_default());
                    wanted.sbom_settings = fields;
                }
                other => {
                    return Err(Error::invalid(format!(
                        "unknown attestation type {other:?}"
                    )));
                }
            }
        }
        Ok(wanted)
    }
}

/// `key=value` fields with commas between them.
fn fields(text: &str) -> BTreeMap<String, String> {
    let parts = text.split(',').filter(|part| !part.is_empty());
    let pair = |part: &str| match part.split_once('=') {
        Some((key, value)) => (key.to_owned(), value.to_owned()),
        None => (part.to_owned(), String::new()),
    };
    parts.map(pair).collect()
}

/// Writes a statement about an image that has these names.
pub(crate) fn statement(
    attestation: &Attestation,
    names: &[String],
    platform: Option<&Platform>,
    about: &Digest,
) -> Result<Vec<u8>> {
    let mut subjects: Vec<String> = names
        .iter()
        .filter_map(|name| name.parse().ok())
        .map(|name| purl::of_image(&name, platform))
        .collect();
    if subjects.is_empty() {
        subjects.push(NAMELESS.to_owned());
    }
    let subject = subjects
        .into_iter()
        .map(|name| json!({"name": name, "digest": {Digest::ALGORITHM: about.hex()}}));
    let statement = json!({
        "_type": STATEMENT,
        "predicateType": attestation.predicate_type,
        "subject": subject.collect::<Vec<_>>(),
        "predicate": attestation.predicate,
    });
    serde_json::to_vec(&statement).step(|| "write a statement about an image")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(attrs: &[(&str, &str)]) -> Result<Wanted> {
        let attrs = attrs.iter();
        let attrs = attrs.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Wanted::read(&attrs.collect())
    }

    #[test]
    fn what_clients_want() {
        let all = wanted(&[
            ("attest:provenance", "mode=max,version=v1,builder-id=x"),
            ("attest:sbom", "generator=r.example/scan"),
            ("target", "x"),
        ])
        .unwrap();
        let provenance = all.provenance.unwrap();
        assert_eq!(provenance.mode, Mode::Max);
        assert_eq!(provenance.builder_id, "x");
        assert_eq!(all.sbom.as_deref(), Some("r.example/scan"));
        let none = wanted(&[("attest:provenance", "disabled=true")]).unwrap();
        assert_eq!(none, Wanted::default());
        assert_eq!(
            wanted(&[("attest:sbom", "")]).unwrap().sbom.as_deref(),
            Some("")
        );
        for (key, value) in [
            ("attest:other", ""),
            ("attest:provenance", "mode=most"),
            ("attest:provenance", "version=v9"),
        ] {
            assert!(wanted(&[(key, value)]).is_err(), "{key}={value}");
        }
    }

    #[test]
    fn statements_name_their_subjects() {
        let attestation = Attestation {
            predicate_type: "https://spdx.dev/Document".to_owned(),
            predicate: json!({"a": 1}),
            file: "sbom.spdx.json".to_owned(),
            inline_only: false,
        };
        let about = Digest::from_sha256(&[1; 32]);
        let read = |names: &[&str]| -> serde_json::Value {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let platform = "linux/amd64".parse().ok();
            let bytes = statement(&attestation, &names, platform.as_ref(), &about).unwrap();
            serde_json::from_slice(&bytes).unwrap()
        };
        let named = read(&["busybox:1", "r.example:5000/a/b"]);
        assert_eq!(named["_type"], STATEMENT);
        let subjects = named["subject"].as_array().unwrap();
        assert_eq!(
            subjects[0]["name"],
            "pkg:docker/busybox@1?platform=linux%2Famd64"
        );
        assert_eq!(
            subjects[1]["name"],
            "pkg:docker/r.example:5000/a/b@latest?platform=linux%2Famd64"
        );
        assert_eq!(subjects[0]["digest"]["sha256"], "01".repeat(32));
        assert_eq!(read(&[])["subject"][0]["name"], "_");
    }
}
