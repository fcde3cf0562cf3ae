//! Packing the layers that were made here, each sent while it is packed.

use std::collections::HashSet;
use std::io::{self, Write};
use std::sync::Arc;

use api::image::Progress;
use distribution::{BlobPipe, RegistryError, Repository, Streamed, blob_pipe};
use oci::Digest;
use oci::image::{Descriptor, media_type};
use storage::{BlobWriter, Compression, Packing};

use super::super::blobs::Blobs;
use super::super::manifests::{Stored, is_plain, layer_descriptors};
use super::super::pull::{ProgressSender, tell};
use super::super::store::Lease;
use super::super::{Image, Layer, Record, registry_error};
use super::Ready;
use crate::engine::Engine;
use crate::error::{Result, Step};

/// A blob that is stored and sent.
struct Both {
    writer: BlobWriter,
    pipe: BlobPipe,
}

impl Write for Both {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write_all(bytes)?;
        self.pipe.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// A layer that is packed, and neither durable here nor known to the registry.
struct Ending {
    writer: BlobWriter,
    descriptor: Descriptor,
    streamed: std::result::Result<Streamed, RegistryError>,
}

/// What the layers of an image have become so far.
struct Work {
    packed: Vec<Descriptor>,
    sent: HashSet<Digest>,
    lease: Lease,
}

/// The media type of a packed layer, of the family that the plain one is of.
fn packed_type(plain: &str, packing: Packing) -> &'static str {
    match (plain, packing.compression()) {
        (media_type::DOCKER_LAYER, Compression::Gzip) => media_type::DOCKER_LAYER_GZIP,
        // Docker's own name for it is known to few; OCI's is taken in manifests of both
        (_, compression) => compression.media_type(),
    }
}

impl Engine {
    /// Brings an image into the form for registries: packs the plain layers of one that was made here.
    pub(super) async fn ready(
        self: &Arc<Self>,
        image: Arc<Image>,
        packing: Option<Packing>,
        repository: &Repository,
        progress: &ProgressSender,
    ) -> Result<Ready> {
        let lease = self.images.leases.take(image.content().collect()).await;
        let (content, read) = (self.store.content().clone(), Arc::clone(&image));
        let (stored, layers) = self
            .blocking(move || {
                let stored = Stored::of(&content, &read)?;
                let layers = layer_descriptors(&stored.manifest, &read.record.layers)?;
                Ok((stored, layers))
            })
            .await?;
        // a registry has it by this digest
        let known = image.record.index.is_some() || !image.record.digests.is_empty();
        if known || !layers.iter().any(is_plain) {
            return Ok(Ready {
                image,
                manifest: stored,
                layers,
                packed: false,
                sent: HashSet::new(),
                _lease: lease,
            });
        }
        let packing = packing.unwrap_or(self.settings().push_compression);
        let config = stored.manifest.config.clone();
        let source = self.source(&[], &config.digest);
        let pack = self.pack_all(
            packing,
            (&image, stored, layers),
            lease,
            repository,
            progress,
        );
        // the registry puts it away meanwhile
        let (ready, sent) = tokio::join!(pack, repository.push_blob(&config, &[], &source));
        let mut ready = ready?;
        sent.map_err(|e| registry_error(&e))?;
        ready.sent.insert(config.digest);
        Ok(ready)
    }

    /// Packs the plain layers, sends each while it is packed, and gives the image what came of it.
    async fn pack_all(
        self: &Arc<Self>,
        packing: Packing,
        (image, stored, layers): (&Arc<Image>, Stored, Vec<Descriptor>),
        lease: Lease,
        repository: &Repository,
        progress: &ProgressSender,
    ) -> Result<Ready> {
        let mut work = Work {
            packed: Vec::with_capacity(layers.len()),
            sent: HashSet::new(),
            lease,
        };
        let mut last: Option<Ending> = None;
        for (layer, plain) in image.record.layers.iter().zip(layers) {
            if !is_plain(&plain) {
                work.packed.push(plain);
                continue;
            }
            tell(progress, Progress::of(layer.diff_id.short(), "Compressing")).await?;
            let (pipe, flow) = blob_pipe();
            let (engine, layer, lease) = (Arc::clone(self), layer.clone(), work.lease);
            let pack = move || engine.pack_layer(packing, &layer, &plain, lease, pipe);
            // sent while it is made, and while the one before is put away; what goes wrong with that is tried
            // again as a whole, and told then
            let before = async {
                match last.take() {
                    Some(ending) => self.end(ending, repository).await,
                    None => Ok(None),
                }
            };
            let (made, streamed, ended) =
                tokio::join!(self.blocking(pack), repository.stream_blob(flow), before);
            let (writer, descriptor, lease) = made?;
            work.lease = lease;
            work.sent.extend(ended?);
            work.packed.push(descriptor.clone());
            last = Some(Ending {
                writer,
                descriptor,
                streamed,
            });
        }
        self.finish(image, stored, work, last, repository).await
    }

