//! Layers in a registry that belong to no image, such as those of a build cache.

use std::sync::Arc;

use api::registry::AuthConfig;
use bytes::Bytes;
use distribution::Repository;
use oci::image::{Descriptor, ImageConfig, RootFs};
use oci::{Digest, Reference};

use super::super::built::BuiltLayer;
use super::super::{credentials, registry_error};
use super::base::{Base, BaseImage, Remote};
use super::plan::plan;
use crate::engine::Engine;
use crate::error::Result;

/// A name in a registry, and how the registry is reached.
#[derive(Clone, Debug)]
pub struct RemotePlace {
    /// The name.
    pub reference: Reference,
    /// Who asks.
    pub auth: Option<AuthConfig>,
    /// Whether the registry need not prove who it is, and may speak plain http.
    pub insecure: bool,
}

impl Engine {
    /// The repository of a name.
    pub(in crate::image) fn remote(&self, place: &RemotePlace) -> Repository {
        let RemotePlace {
            reference, auth, ..
        } = place;
        let mut client = self.registries();
        if place.insecure {
            client = client.trusting(reference.domain());
        }
        client.repository(reference, auth.as_ref().map(credentials))
    }

    /// Reads what a name means in its registry: a manifest or an index.
    ///
    /// # Errors
    /// When the registry cannot be reached, refuses, or has nothing by that name.
    pub async fn remote_document(&self, place: &RemotePlace) -> Result<(Descriptor, Bytes)> {
        let found = self.remote(place).document().await;
        let found = found.map_err(|e| registry_error(&e))?;
        Ok((found.descriptor, found.bytes))
    }

    /// Reads a blob of a registry that has no more than `max` bytes.
    ///
    /// # Errors
    /// When it is longer, or the registry cannot be reached, refuses, or sends something else.
    pub async fn remote_blob(
        &self,
        place: &RemotePlace,
        blob: &Descriptor,
        max: u64,
    ) -> Result<Bytes> {
        let repository = self.remote(place);
        let found = repository.fetch_small(blob, "blob", max).await;
        found.map_err(|e| registry_error(&e))
    }

    /// Layers that lie on each other, the lowest first, each with its diff id. They are brought when
    /// they are needed.
    ///
    /// # Errors
    /// When one of them is packed in an unknown way.
    pub async fn remote_layers(
        self: &Arc<Self>,
        place: &RemotePlace,
        layers: &[(Descriptor, Digest)],
    ) -> Result<BaseImage> {
        let (blobs, diff_ids): (Vec<Descriptor>, Vec<Digest>) = layers.iter().cloned().unzip();
        let parsed = ImageConfig {
            rootfs: RootFs {
                diff_ids,
                ..RootFs::default()
            },
            ..ImageConfig::default()
        };
        let plan = plan(&blobs, &parsed)?;
        let leased = plan
            .iter()
            .flat_map(|layer| [layer.descriptor.digest.clone(), layer.chain.clone()]);
        let lease = self.images.leases.take(leased.collect()).await;
        let layers: Vec<BuiltLayer> = plan.iter().map(BuiltLayer::of_plan).collect();
        let repository = self.remote(place);
        let digest = storage::digest_of(&[]);
        let base = Base {
            manifest: super::super::manifests::descriptor("", &digest, 0),
            digest,
            config: Bytes::new(),
            parsed,
            layers,
            remote: Some(Remote { repository, plan }),
            engine: Arc::clone(self),
            lease: Arc::new(lease),
        };
        Ok(BaseImage::new(base))
    }
}
