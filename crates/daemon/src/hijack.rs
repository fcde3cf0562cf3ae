//! Streams of attach and exec: over the connection itself where the client asked for an upgrade,
//! and as a plain answer where it did not.

use std::io;

use api::stdcopy;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use engine::{Attachment, LogReader};
use futures_util::{Stream, StreamExt, stream};
use http::header::{CONNECTION, CONTENT_TYPE, UPGRADE};
use http::{HeaderMap, HeaderValue, StatusCode};
use hyper::ext::ReasonPhrase;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto::upgrade::downcast;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::body::{self, BodyError};
use crate::connection::{Connection, FromClient, ToClient};
use crate::detach::{DetachKeys, Scanned};
use crate::hang_up::HangUp;
use crate::routes::Closing;
use crate::version::ApiVersion;

/// Bytes that are read at once; a pipe of the kernel holds 64 KiB.
const BUFFER: usize = 32 << 10;

/// Raw bytes, or frames in the time before clients were told.
pub(crate) const RAW: HeaderValue = HeaderValue::from_static("application/vnd.docker.raw-stream");
/// Frames of stdout and stderr.
const MULTIPLEXED: HeaderValue =
    HeaderValue::from_static("application/vnd.docker.multiplexed-stream");

/// How a client asked for its streams.
#[derive(Debug)]
pub(crate) struct Ask {
    /// The connection, where the client asked for it and the protocol has it.
    pub(crate) upgrade: Option<(OnUpgrade, HeaderValue)>,
    /// What the client speaks.
    pub(crate) version: ApiVersion,
    /// Keys that detach.
    pub(crate) detach_keys: DetachKeys,
    /// What is done when they were typed.
    pub(crate) on_detach: OnDetach,
}

/// What is done when a client has detached.
pub(crate) struct OnDetach(Box<dyn FnOnce() + Send>);

impl OnDetach {
    pub(crate) fn new(work: impl FnOnce() + Send + 'static) -> Self {
        Self(Box::new(work))
    }

    pub(crate) fn call(self) {
        (self.0)();
    }
}

impl std::fmt::Debug for OnDetach {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("OnDetach")
    }
}

impl Ask {
    /// Takes the connection out of a request, if the client offers it.
    pub(crate) fn new(
        parts: &mut http::request::Parts,
        version: ApiVersion,
        detach_keys: DetachKeys,
        on_detach: OnDetach,
    ) -> Self {
        let protocol = wanted_protocol(&parts.headers);
        let upgrade = protocol.zip(parts.extensions.remove::<OnUpgrade>());
        Self {
            upgrade: upgrade.map(|(protocol, connection)| (connection, protocol)),
            version,
            detach_keys,
            on_detach,
        }
    }
}

fn wanted_protocol(headers: &HeaderMap) -> Option<HeaderValue> {
    let asked = headers.get_all(CONNECTION).iter().any(|value| {
        let text = value.to_str().unwrap_or_default();
        text.split(',')
            .any(|word| word.trim().eq_ignore_ascii_case("upgrade"))
    });
    headers.get(UPGRADE).filter(|_| asked).cloned()
}

/// Says what a stream holds; clients below 1.42 know one name for both.
pub(crate) fn content_type(tty: bool, version: ApiVersion) -> HeaderValue {
    if tty || version < ApiVersion::one(42) {
        RAW
    } else {
        MULTIPLEXED
    }
}

/// Connects a client with an attachment.
pub(crate) fn answer(ask: Ask, attachment: Attachment, closing: Closing) -> Response {
    let tty = attachment.tty;
    if ask.upgrade.is_none() {
        return body::stream(RAW, output(attachment, closing));
    }
    let ready = std::future::ready(Ok(Some(attachment)));
    answer_first(ask, tty, ready, closing)
}

/// Gives the client its connection, and attaches it afterwards.
///
/// A client that did not ask for its connection gets nothing here. What goes wrong is told in the
/// stream, as dockerd does for execs.
pub(crate) fn answer_first(
    ask: Ask,
    tty: bool,
    attaching: impl Future<Output = Result<Option<Attachment>, String>> + Send + 'static,
    closing: Closing,
) -> Response {
    let Some((connection, protocol)) = ask.upgrade else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let keys = tty.then_some((ask.detach_keys, ask.on_detach));
    tokio::spawn(async move {
        let result = match connection.await {
            Ok(upgraded) => pump(upgraded, attaching, tty, keys, closing).await,
            Err(error) => Err(io::Error::other(error)),
        };
        if let Err(error) = result {
            tracing::debug!(%error, "an attached client's connection broke");
        }
    });
    switching(protocol, tty, ask.version)
}

