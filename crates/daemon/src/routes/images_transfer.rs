//! Images on their way: pull, push, import, load and save, and the progress that is told meanwhile.

use std::io::{self, Write};

use api::image::Progress;
use api::query::ImageCreate;
use api::registry::AuthConfig;
use axum::body::Body;
use axum::extract::{Request, State};
use bytes::Bytes;
use engine::{ImageArchive, ImportRequest, ImportSource, LoadRequest, ProgressSender, PushRequest};
use futures_util::{Stream, StreamExt, stream};
use http::{HeaderMap, HeaderValue, StatusCode};
use oci::Platform;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::images::{credentials, platform};
use super::{Closing, Shared};
use crate::body::{self, BodyError, BodyReader, JSON, empty};
use crate::error::Reply;
use crate::request::Params;

/// Messages that may wait for a slow client.
const MESSAGES: usize = 64;
/// Pieces of an archive that may wait for a slow client, and their length.
const PIECES: usize = 4;
const PIECE: usize = 256 * 1024;
const TAR: HeaderValue = HeaderValue::from_static("application/x-tar");

pub(super) async fn create(
    State(shared): State<Shared>,
    headers: HeaderMap,
    Params(query): Params,
    request: Request,
) -> Reply {
    let wanted = ImageCreate::from_query(&query);
    if wanted.from_image.is_empty() {
        return import(shared, wanted, request.into_body()).await;
    }
    pull(shared, wanted, credentials(&headers)).await
}

/// Joins a name with the tag or digest that stands beside it.
fn reference(name: &str, tag: &str) -> String {
    match tag {
        "" => name.to_owned(),
        digest if digest.contains(':') => format!("{name}@{digest}"),
        tag => format!("{name}:{tag}"),
    }
}

/// Pulls; a client that leaves cancels it.
async fn pull(shared: Shared, wanted: ImageCreate, auth: Option<AuthConfig>) -> Reply {
    let reference = reference(&wanted.from_image, &wanted.tag);
    let engine = shared.engine;
    told(shared.closing, Before::HasStatus, async move |sender| {
        let platform = Some(wanted.platform.as_str()).filter(|text| !text.is_empty());
        engine
            .image_pull(&reference, platform, auth.as_ref(), &sender)
            .await
    })
    .await
}

/// Pushes; a client that leaves cancels it.
pub(super) async fn push(shared: Shared, request: PushRequest, auth: Option<AuthConfig>) -> Reply {
    let engine = shared.engine;
    engine.image_push_check(&request)?;
    told(shared.closing, Before::HasStatus, async move |sender| {
        engine.image_push(&request, auth.as_ref(), &sender).await
    })
    .await
}

async fn import(shared: Shared, wanted: ImageCreate, body: Body) -> Reply {
    let request = ImportRequest {
        repository: wanted.repo,
        tag: wanted.tag,
        message: wanted.message,
        changes: wanted.changes,
        platform: wanted.platform,
    };
    let source = match wanted.from_src.as_str() {
        "" => {
            return Err(crate::error::ApiError::invalid(
                "fromImage or fromSrc is required",
            ));
        }
        "-" => ImportSource::Reader(Box::new(BodyReader::fed(body))),
        _ => ImportSource::Address(wanted.from_src),
    };
    let engine = shared.engine;
    told(shared.closing, Before::HasStatus, async move |sender| {
        let id = engine.image_import(request, source, Some(&sender)).await?;
        // nobody to tell: the image is there all the same
        drop(sender.send(Progress::status(id.to_string())).await);
        Ok(())
    })
    .await
}

/// Loads an archive. Docker tells even the first error in the stream.
pub(super) async fn load(
    State(shared): State<Shared>,
    Params(query): Params,
    request: Request,
) -> Reply {
    let wanted = LoadRequest {
        platform: platform(&query)?,
        quiet: query.bool("quiet"),
    };
    let source = BodyReader::fed(request.into_body());
    let engine = shared.engine;
    told(shared.closing, Before::IsTold, async move |sender| {
        engine.image_load(&wanted, source, &sender).await
    })
    .await
}

pub(super) async fn save(State(shared): State<Shared>, Params(query): Params) -> Reply {
    let platform = platform(&query)?;
    archive(shared, query.all("names"), platform).await
}

pub(super) async fn save_one(shared: Shared, name: &str, platform: Option<Platform>) -> Reply {
    archive(shared, &[name.to_owned()], platform).await
}

