//! Uploading a blob while it is being made: its length and its digest are told at its end.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::stream;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use oci::image::Descriptor;
use tokio::sync::mpsc;

use super::body::Gauge;
use crate::artifact::bytes_source;
use crate::client::Repository;
use crate::error::RegistryError;
use crate::exchange::Payload;

/// Pieces between the maker and the connection.
const PIECES: usize = 2;

/// Where the maker of a blob writes it. It never fails: an upload that breaks takes the bytes
/// without sending them, for the maker keeps the blob and can push it again as a whole.
#[derive(Debug)]
pub struct BlobPipe {
    sender: Option<mpsc::Sender<Bytes>>,
}

/// The other end of a [`BlobPipe`], to be given to [`Repository::stream_blob`].
#[derive(Debug)]
pub struct BlobFlow {
    receiver: mpsc::Receiver<Bytes>,
    taken: Arc<AtomicU64>,
}

/// An upload of which only the digest is missing.
#[derive(Debug)]
pub struct Streamed {
    location: Uri,
    sent: u64,
}

/// A pipe from a thread that makes a blob to its upload.
#[must_use]
pub fn blob_pipe() -> (BlobPipe, BlobFlow) {
    let (sender, receiver) = mpsc::channel(PIECES);
    let pipe = BlobPipe {
        sender: Some(sender),
    };
    let taken = Arc::default();
    (pipe, BlobFlow { receiver, taken })
}

impl Write for BlobPipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(sender) = &self.sender
            && sender.blocking_send(Bytes::copy_from_slice(bytes)).is_err()
        {
            self.sender = None;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl BlobFlow {
    fn body(self) -> (Payload, Gauge) {
        let ended: Arc<AtomicBool> = Arc::default();
        let gauge = Gauge::open(Arc::clone(&self.taken), Arc::clone(&ended));
        let state = (self.receiver, self.taken, ended);
        let chunks = stream::unfold(state, |(mut receiver, taken, ended)| async move {
            let Some(bytes): Option<Bytes> = receiver.recv().await else {
                ended.store(true, Ordering::Relaxed);
                return None;
            };
            taken.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            Some((Ok(Frame::data(bytes)), (receiver, taken, ended)))
        });
        (StreamBody::new(chunks).boxed_unsync(), gauge)
    }
}

impl Repository {
    /// Uploads what comes out of a pipe, but for the digest at the end. It is tried once: who cannot
    /// go on pushes the blob as a whole.
    ///
    /// # Errors
    /// When the registry cannot be reached, refuses, or breaks off.
    pub async fn stream_blob(&self, flow: BlobFlow) -> Result<Streamed, RegistryError> {
        let begin = "blobs/uploads/";
        let begun = self
            .write(Method::POST, begin, HeaderMap::new(), Bytes::new(), None)
            .await?;
        if begun.status != StatusCode::ACCEPTED {
            return Err(self.push_refusal(begun).await);
        }
        let location = self.location_of(&begun)?;
        drop(begun);
        let taken = Arc::clone(&flow.taken);
        let mut headers = HeaderMap::new();
        let kind = HeaderValue::from_static("application/octet-stream");
        headers.insert(CONTENT_TYPE, kind);
        let answer = self
            .send_once(Method::PATCH, location.clone(), headers, flow.body())
            .await?;
        if !answer.status.is_success() {
            return Err(self.push_refusal(answer).await);
        }
        let next = self.location_of(&answer).unwrap_or(location);
        Ok(Streamed {
            location: next,
            sent: taken.load(Ordering::Relaxed),
        })
    }

    /// Ends an upload: the bytes that were sent are this blob.
    ///
    /// # Errors
    /// When the registry cannot be reached, refuses, or has received something else.
    pub async fn finish_stream(
        &self,
        streamed: Streamed,
        blob: &Descriptor,
    ) -> Result<(), RegistryError> {
        if streamed.sent != blob.size {
            return Err(RegistryError::Short {
                what: "filesystem layer",
                digest: blob.digest.clone(),
                expected: blob.size,
                received: streamed.sent,
            });
        }
        self.close_upload(&streamed.location, blob, &bytes_source(Bytes::new()))
            .await
    }
}
