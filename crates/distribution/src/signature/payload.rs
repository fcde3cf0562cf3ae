//! The signed document: which image, under which name.

use oci::{Digest, Reference};
use serde::{Deserialize, Serialize};

/// What cosign writes as the document's type.
const TYPE: &str = "cosign container image signature";
/// The type of the form that this one comes from (containers-signature(5)).
const ATOMIC_TYPE: &str = "atomic container signature";
/// How Docker Hub is named in documents of other programs.
const HUB_INDEX: &str = "index.docker.io/";

/// Whether the name in a signed document has to be the image's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Identity {
    /// It is the repository that the image is pulled from.
    #[default]
    Repository,
    /// It is this repository, `registry/path`: the image is a copy from there.
    Named(String),
    /// Any name: the digest alone decides, as it does for cosign.
    Any,
}

impl Identity {
    fn accepts(&self, reference: &Reference, named: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Repository => same(&reference.name(), named),
            Self::Named(name) => same(name, named),
        }
    }
}

/// Whether a name in a document means a repository.
fn same(repository: &str, named: &str) -> bool {
    let long = |name: &str| match name.strip_prefix(HUB_INDEX) {
        Some(path) => format!("docker.io/{path}"),
        None => name.to_owned(),
    };
    let normal = |name: &str| {
        long(name)
            .parse::<Reference>()
            .map(|reference| reference.name())
    };
    matches!((normal(repository), normal(named)), (Ok(one), Ok(other)) if one == other)
}

/// Why a document does not speak for an image.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PayloadError {
    /// It is not the document that it should be.
    #[error("its document is none: {problem}")]
    Form {
        /// What is wrong with it.
        problem: String,
    },
    /// It is about another image.
    #[error("it signs {found}, another image")]
    OtherImage {
        /// The digest in the document, cut to a printable length.
        found: String,
    },
    /// It was made for another repository.
    #[error("it signs the image as {found:?}, another repository")]
    OtherName {
        /// The name in the document, cut to a printable length.
        found: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Document {
    critical: Critical,
    #[serde(default)]
    optional: serde_json::Value,
}

#[derive(Serialize, Deserialize)]
struct Critical {
    identity: Named,
    image: Image,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Serialize, Deserialize)]
struct Named {
    #[serde(rename = "docker-reference")]
    reference: String,
}

#[derive(Serialize, Deserialize)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

/// Writes the document for an image.
pub(super) fn write(reference: &Reference, digest: &Digest) -> Vec<u8> {
    let document = Document {
        critical: Critical {
            identity: Named {
                reference: reference.name(),
            },
            image: Image {
                digest: digest.to_string(),
            },
            kind: TYPE.to_owned(),
        },
        optional: serde_json::Value::Null,
    };
    // texts and maps with text keys are always writable
    serde_json::to_vec(&document).unwrap_or_default()
}

/// Checks that a document, whose signature fits, is about this image.
pub(super) fn check(
    bytes: &[u8],
    reference: &Reference,
    digest: &Digest,
    identity: &Identity,
) -> Result<(), PayloadError> {
    let document: Document = serde_json::from_slice(bytes).map_err(|error| PayloadError::Form {
        problem: error.to_string(),
    })?;
    let Critical {
        identity: named,
        image,
        kind,
    } = document.critical;
    if kind != TYPE && kind != ATOMIC_TYPE {
        let problem = format!("its type is {:?}", crate::answer::printable(&kind));
        return Err(PayloadError::Form { problem });
    }
    if image.digest != digest.to_string() {
        return Err(PayloadError::OtherImage {
            found: crate::answer::printable(&image.digest),
        });
    }
    if !identity.accepts(reference, &named.reference) {
        return Err(PayloadError::OtherName {
            found: crate::answer::printable(&named.reference),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(byte: u8) -> Digest {
        Digest::from_sha256(&[byte; 32])
    }

    fn reference(text: &str) -> Reference {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_written_is_accepted() {
        let image = reference("r.example/a/b:1");
        let bytes = write(&image, &digest(1));
        let accepted = check(&bytes, &image, &digest(1), &Identity::Repository);
        assert_eq!(accepted, Ok(()));
        let other = check(&bytes, &image, &digest(2), &Identity::Any);
        assert!(matches!(other, Err(PayloadError::OtherImage { .. })));
    }

    #[test]
    fn names() {
        let signed = |name: &str| {
            format!(
                r#"{{"critical":{{"identity":{{"docker-reference":"{name}"}},"image":{{"docker-manifest-digest":"{}"}},"type":"cosign container image signature"}},"optional":{{"creator":"x"}}}}"#,
                digest(1)
            )
        };
        let elsewhere = Identity::Named("r.example/orig".to_owned());
        for (name, image, identity, expect) in [
            ("r.example/a", "r.example/a:1", &Identity::Repository, true),
            (
                "r.example/a:2",
                "r.example/a:1",
                &Identity::Repository,
                true,
            ),
            ("r.example/b", "r.example/a:1", &Identity::Repository, false),
            ("", "r.example/a:1", &Identity::Repository, false),
            ("", "r.example/a:1", &Identity::Any, true),
            (
                "index.docker.io/library/busybox",
                "busybox",
                &Identity::Repository,
                true,
            ),
            (
                "docker.io/library/busybox",
                "busybox",
                &Identity::Repository,
                true,
            ),
            ("r.example/orig", "r.example/a:1", &elsewhere, true),
            ("r.example/a", "r.example/a:1", &elsewhere, false),
        ] {
            let found = check(
                signed(name).as_bytes(),
                &reference(image),
                &digest(1),
                identity,
            );
            assert_eq!(found.is_ok(), expect, "{name} {image} {found:?}");
        }
    }

    #[test]
    fn other_documents_are_refused() {
        let image = reference("r.example/a:1");
        for text in [
            "",
            "null",
            "[]",
            "{}",
            r#"{"critical":{}}"#,
            r#"{"critical":{"identity":{"docker-reference":""},"image":{"docker-manifest-digest":""},"type":"x"}}"#,
        ] {
            let found = check(text.as_bytes(), &image, &digest(1), &Identity::Any);
            assert!(matches!(found, Err(PayloadError::Form { .. })), "{text}");
        }
    }
}
