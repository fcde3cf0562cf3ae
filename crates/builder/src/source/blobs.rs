//! Layers that come as blobs from somewhere that is no registry: a client's store, a cache service.
//!
//! They are brought when a step first needs their files, and have to be what their digests say.

use std::io::{self, Write as _};
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use engine::{ContentLease, Engine};
use futures_util::{Stream, StreamExt as _};
use jiff::Timestamp;
use oci::Digest;
use oci::image::Descriptor;
use storage::chain_id;
use tokio::sync::{Mutex, mpsc};

use crate::builder::Builder;
use crate::error::{Error, Result, Step as _};
use crate::progress::{Status, VertexProgress};
use crate::snapshot::{Fetch, Fetching, ImageLayer, LayerFacts, Snapshot};

/// The bytes of a blob as they come.
pub(crate) type BlobStream = Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>;
/// A blob that is being opened.
pub(crate) type Opening<'a> = Pin<Box<dyn Future<Output = Result<BlobStream>> + Send + 'a>>;

/// Pieces that wait for the disk.
const WAITING: usize = 4;

/// Where blobs come from.
pub(crate) trait BlobSource: Send + Sync {
    /// Opens a blob; what comes is not trusted.
    fn open<'a>(&'a self, blob: &'a Descriptor) -> Opening<'a>;
}

/// A layer, and what it is on top of.
struct Planned {
    blob: Descriptor,
    diff_id: Digest,
    chain: Digest,
    parent: Option<Digest>,
}

/// Layers that lie on each other, and who has them.
struct Brought {
    engine: Arc<Engine>,
    source: Arc<dyn BlobSource>,
    layers: Vec<Planned>,
    progress: VertexProgress,
    /// One brings them for all who wait.
    turn: Mutex<()>,
    _lease: ContentLease,
}

/// Layers as a snapshot, the lowest first, each with its diff id.
///
/// # Errors
/// When one of them is packed in an unknown way.
pub(crate) async fn snapshot(
    builder: &Builder,
    source: Arc<dyn BlobSource>,
    layers: &[(Descriptor, Digest)],
    description: &str,
    progress: &VertexProgress,
) -> Result<Snapshot> {
    let mut parent: Option<Digest> = None;
    let mut planned = Vec::with_capacity(layers.len());
    let mut names = Vec::with_capacity(layers.len() * 2);
    for (blob, diff_id) in layers {
        let kind = &blob.media_type;
        if storage::Compression::from_media_type(kind).is_none() {
            return Err(Error::invalid(format!("a blob of type {kind} is no layer")));
        }
        let chain = chain_id(parent.as_ref(), diff_id);
        names.extend([blob.digest.clone(), chain.clone()]);
        planned.push(Planned {
            blob: blob.clone(),
            diff_id: diff_id.clone(),
            parent: parent.replace(chain.clone()),
            chain,
        });
    }
    let images: Vec<ImageLayer> = planned
        .iter()
        .map(|layer| ImageLayer {
            chain: layer.chain.clone(),
            parent: layer.parent.clone(),
            diff_id: layer.diff_id.clone(),
            blob: Some(layer.blob.clone()).filter(|blob| blob.digest != layer.diff_id),
        })
        .collect();
    let fetch: Arc<dyn Fetch> = Arc::new(Brought {
        engine: Arc::clone(&builder.engine),
        source,
        layers: planned,
        progress: progress.clone(),
        turn: Mutex::default(),
        _lease: builder.engine.keep_content(names).await,
    });
    let facts = LayerFacts {
        description: description.to_owned(),
        created: Timestamp::UNIX_EPOCH,
    };
    let made = images.into_iter().map(|image| {
        let layer = builder.snapshots.image_layer(image, facts.clone());
        layer.set_fetch(Arc::clone(&fetch));
        layer
    });
    Ok(Snapshot::of_layers(made.collect()))
}

impl Fetch for Brought {
    fn fetch<'a>(&'a self, chain: &'a Digest) -> Fetching<'a> {
        Box::pin(async move { Ok(self.bring(chain).await?) })
    }
}

impl Brought {
    /// Brings a layer and all below it.
    async fn bring(&self, chain: &Digest) -> Result<()> {
        let _turn = self.turn.lock().await;
        for layer in &self.layers {
            if !self.engine.store().layers().exists(&layer.chain) {
                self.blob(&layer.blob).await?;
                self.unpack(layer).await?;
            }
            if layer.chain == *chain {
                break;
            }
        }
        Ok(())
    }

    /// Brings a blob into the engine's store, unless it is there.
    async fn blob(&self, blob: &Descriptor) -> Result<()> {
        if self.engine.store().content().has(&blob.digest) {
            return Ok(());
        }
        let mut stream = self.source.open(blob).await?;
        let (sender, mut pieces) = mpsc::channel::<Bytes>(WAITING);
        let (store, wanted) = (Arc::clone(self.engine.store()), blob.clone());
        let writing = tokio::task::spawn_blocking(move || {
            let step = || format!("store blob {}", wanted.digest);
            let expected = Some((wanted.digest.clone(), wanted.size));
            let mut writer = store.content().writer(expected).step(step)?;
            while let Some(piece) = pieces.blocking_recv() {
                writer.write_all(&piece).step(step)?;
            }
            writer.commit().step(step).map(drop)
        });
        let mut sent = 0_u64;
        let mut failed = None;
        while let Some(piece) = stream.next().await {
            match piece {
                Ok(piece) => {
                    sent += piece.len() as u64;
                    self.tell(blob, sent, false);
                    // a writer that takes no more says why
                    if sender.send(piece).await.is_err() {
                        break;
                    }
                }
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        drop(sender);
        let written = writing.await;
        let written = written.unwrap_or_else(|error| Err(Error::internal(error.to_string())));
        match failed {
            Some(error) => Err(error),
            None => {
                self.tell(blob, sent, true);
                written
            }
        }
    }

    fn tell(&self, blob: &Descriptor, sent: u64, completed: bool) {
        let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        self.progress.status(Status {
            id: blob.digest.to_string(),
            name: if completed { "done" } else { "downloading" }.to_owned(),
            current: signed(sent),
            total: signed(blob.size),
            completed,
        });
    }

    async fn unpack(&self, layer: &Planned) -> Result<()> {
        let store = Arc::clone(self.engine.store());
        let (blob, diff_id) = (layer.blob.digest.clone(), layer.diff_id.clone());
        let parent = layer.parent.clone();
        let work = tokio::task::spawn_blocking(move || {
            let step = || format!("unpack layer {blob}");
            let mut source = store.content().open(&blob).step(step)?;
            let options = store.layers().options(Some(diff_id));
            let staged = store.layers().apply(&mut source, &options).step(step)?;
            // what is behind the end of the tar belongs to the blob, too
            io::copy(&mut source, &mut io::sink()).step(step)?;
            staged.commit(parent.as_ref()).step(step).map(drop)
        });
        work.await
            .unwrap_or_else(|error| Err(Error::internal(error.to_string())))
    }
}
