//! Manifests and indexes as registries send them: told apart, and refused where unclear.

use oci::image::{Descriptor, Index, Manifest, media_type};
use oci::{Digest, Platform};
use serde::Deserialize;
use serde::de::IgnoredAny;
use sha2::{Digest as _, Sha256};

/// The largest manifest or index that is read; registries accept no larger ones.
pub(crate) const MANIFEST_MAX: u64 = 4 << 20;
/// The largest image configuration that is read.
pub(crate) const CONFIG_MAX: u64 = 8 << 20;
/// More layers cannot be stacked by any kernel.
const LAYERS_MAX: usize = 500;
/// What is asked for, in the order of preference.
pub(crate) const ACCEPTED: [&str; 4] = [
    media_type::OCI_INDEX,
    media_type::DOCKER_LIST,
    media_type::OCI_MANIFEST,
    media_type::DOCKER_MANIFEST,
];

/// Why a document is no usable manifest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// The document is not the JSON that is expected.
    #[error("parse {what}")]
    Json {
        /// What it should be.
        what: &'static str,
        /// Why it is not.
        #[source]
        source: serde_json::Error,
    },
    /// The document can be read as two kinds (containerd GHSA-5j5w-g665-5m35).
    #[error("ambiguous document: {problem}")]
    Ambiguous {
        /// What contradicts what.
        problem: String,
    },
    /// The image is in Docker's first manifest format.
    #[error(
        "Docker image manifest version 2, schema 1 is not supported: the image's publisher has to push it again in OCI format or as schema 2"
    )]
    Schema1,
    /// The document is of a kind that is no image.
    #[error("unsupported media type {media_type:?}")]
    MediaType {
        /// The media type.
        media_type: String,
    },
    /// The document has a version that does not exist yet.
    #[error("unsupported schema version {version}")]
    Version {
        /// The version.
        version: u32,
    },
    /// Indexes name indexes, and so on.
    #[error("indexes are nested more than {limit} deep")]
    Nested {
        /// How deep they may be.
        limit: usize,
    },
    /// The manifest has more layers than can be mounted.
    #[error("{count} layers are more than the limit of {limit}")]
    Layers {
        /// The layers of the manifest.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// The length differs from the index's entry.
    #[error("{digest} has {actual} bytes, its index says {expected}")]
    Length {
        /// The manifest.
        digest: Digest,
        /// The length in the index.
        expected: u64,
        /// The length of what came.
        actual: u64,
    },
    /// The registry's own digest header is none.
    #[error("the registry sent an invalid Docker-Content-Digest")]
    DigestHeader(#[source] oci::digest::ParseDigestError),
}

/// A parsed document.
#[derive(Debug)]
pub(crate) enum Document {
    Index(Index),
    Manifest(Manifest),
}

/// What a media type says that a document is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Index,
    Manifest,
    Schema1,
}

/// The fields that tell documents apart.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Probe {
    #[serde(default)]
    schema_version: Option<u32>,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    manifests: Option<IgnoredAny>,
    #[serde(default)]
    layers: Option<IgnoredAny>,
    #[serde(default)]
    config: Option<IgnoredAny>,
    #[serde(default, rename = "fsLayers")]
    fs_layers: Option<IgnoredAny>,
}

/// The digest of bytes.
pub(crate) fn digest_of(bytes: &[u8]) -> Digest {
    Digest::from_sha256(&Sha256::digest(bytes).into())
}

impl Document {
    /// Parses a document; `outer` is what the answer's header or the index's entry says it is.
    pub(crate) fn parse(bytes: &[u8], outer: Option<&str>) -> Result<Self, DocumentError> {
        let json = |what| move |source| DocumentError::Json { what, source };
        let probe: Probe = serde_json::from_slice(bytes).map_err(json("manifest"))?;
        match probe.shape(outer)? {
            Shape::Schema1 => Err(DocumentError::Schema1),
            Shape::Index => serde_json::from_slice(bytes)
                .map(Self::Index)
                .map_err(json("image index")),
            Shape::Manifest => {
                let manifest: Manifest =
                    serde_json::from_slice(bytes).map_err(json("image manifest"))?;
                let (count, limit) = (manifest.layers.len(), LAYERS_MAX);
                if count > limit {
                    return Err(DocumentError::Layers { count, limit });
                }
                Ok(Self::Manifest(manifest))
            }
        }
    }
}

