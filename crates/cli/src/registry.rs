//! References of images as people write them.

use crate::failure::Failure;
use oci::{Platform, Reference};

/// An image to pull: its parts as the engine takes them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// The name as the user may write it, with its tag or digest.
    pub(crate) familiar: String,
    /// The whole name: `docker.io/library/busybox:latest`.
    pub(crate) full: String,
    /// Name without tag, for `fromImage`.
    pub(crate) name: String,
    /// Tag or digest, for `tag`.
    pub(crate) tag: String,
    pub(crate) domain: String,
    /// Whether the tag was left out.
    pub(crate) defaulted: bool,
}

/// Reads a reference.
pub(crate) fn wanted(text: &str) -> Result<Wanted, Failure> {
    let reference: Reference =
        text.parse()
            .map_err(|error: oci::reference::ParseReferenceError| {
                Failure::message(error.to_string())
            })?;
    let defaulted = reference.tag().is_none() && reference.digest().is_none();
    let reference = reference.or_latest();
    let tag = match reference.digest() {
        Some(digest) => digest.to_string(),
        None => reference.tag().unwrap_or_default().to_owned(),
    };
    Ok(Wanted {
        familiar: reference.familiar(),
        full: reference.to_string(),
        name: reference.familiar_name(),
        tag,
        domain: reference.domain().to_owned(),
        defaulted,
    })
}

/// A platform as the engine's parameters have it, in JSON.
pub(crate) fn platform(text: Option<&str>) -> Result<Option<String>, Failure> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let platform: Platform = text
        .parse()
        .map_err(|error: oci::platform::ParsePlatformError| Failure::message(error.to_string()))?;
    serde_json::to_string(&platform)
        .map(Some)
        .map_err(|error| Failure::message(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts() {
        let busybox = wanted("busybox").unwrap();
        assert_eq!(
            (
                busybox.name.as_str(),
                busybox.tag.as_str(),
                busybox.defaulted
            ),
            ("busybox", "latest", true)
        );
        assert_eq!(busybox.full, "docker.io/library/busybox:latest");
        let local = wanted("localhost:5000/a/b:1").unwrap();
        assert_eq!(
            (local.name.as_str(), local.tag.as_str(), local.defaulted),
            ("localhost:5000/a/b", "1", false)
        );
        assert_eq!(local.domain, "localhost:5000");
        assert!(
            wanted("UPPER")
                .unwrap_err()
                .to_string()
                .contains("must be lowercase")
        );
    }

    #[test]
    fn platforms() {
        let json = platform(Some("linux/arm/v7")).unwrap().unwrap();
        assert_eq!(
            json,
            r#"{"architecture":"arm","os":"linux","variant":"v7"}"#
        );
        assert_eq!(platform(None).unwrap(), None);
        assert!(platform(Some("a/b/c/d")).is_err());
    }
}
