//! One layer: its blob fetched or found, and unpacked while it comes.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use distribution::Repository;
use storage::{StagedLayer, digest_of_reader};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::blob::{Blob, Follower, bring};
use super::flight::{Flight, Flights};
use super::plan::Planned;
use crate::engine::Engine;
use crate::error::{Error, Result, Step};

/// Layers that are unpacked at the same time: each takes a few megabytes and two threads.
const UNPACKED_AT_ONCE: usize = 6;
/// How often a layer is begun again because others' downloads failed.
const TRIES: usize = 4;

/// What the pulls of an engine have under way.
#[derive(Debug)]
pub(crate) struct Fetches {
    blobs: Flights<Blob>,
    layers: Flights<Fetched>,
    unpackers: Arc<Semaphore>,
}

impl Default for Fetches {
    fn default() -> Self {
        Self {
            blobs: Flights::default(),
            layers: Flights::default(),
            unpackers: Arc::new(Semaphore::new(UNPACKED_AT_ONCE)),
        }
    }
}

/// What is known of a layer while it comes.
#[derive(Debug, Default)]
pub(super) struct Fetched {
    /// The blob's download, where one is needed.
    blob: Mutex<Option<Arc<Flight<Blob>>>>,
    /// Bytes of the blob that were unpacked.
    pub(super) unpacked: AtomicU64,
    /// The layer, until the first pull has put it onto its parent.
    staged: Mutex<Option<StagedLayer>>,
    /// Nobody wants the layer any more.
    cancelled: AtomicBool,
}

impl Fetched {
    /// The blob that is downloaded for the layer.
    pub(super) fn blob(&self) -> Option<Arc<Blob>> {
        let blob = self.blob.lock().unwrap_or_else(PoisonError::into_inner);
        blob.as_ref().map(|flight| Arc::clone(&flight.cargo))
    }

    /// Puts the layer onto its parent, unless another pull has done so.
    pub(super) fn commit(&self, store: &storage::Store, layer: &Planned) -> Result<()> {
        // held until the layer is there, so that another pull finds it
        let mut staged = self.staged.lock().unwrap_or_else(PoisonError::into_inner);
        match staged.take() {
            Some(staged) => {
                let added = staged.commit(layer.parent.as_ref());
                added.map(drop).step(|| "add a layer to the store")
            }
            None if store.layers().exists(&layer.chain) => Ok(()),
            None => Err(Error::internal(format!(
                "layer {} was not added to the store",
                layer.descriptor.digest
            ))),
        }
    }
}

/// Ends the unpacker and the download when the task is given up.
struct Abandoned {
    fetched: Arc<Fetched>,
    finished: bool,
}

