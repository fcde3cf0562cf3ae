//! An archive that a thread writes, as the body of an answer: no faster than the client takes it.

use std::io::{self, Write};

use bytes::{Bytes, BytesMut};
use engine::Outgoing;
use futures_util::{Stream, stream};
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};

use crate::body::BodyError;

/// Bytes of one piece.
const PIECE: usize = 128 << 10;
/// Pieces that wait for the client at most.
const QUEUE: usize = 4;
/// Archives on their way at once: each has a thread, which a slow client keeps for long.
static TRANSFERS: Semaphore = Semaphore::const_new(256);

/// Waits until one more archive may be on its way.
pub(crate) async fn permit() -> Option<SemaphorePermit<'static>> {
    // it is never closed
    TRANSFERS.acquire().await.ok()
}

/// Starts to write an archive.
pub(crate) async fn body(
    archive: Outgoing,
) -> impl Stream<Item = Result<Bytes, BodyError>> + Send + 'static {
    let permit = permit().await;
    let (sender, receiver) = mpsc::channel(QUEUE);
    let mut output = Pieces {
        sender,
        piece: BytesMut::new(),
    };
    let work = move || {
        let _permit = permit;
        let written = archive.write_to(&mut output).map_err(io::Error::other);
        if let Err(error) = written.and_then(|()| output.flush()) {
            tracing::debug!(%error, "an archive was not sent to its end");
            // the client has to see that the archive is not whole
            drop(
                output
                    .sender
                    .blocking_send(Err(BodyError::new(error.to_string()))),
            );
        }
    };
    let started = std::thread::Builder::new()
        .name("archive".to_owned())
        .spawn(work);
    if let Err(error) = started {
        tracing::error!(%error, "no thread can be started for an archive");
    }
    stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|piece| (piece, receiver))
    })
}

struct Pieces {
    sender: mpsc::Sender<Result<Bytes, BodyError>>,
    piece: BytesMut,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.piece.capacity() == 0 {
            self.piece.reserve(PIECE);
        }
        let count = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..count]);
        if self.piece.len() == PIECE {
            self.flush()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::take(&mut self.piece).freeze();
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.sender.blocking_send(Ok(piece)).map_err(gone)
    }
}
