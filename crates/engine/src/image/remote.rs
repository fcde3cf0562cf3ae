//! What a registry has of an image, without pulling it.

use api::image::{Descriptor, DistributionInspect, Platform};
use api::registry::AuthConfig;
use oci::Reference;

use super::{credentials, registry_error};
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};

impl Engine {
    /// Tells the digest and the platforms of an image in its registry.
    ///
    /// # Errors
    /// When the reference is wrong, the registry cannot be reached or refuses, or has no such image.
    pub async fn distribution_inspect(
        &self,
        name: &str,
        auth: Option<&AuthConfig>,
    ) -> Result<DistributionInspect> {
        if name.parse::<oci::Digest>().is_ok() {
            // Docker's words for what is an id and no name
            return Err(Error::invalid("no manifest found for full image ID"));
        }
        let reference: Reference = name
            .parse()
            .map_err(|e: oci::reference::ParseReferenceError| Error::invalid(e.to_string()))?;
        let reference = reference.or_latest();
        let repository = self
            .registries()
            .repository(&reference, auth.map(credentials));
        let found = repository.inspect().await.map_err(|error| match error {
            // Docker gives the registry's own words here
            distribution::RegistryError::ManifestUnknown { detail, .. }
            | distribution::RegistryError::RepositoryUnknown { detail, .. } => {
                Error::not_found(detail)
            }
            distribution::RegistryError::AccessDenied { detail, .. } => {
                Error::new(Kind::Forbidden, detail)
            }
            other => registry_error(&other),
        })?;
        Ok(DistributionInspect {
            descriptor: shown(&found.descriptor),
            platforms: Some(found.platforms.iter().map(platform).collect()),
        })
    }
}

/// A descriptor as clients see it.
pub(super) fn shown(descriptor: &oci::image::Descriptor) -> Descriptor {
    Descriptor {
        media_type: descriptor.media_type.clone(),
        digest: descriptor.digest.to_string(),
        size: i64::try_from(descriptor.size).unwrap_or(i64::MAX),
        annotations: descriptor.annotations.clone(),
        platform: descriptor.platform.as_ref().map(platform),
        ..Descriptor::default()
    }
}

/// A platform as clients see it.
pub(super) fn platform(platform: &oci::Platform) -> Platform {
    Platform {
        architecture: platform.architecture.clone(),
        os: platform.os.clone(),
        variant: platform.variant.clone().unwrap_or_default(),
        os_version: platform.os_version.clone().unwrap_or_default(),
        ..Platform::default()
    }
}