impl Drop for Abandoned {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        self.fetched.cancelled.store(true, Ordering::SeqCst);
        // the unpacker's thread holds the layer, and waits for a download that this would keep alive
        let blob = self.fetched.blob.lock();
        drop(blob.unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// How a pull gets a layer.
#[derive(Debug)]
pub(super) enum Way {
    /// All is there.
    There,
    /// The layer is there, its blob is not.
    Blob(Arc<Flight<Blob>>),
    /// The layer is made from its blob.
    Layer(Arc<Flight<Fetched>>),
}

impl Way {
    /// Waits until the layer can be committed and its blob placed.
    pub(super) async fn landed(&self) -> Result<()> {
        match self {
            Self::There => Ok(()),
            Self::Blob(flight) => flight.landed().await,
            Self::Layer(flight) => flight.landed().await,
        }
    }

    /// Whether a blob alone was wanted, and what an earlier pull had left of it was wrong. A layer
    /// tries again by itself.
    pub(super) fn was_stale(&self) -> bool {
        matches!(self, Self::Blob(flight) if flight.cargo.was_stale())
    }

    /// The blob that is downloaded.
    pub(super) fn blob(&self) -> Option<Arc<Blob>> {
        match self {
            Self::There => None,
            Self::Blob(flight) => Some(Arc::clone(&flight.cargo)),
            Self::Layer(flight) => flight.cargo.blob(),
        }
    }
}

impl Engine {
    /// Begins to get a layer, or joins those who do; tells whether it was begun.
    pub(super) fn get_layer(
        self: &Arc<Self>,
        repository: &Repository,
        layer: &Planned,
    ) -> (Way, bool) {
        let has_blob = self.store.content().has(&layer.descriptor.digest);
        if !self.store.layers().exists(&layer.chain) {
            let begin = || {
                let fetched = Arc::new(Fetched::default());
                let (engine, cargo) = (Arc::clone(self), Arc::clone(&fetched));
                let (repository, layer) = (repository.clone(), layer.clone());
                let work = async move { make(&engine, &repository, &layer, &cargo).await };
                (fetched, work)
            };
            let (flight, began) = self.images.fetches.layers.join(&layer.chain, begin);
            return (Way::Layer(flight), began);
        }
        if has_blob {
            return (Way::There, true);
        }
        let (flight, began) = self.get_blob(repository, layer);
        (Way::Blob(flight), began)
    }

    fn get_blob(
        self: &Arc<Self>,
        repository: &Repository,
        layer: &Planned,
    ) -> (Arc<Flight<Blob>>, bool) {
        let begin = || {
            let blob = Arc::new(Blob::default());
            let (engine, cargo) = (Arc::clone(self), Arc::clone(&blob));
            let work = bring(engine, repository.clone(), layer.descriptor.clone(), cargo);
            (blob, work)
        };
        let blobs = &self.images.fetches.blobs;
        blobs.join(&layer.descriptor.digest, begin)
    }
}

/// Makes a layer from its blob in the store, or from one that is fetched.
async fn make(
    engine: &Arc<Engine>,
    repository: &Repository,
    layer: &Planned,
    fetched: &Arc<Fetched>,
) -> Result<()> {
    let mut cancels = Abandoned {
        fetched: Arc::clone(fetched),
        finished: false,
    };
    let result = make_somehow(engine, repository, layer, fetched).await;
    cancels.finished = true;
    result
}

async fn make_somehow(
    engine: &Arc<Engine>,
    repository: &Repository,
    layer: &Planned,
    fetched: &Arc<Fetched>,
) -> Result<()> {
    if engine.store.content().has(&layer.descriptor.digest) {
        match from_store(engine, layer, fetched).await {
            Err(error) if is_damaged(engine, layer).await? => {
                let digest = &layer.descriptor.digest;
                tracing::warn!(%digest, %error, "a damaged blob is fetched again");
            }
            other => return other,
        }
    }
    for _ in 1..TRIES {
        match from_registry(engine, repository, layer, fetched).await {
            Err(Failed { again: true, .. }) => {}
            other => return other.map_err(|failed| failed.error),
        }
    }
    let last = from_registry(engine, repository, layer, fetched).await;
    last.map_err(|failed| failed.error)
}

async fn from_store(engine: &Arc<Engine>, layer: &Planned, fetched: &Arc<Fetched>) -> Result<()> {
    let content = engine.store.content();
    let blob = content.open(&layer.descriptor.digest);
    let blob = blob.step(|| "read a layer")?;
    unpack(engine, layer, fetched, blob).await
}

/// Whether a blob of the store is not what its name says; then it is removed.
async fn is_damaged(engine: &Arc<Engine>, layer: &Planned) -> Result<bool> {
    let (store, digest) = (Arc::clone(&engine.store), layer.descriptor.digest.clone());
    engine
        .blocking(move || {
            let content = store.content();
            let Ok(file) = content.open(&digest) else {
                return Ok(true);
            };
            if digest_of_reader(file).step(|| "read a layer")? == digest {
                return Ok(false);
            }
            content.remove(&digest).step(|| "remove a damaged blob")
        })
        .await
}

/// Why a layer was not made, and whether another try may make it.
struct Failed {
    error: Error,
    again: bool,
}

async fn from_registry(
    engine: &Arc<Engine>,
    repository: &Repository,
    layer: &Planned,
    fetched: &Arc<Fetched>,
) -> Result<(), Failed> {
    let (flight, began) = engine.get_blob(repository, layer);
    *fetched.blob.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&flight));
    let source = Follower::new(Arc::clone(&flight.cargo), layer.descriptor.size);
    let blob = Arc::clone(&flight.cargo);
    let unpacking = async {
        let unpacked = unpack(engine, layer, fetched, source).await;
        // what is wrong with the download is told by the download; the unpacker only repeats it
        match unpacked {
            Err(error) if !blob.has_failed() => {
                blob.refuse();
                Some(error)
            }
            _ => None,
        }
    };
    let (brought, refused) = tokio::join!(flight.landed(), unpacking);
    if let Some(error) = refused {
        let again = blob.was_resumed();
        return Err(Failed { error, again });
    }
    brought.map_err(|error| Failed {
        // another pull's registry or credentials have failed, or what an earlier pull has left
        again: !began || blob.was_stale(),
        error,
    })
}

/// Unpacks a layer from its blob, and keeps it for the pull that puts it onto its parent.
async fn unpack(
    engine: &Arc<Engine>,
    layer: &Planned,
    fetched: &Arc<Fetched>,
    source: impl Read + Send + 'static,
) -> Result<()> {
    let unpackers = Arc::clone(&engine.images.fetches.unpackers);
    // the semaphore is never closed
    let place = unpackers.acquire_owned().await.ok();
    let (store, fetched, wanted) = (
        Arc::clone(&engine.store),
        Arc::clone(fetched),
        layer.clone(),
    );
    let unpacked = engine.blocking(move || apply(&store, &wanted, &fetched, source, place));
    let digest = &layer.descriptor.digest;
    unpacked
        .await
        .map_err(|e| e.context(format!("failed to register layer {digest}")))
}

fn apply(
    store: &storage::Store,
    layer: &Planned,
    fetched: &Fetched,
    source: impl Read + Send,
    _place: Option<OwnedSemaphorePermit>,
) -> Result<()> {
    fetched.unpacked.store(0, Ordering::Relaxed);
    let mut counted = Counted { source, fetched };
    let options = store.layers().options(Some(layer.diff_id.clone()));
    let staged = store
        .layers()
        .apply(&mut counted, &options)
        .step(|| "unpack a layer")?;
    // what is behind the end of the tar belongs to the blob, too
    io::copy(&mut counted, &mut io::sink()).step(|| "read the end of a layer")?;
    let mut place = fetched
        .staged
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    *place = Some(staged);
    Ok(())
}

/// Counts what is read of a blob, and ends when nobody wants the layer any more.
struct Counted<'f, R> {
    source: R,
    fetched: &'f Fetched,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.fetched.cancelled.load(Ordering::Relaxed) {
            return Err(io::Error::other("nobody wants the layer any more"));
        }
        let count = self.source.read(buffer)?;
        self.fetched
            .unpacked
            .fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}