/// Makes the answer after which the connection is the stream.
pub(crate) fn switching(protocol: HeaderValue, tty: bool, version: ApiVersion) -> Response {
    let mut response = (
        StatusCode::SWITCHING_PROTOCOLS,
        [
            (CONTENT_TYPE, content_type(tty, version)),
            (CONNECTION, HeaderValue::from_static("Upgrade")),
            (UPGRADE, protocol),
        ],
    )
        .into_response();
    let reason = ReasonPhrase::from_static(b"UPGRADED");
    response.extensions_mut().insert(reason);
    response
}

/// Takes the connection back from HTTP, and what was read of it already.
pub(crate) fn take(upgraded: Upgraded) -> io::Result<(Connection, Bytes)> {
    let parts = downcast::<TokioIo<Connection>>(upgraded)
        .map_err(|_foreign| io::Error::other("the connection carries several requests"))?;
    Ok((parts.io.into_inner(), parts.read_buf))
}

/// Moves bytes both ways until the container's side ends, the client leaves or detaches.
async fn pump(
    upgraded: Upgraded,
    attaching: impl Future<Output = Result<Option<Attachment>, String>>,
    tty: bool,
    keys: Option<(DetachKeys, OnDetach)>,
    closing: Closing,
) -> io::Result<()> {
    let (client, early) = take(upgraded)?;
    let (keys, on_detach) = keys.unzip();
    let hang_up = HangUp::new(&client)?;
    let (from_client, mut to_client) = client.into_split();
    let work = async {
        let attachment = match attaching.await {
            Ok(attachment) => attachment,
            Err(message) => {
                head_read(&to_client).await;
                tell(&mut to_client, tty, &message).await?;
                return to_client.shutdown().await;
            }
        };
        let (past, io, settled) = attachment.map_or((None, None, None), |found| {
            (found.past, found.io, found.settled)
        });
        if let Some(past) = past {
            head_read(&to_client).await;
            replay(past, &mut to_client).await?;
        }
        let Some(container) = io else {
            return to_client.shutdown().await;
        };
        let (from_container, to_container) = container.into_split();
        let output = async {
            from_container.readable().await?;
            head_read(&to_client).await;
            copy(from_container, &mut to_client).await
        };
        tokio::select! {
            result = output => {
                result?;
                if let Some(settled) = settled {
                    settled.wait().await;
                }
            }
            () = feed(early, from_client, to_container, keys) => {
                if let Some(on_detach) = on_detach {
                    on_detach.call();
                }
            }
        }
        to_client.shutdown().await
    };
    tokio::select! {
        result = work => result,
        () = hang_up.wait() => Ok(()),
        () = closing.wait() => Ok(()),
    }
}

/// Waits until the client has read the head of the answer, but not for ever.
///
/// docker-py reads the head through a buffer and then goes on below the buffer: output that comes
/// in the same read as the head is lost to it. Dockerd is so slow that it never happens.
async fn head_read(to_client: &ToClient) {
    to_client.read_by_client().await;
}

/// Writes a message of the engine into the stream.
async fn tell(to_client: &mut ToClient, tty: bool, message: &str) -> io::Result<()> {
    to_client.write_all(&told(tty, message)).await
}

/// A message of the engine as a stream carries it.
fn told(tty: bool, message: &str) -> Vec<u8> {
    let text = format!("{message}\r\n");
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    let header = stdcopy::header(stdcopy::Stream::Stdout, length);
    let header = if tty { &[][..] } else { &header[..] };
    [header, text.as_bytes()].concat()
}

/// The answer that is a message of the engine alone, in a stream of the container's output.
pub(crate) fn message(tty: bool, message: &str) -> Response {
    let told = Ok::<_, BodyError>(Bytes::from(told(tty, message)));
    body::stream(RAW, stream::iter([told]))
}

async fn replay(mut past: LogReader, to_client: &mut ToClient) -> io::Result<()> {
    while let Some(chunk) = past.next().await.map_err(io::Error::other)? {
        to_client.write_all(&chunk).await?;
    }
    Ok(())
}

/// Passes bytes on as they are, to their end.
pub(crate) async fn copy(from: OwnedReadHalf, to: &mut ToClient) -> io::Result<()> {
    let mut from = BufReader::with_capacity(BUFFER, from);
    tokio::io::copy_buf(&mut from, to).await.map(drop)
}

