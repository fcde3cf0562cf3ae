//! Loading images from an archive: `docker save`'s of any age, and OCI image layouts.
//!
//! The archive is read once, as it comes. What lies in it as files goes into the content store at
//! once, by its digest; what its names mean is known only from the documents, which may stand at
//! the end. So names are never paths here: they are keys of a table, and a link leads to another
//! key or to nothing. What looks like a layer is unpacked meanwhile, from the file that it is stored in.

mod documents;
mod early;
mod files;

use std::io::Read;
use std::sync::Arc;

use api::image::Progress;
use futures_util::{StreamExt as _, stream};
use oci::image::Descriptor;
use oci::{Digest, Platform};
use storage::{StagedLayer, chain_id};

use self::documents::{Planned, Whole};
use self::early::Early;
use self::files::Files;
use super::manifests::manifest_for;
use super::pull::{ProgressSender, tell};
use super::store::Lease;
use super::{Layer, Record};
use crate::engine::Engine;
use crate::error::{Error, Result, Step};

/// Layers that are unpacked at the same time.
const UNPACKS: usize = 4;

/// How to load an archive.
#[derive(Clone, Debug, Default)]
pub struct LoadRequest {
    /// Load only the images for this platform.
    pub platform: Option<Platform>,
    /// Tell what was loaded, and nothing of the way there.
    pub quiet: bool,
}

/// What the images of an archive share while they are loaded.
struct Load<'a> {
    early: Arc<Early>,
    quiet: bool,
    progress: &'a ProgressSender,
}

/// A layer of an image that is being loaded.
#[derive(Clone, Debug)]
struct Unpack {
    blob: Descriptor,
    diff_id: Digest,
    chain: Digest,
    parent: Option<Digest>,
}

impl Engine {
    /// Loads all images of an archive, plain or packed.
    ///
    /// # Errors
    /// When the archive is damaged or hostile, or has no images for the platform. Images in front
    /// of the fault stay loaded.
    pub async fn image_load(
        self: &Arc<Self>,
        request: &LoadRequest,
        source: impl Read + Send + 'static,
        progress: &ProgressSender,
    ) -> Result<()> {
        self.make_room().await;
        let lease = self.images.leases.take(Vec::new()).await;
        let early = Arc::new(Early::new(self));
        let load = Load {
            early: Arc::clone(&early),
            quiet: request.quiet,
            progress,
        };
        let result = self.load_archive(request, source, lease, &load).await;
        early.end().await;
        // what is of no image is collected, on both ways
        self.collect().await;
        result
    }

    async fn load_archive(
        self: &Arc<Self>,
        request: &LoadRequest,
        source: impl Read + Send + 'static,
        lease: Lease,
        load: &Load<'_>,
    ) -> Result<()> {
        let (engine, early) = (Arc::clone(self), Arc::clone(&load.early));
        let (wanted, content) = (request.platform.clone(), self.store.content().clone());
        let read = move || {
            // of an archive for several platforms the layers of one are wanted then
            let early = wanted.is_none().then_some(&*early);
            let files = Files::read(&engine, source, lease, early)?;
            let planned = documents::plan(&content, &files, wanted.as_ref())?;
            Ok((files, planned))
        };
        let (files, planned) = self.blocking(read).await?;
        if let Some(platform) = &request.platform
            && planned.is_empty()
        {
            return Err(Error::not_found(format!(
                "no suitable image found in the archive for platform {platform}"
            )));
        }
        let mut lease = files.lease;
        for image in planned {
            lease = self.load_image(&image, lease, load).await?;
            for part in image.whole.iter().flat_map(|whole| &whole.others) {
                lease = self.load_part(&image, part, lease, load).await?;
            }
        }
        Ok(())
    }

