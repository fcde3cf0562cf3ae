//! One blob on its way: from the registry into its file, where others read it meanwhile.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use distribution::Repository;
use oci::image::Descriptor;
use storage::ContentError;
use storage::content::{Ingest, Ingested};
use tokio::sync::mpsc;

use super::parts::Parts;
use super::registry_error;
use crate::engine::Engine;
use crate::error::{Error, Result, Step};

/// Pieces between the network and the file: up to some 400 KiB each.
const PIECES: usize = 8;

/// A piece of a blob and its place.
pub(super) type Piece = (u64, Bytes);

/// What is known of a blob while it comes.
#[derive(Debug, Default)]
pub(super) struct Blob {
    front: Mutex<Front>,
    moved: Condvar,
    received: AtomicU64,
    /// Set when all has come and is right.
    ready: OnceLock<Ingested>,
    /// The content was refused: nothing of it is worth keeping.
    unwanted: AtomicBool,
    /// An earlier pull had left something, which may be wrong.
    resumed: AtomicBool,
    /// What it had left was wrong, and is gone now: another try is worth it.
    stale: AtomicBool,
}

#[derive(Debug, Default)]
struct Front {
    file: Option<Arc<File>>,
    /// All bytes before this one are there.
    at: u64,
    /// Set when no more come: nothing, or why.
    end: Option<Result<(), String>>,
}

impl Blob {
    /// Bytes that are there.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Whether all has come and is right.
    pub(super) fn is_ready(&self) -> bool {
        self.ready.get().is_some()
    }

    /// Whether an earlier pull had left something of the blob.
    pub(super) fn was_resumed(&self) -> bool {
        self.resumed.load(Ordering::SeqCst)
    }

    /// Whether that was wrong. It is gone then.
    pub(super) fn was_stale(&self) -> bool {
        self.stale.load(Ordering::SeqCst)
    }

    /// Whether no more comes, and not all has come.
    pub(super) fn has_failed(&self) -> bool {
        matches!(self.lock().end, Some(Err(_)))
    }

    /// Puts a blob that has come among the blobs.
    pub(super) fn place(&self) -> Result<()> {
        match self.ready.get() {
            Some(ready) => ready.place().step(|| "store a layer"),
            // it was in the store before
            None => Ok(()),
        }
    }

