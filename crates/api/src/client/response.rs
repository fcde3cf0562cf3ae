//! Answers: whole, streamed, or line by line.

use super::connection::{Pool, Sender};
use super::error::ClientError;
use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// The most that is taken of an answer that is read whole.
const WHOLE: usize = 64 << 20;
/// The most that is taken of an error's body.
const MESSAGE: usize = 1 << 20;
/// The most that is taken of one line of a streamed answer.
const LINE: usize = 8 << 20;

/// An answer whose body is still to be read.
#[derive(Debug)]
pub struct Response {
    path: String,
    inner: hyper::Response<Incoming>,
    lease: Option<(Sender, Arc<Pool>)>,
}

impl Response {
    pub(super) fn new(
        path: String,
        inner: hyper::Response<Incoming>,
        sender: Sender,
        pool: Arc<Pool>,
    ) -> Self {
        Self {
            path,
            inner,
            lease: Some((sender, pool)),
        }
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.inner.status().as_u16()
    }

    /// A header as text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.inner.headers().get(name)?.to_str().ok()
    }

    /// The next chunk of the body, or nothing at its end.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, ClientError> {
        loop {
            match self.inner.body_mut().frame().await {
                None => {
                    if let Some((sender, pool)) = self.lease.take() {
                        pool.give_back(sender);
                    }
                    return Ok(None);
                }
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data()
                        && !data.is_empty()
                    {
                        return Ok(Some(data));
                    }
                }
                Some(Err(source)) => {
                    return Err(ClientError::Http {
                        method: "read".to_owned(),
                        path: self.path.clone(),
                        source,
                    });
                }
            }
        }
    }

    /// The whole body.
    ///
    /// # Errors
    /// When the connection breaks or the body is longer than 64 MiB.
    pub async fn bytes(self) -> Result<Bytes, ClientError> {
        self.collect(WHOLE).await
    }

    async fn collect(mut self, limit: usize) -> Result<Bytes, ClientError> {
        let mut whole = BytesMut::new();
        while let Some(chunk) = self.chunk().await? {
            if whole.len() + chunk.len() > limit {
                return Err(ClientError::TooLong {
                    path: self.path,
                    limit,
                });
            }
            whole.extend_from_slice(&chunk);
        }
        Ok(whole.freeze())
    }

    /// The whole body, decoded.
    ///
    /// # Errors
    /// When the connection breaks or the body is not such JSON.
    pub async fn json<T: DeserializeOwned>(self) -> Result<T, ClientError> {
        let path = self.path.clone();
        let bytes = self.bytes().await?;
        serde_json::from_slice(&bytes).map_err(|source| ClientError::Decode { path, source })
    }

    /// Reads the body to its end and drops it.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn finish(mut self) -> Result<(), ClientError> {
        while self.chunk().await?.is_some() {}
        Ok(())
    }

    /// The body as a sequence of JSON values, each on its own line.
    #[must_use]
    pub fn lines(self) -> Lines {
        Lines {
            response: self,
            buffer: BytesMut::new(),
            scanned: 0,
            ended: false,
        }
    }

    pub(super) async fn error_for_status(self) -> Result<Self, ClientError> {
        let status = self.inner.status();
        if status.as_u16() < 400 {
            return Ok(self);
        }
        let body = self.collect(MESSAGE).await?;
        Err(ClientError::Response {
            status: status.as_u16(),
            message: message(status, &body),
        })
    }
}

/// The engine's message, or what stands in for it.
fn message(status: StatusCode, body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Message {
        message: String,
    }
    if let Ok(Message { message }) = serde_json::from_slice(body) {
        return message.trim().to_owned();
    }
    let text = String::from_utf8_lossy(body);
    let text = text.trim();
    if text.is_empty() {
        format!("request returned {status}")
    } else {
        text.to_owned()
    }
}

/// The lines of a streamed answer.
#[derive(Debug)]
pub struct Lines {
    response: Response,
    buffer: BytesMut,
    scanned: usize,
    ended: bool,
}

impl Lines {
    /// The next line decoded, or nothing at the end of the answer.
    ///
    /// # Errors
    /// When the connection breaks or the line is not such JSON.
    pub async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ClientError> {
        loop {
            let Some(line) = self.line().await? else {
                return Ok(None);
            };
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            return serde_json::from_slice(&line)
                .map(Some)
                .map_err(|source| ClientError::Decode {
                    path: self.response.path.clone(),
                    source,
                });
        }
    }

    async fn line(&mut self) -> Result<Option<Bytes>, ClientError> {
        loop {
            if let Some(end) = self.buffer[self.scanned..]
                .iter()
                .position(|byte| *byte == b'\n')
            {
                let line = self.buffer.split_to(self.scanned + end).freeze();
                self.buffer.advance(1);
                self.scanned = 0;
                return Ok(Some(line));
            }
            self.scanned = self.buffer.len();
            if self.ended {
                self.scanned = 0;
                let rest = self.buffer.split().freeze();
                return Ok((!rest.is_empty()).then_some(rest));
            }
            match self.response.chunk().await? {
                Some(chunk) => self.buffer.extend_from_slice(&chunk),
                None => self.ended = true,
            }
            if self.buffer.len() > LINE {
                return Err(ClientError::TooLong {
                    path: self.response.path.clone(),
                    limit: LINE,
                });
            }
        }
    }
}

/// Whether API version `a` is lower than `b`.
pub(super) fn older(a: &str, b: &str) -> bool {
    let numbers = |text: &str| -> Vec<u32> {
        text.split('.')
            .map(|part| part.parse().unwrap_or(0))
            .collect()
    };
    numbers(a) < numbers(b)
}
