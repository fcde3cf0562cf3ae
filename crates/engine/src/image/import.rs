//! Making an image of a tarball.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

use jiff::Timestamp;
use oci::image::{
    ContainerDefaults, Descriptor, History, ImageConfig, Manifest, RootFs, media_type,
};
use oci::{Digest, Platform, Reference};
use storage::ApplyOptions;

use super::{Layer, Record, change, tag};
use crate::engine::Engine;
use crate::error::{Error, Result, Step};

/// What to make of a tarball.
#[derive(Clone, Debug, Default)]
pub struct ImportRequest {
    /// The image's name; it has none when empty.
    pub repository: String,
    /// Its tag.
    pub tag: String,
    /// The remark in its history.
    pub message: String,
    /// Dockerfile instructions to apply to its configuration.
    pub changes: Vec<String>,
    /// Its platform; the host's when empty.
    pub platform: String,
}

impl Engine {
    /// Imports a tarball, plain or packed, as an image of one layer; answers its id.
    ///
    /// # Errors
    /// When the tarball is hostile or damaged, or an instruction is wrong.
    pub async fn image_import(
        self: &Arc<Self>,
        request: ImportRequest,
        source: impl Read + Send + 'static,
    ) -> Result<Digest> {
        let name = match request.repository.as_str() {
            "" => None,
            repository => Some(tag::target(repository, &request.tag)?),
        };
        let platform = match request.platform.as_str() {
            "" => Platform::host(),
            text => text
                .parse()
                .map_err(|e: oci::platform::ParsePlatformError| Error::invalid(e.to_string()))?,
        };
        let mut defaults = ContainerDefaults::default();
        change::apply(&mut defaults, &request.changes)?;
        // what is imported is not an image's yet: nothing may be collected until it is
        let _quiet = self.images.leases.collector.lock().await;
        let engine = Arc::clone(self);
        let record = self
            .blocking(move || engine.import_layer(&request, platform, defaults, source))
            .await?;
        let id = record.id.clone();
        self.register_image(record, name.as_ref(), None).await?;
        self.image_event(
            "import",
            &id.to_string(),
            &name.map_or_else(String::new, |n: Reference| n.familiar()),
        );
        Ok(id)
    }

    fn import_layer(
        &self,
        request: &ImportRequest,
        platform: Platform,
        defaults: ContainerDefaults,
        source: impl Read + Send,
    ) -> Result<Record> {
        let imported = self
            .store
            .add_layer_from_tar(source, &ApplyOptions::default())
            .map_err(|e| Error::invalid(crate::error::chain(&e)))?;
        let applied = imported.applied().clone();
        let (blob, blob_size, kind) = (imported.blob, imported.blob_size, imported.media_type);
        let chain = imported
            .staged
            .commit(None)
            .step(|| "add a layer to the store")?;
        let now = Timestamp::now().to_string();
        let config = ImageConfig {
            created: Some(now.clone()),
            architecture: platform.architecture,
            os: platform.os,
            variant: platform.variant,
            config: Some(defaults),
            rootfs: RootFs {
                diff_ids: vec![applied.diff_id.clone()],
                ..RootFs::default()
            },
            history: vec![History {
                created: Some(now),
                comment: Some(request.message.clone())
                    .filter(|m| !m.is_empty())
                    .or(Some("Imported from -".to_owned())),
                ..History::default()
            }],
            ..ImageConfig::default()
        };
        let layer = Descriptor {
            media_type: kind.to_owned(),
            digest: blob.clone(),
            size: blob_size,
            platform: None,
            annotations: BTreeMap::new(),
        };
        let (id, manifest) = self.put_image(&config, vec![layer])?;
        let layers = vec![Layer {
            blob,
            blob_size,
            diff_id: applied.diff_id,
            chain,
            size: applied.size,
        }];
        Ok(Record {
            id,
            manifest,
            index: None,
            tags: Vec::new(),
            digests: Vec::new(),
            layers,
            tagged: None,
            config,
        })
    }

    /// Stores a configuration and a manifest of it; answers their digests.
    pub(super) fn put_image(
        &self,
        config: &ImageConfig,
        layers: Vec<Descriptor>,
    ) -> Result<(Digest, Digest)> {
        let config = serde_json::to_vec(config).step(|| "write an image configuration")?;
        let id = self
            .store
            .content()
            .put_bytes(&config)
            .step(|| "store an image configuration")?;
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.to_owned()),
            config: Descriptor {
                media_type: media_type::OCI_CONFIG.to_owned(),
                digest: id.clone(),
                size: config.len() as u64,
                platform: None,
                annotations: BTreeMap::new(),
            },
            layers,
            annotations: BTreeMap::new(),
        };
        let bytes = serde_json::to_vec(&manifest).step(|| "write a manifest")?;
        let manifest = self
            .store
            .content()
            .put_bytes(&bytes)
            .step(|| "store a manifest")?;
        Ok((id, manifest))
    }
}
