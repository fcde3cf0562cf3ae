//! What a reference names in its registry, without pulling it.

use oci::Platform;
use oci::image::{Descriptor, ImageConfig};

use crate::client::Repository;
use crate::error::RegistryError;
use crate::manifest::{Document, DocumentError};

/// What a reference names.
#[derive(Clone, Debug)]
pub struct Inspected {
    /// The index or the manifest.
    pub descriptor: Descriptor,
    /// The platforms of an index's entries, or of the one image.
    pub platforms: Vec<Platform>,
}

impl Repository {
    /// Tells what the reference names.
    ///
    /// # Errors
    /// When the registry cannot be reached, refuses, has no such image, or sends what is none.
    pub async fn inspect(&self) -> Result<Inspected, RegistryError> {
        let named = self.fetch_named().await?;
        let platforms = match named.document {
            Document::Index(index) => {
                let entries = index.manifests.into_iter();
                entries.filter_map(|entry| entry.platform).collect()
            }
            Document::Manifest(manifest) => {
                let config = self.fetch_config(&manifest.config).await?;
                let config: ImageConfig = serde_json::from_slice(&config).map_err(|source| {
                    let what = "image configuration";
                    self.unusable(DocumentError::Json { what, source })
                })?;
                vec![Platform {
                    architecture: config.architecture,
                    os: config.os,
                    variant: config.variant,
                    os_version: None,
                }]
            }
        };
        Ok(Inspected {
            descriptor: named.descriptor,
            platforms,
        })
    }
}
