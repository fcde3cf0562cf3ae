//! A session inside a call: its bytes in messages, both ways.

use std::pin::Pin;
use std::sync::Arc;

use bollard_buildkit_proto::moby::buildkit::v1::BytesMessage;
use futures_util::{Stream, stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tonic::metadata::MetadataMap;
use tonic::{Status, Streaming};

use crate::session::{Head, Opened, Sessions};

/// Bytes on their way in one direction.
const BUFFER: usize = 256 << 10;
/// Bytes of one message.
const PIECE: usize = 32 << 10;

/// The messages of a session to its client.
pub(super) type Messages = Pin<Box<dyn Stream<Item = Result<BytesMessage, Status>> + Send>>;

/// Opens the session that a call carries; it ends with the call.
pub(super) async fn open(
    sessions: &Arc<Sessions>,
    head: MetadataMap,
    incoming: Streaming<BytesMessage>,
) -> Result<Messages, Status> {
    let head = Head::of_headers(&head.into_headers());
    let (ours, theirs) = tokio::io::duplex(BUFFER);
    let (from, to) = tokio::io::split(theirs);
    // the client greets only after it has the head of the answer, and opening waits for no greeting
    tokio::spawn(take(incoming, to));
    let opened = sessions.open(head, ours).await;
    let opened = opened.map_err(|error| Status::unknown(error.to_string()))?;
    Ok(Box::pin(stream::unfold(
        (from, opened),
        |(mut from, opened)| async move {
            let message = give(&mut from, &opened).await?;
            Some((Ok(message), (from, opened)))
        },
    )))
}

/// Passes the client's bytes on; its end ends the session.
async fn take(mut incoming: Streaming<BytesMessage>, mut to: WriteHalf<DuplexStream>) {
    while let Ok(Some(message)) = incoming.message().await {
        if to.write_all(&message.data).await.is_err() {
            return;
        }
    }
    drop(to.shutdown().await);
}

async fn give(from: &mut ReadHalf<DuplexStream>, opened: &Opened) -> Option<BytesMessage> {
    let mut data = Vec::with_capacity(PIECE);
    tokio::select! {
        read = from.read_buf(&mut data) => match read {
            Ok(1..) => Some(BytesMessage { data }),
            Ok(0) | Err(_) => None,
        },
        () = opened.session().closed() => None,
    }
}
