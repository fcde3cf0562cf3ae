//! Results that are one stream: written by a thread, sent to the client as fast as it takes them.

use std::collections::BTreeMap;
use std::io::{self, Write};

use tokio::sync::mpsc;

use super::Export;
use super::layers::blocking;
use crate::error::{Error, Result, Step};

/// Bytes of a piece, and pieces that wait for the client.
const PIECE: usize = 256 << 10;
const PIECES: usize = 8;

/// The writing end of a stream.
struct Pieces(mpsc::Sender<Vec<u8>>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.0.blocking_send(bytes.to_vec()).map_err(gone)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Sends the client what `write` writes.
pub(super) async fn send(
    export: &Export<'_>,
    described: &BTreeMap<String, String>,
    write: impl FnOnce(&mut dyn Write) -> Result<()> + Send + 'static,
) -> Result<()> {
    let step = || "send the result to the client";
    let client = export.client().await?;
    let number = export.request.number;
    let mut sender = client.send_file(number, described).await.step(step)?;
    let mut part = export.progress.part("sending tarball");
    let (pieces, mut coming) = mpsc::channel(PIECES);
    let written = blocking(move || {
        let mut output = io::BufWriter::with_capacity(PIECE, Pieces(pieces));
        write(&mut output)?;
        output.flush().step(|| "write the result")
    });
    let sending = async {
        let mut sent = 0_u64;
        while let Some(piece) = coming.recv().await {
            if let Err(error) = sender.write(&piece).await {
                // the thread that writes has to see that nobody takes it
                drop(coming);
                return Err(Error::system(step(), &error));
            }
            sent += piece.len() as u64;
            part.update(sent, 0);
        }
        Ok(sender)
    };
    let (written, sent) = tokio::join!(written, sending);
    let sender = sent?;
    written?;
    sender.finish().await.step(step)
}
