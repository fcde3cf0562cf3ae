//! Connections that the engine handed over for raw bytes.

use super::error::ClientError;
use super::transport::Transport;
use bytes::{Buf, Bytes};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf, ReadHalf, WriteHalf};

/// A connection that carries raw bytes in both directions.
#[derive(Debug)]
pub struct Hijacked {
    content_type: Option<String>,
    reader: HijackedReader,
    writer: HijackedWriter,
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
        let (reader, writer) = tokio::io::split(parts.io.into_inner());
        Ok(Self {
            content_type,
            reader: HijackedReader {
                early: parts.read_buf,
                stream: reader,
            },
            writer: HijackedWriter { stream: writer },
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
        (self.reader, self.writer)
    }
}

impl AsyncRead for HijackedReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.early.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let length = self.early.len().min(buffer.remaining());
        buffer.put_slice(&self.early[..length]);
        self.early.advance(length);
        Poll::Ready(Ok(()))
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