impl Probe {
    fn shape(&self, outer: Option<&str>) -> Result<Shape, DocumentError> {
        let ambiguous = |problem: String| Err(DocumentError::Ambiguous { problem });
        let outer = outer.map_or(Ok(None), shape_of)?;
        let own = self.media_type.as_deref().map_or(Ok(None), shape_of)?;
        let content = self.content()?;
        for said in [outer, own].into_iter().flatten() {
            if said != content {
                let problem = format!("its media type says {said:?}, its content is {content:?}");
                return ambiguous(problem);
            }
        }
        match self.schema_version {
            _ if content == Shape::Schema1 => Ok(content),
            Some(2) => Ok(content),
            version => Err(DocumentError::Version {
                version: version.unwrap_or(0),
            }),
        }
    }

    fn content(&self) -> Result<Shape, DocumentError> {
        let manifest = self.layers.is_some() || self.config.is_some();
        match (self.manifests.is_some(), manifest) {
            _ if self.fs_layers.is_some() || self.schema_version == Some(1) => Ok(Shape::Schema1),
            (true, true) => Err(DocumentError::Ambiguous {
                problem: "it has both manifests and layers".to_owned(),
            }),
            (true, false) => Ok(Shape::Index),
            (false, true) => Ok(Shape::Manifest),
            (false, false) => Err(DocumentError::Ambiguous {
                problem: "it has neither manifests nor layers".to_owned(),
            }),
        }
    }
}

/// What a media type means; nothing for the types that servers give to any file.
fn shape_of(media_type: &str) -> Result<Option<Shape>, DocumentError> {
    let bare = media_type.split(';').next().unwrap_or_default().trim();
    match bare {
        media_type::OCI_INDEX | media_type::DOCKER_LIST => Ok(Some(Shape::Index)),
        media_type::OCI_MANIFEST | media_type::DOCKER_MANIFEST => Ok(Some(Shape::Manifest)),
        "application/vnd.docker.distribution.manifest.v1+json"
        | "application/vnd.docker.distribution.manifest.v1+prettyjws" => Ok(Some(Shape::Schema1)),
        "" | "application/json" | "application/octet-stream" | "text/plain" => Ok(None),
        other => Err(DocumentError::MediaType {
            media_type: crate::answer::printable(other),
        }),
    }
}

/// The media type of a document, for its descriptor.
pub(crate) fn media_type_of(document: &Document) -> String {
    let (own, default) = match document {
        Document::Index(index) => (&index.media_type, media_type::OCI_INDEX),
        Document::Manifest(manifest) => (&manifest.media_type, media_type::OCI_MANIFEST),
    };
    own.clone().unwrap_or_else(|| default.to_owned())
}

/// The entry of an index for a platform: the best platform first, then the publisher's order.
///
/// An entry without a platform stands for any, if it is the only one.
#[must_use]
pub fn choose<'a>(index: &'a Index, wanted: &Platform) -> Option<&'a Descriptor> {
    let images = || index.manifests.iter().filter(|entry| is_image(entry));
    for candidate in candidates(wanted) {
        let fits = |entry: &&Descriptor| {
            let platform = entry.platform.as_ref();
            platform.is_some_and(|platform| candidate.accepts(platform))
        };
        if let Some(entry) = images().find(fits) {
            return Some(entry);
        }
    }
    let mut unnamed = images().filter(|entry| entry.platform.is_none());
    unnamed.next().filter(|_| unnamed.next().is_none())
}

/// Attestations lie in an index beside the images that they are about.
fn is_image(entry: &Descriptor) -> bool {
    let kind = entry.annotations.get("vnd.docker.reference.type");
    let known = matches!(shape_of(&entry.media_type), Ok(Some(shape)) if shape != Shape::Schema1);
    known && kind.is_none_or(|kind| kind != "attestation-manifest")
}

