//! What refers to an image: signatures, bills of material, and whatever else is attached to it.
//!
//! Registries that know the referrers API (OCI distribution specification 1.1) keep the list
//! themselves. For others it is an index at the tag `sha256-<digits>`, which whoever pushes a
//! referrer keeps up to date.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::header::LINK;
use http::{Method, StatusCode};
use oci::Digest;
use oci::image::media_type;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::answer::Answer;
use crate::call::accept;
use crate::client::Repository;
use crate::error::{ErrorKind, RegistryError};
use crate::location::join;
use crate::manifest::DocumentError;

const PAGE_MAX: u64 = 4 << 20;
const PAGES_MAX: usize = 64;
const REFERRERS_MAX: usize = 10_000;

/// A manifest that is about another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Referrer {
    /// The media type of the manifest.
    pub media_type: String,
    /// The manifest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// What it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub artifact_type: String,
    /// Its annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct List {
    schema_version: u32,
    #[serde(default)]
    media_type: Option<String>,
    manifests: Vec<Referrer>,
}

/// The fields of a manifest that say what it is about.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Probe {
    #[serde(default)]
    subject: Option<Subject>,
    #[serde(default)]
    artifact_type: Option<String>,
    #[serde(default)]
    config: Option<Subject>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Subject {
    media_type: String,
    digest: Digest,
}

