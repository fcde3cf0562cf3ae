//! Stores of blobs that a client has: image layouts that it offers, and places for caches and results.
//!
//! They are spoken with as containerd's content service. What comes is checked by its digest.

use std::collections::HashMap;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use http::uri::PathAndQuery;
use oci::Digest;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;

use super::sync::MAX_MESSAGE;
use super::{Method, Session, SessionError, SessionResult};
use crate::content_messages::{
    Action, InfoRequest, InfoResponse, PIECE, ReadRequest, ReadResponse, WriteRequest,
    WriteResponse,
};

/// Which of the client's stores is meant.
const STORE: &str = "buildkit-attachable-store-id";

fn head(head: &mut MetadataMap, store: &str) {
    if let Ok(store) = MetadataValue::<Ascii>::try_from(store) {
        head.insert(STORE, store);
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl Session {
    async fn grpc(
        &self,
        method: Method,
    ) -> SessionResult<tonic::client::Grpc<tonic::transport::Channel>> {
        self.offered(method)?;
        let client = tonic::client::Grpc::new(self.channel());
        let mut client = client.max_decoding_message_size(MAX_MESSAGE);
        client
            .ready()
            .await
            .map_err(|source| SessionError::Connect {
                id: self.id().to_owned(),
                source,
            })?;
        Ok(client)
    }

    /// How long a blob of a store is; nothing where the store does not have it.
    ///
    /// # Errors
    /// When the client has no such store or is gone.
    pub async fn blob_size(&self, store: &str, digest: &Digest) -> SessionResult<Option<u64>> {
        let method = Method::ContentInfo;
        let mut client = self.grpc(method).await?;
        let mut call = Request::new(InfoRequest {
            digest: digest.to_string(),
        });
        head(call.metadata_mut(), store);
        let path = PathAndQuery::from_static(method.path());
        let codec = ProstCodec::<InfoRequest, InfoResponse>::default();
        match client.unary(call, path, codec).await {
            Ok(answer) => {
                let size = answer.into_inner().info.map_or(0, |info| info.size);
                Ok(Some(u64::try_from(size).unwrap_or(0)))
            }
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(SessionError::call(method)(status)),
        }
    }

    /// Reads a blob of a store; it is not checked yet, and may be longer than it should.
    ///
    /// # Errors
    /// When the client has no such store or blob, or is gone.
    pub async fn read_blob(
        &self,
        store: &str,
        digest: &Digest,
    ) -> SessionResult<impl Stream<Item = SessionResult<Bytes>> + Send + use<>> {
        let method = Method::ContentRead;
        let mut client = self.grpc(method).await?;
        let mut call = Request::new(ReadRequest {
            digest: digest.to_string(),
            offset: 0,
            size: 0,
        });
        head(call.metadata_mut(), store);
        let path = PathAndQuery::from_static(method.path());
        let codec = ProstCodec::<ReadRequest, ReadResponse>::default();
        let answer = client.server_streaming(call, path, codec).await;
        let stream: Streaming<ReadResponse> =
            answer.map_err(SessionError::call(method))?.into_inner();
        Ok(stream.map(move |message| match message {
            Ok(message) => Ok(message.data),
            Err(status) => Err(SessionError::call(method)(status)),
        }))
    }

    /// Reads a blob of a store that has no more than `max` bytes.
    ///
    /// # Errors
    /// When it is longer or not what its digest says, or the client has none or is gone.
    pub async fn small_blob(
        &self,
        store: &str,
        digest: &Digest,
        max: usize,
    ) -> SessionResult<Bytes> {
        let method = Method::ContentRead;
        let mut stream = std::pin::pin!(self.read_blob(store, digest).await?);
        let mut all = Vec::new();
        while let Some(piece) = stream.next().await {
            all.extend_from_slice(&piece?);
            if all.len() > max {
                return Err(SessionError::TooLarge { method, limit: max });
            }
        }
        if storage::digest_of(&all) != *digest {
            let wrong = Status::data_loss(format!("the content is not that of {digest}"));
            return Err(SessionError::call(method)(wrong));
        }
        Ok(all.into())
    }

    /// Begins to put a blob into a store; nothing where the store has it already.
    ///
    /// # Errors
    /// When the client has no such store, takes no blobs, or is gone.
    pub async fn write_blob(
        &self,
        store: &str,
        digest: &Digest,
        size: u64,
    ) -> SessionResult<Option<BlobSender>> {
        let method = Method::ContentWrite;
        let mut client = self.grpc(method).await?;
        let (sender, messages) = mpsc::channel(2);
        let name = format!("gorae-{}", crate::id::new());
        let first = WriteRequest {
            action: Action::Stat.into(),
            reference: name.clone(),
            total: signed(size),
            expected: digest.to_string(),
            ..WriteRequest::default()
        };
        // the client says nothing before it has got something
        sender.send(first).await.ok();
        let mut call = Request::new(ReceiverStream::new(messages));
        head(call.metadata_mut(), store);
        let path = PathAndQuery::from_static(method.path());
        let codec = ProstCodec::<WriteRequest, WriteResponse>::default();
        let answers = match client.streaming(call, path, codec).await {
            Err(status) if status.code() == Code::AlreadyExists => return Ok(None),
            answer => answer.map_err(SessionError::call(method))?.into_inner(),
        };
        let mut blob = BlobSender {
            sender,
            answers,
            name,
            digest: digest.clone(),
            total: size,
            sent: 0,
        };
        match blob.answer().await {
            Ok(0) => Ok(Some(blob)),
            Ok(offset) => {
                let why = format!("{digest} begins at {offset} in the client's store");
                Err(SessionError::call(method)(Status::internal(why)))
            }
            Err(status) if status.code() == Code::AlreadyExists => Ok(None),
            Err(status) => Err(SessionError::call(method)(status)),
        }
    }
}

/// A blob on its way into a store of the client's.
#[derive(Debug)]
pub struct BlobSender {
    sender: mpsc::Sender<WriteRequest>,
    answers: Streaming<WriteResponse>,
    name: String,
    digest: Digest,
    total: u64,
    sent: u64,
}

impl BlobSender {
    async fn answer(&mut self) -> Result<i64, Status> {
        match self.answers.message().await? {
            Some(answer) => Ok(answer.offset),
            None => Err(Status::aborted("the client took no more")),
        }
    }

    async fn send(&mut self, action: Action, data: Bytes) -> Result<i64, Status> {
        let length = data.len() as u64;
        let message = WriteRequest {
            action: action.into(),
            reference: self.name.clone(),
            total: signed(self.total),
            expected: self.digest.to_string(),
            offset: signed(self.sent),
            data,
            labels: HashMap::new(),
        };
        // why it is not taken is told by the answer
        self.sender.send(message).await.ok();
        self.sent += length;
        self.answer().await
    }

    /// Sends bytes, no faster than the client takes them.
    ///
    /// # Errors
    /// When the client wants no more.
    pub async fn write(&mut self, mut data: Bytes) -> SessionResult<()> {
        while !data.is_empty() {
            let piece = data.split_to(data.len().min(PIECE));
            let sent = self.send(Action::Write, piece).await;
            sent.map_err(SessionError::call(Method::ContentWrite))?;
        }
        Ok(())
    }

    /// Ends the blob, and waits until the client has it.
    ///
    /// # Errors
    /// When the client could not keep it.
    pub async fn finish(mut self) -> SessionResult<()> {
        match self.send(Action::Commit, Bytes::new()).await {
            Ok(_) => Ok(()),
            Err(status) if status.code() == Code::AlreadyExists => Ok(()),
            Err(status) => Err(SessionError::call(Method::ContentWrite)(status)),
        }
    }
}