/// The platforms that run on a wanted one, best first, as containerd's `platforms.Only` has them.
fn candidates(wanted: &Platform) -> Vec<Platform> {
    let mut found = vec![wanted.clone()];
    let mut add = |architecture: &str, variant: Option<&str>| {
        found.push(Platform {
            architecture: architecture.to_owned(),
            variant: variant.map(str::to_owned),
            ..wanted.clone()
        });
    };
    match (wanted.architecture.as_str(), wanted.variant.as_deref()) {
        ("amd64", None) => add("386", None),
        ("amd64", Some(variant)) => {
            for lower in ["v3", "v2"].into_iter().filter(|lower| *lower < variant) {
                add("amd64", Some(lower));
            }
            add("amd64", None);
            add("386", None);
        }
        ("arm64", _) => {
            for variant in ["v8", "v7", "v6", "v5"] {
                add("arm", Some(variant));
            }
        }
        ("arm", variant) => {
            let variant = variant.unwrap_or("v7");
            let lower = ["v7", "v6", "v5"].into_iter().filter(|l| *l < variant);
            lower.for_each(|lower| add("arm", Some(lower)));
        }
        _ => {}
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn descriptor() -> impl Strategy<Value = Value> {
        let digest = prop_oneof![
            Just(json!(format!("sha256:{}", "a".repeat(64)))),
            Just(json!("sha256:../../etc")),
            Just(json!("")),
            Just(json!(7)),
        ];
        let size = prop_oneof![
            any::<u64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            Just(json!("1")),
            Just(json!(1e300)),
        ];
        let kind = prop_oneof![
            prop::sample::select(&ACCEPTED[..]).prop_map(Value::from),
            ".{0,20}".prop_map(Value::from),
            Just(Value::Null),
        ];
        (digest, size, kind).prop_map(
            |(digest, size, kind)| json!({ "digest": digest, "size": size, "mediaType": kind }),
        )
    }

    /// Documents with any of the fields of all kinds, right and wrong.
    fn documents() -> impl Strategy<Value = Value> {
        let many = || prop::option::of(prop::collection::vec(descriptor(), 0..4));
        let version = prop::option::of(prop::sample::select(&[0, 1, 2, 2, 2, 3][..]));
        let kind = prop::option::of(prop::sample::select(&ACCEPTED[..]));
        let fields = (
            version,
            kind,
            many(),
            many(),
            prop::option::of(descriptor()),
        );
        fields.prop_map(|(version, kind, manifests, layers, config)| {
            let mut document = serde_json::Map::new();
            let fields = [
                ("schemaVersion", version.map(Value::from)),
                ("mediaType", kind.map(Value::from)),
                ("manifests", manifests.map(Value::from)),
                ("layers", layers.map(Value::from)),
                ("config", config),
            ];
            for (name, value) in fields {
                document.extend(value.map(|value| (name.to_owned(), value)));
            }
            Value::Object(document)
        })
    }

    proptest! {
        #[test]
        fn a_document_is_one_kind_or_refused(
            document in documents(),
            outer in prop::option::of(prop::sample::select(&ACCEPTED[..])),
        ) {
            let bytes = document.to_string();
            let has = |name: &str| document.get(name).is_some_and(|value| !value.is_null());
            match Document::parse(bytes.as_bytes(), outer) {
                Ok(Document::Index(index)) => {
                    prop_assert!(has("manifests") && !has("layers") && !has("config"));
                    // whichever is chosen is an entry that is an image
                    if let Some(entry) = choose(&index, &Platform::host()) {
                        prop_assert!(is_image(entry));
                    }
                }
                Ok(Document::Manifest(_)) => {
                    prop_assert!(!has("manifests") && has("layers") && has("config"));
                }
                Err(_) => {}
            }
        }

        #[test]
        fn broken_documents_are_refused_in_words(
            document in documents(),
            cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        ) {
            let mut bytes = document.to_string().into_bytes();
            for (at, byte) in cuts {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if let Err(error) = Document::parse(&bytes, None) {
                prop_assert!(!error.to_string().is_empty());
            }
        }
    }
}
