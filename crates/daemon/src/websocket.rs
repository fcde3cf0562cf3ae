//! `GET /containers/{id}/attach/ws`: a container's streams over a WebSocket (RFC 6455), for pages
//! and programs that have no other way to a connection of their own.
//!
//! Standard output and error come as they are, in binary frames (text frames below API 1.28, as
//! with dockerd), without the headers of `attach`; whatever the client sends is input.

mod frame;
mod sha1;

use std::io;

use api::stdcopy::Decoder;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use engine::Attachment;
use http::header::{
    CONNECTION, HOST, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use hyper::upgrade::OnUpgrade;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use self::frame::{Head, Kind, Opcode};
use crate::detach::{DetachKeys, Scanned};
use crate::error::ApiError;
use crate::hang_up::HangUp;
use crate::hijack::{self, OnDetach};
use crate::routes::Closing;
use crate::version::ApiVersion;

/// What the key of a handshake is joined with (section 1.3).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The version of the protocol that RFC 6455 describes.
const VERSION: &str = "13";
/// A normal end (section 7.4.1).
const NORMAL: u16 = 1000;
/// The end after a breach of the protocol.
const BREACH: u16 = 1002;
/// Bytes that are read at once.
const BUFFER: usize = 32 << 10;

/// A client's offer of a WebSocket that can be taken.
#[derive(Debug)]
pub(crate) struct Offer {
    connection: OnUpgrade,
    accept: HeaderValue,
    protocol: Option<HeaderValue>,
    opcode: Opcode,
}

impl Offer {
    /// Checks a handshake (section 4.2.1).
    pub(crate) fn new(parts: &mut Parts, version: ApiVersion) -> Result<Self, ApiError> {
        let headers = &parts.headers;
        let no_websocket = || ApiError::invalid("not websocket protocol");
        let key = headers.get(SEC_WEBSOCKET_KEY).ok_or_else(no_websocket)?;
        if !(has_word(headers, UPGRADE, "websocket") && has_word(headers, CONNECTION, "upgrade")) {
            return Err(no_websocket());
        }
        if headers
            .get(SEC_WEBSOCKET_VERSION)
            .is_none_or(|v| v != VERSION)
        {
            let why = format!("the websocket's version must be {VERSION}");
            return Err(ApiError::new(StatusCode::UPGRADE_REQUIRED, why));
        }
        check_origin(headers)?;
        let protocol = headers.get(SEC_WEBSOCKET_PROTOCOL);
        let protocol = protocol.filter(|list| !list.as_bytes().contains(&b','));
        let (accept, protocol) = (accept_key(key.as_bytes()), protocol.cloned());
        let connection = parts.extensions.remove::<OnUpgrade>();
        Ok(Self {
            connection: connection.ok_or_else(no_websocket)?,
            accept,
            protocol,
            opcode: if version < ApiVersion::one(28) {
                Opcode::Text
            } else {
                Opcode::Binary
            },
        })
    }

    /// Answers the handshake, and carries the streams behind it.
    pub(crate) fn take(
        self,
        attachment: Attachment,
        keys: DetachKeys,
        on_detach: OnDetach,
        closing: Closing,
    ) -> Response {
        let Self {
            connection,
            accept,
            protocol,
            opcode,
        } = self;
        let client = Client {
            opcode,
            keys: attachment.tty.then_some(keys),
            on_detach,
        };
        tokio::spawn(async move {
            let result = serve(connection, attachment, client, closing).await;
            if let Err(error) = result {
                tracing::debug!(%error, "a client's websocket broke");
            }
        });
        let mut response = (
            StatusCode::SWITCHING_PROTOCOLS,
            [
                (UPGRADE, HeaderValue::from_static("websocket")),
                (CONNECTION, HeaderValue::from_static("Upgrade")),
                (SEC_WEBSOCKET_ACCEPT, accept),
            ],
        )
            .into_response();
        if let Some(protocol) = protocol {
            response
                .headers_mut()
                .insert(SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        response
    }
}

/// What a client wants of its WebSocket.
#[derive(Debug)]
struct Client {
    opcode: Opcode,
    keys: Option<DetachKeys>,
    on_detach: OnDetach,
}

/// Carries the streams until one side ends, the client is gone, or the daemon ends.
async fn serve(
    connection: OnUpgrade,
    attachment: Attachment,
    client: Client,
    closing: Closing,
) -> io::Result<()> {
    let upgraded = connection.await.map_err(io::Error::other)?;
    let (socket, early) = hijack::take(upgraded)?;
    let hang_up = HangUp::new(&socket)?;
    let (from, to) = socket.into_split();
    let from = io::Cursor::new(early).chain(from);
    tokio::select! {
        result = conduct(attachment, from, to, client) => result,
        () = hang_up.wait() => Ok(()),
        () = closing.wait() => Ok(()),
    }
}

fn has_word(headers: &HeaderMap, name: HeaderName, word: &str) -> bool {
    headers.get_all(name).iter().any(|value| {
        let text = value.to_str().unwrap_or_default();
        text.split(',')
            .any(|part| part.trim().eq_ignore_ascii_case(word))
    })
}

/// Keeps pages of other sites out: a browser lets any page open a WebSocket, and says whose it is.
fn check_origin(headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(origin) = headers.get(ORIGIN) else {
        return Ok(());
    };
    let origin = origin.to_str().unwrap_or_default();
    let site = origin.split_once("://").map_or("", |(_, site)| site);
    let name = site.rsplit_once(':').map_or(site, |(name, _)| name);
    let own = headers.get(HOST).and_then(|host| host.to_str().ok());
    if own == Some(site) || matches!(name, "localhost" | "127.0.0.1" | "[::1]") {
        return Ok(());
    }
    let why = format!("a page of {origin:?} may not attach to containers here");
    Err(ApiError::new(StatusCode::FORBIDDEN, why))
}

fn accept_key(key: &[u8]) -> HeaderValue {
    let digest = sha1::digest(&[key, GUID.as_bytes()].concat());
    let text = base64::engine::general_purpose::STANDARD.encode(digest);
    // base64 is ASCII
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// What the reader of a client tells its writer.
#[derive(Debug)]
enum Told {
    Pong(Vec<u8>),
    /// The client ends, or has broken the protocol, or has left by its detach keys.
    End(u16),
}

/// Carries the streams until one side ends.
async fn conduct(
    attachment: Attachment,
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    client: Client,
) -> io::Result<()> {
    let Client {
        opcode,
        keys,
        on_detach,
    } = client;
    let mut writer = Writer {
        opcode,
        decoder: (!attachment.tty).then(Decoder::default),
    };
    if let Some(mut past) = attachment.past {
        while let Some(chunk) = past.next().await.map_err(io::Error::other)? {
            writer.pass(&mut to, &chunk).await?;
        }
    }
    let Some(container) = attachment.io else {
        return close(&mut to, NORMAL).await;
    };
    let (mut from_container, to_container) = container.into_split();
    let (teller, mut told) = mpsc::channel(4);
    let reader = async move {
        let code = match receive(&mut from, to_container, keys, &teller).await {
            Ok(Left::Detached) => {
                on_detach.call();
                NORMAL
            }
            Ok(Left::Closed) => NORMAL,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => BREACH,
            // the connection broke: what is left to say is said to nobody
            Err(_) => NORMAL,
        };
        drop(teller.send(Told::End(code)).await);
        std::future::pending::<()>().await;
    };
    let output = async move {
        let mut buffer = vec![0; BUFFER];
        loop {
            tokio::select! {
                biased;
                message = told.recv() => match message {
                    Some(Told::Pong(payload)) => frame::write(&mut to, Opcode::Pong, &payload).await?,
                    Some(Told::End(code)) => return close(&mut to, code).await,
                    None => return Ok(()),
                },
                length = from_container.read(&mut buffer) => match length? {
                    0 => return close(&mut to, NORMAL).await,
                    length => writer.pass(&mut to, &buffer[..length]).await?,
                },
            }
        }
    };
    tokio::select! {
        result = output => result,
        () = reader => Ok(()),
    }
}

async fn close(to: &mut (impl AsyncWrite + Unpin), code: u16) -> io::Result<()> {
    frame::write(to, Opcode::Close, &code.to_be_bytes()).await?;
    to.shutdown().await
}

/// Writes output as frames.
#[derive(Debug)]
struct Writer {
    opcode: Opcode,
    /// Takes the headers of the two streams away, where there is no terminal.
    decoder: Option<Decoder>,
}

impl Writer {
    async fn pass(&mut self, to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
        let Some(decoder) = &mut self.decoder else {
            return frame::write(to, self.opcode, bytes).await;
        };
        let mut payload = Vec::with_capacity(bytes.len());
        decoder
            .feed(bytes, |_, piece| payload.extend_from_slice(piece))
            .map_err(io::Error::other)?;
        if payload.is_empty() {
            return Ok(());
        }
        frame::write(to, self.opcode, &payload).await
    }
}

/// How a client left.
#[derive(Debug, PartialEq, Eq)]
enum Left {
    Closed,
    Detached,
}

/// Passes a client's data on as input until the client leaves.
async fn receive(
    from: &mut (impl AsyncRead + Unpin),
    mut to: impl AsyncWrite + Unpin,
    mut keys: Option<DetachKeys>,
    teller: &mpsc::Sender<Told>,
) -> io::Result<Left> {
    while let Some(head) = frame::head(from).await? {
        match head.kind {
            Kind::Data => {
                if input(from, &mut to, head, &mut keys).await? == Left::Detached {
                    return Ok(Left::Detached);
                }
            }
            Kind::Ping => {
                let payload = frame::control(from, head).await?;
                drop(teller.send(Told::Pong(payload)).await);
            }
            Kind::Pong => drop(frame::control(from, head).await?),
            Kind::Close => {
                frame::control(from, head).await?;
                break;
            }
        }
    }
    // the container may have ended meanwhile
    drop(to.shutdown().await);
    Ok(Left::Closed)
}

/// Passes the payload of one frame on, in pieces.
async fn input(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    head: Head,
    keys: &mut Option<DetachKeys>,
) -> io::Result<Left> {
    const PIECE: usize = 4 << 10;
    let mut buffer = [0; PIECE];
    let mut done = 0;
    while done < head.length {
        let most = usize::try_from(head.length - done)
            .unwrap_or(PIECE)
            .min(PIECE);
        let length = from.read(&mut buffer[..most]).await?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let piece = &mut buffer[..length];
        frame::unmask(piece, head.mask, done);
        done += u64::try_from(length).unwrap_or(0);
        // an end of the container's input is no reason to end its output
        match keys.as_mut().map(|keys| keys.scan(piece)) {
            None => drop(to.write_all(piece).await),
            Some(Scanned::On(input)) => drop(to.write_all(&input).await),
            Some(Scanned::Detached(input)) => {
                drop(to.write_all(&input).await);
                return Ok(Left::Detached);
            }
        }
    }
    Ok(Left::Closed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_the_rfc() {
        let accept = accept_key(b"dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn origins() {
        let check = |host: &str, origin: &str, expect: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, host.parse().unwrap());
            headers.insert(ORIGIN, origin.parse().unwrap());
            assert_eq!(check_origin(&headers).is_ok(), expect, "{origin} to {host}");
        };
        check("engine:2375", "http://engine:2375", true);
        check("engine:2375", "http://localhost", true);
        check("engine:2375", "http://127.0.0.1:8080", true);
        check("engine:2375", "https://evil.example", false);
        check("engine:2375", "https://localhost.evil.example", false);
        check("engine:2375", "null", false);
        check_origin(&HeaderMap::new()).unwrap();
    }

    fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0x80 | opcode, 0x80 | u8::try_from(payload.len()).unwrap()];
        frame.extend([1, 2, 3, 4]);
        let mut payload = payload.to_vec();
        frame::unmask(&mut payload, [1, 2, 3, 4], 0);
        frame.extend(payload);
        frame
    }

    async fn receive_all(frames: Vec<u8>, keys: Option<DetachKeys>) -> (Left, Vec<u8>, usize) {
        let (teller, mut told) = mpsc::channel(4);
        let mut input = Vec::new();
        let left = receive(&mut &frames[..], &mut input, keys, &teller).await;
        drop(teller);
        let mut pongs = 0;
        while told.recv().await.is_some() {
            pongs += 1;
        }
        (left.unwrap(), input, pongs)
    }

    #[tokio::test]
    async fn data_is_input() {
        let frames = [
            masked(1, b"ab"),
            masked(9, b"ping"),
            masked(10, b""),
            masked(2, b"cd"),
            masked(8, b"\x03\xe8"),
            masked(2, b"late"),
        ]
        .concat();
        let found = receive_all(frames, None).await;
        assert_eq!(found, (Left::Closed, b"abcd".to_vec(), 1));
    }

    #[tokio::test]
    async fn keys_detach() {
        let frames = [masked(2, b"ls\x10"), masked(2, b"\x11more")].concat();
        let keys = DetachKeys::parse("").unwrap();
        let found = receive_all(frames, Some(keys)).await;
        assert_eq!(found, (Left::Detached, b"ls".to_vec(), 0));
    }

    #[tokio::test]
    async fn headers_of_streams_are_taken_away() {
        let mut writer = Writer {
            opcode: Opcode::Binary,
            decoder: Some(Decoder::default()),
        };
        let mut out = Vec::new();
        writer
            .pass(&mut out, b"\x01\0\0\0\0\0\0\x02a")
            .await
            .unwrap();
        writer
            .pass(&mut out, b"b\x02\0\0\0\0\0\0\x01c")
            .await
            .unwrap();
        assert_eq!(out, b"\x82\x01a\x82\x02bc");
    }
}