    /// Puts the last layer away and notes what the image is now, while the registry does the same.
    async fn finish(
        self: &Arc<Self>,
        image: &Arc<Image>,
        stored: Stored,
        work: Work,
        last: Option<Ending>,
        repository: &Repository,
    ) -> Result<Ready> {
        let (writer, sent) = match last {
            Some(Ending {
                writer,
                descriptor,
                streamed,
            }) => (Some(writer), Some((streamed, descriptor))),
            None => (None, None),
        };
        let noted = async {
            if let Some(writer) = writer {
                self.keep(writer).await?;
            }
            self.keep_packed(image, stored, work.packed, work.lease)
                .await
        };
        let closed = async {
            match sent {
                Some((streamed, descriptor)) => close(streamed, &descriptor, repository).await,
                None => None,
            }
        };
        let (ready, last) = tokio::join!(noted, closed);
        let mut sent = work.sent;
        sent.extend(last);
        Ok(Ready { sent, ..ready? })
    }

    /// Puts a layer away, here and in the registry; answers its digest if it is there.
    async fn end(
        self: &Arc<Self>,
        ending: Ending,
        repository: &Repository,
    ) -> Result<Option<Digest>> {
        let closed = close(ending.streamed, &ending.descriptor, repository);
        let (kept, sent) = tokio::join!(self.keep(ending.writer), closed);
        kept.map(|()| sent)
    }

    async fn keep(&self, writer: BlobWriter) -> Result<()> {
        let step = format!("keep the compressed layer {}", writer.digest());
        self.blocking(move || writer.commit().map(drop).step(|| step))
            .await
    }

    /// Packs a plain layer into a blob of its own, which also goes into a pipe. The blob is to be committed.
    fn pack_layer(
        &self,
        packing: Packing,
        layer: &Layer,
        plain: &Descriptor,
        mut lease: Lease,
        pipe: BlobPipe,
    ) -> Result<(BlobWriter, Descriptor, Lease)> {
        let content = self.store.content();
        let step = || format!("compress layer {}", plain.digest);
        let source = Blobs::of(&self.store, std::iter::once(layer));
        let source = source.open(&plain.digest, 0).step(step)?;
        let writer = content.writer(None).step(step)?;
        let mut both = Both { writer, pipe };
        storage::gzip::pack_as(packing, source, &mut both).step(step)?;
        let Both { writer, pipe } = both;
        // the upload ends with the pipe, and need not wait for the disk
        drop(pipe);
        let (digest, size) = (writer.digest(), writer.written());
        self.images.leases.extend(&mut lease, digest.clone());
        let packed = Descriptor {
            media_type: packed_type(&plain.media_type, packing).to_owned(),
            digest,
            size,
            ..plain.clone()
        };
        Ok((writer, packed, lease))
    }

    /// Writes the manifest of the packed layers, and gives the image both.
    async fn keep_packed(
        self: &Arc<Self>,
        image: &Arc<Image>,
        stored: Stored,
        layers: Vec<Descriptor>,
        mut lease: Lease,
    ) -> Result<Ready> {
        let mut manifest = stored.manifest;
        manifest.layers.clone_from(&layers);
        let bytes = serde_json::to_vec(&manifest).step(|| "write a manifest")?;
        let (engine, written) = (Arc::clone(self), bytes.clone());
        let (digest, lease) = self
            .blocking(move || {
                let digest = storage::digest_of(&written);
                engine.images.leases.extend(&mut lease, digest.clone());
                engine
                    .store
                    .content()
                    .put_bytes(&written)
                    .step(|| "store a manifest")?;
                Ok((digest, lease))
            })
            .await?;
        let packed = image.record.layers.iter().zip(&layers);
        let record = Record {
            manifest: digest,
            layers: packed
                .map(|(layer, descriptor)| Layer {
                    blob: descriptor.digest.clone(),
                    blob_size: descriptor.size,
                    ..layer.clone()
                })
                .collect(),
            ..image.record.clone()
        };
        let image = Arc::new(Image::new(record.clone()));
        if self.images.by_id(&image.id).is_some() {
            self.register_image(record, None, None).await?;
        }
        Ok(Ready {
            image,
            manifest: Stored { bytes, manifest },
            layers,
            packed: true,
            sent: HashSet::new(),
            _lease: lease,
        })
    }
}

/// Ends the upload of a layer; answers its digest if the registry has it.
async fn close(
    streamed: std::result::Result<Streamed, RegistryError>,
    descriptor: &Descriptor,
    repository: &Repository,
) -> Option<Digest> {
    let digest = &descriptor.digest;
    let done = match streamed {
        Ok(streamed) => repository.finish_stream(streamed, descriptor).await,
        Err(error) => Err(error),
    };
    done.inspect_err(
        |error| tracing::debug!(%digest, %error, "a layer was not sent while it was packed"),
    )
    .ok()
    .map(|()| digest.clone())
}
