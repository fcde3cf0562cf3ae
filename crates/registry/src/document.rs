//! Manifests and indexes as clients push them: what they are, and what they refer to.
//!
//! The bytes are what is kept and served; this is only the registry's own reading of them. A
//! document that two readers could take for two different things is refused (CVE-2021-41190).

use std::collections::BTreeMap;

use oci::Digest;
use oci::image::media_type as kinds;
use serde::Deserialize;

/// How many descriptors a document may hold.
const DESCRIPTORS_MAX: usize = 10_000;

/// What kind of document it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Manifest,
    Index,
}

/// A descriptor in a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pointer {
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    /// Content that is fetched from elsewhere, and that no registry needs to have.
    pub(crate) foreign: bool,
}

impl Pointer {
    /// Whether it points to a document.
    pub(crate) fn is_document(&self) -> bool {
        kind_of(&self.media_type).is_some()
    }
}

/// A document that was read.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    pub(crate) kind: Kind,
    pub(crate) media_type: String,
    /// Configuration and layers, or an index's entries.
    pub(crate) pointers: Vec<Pointer>,
    pub(crate) subject: Option<Digest>,
    /// What the referrers' list tells: the artifact's type, or its configuration's.
    pub(crate) artifact_type: Option<String>,
    pub(crate) annotations: BTreeMap<String, String>,
}

