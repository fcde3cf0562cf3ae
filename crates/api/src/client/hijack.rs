//! Connections that the engine handed over for raw bytes.

use super::error::ClientError;
use super::transport::Transport;
use bytes::{Buf, Bytes};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, ReadHalf, WriteHalf};

/// A connection that carries raw bytes in both directions.
#[derive(Debug)]
pub struct Hijacked {
    content_type: Option<String>,
    early: Bytes,
    stream: Transport,
}

/// The engine's bytes.
#[derive(Debug)]
pub struct HijackedReader {
    early: Bytes,
    stream: ReadHalf<Transport>,
}

/// The bytes to the engine.
#[derive(Debug)]
pub struct HijackedWriter {
    stream: WriteHalf<Transport>,
}

impl Hijacked {
    pub(super) async fn take(
        path: String,
        answer: hyper::Response<Incoming>,
    ) -> Result<Self, ClientError> {
        let status = answer.status().as_u16();
        let content_type = answer
            .headers()
            .get(hyper::header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        let upgraded = hyper::upgrade::on(answer)
            .await
            .map_err(|source| ClientError::Http {
                method: "upgrade".to_owned(),
                path: path.clone(),
                source,
            })?;
        let parts = upgraded
            .downcast::<TokioIo<Transport>>()
            .map_err(|_foreign| ClientError::NoUpgrade { path, status })?;
        Ok(Self {
            content_type,
            early: parts.read_buf,
            stream: parts.io.into_inner(),
        })
    }

    /// Whether the engine says that output comes in frames of stdout and stderr, as it does since API 1.42.
    #[must_use]
    pub fn is_multiplexed(&self) -> Option<bool> {
        match self.content_type.as_deref()? {
            "application/vnd.docker.multiplexed-stream" => Some(true),
            "application/vnd.docker.raw-stream" => Some(false),
            _ => None,
        }
    }

    /// Takes the two directions apart.
    #[must_use]
    pub fn split(self) -> (HijackedReader, HijackedWriter) {
        let (reader, writer) = tokio::io::split(self.stream);
        let reader = HijackedReader {
            early: self.early,
            stream: reader,
        };
        (reader, HijackedWriter { stream: writer })
    }
}

/// Takes what fits of the bytes that came with the answer's head; `false` when there are none.
fn take_early(early: &mut Bytes, buffer: &mut ReadBuf<'_>) -> bool {
    let length = early.len().min(buffer.remaining());
    buffer.put_slice(&early[..length]);
    early.advance(length);
    length > 0
}

impl AsyncRead for Hijacked {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if take_early(&mut self.early, buffer) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Hijacked {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl AsyncRead for HijackedReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if take_early(&mut self.early, buffer) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl HijackedWriter {
    /// Sends all of `bytes`.
    ///
    /// # Errors
    /// When the engine closed the connection.
    pub async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Says that no more bytes come, while the engine's bytes go on.
    ///
    /// # Errors
    /// When the engine closed the connection.
    pub async fn close(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }
}