    /// Loads an image that goes with another one.
    async fn load_part(
        self: &Arc<Self>,
        lead: &Planned,
        part: &Planned,
        lease: Lease,
        load: &Load<'_>,
    ) -> Result<Lease> {
        let known = self.images.by_id(&part.config.digest);
        if known.is_some_and(|known| self.is_complete(&known.record)) {
            return Ok(lease);
        }
        let (record, lease) = self.unpack_image(part, lease, load).await?;
        let record = Record {
            part_of: Some(lead.config.digest.clone()),
            ..in_whole(record, lead.whole.as_ref())
        };
        self.register_image(record, None, None).await?;
        Ok(lease)
    }

    async fn load_image(
        self: &Arc<Self>,
        image: &Planned,
        lease: Lease,
        load: &Load<'_>,
    ) -> Result<Lease> {
        let chains = unpacks(&image.layers, &image.parsed.rootfs.diff_ids)?;
        let chains = chains.into_iter().map(|layer| layer.chain).collect();
        // what is complete now stays so until the image has its names
        let _layers = self.images.leases.take_there(chains).await;
        let known = self.images.by_id(&image.config.digest);
        let (record, lease) = match known {
            // what came from a registry keeps its registry's digests
            Some(known) if self.is_complete(&known.record) => {
                let lone = known.record.index.is_none() && known.record.digests.is_empty();
                // one that was known alone is known with all beside it from now on
                if lone && image.whole.is_some() {
                    self.unpack_image(image, lease, load).await?
                } else {
                    (known.record.clone(), lease)
                }
            }
            _ => self.unpack_image(image, lease, load).await?,
        };
        let record = match record.index {
            Some(_) => record,
            None => in_whole(record, image.whole.as_ref()),
        };
        let id = record.id.clone();
        for name in &image.names {
            self.register_image(record.clone(), Some(name), None)
                .await?;
            let text = format!("Loaded image: {}\n", name.familiar());
            tell(load.progress, stream_text(text)).await?;
        }
        if image.names.is_empty() {
            self.register_image(record, None, None).await?;
            let text = format!("Loaded image ID: {id}\n");
            tell(load.progress, stream_text(text)).await?;
        }
        self.image_event("load", &id.to_string(), &id.to_string());
        Ok(lease)
    }

    /// Whether all of an image is here.
    fn is_complete(&self, record: &Record) -> bool {
        let (content, layers) = (self.store.content(), self.store.layers());
        content.has(&record.id)
            && content.has(&record.manifest)
            && record
                .layers
                .iter()
                .all(|layer| content.has(&layer.blob) && layers.exists(&layer.chain))
    }

    async fn unpack_image(
        self: &Arc<Self>,
        image: &Planned,
        mut lease: Lease,
        load: &Load<'_>,
    ) -> Result<(Record, Lease)> {
        let (engine, id) = (Arc::clone(self), image.config.digest.clone());
        let unpacks = unpacks(&image.layers, &image.parsed.rootfs.diff_ids)?;
        let chains: Vec<Digest> = unpacks.iter().map(|layer| layer.chain.clone()).collect();
        let manifest = image.manifest.clone().map_or_else(
            || {
                let layers = image.layers.clone();
                serde_json::to_vec(&manifest_for(image.config.clone(), layers))
                    .step(|| "write a manifest")
            },
            Ok,
        )?;
        let (digest, extended) = self
            .blocking(move || {
                for chain in chains {
                    engine.images.leases.extend(&mut lease, chain);
                }
                let digest = storage::digest_of(&manifest);
                engine.images.leases.extend(&mut lease, digest.clone());
                engine.note_lease_blocking(&lease, files::WORK);
                engine
                    .store
                    .content()
                    .put_bytes(&manifest)
                    .step(|| "store a manifest")?;
                Ok((digest, lease))
            })
            .await?;
        let layers = self.unpack_layers(&unpacks, load).await?;
        let record = Record {
            id,
            manifest: digest,
            index: None,
            beside: Vec::new(),
            part_of: None,
            tags: Vec::new(),
            digests: Vec::new(),
            layers,
            tagged: None,
            config: image.parsed.clone(),
        };
        Ok((record, extended))
    }