/// Carries the client's input; returns only when the client has detached.
///
/// The end of the input is passed on, and the output goes on after it. An error on the
/// container's side is no reason to stop either: its last words are still to be read.
pub(crate) async fn feed(
    early: Bytes,
    mut from: FromClient,
    mut to: OwnedWriteHalf,
    mut keys: Option<DetachKeys>,
) {
    let mut buffer = Vec::from(early);
    loop {
        let (input, detached) = match &mut keys {
            None => (buffer.clone(), false),
            Some(keys) => match keys.scan(&buffer) {
                Scanned::On(input) => (input, false),
                Scanned::Detached(input) => (input, true),
            },
        };
        if to.write_all(&input).await.is_err() {
            break;
        }
        if detached {
            return;
        }
        buffer.clear();
        buffer.reserve(4 << 10);
        match from.read_buf(&mut buffer).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => break,
        }
    }
    // the container may have ended meanwhile
    drop(to.shutdown().await);
    std::future::pending::<()>().await;
}

/// The output as a body, for clients that did not ask for the connection; they have no input.
fn output(
    attachment: Attachment,
    closing: Closing,
) -> impl Stream<Item = Result<Bytes, BodyError>> {
    let past = stream::iter(attachment.past).flat_map(|reader| log(reader, Closing::never()));
    let live = stream::once(async move {
        let mut io = attachment.io?;
        // no input can come: let the process see its end
        drop(io.shutdown().await);
        Some(io)
    });
    past.chain(
        live.filter_map(std::future::ready)
            .flat_map(chunks)
            .take_until(async move { closing.wait().await }),
    )
}

fn chunks(io: UnixStream) -> impl Stream<Item = Result<Bytes, BodyError>> {
    stream::unfold(Some(io), |io| async move {
        let mut io = io?;
        let mut buffer = bytes::BytesMut::with_capacity(BUFFER);
        match io.read_buf(&mut buffer).await {
            Ok(0) => None,
            Ok(_) => Some((Ok(buffer.freeze()), Some(io))),
            Err(error) => Some((Err(BodyError::new(error.to_string())), None)),
        }
    })
}

/// A log as a body.
pub(crate) fn log(
    reader: LogReader,
    closing: Closing,
) -> impl Stream<Item = Result<Bytes, BodyError>> {
    stream::unfold(Some(reader), |reader| async move {
        let mut reader = reader?;
        match reader.next().await {
            Ok(None) => None,
            Ok(Some(chunk)) => Some((Ok(chunk), Some(reader))),
            Err(error) => Some((Err(BodyError::new(error.message())), None)),
        }
    })
    .take_until(async move { closing.wait().await })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks() {
        let check = |connection: &str, upgrade: Option<&str>, expect: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(CONNECTION, connection.parse().unwrap());
            if let Some(protocol) = upgrade {
                headers.insert(UPGRADE, protocol.parse().unwrap());
            }
            assert_eq!(wanted_protocol(&headers).is_some(), expect, "{connection}");
        };
        check("Upgrade", Some("tcp"), true);
        check("keep-alive, upgrade", Some("tcp"), true);
        check("keep-alive", Some("tcp"), false);
        check("Upgrade", None, false);
    }

    #[test]
    fn content_types() {
        assert_eq!(content_type(true, ApiVersion::one(51)), RAW);
        assert_eq!(content_type(false, ApiVersion::one(42)), MULTIPLEXED);
        assert_eq!(content_type(false, ApiVersion::one(41)), RAW);
    }

    #[tokio::test]
    async fn feeding_passes_the_end_on() {
        let (client, theirs) = UnixStream::pair().unwrap();
        let (container, mut process) = UnixStream::pair().unwrap();
        let (from_client, _to_client) = Connection::Unix(theirs).into_split();
        let (_from_container, to_container) = container.into_split();
        let early = Bytes::from("early ");
        let task = tokio::spawn(feed(early, from_client, to_container, None));
        let (_read, mut write) = client.into_split();
        write.write_all(b"late").await.unwrap();
        write.shutdown().await.unwrap();
        let mut text = String::new();
        process.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "early late");
        assert!(!task.is_finished());
        task.abort();
    }

    #[tokio::test]
    async fn detaching_ends_the_feed() {
        let (mut client, theirs) = UnixStream::pair().unwrap();
        let (container, mut process) = UnixStream::pair().unwrap();
        let (from_client, _to_client) = Connection::Unix(theirs).into_split();
        let (_from_container, to_container) = container.into_split();
        let keys = Some(DetachKeys::parse("").unwrap());
        client.write_all(b"ls\x10\x11no").await.unwrap();
        feed(Bytes::new(), from_client, to_container, keys).await;
        let mut text = [0; 2];
        process.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"ls");
    }
}
