//! Results that the client takes: files into a folder of its own, or one stream.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use bollard_buildkit_proto::fsutil::types::Packet;
use bollard_buildkit_proto::moby::filesync::packet::BytesMessage;
use bollard_buildkit_proto::moby::filesync::packet::file_send_client::FileSendClient;
use futures_util::{TryStreamExt, stream};
use http::uri::PathAndQuery;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{Ascii, AsciiMetadataKey, MetadataMap, MetadataValue};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use super::{Method, Session, SessionError, SessionResult};
use crate::fsutil;

/// Which exporter of the client's request the data is for.
const EXPORTER: &str = "buildkit-attachable-exporter-id";
/// Messages that wait for the client.
const QUEUE: usize = 16;
/// Bytes of one message; gRPC clients take 4 MiB at most unless told otherwise.
const MESSAGE: usize = 1 << 20;

/// A stream to the client.
#[derive(Debug)]
pub struct FileSender {
    sender: mpsc::Sender<BytesMessage>,
    answer: JoinHandle<Result<(), Status>>,
}

impl FileSender {
    /// Sends bytes, no faster than the client takes them.
    ///
    /// # Errors
    /// When the client wants no more.
    pub async fn write(&mut self, bytes: &[u8]) -> SessionResult<()> {
        for piece in bytes.chunks(MESSAGE) {
            let message = BytesMessage {
                data: piece.to_vec(),
            };
            if self.sender.send(message).await.is_err() {
                return Err(self.refusal().await);
            }
        }
        Ok(())
    }

    /// Why the client takes no more.
    async fn refusal(&mut self) -> SessionError {
        let status = match (&mut self.answer).await {
            Ok(Err(status)) => status,
            Ok(Ok(())) => Status::aborted("the client took no more"),
            Err(error) => Status::internal(error.to_string()),
        };
        SessionError::call(Method::SendFiles)(status)
    }

    /// Ends the stream, and waits until the client has it all.
    ///
    /// # Errors
    /// When the client could not keep it.
    pub async fn finish(self) -> SessionResult<()> {
        let Self { sender, answer } = self;
        drop(sender);
        let answer = answer.await;
        let answer = answer.unwrap_or_else(|error| Err(Status::internal(error.to_string())));
        answer.map_err(SessionError::call(Method::SendFiles))
    }
}

impl Session {
    /// Opens a stream to the client, for the exporter of this number in its request.
    ///
    /// `described` is what the exporter's answer says too, for clients choose the file by it.
    ///
    /// # Errors
    /// When the client takes no results or is gone.
    pub async fn send_file(
        &self,
        exporter: usize,
        described: &BTreeMap<String, String>,
    ) -> SessionResult<FileSender> {
        let method = self.offered(Method::SendFiles)?;
        let (sender, messages) = mpsc::channel(QUEUE);
        let mut call = Request::new(ReceiverStream::new(messages));
        head(call.metadata_mut(), exporter, described);
        let mut client = tonic::client::Grpc::new(self.channel());
        client
            .ready()
            .await
            .map_err(|source| SessionError::Connect {
                id: self.id().to_owned(),
                source,
            })?;
        let path = PathAndQuery::from_static(method.path());
        let answer = tokio::spawn(async move {
            // one method, two kinds of messages: this one carries bare bytes
            let codec = ProstCodec::<BytesMessage, BytesMessage>::default();
            let mut incoming = client.streaming(call, path, codec).await?.into_inner();
            while incoming.message().await?.is_some() {}
            Ok(())
        });
        Ok(FileSender { sender, answer })
    }

    /// Sends a folder's content to the client.
    ///
    /// `progress` is told how many bytes have gone so far.
    ///
    /// # Errors
    /// When the client takes no results, cannot keep them or is gone, and when the folder cannot be
    /// read.
    pub async fn send_dir(
        &self,
        exporter: usize,
        folder: OwnedFd,
        progress: impl Fn(u64) + Send + 'static,
    ) -> SessionResult<()> {
        self.offered(Method::SendFiles)?;
        let (sender, packets) = mpsc::channel::<Packet>(QUEUE);
        let mut call = Request::new(ReceiverStream::new(packets));
        head(call.metadata_mut(), exporter, &BTreeMap::new());
        let mut client = FileSendClient::new(self.channel());
        // the client says nothing, not even that it takes the call, before it has got something
        let opened = async move { client.diff_copy(call).await };
        let incoming = stream::once(opened).map_ok(Response::into_inner);
        let incoming = Box::pin(incoming.try_flatten());
        let sent = fsutil::send(incoming, sender, folder, progress).await;
        sent.map_err(|source| SessionError::Files {
            name: format!("exporter {exporter}"),
            source,
        })
    }
}

fn head(head: &mut MetadataMap, exporter: usize, described: &BTreeMap<String, String>) {
    head.insert(EXPORTER, MetadataValue::from(exporter));
    for (name, text) in described {
        let name = format!("exporter-md-{name}").parse::<AsciiMetadataKey>();
        let text = MetadataValue::<Ascii>::try_from(text.as_str());
        if let (Ok(name), Ok(text)) = (name, text) {
            head.insert(name, text);
        }
    }
}