async fn archive(shared: Shared, names: &[String], platform: Option<Platform>) -> Reply {
    let archive = shared.engine.image_save(names, platform.as_ref()).await?;
    let (sender, pieces) = mpsc::channel(PIECES);
    tokio::task::spawn_blocking(move || write(&archive, &sender));
    let closing = shared.closing;
    let pieces = ReceiverStream::new(pieces).take_until(async move { closing.wait().await });
    Ok(body::stream(TAR, pieces))
}

/// Writes an archive to a client; an error breaks the connection off.
fn write(archive: &ImageArchive, sender: &mpsc::Sender<Result<Bytes, BodyError>>) {
    let pieces = io::BufWriter::with_capacity(PIECE, Pieces(sender.clone()));
    match archive.write(pieces) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            tracing::debug!("a client has left before the end of an archive");
        }
        Err(error) => {
            tracing::error!(%error, "an archive of images cannot be written");
            let text = format!("write the archive: {error}");
            drop(sender.blocking_send(Err(BodyError::new(text))));
        }
    }
}

/// The pieces of a body as a writer.
struct Pieces(mpsc::Sender<Result<Bytes, BodyError>>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = Ok(Bytes::copy_from_slice(bytes));
        match self.0.blocking_send(piece) {
            Ok(()) => Ok(bytes.len()),
            Err(_) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

type Task = tokio::task::JoinHandle<engine::Result<()>>;

/// Where an error in front of the first message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// Into the answer's status.
    HasStatus,
    /// Into the stream, behind the status 200.
    IsTold,
}

/// Starts work and answers with what it tells.
pub(super) async fn told<F>(
    closing: Closing,
    before: Before,
    work: impl FnOnce(ProgressSender) -> F,
) -> Reply
where
    F: Future<Output = engine::Result<()>> + Send + 'static,
{
    let (sender, mut receiver) = mpsc::channel(MESSAGES);
    let task = tokio::spawn(work(sender));
    let Some(first) = receiver.recv().await else {
        return match ended(task).await {
            Ok(()) => Ok(empty(StatusCode::OK)),
            Err(error) if before == Before::HasStatus => Err(error.into()),
            Err(error) => {
                let text = line(&Progress::failed(error.message()));
                Ok(body::stream(JSON, stream::once(std::future::ready(text))))
            }
        };
    };
    Ok(body::stream(
        JSON,
        messages(&first, receiver, task).take_until(async move { closing.wait().await }),
    ))
}

async fn ended(task: Task) -> engine::Result<()> {
    task.await
        .unwrap_or_else(|error| Err(engine::Error::internal(format!("the work failed: {error}"))))
}

fn messages(
    first: &Progress,
    receiver: mpsc::Receiver<Progress>,
    task: Task,
) -> impl Stream<Item = Result<Bytes, BodyError>> + use<> {
    let rest = stream::unfold(Some((receiver, task)), |state| async move {
        let (mut receiver, task) = state?;
        if let Some(message) = receiver.recv().await {
            return Some((line(&message), Some((receiver, task))));
        }
        match ended(task).await {
            Ok(()) => None,
            Err(error) => Some((line(&Progress::failed(error.message())), None)),
        }
    });
    stream::once(std::future::ready(line(first))).chain(rest)
}

/// A message as it stands in the stream; dockerd ends each with CR and LF.
fn line(message: &Progress) -> Result<Bytes, BodyError> {
    let mut text =
        serde_json::to_vec(message).map_err(|error| BodyError::new(error.to_string()))?;
    text.extend_from_slice(b"\r\n");
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references() {
        assert_eq!(reference("a", ""), "a");
        assert_eq!(reference("r:5000/a", "1"), "r:5000/a:1");
        assert_eq!(reference("a", "sha256:00"), "a@sha256:00");
    }

    #[test]
    fn lines() {
        let text = line(&Progress::of("abc", "Pulling fs layer")).unwrap();
        let expect = "{\"status\":\"Pulling fs layer\",\"progressDetail\":{},\"id\":\"abc\"}\r\n";
        assert_eq!(text, expect);
        let text = line(&Progress::failed("no")).unwrap();
        let expect = "{\"errorDetail\":{\"message\":\"no\"},\"error\":\"no\"}\r\n";
        assert_eq!(text, expect);
    }
}
