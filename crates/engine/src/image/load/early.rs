//! Layers that are unpacked while the rest of the archive is still being read.
//!
//! Which files of an archive are layers is known only from its documents, which may stand at the end. So
//! what looks like a layer is unpacked beside the reading, from the file that it is being stored in, and
//! gets its place when a document says which. What turns out to be none, or cannot be unpacked, goes the
//! plain way, which has the words for it.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use oci::Digest;
use storage::{BlobWriter, Compression, StagedLayer, Store};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::UNPACKS;
use crate::engine::Engine;

/// What is shorter is unpacked sooner than a thread is had for it.
const LENGTH_MIN: u64 = 64 << 10;
/// Files of one archive that are unpacked ahead of time; no image has so many layers.
const EARLY_MAX: usize = 1000;
/// The beginning of a file that tells what it is.
pub(super) const START: usize = 512;
/// Where a tar has its magic (POSIX.1-1988, ustar).
const MAGIC: std::ops::Range<usize> = 257..262;

/// Unpacks a layer; it is none when nothing came of it.
type Unpacking = JoinHandle<Option<StagedLayer>>;

/// The layers of one archive that are unpacked ahead of time.
#[derive(Debug)]
pub(super) struct Early {
    store: Arc<Store>,
    places: Arc<Semaphore>,
    /// What nobody has to unpack: by the digest of a blob, or of its uncompressed tar.
    known: HashSet<Digest>,
    begun: Mutex<Begun>,
    cancelled: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct Begun {
    count: usize,
    by_blob: HashMap<Digest, Unpacking>,
    useless: Vec<Unpacking>,
}

impl Early {
    pub(super) fn new(engine: &Engine) -> Self {
        let layers = engine.store.layers();
        let mut known = HashSet::new();
        for image in engine.images.all() {
            let there = image.record.layers.iter();
            for layer in there.filter(|layer| layers.exists(&layer.chain)) {
                known.extend([layer.blob.clone(), layer.diff_id.clone()]);
            }
        }
        Self {
            store: Arc::clone(&engine.store),
            places: Arc::new(Semaphore::new(UNPACKS)),
            known,
            begun: Mutex::default(),
            cancelled: Arc::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Begun> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to unpack a file that looks like a layer, while it is being written.
    pub(super) fn begin(
        &self,
        start: &[u8],
        (name, size): (Option<&Digest>, u64),
        writer: &BlobWriter,
    ) -> Option<Coming<'_>> {
        let is_known = name.is_some_and(|digest| self.known.contains(digest));
        if is_known || size < LENGTH_MIN || !is_layer(start) {
            return None;
        }
        let mut begun = self.lock();
        if begun.count >= EARLY_MAX {
            return None;
        }
        // it can be opened, or the plain way tells why not
        let file = File::open(writer.path()).ok()?;
        begun.count += 1;
        drop(begun);
        let front = Arc::new(Front {
            file,
            state: Mutex::default(),
            moved: Condvar::new(),
        });
        let source = Follower {
            front: Arc::clone(&front),
            position: 0,
            cancelled: Arc::clone(&self.cancelled),
        };
        let (store, places) = (Arc::clone(&self.store), Arc::clone(&self.places));
        let task = tokio::spawn(async move {
            // the semaphore is never closed
            let place = places.acquire_owned().await.ok();
            let work = move || {
                let unpacked = unpack(&store, source);
                drop(place);
                unpacked
            };
            tokio::task::spawn_blocking(work).await.ok().flatten()
        });
        Some(Coming {
            early: self,
            front,
            task: Some(task),
        })
    }

    /// The layer that was unpacked from a blob, if it is the one with this diff id.
    pub(super) async fn take(&self, blob: &Digest, diff_id: &Digest) -> Option<StagedLayer> {
        let task = self.lock().by_blob.remove(blob)?;
        let staged = task.await.ok().flatten()?;
        if staged.applied().diff_id == *diff_id {
            return Some(staged);
        }
        drop_apart(vec![staged]).await;
        None
    }

    /// Ends what is still going on, and removes what was of no use.
    pub(super) async fn end(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
        let begun = std::mem::take(&mut *self.lock());
        let mut useless = Vec::new();
        for task in begun.by_blob.into_values().chain(begun.useless) {
            useless.extend(task.await.ok().flatten());
        }
        drop_apart(useless).await;
    }
}

impl Drop for Early {
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::SeqCst);
    }
}

/// Removes layers where waiting for the disk holds nobody up.
async fn drop_apart(layers: Vec<StagedLayer>) {
    if !layers.is_empty() {
        // it ends without a result, and whatever is left goes at the next start
        drop(tokio::task::spawn_blocking(move || drop(layers)).await);
    }
}