/// Why a document is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DocumentError {
    #[error("the document cannot be read")]
    Json(#[source] serde_json::Error),
    #[error("schemaVersion is {0}, not 2")]
    Version(u32),
    #[error("schema version 1 manifests are not supported")]
    Schema1,
    #[error("the document says it is {inside:?}, the request says {outside:?}")]
    MediaType { inside: String, outside: String },
    #[error("media type {0:?} is no manifest and no index that a registry keeps")]
    UnknownType(String),
    #[error("the document has both {0} and {1}: it could be read as two different things")]
    Ambiguous(&'static str, &'static str),
    #[error("the document has no {0}")]
    Lacks(&'static str),
    #[error("the document holds {0} descriptors, more than {DESCRIPTORS_MAX}")]
    TooMany(usize),
    #[error("the document gives {0} two different sizes")]
    TwoSizes(Digest),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    schema_version: u32,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    artifact_type: Option<String>,
    #[serde(default)]
    config: Option<WirePointer>,
    #[serde(default)]
    layers: Option<Vec<WirePointer>>,
    #[serde(default)]
    manifests: Option<Vec<WirePointer>>,
    #[serde(default)]
    subject: Option<WirePointer>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
    #[serde(default)]
    fs_layers: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WirePointer {
    media_type: String,
    digest: Digest,
    size: u64,
    #[serde(default)]
    urls: Option<Vec<String>>,
}

impl From<WirePointer> for Pointer {
    fn from(wire: WirePointer) -> Self {
        let foreign = wire.urls.is_some_and(|urls| !urls.is_empty())
            || wire.media_type.contains(".foreign.")
            || wire.media_type.contains(".nondistributable.");
        Self {
            media_type: wire.media_type,
            digest: wire.digest,
            size: wire.size,
            foreign,
        }
    }
}

fn kind_of(media_type: &str) -> Option<Kind> {
    match media_type {
        kinds::OCI_MANIFEST | kinds::DOCKER_MANIFEST => Some(Kind::Manifest),
        kinds::OCI_INDEX | kinds::DOCKER_LIST => Some(Kind::Index),
        _ => None,
    }
}

/// Reads a document; `told` is the request's `Content-Type` without parameters.
pub(crate) fn parse(bytes: &[u8], told: Option<&str>) -> Result<Document, DocumentError> {
    // serde refuses a key that comes twice
    let wire: Wire = serde_json::from_slice(bytes).map_err(DocumentError::Json)?;
    match wire.schema_version {
        2 => {}
        1 => return Err(DocumentError::Schema1),
        other => return Err(DocumentError::Version(other)),
    }
    let (media_type, kind) = media_type(&wire, told)?;
    check_shape(&wire, kind)?;
    let config: Option<Pointer> = wire.config.map(Into::into);
    let rest = wire.layers.or(wire.manifests).unwrap_or_default();
    let pointers: Vec<Pointer> = config
        .iter()
        .cloned()
        .chain(rest.into_iter().map(Into::into))
        .collect();
    check_pointers(&pointers)?;
    let artifact_type = wire
        .artifact_type
        .filter(|text| !text.is_empty())
        .or_else(|| config.as_ref().map(|config| config.media_type.clone()));
    Ok(Document {
        kind,
        media_type,
        pointers,
        subject: wire.subject.map(|subject| subject.digest),
        artifact_type,
        annotations: wire.annotations.unwrap_or_default(),
    })
}

fn media_type(wire: &Wire, told: Option<&str>) -> Result<(String, Kind), DocumentError> {
    let inside = wire.media_type.as_deref().filter(|text| !text.is_empty());
    if let (Some(inside), Some(outside)) = (inside, told)
        && inside != outside
    {
        return Err(DocumentError::MediaType {
            inside: inside.to_owned(),
            outside: outside.to_owned(),
        });
    }
    // OCI documents may leave it out; their shape tells
    let guessed = match wire.manifests {
        Some(_) => kinds::OCI_INDEX,
        None => kinds::OCI_MANIFEST,
    };
    let text = inside.or(told).unwrap_or(guessed);
    match kind_of(text) {
        Some(kind) => Ok((text.to_owned(), kind)),
        None => Err(DocumentError::UnknownType(text.to_owned())),
    }
}

fn check_shape(wire: &Wire, kind: Kind) -> Result<(), DocumentError> {
    let is_there = [
        ("config", wire.config.is_some()),
        ("layers", wire.layers.is_some()),
        ("fsLayers", wire.fs_layers.is_some()),
    ];
    let strange = is_there.iter().find(|(_, there)| *there);
    match kind {
        Kind::Index => match (strange, &wire.manifests) {
            (Some((name, _)), _) => Err(DocumentError::Ambiguous("manifests", name)),
            (None, None) => Err(DocumentError::Lacks("manifests")),
            (None, Some(_)) => Ok(()),
        },
        Kind::Manifest => {
            if wire.manifests.is_some() {
                return Err(DocumentError::Ambiguous("layers", "manifests"));
            }
            if wire.fs_layers.is_some() {
                return Err(DocumentError::Ambiguous("layers", "fsLayers"));
            }
            match (&wire.config, &wire.layers) {
                (None, _) => Err(DocumentError::Lacks("config")),
                (_, None) => Err(DocumentError::Lacks("layers")),
                (Some(_), Some(_)) => Ok(()),
            }
        }
    }
}

fn check_pointers(pointers: &[Pointer]) -> Result<(), DocumentError> {
    if pointers.len() > DESCRIPTORS_MAX {
        return Err(DocumentError::TooMany(pointers.len()));
    }
    let mut sizes = std::collections::HashMap::new();
    for pointer in pointers {
        let size = *sizes.entry(&pointer.digest).or_insert(pointer.size);
        if size != pointer.size {
            return Err(DocumentError::TwoSizes(pointer.digest.clone()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pointer(media_type: &str, digit: char, size: u64) -> String {
        let hex = digit.to_string().repeat(64);
        format!(r#"{{"mediaType":"{media_type}","digest":"sha256:{hex}","size":{size}}}"#)
    }

    #[test]
    fn manifests_and_indexes() {
        let (config, layer) = (
            pointer(kinds::OCI_CONFIG, 'a', 2),
            pointer(kinds::OCI_LAYER_GZIP, 'b', 9),
        );
        let text = format!(
            r#"{{"schemaVersion":2,"config":{config},"layers":[{layer},{layer}],"subject":{layer},"annotations":{{"k":"v"}}}}"#
        );
        let read = parse(text.as_bytes(), Some(kinds::OCI_MANIFEST)).unwrap();
        assert_eq!((read.kind, read.pointers.len()), (Kind::Manifest, 3));
        assert_eq!(read.artifact_type.as_deref(), Some(kinds::OCI_CONFIG));
        assert!(read.subject.is_some());
        let entry = pointer(kinds::OCI_MANIFEST, 'c', 5);
        let text = format!(r#"{{"schemaVersion":2,"artifactType":"x/y","manifests":[{entry}]}}"#);
        let read = parse(text.as_bytes(), None).unwrap();
        assert_eq!(read.kind, Kind::Index);
        assert_eq!(read.artifact_type.as_deref(), Some("x/y"));
        assert!(read.pointers[0].is_document());
    }

    #[test]
    fn refusals() {
        let (config, layer) = (
            pointer(kinds::OCI_CONFIG, 'a', 2),
            pointer(kinds::OCI_LAYER_GZIP, 'a', 9),
        );
        let entry = pointer(kinds::OCI_MANIFEST, 'c', 5);
        let check = |text: &str, told: Option<&str>, expect: &str| {
            let error = crate::refusal::chain(&parse(text.as_bytes(), told).unwrap_err());
            assert!(error.contains(expect), "{text}: {error}");
        };
        check("", None, "cannot be read");
        check("[]", None, "cannot be read");
        check(r#"{"schemaVersion":1,"fsLayers":[]}"#, None, "version 1");
        check(r#"{"schemaVersion":3}"#, None, "not 2");
        check(r#"{"schemaVersion":2}"#, None, "no config");
        check(
            r#"{"schemaVersion":2,"schemaVersion":2}"#,
            None,
            "duplicate field",
        );
        let both = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[],"manifests":[]}}"#);
        check(&both, None, "both manifests and config");
        check(
            &both,
            Some(kinds::OCI_MANIFEST),
            "both layers and manifests",
        );
        let two = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{layer}]}}"#);
        check(&two, None, "two different sizes");
        let index = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{entry}]}}"#,
            kinds::OCI_INDEX
        );
        check(&index, Some(kinds::OCI_MANIFEST), "the request says");
        check(
            r#"{"schemaVersion":2,"mediaType":"text/html"}"#,
            None,
            "text/html",
        );
        let digest = r#"{"schemaVersion":2,"config":{"mediaType":"a","digest":"md5:aa","size":1},"layers":[]}"#;
        check(digest, None, "cannot be read");
        let size = format!(
            r#"{{"schemaVersion":2,"config":{},"layers":[]}}"#,
            config.replace(":2}", ":-2}")
        );
        check(&size, None, "cannot be read");
    }
}