    /// Lets nothing of the blob be kept: its content is refused, or there is no room for it.
    pub(super) fn refuse(&self) {
        self.unwanted.store(true, Ordering::SeqCst);
        if let Some(ready) = self.ready.get() {
            ready.discard();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Front> {
        self.front.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self, file: File) {
        self.lock().file = Some(Arc::new(file));
        self.moved.notify_all();
    }

    fn advance(&self, ingest: &Ingest) {
        self.received.store(ingest.received(), Ordering::Relaxed);
        self.lock().at = ingest.front();
        self.moved.notify_all();
    }

    /// Tells the readers that no more comes; the first end counts.
    fn end(&self, end: Result<(), String>) {
        self.lock().end.get_or_insert(end);
        self.moved.notify_all();
    }

    /// Waits until there are bytes behind `position`; gives the file and where they end.
    fn wait(&self, position: u64) -> io::Result<(Arc<File>, u64)> {
        let mut front = self.lock();
        loop {
            match (&front.file, &front.end) {
                (Some(file), _) if front.at > position => return Ok((Arc::clone(file), front.at)),
                (_, Some(Err(why))) => return Err(io::Error::other(why.clone())),
                (Some(file), Some(Ok(()))) => return Ok((Arc::clone(file), front.at)),
                (None, Some(Ok(()))) => return Err(io::Error::other("the blob has no file")),
                (_, None) => {}
            }
            front = self
                .moved
                .wait(front)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Ends a blob's coming when its task is given up.
struct Abandoned(Arc<Blob>);

impl Drop for Abandoned {
    fn drop(&mut self) {
        self.0.end(Err("the download was given up".to_owned()));
    }
}

/// Reads a blob from its file while it comes.
#[derive(Debug)]
pub(super) struct Follower {
    blob: Arc<Blob>,
    position: u64,
    size: u64,
}

impl Follower {
    pub(super) fn new(blob: Arc<Blob>, size: u64) -> Self {
        Self {
            blob,
            position: 0,
            size,
        }
    }
}

impl Read for Follower {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position >= self.size || buffer.is_empty() {
            return Ok(0);
        }
        let (file, front) = self.blob.wait(self.position)?;
        let there = usize::try_from(front - self.position).unwrap_or(usize::MAX);
        let length = there.min(buffer.len());
        let count = file.read_at(&mut buffer[..length], self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

/// Brings a blob: what an earlier pull left is taken up, the rest is fetched.
pub(super) async fn bring(
    engine: Arc<Engine>,
    repository: Repository,
    descriptor: Descriptor,
    blob: Arc<Blob>,
) -> Result<()> {
    let _ends_anyway = Abandoned(Arc::clone(&blob));
    let result = fetch(&engine, &repository, &descriptor, &blob).await;
    let told = result
        .as_ref()
        .map_or_else(|error| Err(error.message().to_owned()), |()| Ok(()));
    blob.end(told);
    result
}

async fn fetch(
    engine: &Arc<Engine>,
    repository: &Repository,
    descriptor: &Descriptor,
    blob: &Arc<Blob>,
) -> Result<()> {
    let (store, wanted) = (Arc::clone(&engine.store), descriptor.clone());
    let ingest = engine
        .blocking(move || {
            let content = store.content();
            content
                .ingest(&wanted.digest, wanted.size)
                .step(|| "store a layer")
        })
        .await?;
    blob.open(ingest.reader().step(|| "store a layer")?);
    blob.advance(&ingest);
    blob.resumed.store(ingest.resumed() > 0, Ordering::SeqCst);
    let gaps = ingest.gaps();
    let (pieces, arrived) = mpsc::channel(PIECES);
    let written = engine.blocking({
        let blob = Arc::clone(blob);
        move || write(ingest, arrived, &blob)
    });
    let parts = Parts::new(repository, descriptor, gaps, pieces, blob);
    let (downloaded, written) = tokio::join!(parts.fetch(), written);
    downloaded.map_err(|e| registry_error(&e)).and(written)
}

/// Writes the pieces as they come, and verifies the whole when it is there.
fn write(mut ingest: Ingest, arrived: mpsc::Receiver<Piece>, blob: &Blob) -> Result<()> {
    if let Err(error) = take(&mut ingest, arrived, blob) {
        // a full disk has better use for the room
        ingest.discard();
        return Err(error);
    }
    if !ingest.gaps().is_empty() {
        return Ok(());
    }
    match ingest.finish() {
        Ok(ready) => {
            drop(blob.ready.set(ready));
            Ok(())
        }
        Err(error @ ContentError::DigestMismatch { .. }) => {
            blob.stale.store(blob.was_resumed(), Ordering::SeqCst);
            Err(mismatch(&error))
        }
        Err(error) => Err(Error::system("store a layer", &error)),
    }
}

fn take(ingest: &mut Ingest, mut arrived: mpsc::Receiver<Piece>, blob: &Blob) -> Result<()> {
    ingest.catch_up().step(|| "read a layer")?;
    while let Some((at, bytes)) = arrived.blocking_recv() {
        if blob.unwanted.load(Ordering::SeqCst) {
            break;
        }
        ingest.put(at, &bytes).step(|| "store a layer")?;
        blob.advance(ingest);
    }
    if blob.unwanted.load(Ordering::SeqCst) {
        return Err(Error::internal("the layer is refused"));
    }
    Ok(())
}

/// The same words as where the registry's client verifies.
fn mismatch(error: &ContentError) -> Error {
    let ContentError::DigestMismatch { expected, actual } = error else {
        return Error::system("store a layer", error);
    };
    Error::internal(format!(
        "filesystem layer verification failed for digest {expected}: the registry sent {actual}"
    ))
}