impl Repository {
    /// What refers to a manifest, of one type or of any.
    ///
    /// # Errors
    /// When the registry cannot be reached, refuses, or sends what is no list.
    pub async fn referrers(
        &self,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Referrer>, RegistryError> {
        let mut found = match self.referrers_by_api(subject, artifact_type).await? {
            Some(found) => found,
            None => self.referrers_by_tag(subject).await?,
        };
        // a registry may ignore the filter
        found
            .retain(|referrer| artifact_type.is_none_or(|wanted| referrer.artifact_type == wanted));
        Ok(found)
    }

    /// Asks the registry; nothing where it does not know the question.
    async fn referrers_by_api(
        &self,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Option<Vec<Referrer>>, RegistryError> {
        let mut path = format!("referrers/{subject}");
        if let Some(wanted) = artifact_type {
            path.push_str("?artifactType=");
            path.push_str(&encode(wanted));
        }
        let mut found = Vec::new();
        for _ in 0..PAGES_MAX {
            let headers = accept(&[media_type::OCI_INDEX]);
            let answer = self.call(Method::GET, &path, headers).await?;
            match answer.status {
                StatusCode::OK => {}
                // older registries do not have the address, some say that it is wrong
                StatusCode::NOT_FOUND
                | StatusCode::BAD_REQUEST
                | StatusCode::METHOD_NOT_ALLOWED
                | StatusCode::NOT_IMPLEMENTED
                    if found.is_empty() =>
                {
                    return Ok(None);
                }
                _ => return Err(self.refusal(answer, Self::unknown_repository).await),
            }
            let next = next_page(&answer, subject);
            let body = answer.bytes("list of referrers", PAGE_MAX).await?;
            found.extend(self.list(&body)?.manifests);
            match next {
                Some(next) if found.len() < REFERRERS_MAX => path = next,
                _ => break,
            }
        }
        found.truncate(REFERRERS_MAX);
        Ok(Some(found))
    }

    async fn referrers_by_tag(&self, subject: &Digest) -> Result<Vec<Referrer>, RegistryError> {
        let document = match self.tagged(&fallback_tag(subject))?.document().await {
            Ok(document) if document.is_index => document,
            Ok(_) => return Ok(Vec::new()),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        Ok(self.list(&document.bytes)?.manifests)
    }

    fn list(&self, body: &[u8]) -> Result<List, RegistryError> {
        serde_json::from_slice(body).map_err(|source| {
            let what = "list of referrers";
            self.unusable(DocumentError::Json { what, source })
        })
    }

    /// Enters a manifest that was pushed into the list of what refers to its subject, where the
    /// registry does not do so itself.
    pub(crate) async fn keep_referrer(
        &self,
        media_type: &str,
        digest: &Digest,
        bytes: &[u8],
    ) -> Result<(), RegistryError> {
        let Some((subject, referrer)) = referrer_of(media_type, digest, bytes) else {
            return Ok(());
        };
        let tag = fallback_tag(&subject);
        let mut list = match self.tagged(&tag)?.document().await {
            Ok(document) => serde_json::from_slice::<Value>(&document.bytes)
                .ok()
                .filter(|_| document.is_index),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        }
        .unwrap_or_else(|| {
            serde_json::json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": []})
        });
        let Some(entries) = list["manifests"].as_array_mut() else {
            return Ok(());
        };
        let own = digest.to_string();
        if entries.iter().any(|entry| entry["digest"] == *own) {
            return Ok(());
        }
        // texts and numbers are always writable
        entries.push(serde_json::to_value(&referrer).unwrap_or_default());
        let bytes = Bytes::from(list.to_string());
        self.put_manifest(Some(&tag), media_type::OCI_INDEX, bytes)
            .await
            .map(drop)
    }
}

/// The subject of a manifest that has one, and its entry in the list of what refers to that.
fn referrer_of(media_type: &str, digest: &Digest, bytes: &[u8]) -> Option<(Digest, Referrer)> {
    let probe: Probe = serde_json::from_slice(bytes).ok()?;
    let subject = probe.subject?.digest;
    // the type of a manifest that does not tell its own is that of its configuration
    let artifact_type = probe
        .artifact_type
        .filter(|kind| !kind.is_empty())
        .or(probe.config.map(|config| config.media_type))
        .unwrap_or_default();
    let referrer = Referrer {
        media_type: media_type.to_owned(),
        digest: digest.clone(),
        size: bytes.len() as u64,
        artifact_type,
        annotations: probe.annotations.unwrap_or_default(),
    };
    Some((subject, referrer))
}

/// Whether a manifest is about another one.
pub(crate) fn has_subject(bytes: &[u8]) -> bool {
    serde_json::from_slice::<Probe>(bytes).is_ok_and(|probe| probe.subject.is_some())
}

/// Whether a tag is one that holds something about an image, and no image: `sha256-<digits>`, and the
/// same with cosign's endings.
#[must_use]
pub fn is_attached_tag(tag: &str) -> bool {
    let Some((hex, rest)) = tag
        .strip_prefix("sha256-")
        .and_then(|rest| rest.split_at_checked(64))
    else {
        return false;
    };
    hex.bytes().all(|byte| byte.is_ascii_hexdigit())
        && matches!(rest, "" | ".sig" | ".att" | ".sbom")
}

/// The tag of the list where the registry keeps none.
fn fallback_tag(subject: &Digest) -> String {
    format!("sha256-{}", subject.hex())
}

/// The query of the next page; its host and path are not followed.
fn next_page(answer: &Answer, subject: &Digest) -> Option<String> {
    let link = answer.header(LINK.as_str())?;
    let target = link.strip_prefix('<')?.split('>').next()?;
    let query = join(&answer.uri, target)?.query()?.to_owned();
    Some(format!("referrers/{subject}?{query}"))
}

/// Encodes what is not plain in a query's value.
fn encode(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _infallible = write!(out, "%{byte:02X}");
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries() {
        let digest = Digest::from_sha256(&[1; 32]);
        let subject = Digest::from_sha256(&[2; 32]);
        let entry = |extra: &str| {
            let text = format!(
                r#"{{"subject":{{"mediaType":"m","digest":"{subject}","size":1}},"config":{{"mediaType":"c","digest":"{digest}","size":2}}{extra}}}"#
            );
            referrer_of("m", &digest, text.as_bytes()).unwrap().1
        };
        assert_eq!(entry("").artifact_type, "c");
        assert_eq!(entry(r#","artifactType":"a""#).artifact_type, "a");
        assert!(referrer_of("m", &digest, b"{}").is_none());
        assert!(referrer_of("m", &digest, b"not json").is_none());
    }

    #[test]
    fn tags_that_are_no_images() {
        let digits = "a1".repeat(32);
        for (tag, expect) in [
            (format!("sha256-{digits}"), true),
            (format!("sha256-{digits}.sig"), true),
            (format!("sha256-{digits}.att"), true),
            (format!("sha256-{digits}.x"), false),
            (format!("sha256-{digits}0"), false),
            (format!("sha256-{}", &digits[1..]), false),
            ("sha256-1".to_owned(), false),
            ("latest".to_owned(), false),
        ] {
            assert_eq!(is_attached_tag(&tag), expect, "{tag}");
        }
    }

    #[test]
    fn encoding() {
        assert_eq!(encode("a/b+json x&y"), "a%2Fb%2Bjson%20x%26y");
    }
}