    /// Unpacks several layers at a time; each goes onto its parent when that is there.
    async fn unpack_layers(
        self: &Arc<Self>,
        unpacks: &[Unpack],
        load: &Load<'_>,
    ) -> Result<Vec<Layer>> {
        let mut work = Vec::with_capacity(unpacks.len());
        for layer in unpacks {
            work.push(self.unpack_layer(layer, &load.early));
        }
        let mut staged = std::pin::pin!(stream::iter(work).buffered(UNPACKS));
        let mut layers = Vec::with_capacity(unpacks.len());
        for layer in unpacks {
            let next = staged.next().await;
            let staged = next.ok_or_else(|| Error::internal("a layer has vanished"))??;
            if let Some(staged) = staged {
                let parent = layer.parent.clone();
                self.blocking(move || {
                    let done = staged.commit(parent.as_ref()).map(drop);
                    done.step(|| "add a layer to the store")
                })
                .await?;
                if !load.quiet {
                    tell(load.progress, loaded(layer)).await?;
                }
            }
            let size = self.store.layers().size(&layer.chain);
            layers.push(Layer {
                blob: layer.blob.digest.clone(),
                blob_size: layer.blob.size,
                diff_id: layer.diff_id.clone(),
                chain: layer.chain.clone(),
                size: size.step(|| "measure a layer")?,
            });
        }
        Ok(layers)
    }

    /// Unpacks a layer from its blob if that is not done already, or nothing if it is there.
    async fn unpack_layer(
        self: &Arc<Self>,
        layer: &Unpack,
        early: &Early,
    ) -> Result<Option<StagedLayer>> {
        if self.store.layers().exists(&layer.chain) {
            return Ok(None);
        }
        if let Some(staged) = early.take(&layer.blob.digest, &layer.diff_id).await {
            return Ok(Some(staged));
        }
        let (store, layer) = (Arc::clone(&self.store), layer.clone());
        let digest = layer.blob.digest.clone();
        let work = move || {
            let blob = store.content().open(&layer.blob.digest);
            let options = store.layers().options(Some(layer.diff_id.clone()));
            let staged = store
                .layers()
                .apply(blob.step(|| "open a layer")?, &options)
                .map_err(|e| Error::invalid(crate::error::chain(&e)))?;
            Ok(Some(staged))
        };
        self.blocking(work)
            .await
            .map_err(|e| e.context(format!("failed to register layer {digest}")))
    }
}

/// A record of an image with the index that it came in.
fn in_whole(record: Record, whole: Option<&Whole>) -> Record {
    match whole {
        Some(whole) => Record {
            index: Some(whole.digest.clone()),
            beside: whole.beside.clone(),
            ..record
        },
        None => record,
    }
}

/// Joins the layers' blobs with the configuration's diff ids.
fn unpacks(blobs: &[Descriptor], diff_ids: &[Digest]) -> Result<Vec<Unpack>> {
    if blobs.len() != diff_ids.len() {
        return Err(Error::invalid(format!(
            "invalid manifest, layers length mismatch: expected {}, got {}",
            blobs.len(),
            diff_ids.len()
        )));
    }
    let mut parent: Option<Digest> = None;
    let mut unpacks = Vec::with_capacity(blobs.len());
    for (blob, diff_id) in blobs.iter().zip(diff_ids) {
        let chain = chain_id(parent.as_ref(), diff_id);
        unpacks.push(Unpack {
            blob: blob.clone(),
            diff_id: diff_id.clone(),
            chain: chain.clone(),
            parent: parent.replace(chain),
        });
    }
    Ok(unpacks)
}

fn stream_text(text: String) -> Progress {
    Progress {
        stream: text,
        ..Progress::default()
    }
}

fn loaded(layer: &Unpack) -> Progress {
    let size = i64::try_from(layer.blob.size).unwrap_or(i64::MAX);
    Progress {
        progress_detail: Some(api::image::ProgressDetail {
            current: size,
            total: size,
            ..Default::default()
        }),
        ..Progress::of(layer.diff_id.short(), "Loading layer")
    }
}
