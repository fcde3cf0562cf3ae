//! `POST /gorae/run`: create, attach, start and wait in one round trip, for our own client.
//!
//! Parameters are those of create and attach, and `detach`. With `detach` the answer is that of
//! create. Without, the client asks for the connection, and gets frames as of attach, terminal or
//! not, with frames of stream 4 between them, whose payloads are JSON: the answer of create first,
//! and that of wait last. Whatever fails before the container runs is a plain error.

use std::io;
use std::sync::Arc;

use api::container::CreateRequest;
use api::query::{Attach, ContainerCreate, Query};
use api::stdcopy::{self, Stream};
use axum::extract::{FromRequest, Request, State};
use axum::routing::post;
use axum::{Extension, Router};
use engine::Run;
use http::StatusCode;
use hyper::upgrade::Upgraded;
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::OwnedReadHalf;

use super::{Closing, Shared, to_the_end};
use crate::body::json;
use crate::connection::ToClient;
use crate::detach::DetachKeys;
use crate::error::{ApiError, Reply};
use crate::hang_up::HangUp;
use crate::hijack::{self, Ask, OnDetach};
use crate::request::SomeJson;
use crate::version::ApiVersion;

/// The stream number of frames that carry JSON.
const CONTROL: u8 = 4;
/// Bytes of a terminal's output in one frame.
const FRAME: usize = 32 << 10;

pub(super) fn routes() -> Router<Shared> {
    Router::new().route("/gorae/run", post(run))
}

async fn run(
    State(shared): State<Shared>,
    Extension(version): Extension<ApiVersion>,
    request: Request,
) -> Reply {
    let (mut parts, body) = request.into_parts();
    let query = Query::parse(parts.uri.query().unwrap_or_default())?;
    let detach = query.bool("detach");
    let nobody = OnDetach::new(|| {});
    let ask = Ask::new(&mut parts, version, DetachKeys::parse("")?, nobody);
    if !detach && ask.upgrade.is_none() {
        return Err(ApiError::invalid("no upgrade proto in request"));
    }
    let request = Request::from_parts(parts, body);
    let SomeJson(wanted) = SomeJson::<CreateRequest>::from_request(request, &()).await?;
    let mut streams = Attach::from_query(&query);
    streams.stream = !detach && (streams.stdin || streams.stdout || streams.stderr);
    let ContainerCreate { name, platform } = ContainerCreate::from_query(&query);
    let engine = Arc::clone(&shared.engine);
    let stdin = streams.stdin;
    let running = to_the_end(async move {
        let (name, platform) = (super::given(&name), super::given(&platform));
        engine.container_run(name, platform, wanted, &streams).await
    })
    .await?;
    let Some((connection, protocol)) = ask.upgrade.filter(|_| !detach) else {
        return Ok(json(StatusCode::CREATED, &running.created));
    };
    let closing = shared.closing;
    tokio::spawn(async move {
        let result = match connection.await {
            Ok(upgraded) => conduct(upgraded, running, stdin, closing).await,
            Err(error) => Err(io::Error::other(error)),
        };
        if let Err(error) = result {
            tracing::debug!(%error, "the connection of a client's run broke");
        }
    });
    Ok(hijack::switching(protocol, false, version))
}

/// Carries the streams until the container has ended or the client has left.
async fn conduct(
    upgraded: Upgraded,
    running: Run,
    stdin: bool,
    closing: Closing,
) -> io::Result<()> {
    let (client, early) = hijack::take(upgraded)?;
    let hang_up = HangUp::new(&client)?;
    let (from_client, mut to_client) = client.into_split();
    let Run {
        created,
        attachment,
        waiter,
    } = running;
    let work = async {
        send_control(&mut to_client, &created).await?;
        let tty = attachment.as_ref().is_some_and(|attachment| attachment.tty);
        if let Some(container) = attachment.and_then(|attachment| attachment.io) {
            let (from_container, to_container) = container.into_split();
            let input = async {
                // held open where it is not attached: its end would tell the shim to leave
                if !stdin {
                    std::future::pending::<()>().await;
                }
                hijack::feed(early, from_client, to_container, None).await;
            };
            tokio::select! {
                result = output(from_container, &mut to_client, tty) => result?,
                () = input => {}
            }
        }
        send_control(&mut to_client, &waiter.wait().await).await?;
        to_client.shutdown().await
    };
    tokio::select! {
        result = work => result,
        () = hang_up.wait() => Ok(()),
        () = closing.wait() => Ok(()),
    }
}

async fn send_control<T: Serialize>(to: &mut ToClient, message: &T) -> io::Result<()> {
    let text = serde_json::to_vec(message)?;
    let length = u32::try_from(text.len()).map_err(io::Error::other)?;
    let mut frame = stdcopy::header(Stream::Stdin, length).to_vec();
    frame[0] = CONTROL;
    frame.extend_from_slice(&text);
    to.write_all(&frame).await
}

/// Passes frames on as they are, and puts a terminal's bytes into frames.
async fn output(mut from: OwnedReadHalf, to: &mut ToClient, tty: bool) -> io::Result<()> {
    if !tty {
        return hijack::copy(from, to).await;
    }
    let mut buffer = vec![0; stdcopy::HEADER + FRAME];
    loop {
        let length = from.read(&mut buffer[stdcopy::HEADER..]).await?;
        if length == 0 {
            return Ok(());
        }
        let header = stdcopy::header(
            Stream::Stdout,
            u32::try_from(length).map_err(io::Error::other)?,
        );
        buffer[..stdcopy::HEADER].copy_from_slice(&header);
        to.write_all(&buffer[..stdcopy::HEADER + length]).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::Connection;
    use api::container::CreateResponse;
    use tokio::net::UnixStream;

    #[tokio::test]
    async fn frames() {
        let (client, mut sees) = UnixStream::pair().unwrap();
        let (container, mut says) = UnixStream::pair().unwrap();
        let (_from_client, mut to_client) = Connection::Unix(client).into_split();
        let (from_container, _to_container) = container.into_split();
        let response = CreateResponse {
            id: "x".into(),
            ..CreateResponse::default()
        };
        send_control(&mut to_client, &response).await.unwrap();
        says.write_all(b"hi").await.unwrap();
        drop(says);
        output(from_container, &mut to_client, true).await.unwrap();
        to_client.shutdown().await.unwrap();
        let mut bytes = Vec::new();
        sees.read_to_end(&mut bytes).await.unwrap();
        let json = br#"{"Id":"x","Warnings":[]}"#;
        let mut expect = vec![4, 0, 0, 0, 0, 0, 0, 24];
        expect.extend_from_slice(json);
        expect.extend_from_slice(b"\x01\0\0\0\0\0\0\x02hi");
        assert_eq!(bytes, expect);
    }
}
