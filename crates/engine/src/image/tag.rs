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
        self.register_image(image.record.clone(), Some(&target), None)
            .await?;
        self.image_event("tag", &image.id.to_string(), &target.familiar());
        Ok(())
    }
}

/// The reference of a repository and a tag given apart.
pub(super) fn target(repository: &str, tag: &str) -> Result<Reference> {
    let invalid = |e: oci::reference::ParseReferenceError| Error::invalid(e.to_string());
    let reference: Reference = repository.parse().map_err(invalid)?;
    if reference.digest().is_some() {
        return Err(Error::invalid(
            "refusing to create a tag with a digest reference",
        ));
    }
    if tag.is_empty() {
        Ok(reference.or_latest())
    } else {
        reference.with_tag(tag).map_err(invalid)
    }
}
