//! Bodies: JSON answers, streams, and a request's body as a reader.

use std::io;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::{Buf, Bytes};
use futures_util::Stream;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use http_body_util::BodyExt;
use serde::Serialize;
use tokio::sync::mpsc;

/// Content type of JSON.
pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Makes a JSON answer, with a line feed at its end as Go's encoder has it.
pub(crate) fn json<T: Serialize>(status: StatusCode, value: &T) -> Response {
    match serde_json::to_vec(value) {
        Ok(mut text) => {
            text.push(b'\n');
            (status, [(CONTENT_TYPE, JSON)], text).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "an answer cannot be written as JSON");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Makes an answer without a body.
pub(crate) fn empty(status: StatusCode) -> Response {
    status.into_response()
}

/// Makes an answer whose body is a stream; its head goes out at once.
pub(crate) fn stream(
    content_type: HeaderValue,
    chunks: impl Stream<Item = Result<Bytes, BodyError>> + Send + 'static,
) -> Response {
    ([(CONTENT_TYPE, content_type)], Body::from_stream(chunks)).into_response()
}

/// A stream that broke; the client sees the connection end too early.
#[derive(Debug)]
pub(crate) struct BodyError(String);

impl BodyError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl std::fmt::Display for BodyError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for BodyError {}

/// Chunks of a request's body between the connection and the thread that reads them.
const CHUNKS: usize = 16;

/// A request's body for code that reads and blocks.
#[derive(Debug)]
pub(crate) struct BodyReader {
    chunks: mpsc::Receiver<io::Result<Bytes>>,
    chunk: Bytes,
}

impl BodyReader {
    /// Makes the reader; the future feeds it and has to be polled while the body is read.
    pub(crate) fn new(mut body: Body) -> (Self, impl Future<Output = ()> + Send) {
        let (reader, sender) = Self::channel();
        let feed = async move {
            feed(&mut body, &sender).await;
        };
        (reader, feed)
    }

    /// Makes the reader and feeds it by a task of its own.
    ///
    /// What comes when nobody reads any more is read and dropped: a client that is still sending
    /// would else lose its connection, and with it the answer that says why.
    pub(crate) fn fed(mut body: Body) -> Self {
        let (reader, sender) = Self::channel();
        tokio::spawn(async move {
            feed(&mut body, &sender).await;
            while let Some(Ok(_)) = body.frame().await {}
        });
        reader
    }

    fn channel() -> (Self, mpsc::Sender<io::Result<Bytes>>) {
        let (sender, chunks) = mpsc::channel(CHUNKS);
        let chunk = Bytes::new();
        (Self { chunks, chunk }, sender)
    }
}

/// Gives a body to its reader; a reader that wants no more is no error.
async fn feed(body: &mut Body, sender: &mpsc::Sender<io::Result<Bytes>>) {
    while let Some(frame) = body.frame().await {
        let chunk = match frame {
            Ok(frame) => Ok(frame.into_data().unwrap_or_default()),
            Err(error) => Err(io::Error::other(error)),
        };
        if sender.send(chunk).await.is_err() {
            return;
        }
    }
}

impl io::Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.chunks.blocking_recv() {
                Some(chunk) => self.chunk = chunk?,
                None => return Ok(0),
            }
        }
        let length = self.chunk.len().min(buffer.len());
        self.chunk.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    async fn read(chunks: Vec<Result<&'static str, BodyError>>) -> io::Result<String> {
        let chunks = chunks.into_iter().map(|chunk| chunk.map(Bytes::from));
        let body = Body::from_stream(futures_util::stream::iter(chunks));
        let (mut reader, feed) = BodyReader::new(body);
        let thread = tokio::task::spawn_blocking(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).map(|_| text)
        });
        feed.await;
        thread.await.unwrap()
    }

    #[tokio::test]
    async fn reads_a_body() {
        assert_eq!(
            read(vec![Ok("ab"), Ok(""), Ok("cde")]).await.unwrap(),
            "abcde"
        );
        assert_eq!(read(vec![]).await.unwrap(), "");
        assert!(
            read(vec![Ok("ab"), Err(BodyError::new("gone"))])
                .await
                .is_err()
        );
    }
}
