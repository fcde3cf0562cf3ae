//! Making an image of a tarball.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::Arc;

use api::image::Progress;
use jiff::Timestamp;
use oci::image::{
    ContainerDefaults, Descriptor, History, ImageConfig, Manifest, RootFs, media_type,
};
use oci::{Digest, Platform, Reference};
use storage::import::Tee;
use storage::{BlobWriter, StagedLayer};
use tokio::sync::mpsc;

use super::manifests::descriptor;
use super::pull::{CHUNKS, ChunkReader, ProgressSender, tell};
use super::{Layer, Record, change, registry_error, tag};
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

/// Where a tarball comes from.
pub enum ImportSource {
    /// The body of the request.
    Reader(Box<dyn Read + Send>),
    /// An address of http or https; without a scheme it is one of http.
    Address(String),
}

impl std::fmt::Debug for ImportSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Reader(_) => f.write_str("Reader"),
            Self::Address(address) => f.debug_tuple("Address").field(address).finish(),
        }
    }
}

/// A tarball that is unpacked and not yet visible.
struct Arrived {
    writer: BlobWriter,
    staged: StagedLayer,
}

impl Engine {
    /// Imports a tarball, plain or packed, as an image of one layer; answers its id.
    ///
    /// # Errors
    /// When the request is wrong, or the tarball cannot be had, is hostile or damaged.
    pub async fn image_import(
        self: &Arc<Self>,
        request: ImportRequest,
        source: ImportSource,
        progress: Option<&ProgressSender>,
    ) -> Result<Digest> {
        let name = match request.repository.as_str() {
            "" => None,
            repository => Some(tag::target(repository, &request.tag)?),
        };
        let platform = platform(&request.platform)?;
        let mut defaults = ContainerDefaults::default();
        change::apply(&mut defaults, &request.changes)?;
        self.make_room().await;
        let (arrived, from) = match source {
            ImportSource::Reader(reader) => (self.receive(reader).await?, "-".to_owned()),
            ImportSource::Address(address) => self.download(&address, progress).await?,
        };
        // what is imported is not an image's yet: nothing may be collected until it is
        let _quiet = self.images.leases.collector.lock().await;
        let engine = Arc::clone(self);
        let record = self
            .blocking(move || engine.add_imported(&request, platform, defaults, arrived, &from))
            .await?;
        let id = record.id.clone();
        self.register_image(record, name.as_ref(), None).await?;
        let told = id.to_string();
        if let Some(name) = &name {
            self.image_event("tag", &told, &Reference::familiar(name));
        }
        self.image_event("import", &told, &told);
        Ok(id)
    }

    /// Stores and unpacks a tarball as it comes, however slowly: nobody waits for it.
    async fn receive(self: &Arc<Self>, source: impl Read + Send + 'static) -> Result<Arrived> {
        let store = Arc::clone(&self.store);
        self.blocking(move || {
            let writer = store.content().writer(None).step(|| "store a layer")?;
            let mut tee = Tee::new(source, writer);
            let staged = store
                .layers()
                .apply(&mut tee, &store.layers().options(None))
                .map_err(|e| Error::invalid(crate::error::chain(&e)))?;
            let writer = tee.into_writer();
            Ok(Arrived { writer, staged })
        })
        .await
    }

    /// Imports what lies at an address; answers the address with its scheme, too.
    async fn download(
        self: &Arc<Self>,
        address: &str,
        progress: Option<&ProgressSender>,
    ) -> Result<(Arrived, String)> {
        let address = if address.contains("://") {
            address.to_owned()
        } else {
            format!("http://{address}")
        };
        let mut file = self
            .registries()
            .download(&address)
            .await
            .map_err(|e| registry_error(&e))?;
        if let Some(progress) = progress {
            let text = format!("Downloading from {address}");
            tell(progress, Progress::status(text)).await?;
        }
        let (chunks, source) = mpsc::channel(CHUNKS);
        let feed = async move {
            loop {
                let chunk = match file.chunk().await {
                    Ok(Some(chunk)) => Ok(chunk),
                    Ok(None) => return,
                    Err(error) => Err(io::Error::other(error.message())),
                };
                // the unpacker has failed and says why
                if chunks.send(chunk).await.is_err() {
                    return;
                }
            }
        };
        let unpack = self.receive(ChunkReader::new(source));
        let (arrived, ()) = tokio::join!(unpack, feed);
        Ok((arrived?, address))
    }

    fn add_imported(
        &self,
        request: &ImportRequest,
        platform: Platform,
        defaults: ContainerDefaults,
        arrived: Arrived,
        from: &str,
    ) -> Result<Record> {
        let applied = arrived.staged.applied().clone();
        let (blob, blob_size) = arrived.writer.commit().step(|| "store a layer")?;
        let chain = arrived
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
                    .or_else(|| Some(format!("Imported from {from}"))),
                ..History::default()
            }],
            ..ImageConfig::default()
        };
        let layer = descriptor(applied.compression.media_type(), &blob, blob_size);
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
            beside: Vec::new(),
            part_of: None,
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

/// The platform of an import; the host's where none is named.
fn platform(text: &str) -> Result<Platform> {
    if text.is_empty() {
        return Ok(Platform::host());
    }
    let platform: Platform = text
        .parse()
        .map_err(|e: oci::platform::ParsePlatformError| Error::invalid(e.to_string()))?;
    if platform.os != "linux" {
        return Err(Error::invalid(format!(
            "operating system is not supported: {}",
            platform.os
        )));
    }
    Ok(platform)
}