/// Whether a file begins as a tar does, or as one that is packed in a way that layers are.
fn is_layer(start: &[u8]) -> bool {
    match Compression::detect(start) {
        Ok(Compression::Gzip | Compression::Zstd) => true,
        Ok(Compression::None) => start.get(MAGIC) == Some(b"ustar"),
        Err(_) => false,
    }
}

fn unpack(store: &Store, mut source: Follower) -> Option<StagedLayer> {
    let options = store.layers().options(None);
    let staged = store.layers().apply(&mut source, &options);
    staged
        .inspect_err(
            |error| tracing::debug!(%error, "a file of an archive is not unpacked ahead of time"),
        )
        .ok()
}

/// A file that is being stored and unpacked. Dropped, it is no layer.
pub(super) struct Coming<'e> {
    early: &'e Early,
    front: Arc<Front>,
    task: Option<Unpacking>,
}

impl Coming<'_> {
    /// So many bytes more can be read.
    pub(super) fn advance(&self, bytes: usize) {
        self.front.change(|state| state.there += bytes as u64);
    }

    /// All of the file is stored, and has this digest.
    pub(super) fn finish(mut self, digest: Digest) {
        self.front.change(|state| state.end = Some(End::Whole));
        let mut begun = self.early.lock();
        if let Some(task) = self.task.take() {
            let former = begun.by_blob.insert(digest, task);
            begun.useless.extend(former);
        }
    }
}

impl Drop for Coming<'_> {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            self.front.change(|state| state.end = Some(End::Broken));
            self.early.lock().useless.push(task);
        }
    }
}

/// How far a file is stored.
#[derive(Debug)]
struct Front {
    file: File,
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct State {
    there: u64,
    end: Option<End>,
}

#[derive(Clone, Copy, Debug)]
enum End {
    Whole,
    Broken,
}

impl Front {
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.moved.notify_all();
    }

    /// Waits until there are bytes behind a position; answers where they end.
    fn wait(&self, position: u64) -> io::Result<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match state.end {
                _ if state.there > position => return Ok(state.there),
                Some(End::Whole) => return Ok(state.there),
                Some(End::Broken) => return Err(io::Error::other("the archive has no more of it")),
                None => {}
            }
            state = self
                .moved
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Reads a file while it is stored.
struct Follower {
    front: Arc<Front>,
    position: u64,
    cancelled: Arc<AtomicBool>,
}

impl Read for Follower {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(io::Error::other("nobody needs the layer"));
        }
        let end = self.front.wait(self.position)?;
        let there = usize::try_from(end - self.position).unwrap_or(usize::MAX);
        let length = there.min(buffer.len());
        let count = self
            .front
            .file
            .read_at(&mut buffer[..length], self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_known_by_their_beginning() {
        let mut tar = vec![0; START];
        tar[MAGIC].copy_from_slice(b"ustar");
        let cases: [(&[u8], bool); 6] = [
            (&tar, true),
            (&[0x1f, 0x8b, 0x08, 0], true),
            (&[0x28, 0xb5, 0x2f, 0xfd], true),
            (b"{\"config\": {}}", false),
            (b"BZh9", false),
            (b"", false),
        ];
        for (start, expect) in cases {
            assert_eq!(is_layer(start), expect, "{start:?}");
        }
    }

    fn follower() -> (tempfile::TempDir, File, Follower) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("blob");
        let writer = File::create(&path).unwrap();
        let front = Arc::new(Front {
            file: File::open(&path).unwrap(),
            state: Mutex::default(),
            moved: Condvar::new(),
        });
        let source = Follower {
            front,
            position: 0,
            cancelled: Arc::default(),
        };
        (folder, writer, source)
    }

    #[test]
    fn a_reader_follows_the_writer() {
        for end in [End::Whole, End::Broken] {
            let (_folder, mut writer, mut source) = follower();
            let front = Arc::clone(&source.front);
            let reader = std::thread::spawn(move || {
                let mut bytes = Vec::new();
                let result = source.read_to_end(&mut bytes);
                (bytes, result.is_ok())
            });
            for number in 0..100_u8 {
                io::Write::write_all(&mut writer, &[number; 1000]).unwrap();
                front.change(|state| state.there += 1000);
            }
            front.change(|state| state.end = Some(end));
            let (bytes, whole) = reader.join().unwrap();
            assert_eq!(bytes.len(), 100_000);
            assert!(
                bytes
                    .iter()
                    .enumerate()
                    .all(|(at, byte)| at / 1000 == usize::from(*byte))
            );
            assert_eq!(whole, matches!(end, End::Whole));
        }
    }

    #[test]
    fn a_reader_ends_when_nobody_needs_it() {
        let (_folder, _writer, mut source) = follower();
        source.cancelled.store(true, Ordering::SeqCst);
        source.read(&mut [0; 10]).unwrap_err();
    }
}
