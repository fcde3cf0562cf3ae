//! Giving an image another name.

use oci::Reference;

use crate::engine::Engine;
use crate::error::{Error, Result};

impl Engine {
    /// Gives the image `name` the name `repository:tag`.
    ///
    /// # Errors
    /// When the image is unknown or the new name is no valid reference.
    pub async fn image_tag(&self, name: &str, repository: &str, tag: &str) -> Result<()> {
        let image = self.images.get(name, None)?;
        let target = target(repository, tag)?;
        self.name_image(name, &image.id, &target).await?;
        self.image_event("tag", &image.id.to_string(), &target.familiar());
        Ok(())
    }
}

/// The reference of a repository and a tag given apart.
pub(super) fn target(repository: &str, tag: &str) -> Result<Reference> {
    let reference: Reference = repository
        .parse()
        .map_err(|e: oci::reference::ParseReferenceError| Error::invalid(e.to_string()))?;
    if reference.digest().is_some() {
        return Err(Error::invalid("cannot import digest reference"));
    }
    if reference.familiar_name() == oci::Digest::ALGORITHM {
        return Err(Error::invalid(
            "refusing to create an ambiguous tag using digest algorithm as name",
        ));
    }
    if tag.is_empty() {
        return Ok(reference.or_latest());
    }
    reference
        .with_tag(tag)
        .map_err(|_| Error::invalid("invalid tag format"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_targets_are_refused_as_by_docker() {
        let digest = format!("tr/d@sha256:{}", "a".repeat(64));
        let hex = "a".repeat(64);
        for (repository, tag, message) in [
            (
                digest.as_str(),
                "",
                "cannot import digest reference".to_owned(),
            ),
            (
                "TR",
                "",
                "invalid reference format: repository name (library/TR) must be lowercase"
                    .to_owned(),
            ),
            ("tr/d", "a:b", "invalid tag format".to_owned()),
            (
                "sha256",
                "1",
                "refusing to create an ambiguous tag using digest algorithm as name".to_owned(),
            ),
            (
                hex.as_str(),
                "",
                format!(
                    "invalid repository name ({hex}), cannot specify 64-byte hexadecimal strings"
                ),
            ),
        ] {
            assert_eq!(target(repository, tag).unwrap_err().message(), message);
        }
        assert_eq!(target("tr/d", "").unwrap().familiar(), "tr/d:latest");
        assert_eq!(target("tr/d:1", "2").unwrap().familiar(), "tr/d:2");
    }
}
