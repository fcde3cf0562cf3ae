//! The bytes of a blob on their way out, and the gauge of how many have gone.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use tokio::sync::mpsc;

use crate::exchange::Payload;

/// Read from the source at once.
const CHUNK: usize = 128 * 1024;
/// Chunks between the source and the connection.
const CHUNKS: usize = 4;

/// Opens a blob for reading at an offset.
type Open = dyn Fn(u64) -> io::Result<Box<dyn Read + Send>> + Send + Sync;

/// Where the bytes of a blob come from. A broken upload reads them again.
#[derive(Clone)]
pub struct BlobSource {
    open: Arc<Open>,
    sent: Arc<AtomicU64>,
    /// Why it could not be read on; the HTTP layer only says that a body has failed.
    failure: Arc<Mutex<Option<io::Error>>>,
}

impl std::fmt::Debug for BlobSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlobSource")
            .field("sent", &self.sent)
            .finish_non_exhaustive()
    }
}

impl BlobSource {
    /// A source that `open` opens at an offset; the reader is read on a thread that may block.
    pub fn new(
        open: impl Fn(u64) -> io::Result<Box<dyn Read + Send>> + Send + Sync + 'static,
    ) -> Self {
        Self {
            open: Arc::new(open),
            sent: Arc::default(),
            failure: Arc::default(),
        }
    }

    /// Why the source could not be read, if that is what ended an upload.
    pub(super) fn take_failure(&self) -> Option<io::Error> {
        lock(&self.failure).take()
    }

    /// How many bytes of the blob the connection has taken; less again when an upload begins anew.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Makes a body of the bytes from `offset` to `end`.
    pub(crate) fn body(&self, offset: u64, end: u64) -> (Payload, Gauge) {
        let gauge = Gauge {
            taken: Arc::clone(&self.sent),
            end,
            ended: None,
        };
        self.sent.store(offset, Ordering::Relaxed);
        let (sender, receiver) = mpsc::channel(CHUNKS);
        let (open, failure) = (Arc::clone(&self.open), Arc::clone(&self.failure));
        tokio::task::spawn_blocking(move || {
            if let Err(error) = read(&*open, offset, end, &sender) {
                *lock(&failure) = Some(error);
                drop(sender.blocking_send(Err(io::Error::other("the source has failed"))));
            }
        });
        let taken = Arc::clone(&self.sent);
        let chunks = stream::unfold((receiver, taken), |(mut receiver, taken)| async move {
            let chunk: io::Result<Bytes> = receiver.recv().await?;
            if let Ok(bytes) = &chunk {
                taken.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            }
            Some((chunk.map(Frame::data), (receiver, taken)))
        });
        (StreamBody::new(chunks).boxed_unsync(), gauge)
    }
}

/// How much of a body has been taken.
#[derive(Debug)]
pub(crate) struct Gauge {
    taken: Arc<AtomicU64>,
    end: u64,
    /// Whether the end has come, where nobody knew it before.
    ended: Option<Arc<AtomicBool>>,
}

impl Gauge {
    /// The gauge of a body whose end is not known before it comes.
    pub(super) fn open(taken: Arc<AtomicU64>, ended: Arc<AtomicBool>) -> Self {
        Self {
            taken,
            end: u64::MAX,
            ended: Some(ended),
        }
    }

    pub(crate) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    pub(crate) fn is_done(&self) -> bool {
        let ended = |ended: &Arc<AtomicBool>| ended.load(Ordering::Relaxed);
        self.taken() >= self.end || self.ended.as_ref().is_some_and(ended)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads to the end or until nobody listens; a source that is too short is an error.
fn read(
    open: &Open,
    offset: u64,
    end: u64,
    sender: &mpsc::Sender<io::Result<Bytes>>,
) -> io::Result<()> {
    let mut left = end.saturating_sub(offset);
    let mut source = open(offset)?;
    let mut buffer = vec![0; CHUNK];
    while left > 0 {
        let most = usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK));
        let count = source.read(&mut buffer[..most])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        left -= count as u64;
        let chunk = Bytes::copy_from_slice(&buffer[..count]);
        if sender.blocking_send(Ok(chunk)).is_err() {
            return Ok(());
        }
    }
    Ok(())
}
