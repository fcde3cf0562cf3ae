//! Places for what exporters send: folders and archives.
//!
//! BuildKit has one method for both, `FileSend.DiffCopy`, whose messages are packets of a tree or pieces
//! of one stream; which of them depends on the exporter, which the call's head names.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bollard_buildkit_proto::fsutil::types::Packet;
use bollard_buildkit_proto::moby::filesync::packet::BytesMessage;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, UnboundedReceiverStream};
use tokio_stream::{Stream, StreamExt as _};
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use super::Output;
use crate::fsutil::{self, Target};

/// The head's name for the exporter's place in the request.
const EXPORTER: &str = "buildkit-attachable-exporter-id";
/// The longest message.
const MAX_MESSAGE: usize = 16 << 20;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
type Reply = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

/// The service.
#[derive(Clone, Debug)]
pub(super) struct Results {
    outputs: Arc<BTreeMap<usize, Output>>,
}

impl Results {
    pub(super) fn new(outputs: BTreeMap<usize, Output>) -> Self {
        Self {
            outputs: Arc::new(outputs),
        }
    }

    /// The place that a call is for; with one exporter older engines do not say which.
    fn place(&self, head: &http::HeaderMap) -> Option<Output> {
        let number = head.get(EXPORTER).and_then(|number| number.to_str().ok());
        let named = number.and_then(|number| self.outputs.get(&number.parse().ok()?));
        let only = self
            .outputs
            .values()
            .next()
            .filter(|_| self.outputs.len() == 1);
        named.or(only).cloned()
    }
}

impl NamedService for Results {
    const NAME: &'static str = "moby.filesync.v1.FileSend";
}

impl tower::Service<http::Request<Body>> for Results {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Reply;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Reply {
        let place = self.place(request.headers());
        Box::pin(async move {
            Ok(match place {
                Some(Output::Folder(path)) => {
                    let codec = ProstCodec::<Packet, Packet>::default();
                    let mut grpc = Grpc::new(codec).max_decoding_message_size(MAX_MESSAGE);
                    grpc.streaming(IntoFolder(path), request).await
                }
                Some(Output::File(path)) => pieces(IntoFile(Some(path)), request).await,
                Some(Output::Stdout) => pieces(IntoFile(None), request).await,
                None => Status::unimplemented("no place for results").into_http(),
            })
        })
    }
}

async fn pieces(service: IntoFile, request: http::Request<Body>) -> http::Response<Body> {
    let codec = ProstCodec::<BytesMessage, BytesMessage>::default();
    let mut grpc = Grpc::new(codec).max_decoding_message_size(MAX_MESSAGE);
    grpc.streaming(service, request).await
}

type Done<T> = Pin<Box<dyn Future<Output = Result<Response<Answers<T>>, Status>> + Send>>;

/// Receives a tree.
struct IntoFolder(PathBuf);

impl StreamingService<Packet> for IntoFolder {
    type Response = Packet;
    type ResponseStream = Answers<Packet>;
    type Future = Done<Packet>;

    fn call(&mut self, request: Request<Streaming<Packet>>) -> Self::Future {
        let path = self.0.clone();
        Box::pin(async move {
            let (outgoing, packets) = mpsc::unbounded_channel();
            let (last, end) = mpsc::channel(1);
            tokio::spawn(async move {
                let received = receive(request.into_inner(), outgoing, &path).await;
                if let Err(error) = received {
                    let text = format!("failed to copy files to {}: {error}", path.display());
                    // a sender that is gone needs no reason
                    let _gone = last.send(Err(Status::unknown(text))).await;
                }
            });
            let answers = UnboundedReceiverStream::new(packets).map(Ok);
            let answers = answers.chain(ReceiverStream::new(end));
            Ok(Response::new(Box::pin(answers) as Answers<Packet>))
        })
    }
}

/// Receives a tree beside its place, and puts it there when it is whole.
async fn receive(
    incoming: Streaming<Packet>,
    outgoing: mpsc::UnboundedSender<Packet>,
    place: &Path,
) -> io::Result<()> {
    fs::create_dir_all(place)?;
    let coming = tempfile(place)?;
    let files = coming.path.join("files");
    fs::create_dir(&files)?;
    let target = Target {
        folder: OwnedFd::from(File::open(&files)?),
        index: coming.path.join("index"),
        largest: None,
    };
    fsutil::receive(incoming, outgoing, target, |_| {})
        .await
        .map_err(io::Error::other)?;
    let place = place.to_owned();
    tokio::task::spawn_blocking(move || merge(&files, &place))
        .await
        .map_err(io::Error::other)?
}

/// A folder that goes with its value.
struct Coming {
    path: PathBuf,
}

impl Drop for Coming {
    fn drop(&mut self) {
        // it holds copies of what the engine has
        let _gone = fs::remove_dir_all(&self.path);
    }
}

fn tempfile(place: &Path) -> io::Result<Coming> {
    let path = place.join(format!(".gorae-{}", crate::id::new()));
    fs::create_dir(&path)?;
    Ok(Coming { path })
}

/// Moves what a folder holds into another; folders that both have become one.
fn merge(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let there = fs::symlink_metadata(&target);
        let both = entry.file_type()?.is_dir() && there.as_ref().is_ok_and(fs::Metadata::is_dir);
        if both {
            merge(&entry.path(), &target)?;
            fs::set_permissions(&target, entry.metadata()?.permissions())?;
            continue;
        }
        if there.is_ok_and(|there| there.is_dir()) {
            return Err(io::Error::other(format!(
                "cannot replace the folder {} by a file",
                target.display()
            )));
        }
        if entry.file_type()?.is_dir() && target.symlink_metadata().is_ok() {
            return Err(io::Error::other(format!(
                "cannot replace the file {} by a folder",
                target.display()
            )));
        }
        fs::rename(entry.path(), &target)?;
    }
    Ok(())
}

/// Receives one stream; into standard output where there is no path.
struct IntoFile(Option<PathBuf>);

impl StreamingService<BytesMessage> for IntoFile {
    type Response = BytesMessage;
    type ResponseStream = Answers<BytesMessage>;
    type Future = Done<BytesMessage>;

    fn call(&mut self, request: Request<Streaming<BytesMessage>>) -> Self::Future {
        let path = self.0.clone();
        Box::pin(async move {
            keep(request.into_inner(), path).await?;
            let nothing = tokio_stream::empty();
            Ok(Response::new(Box::pin(nothing) as Answers<BytesMessage>))
        })
    }
}

/// A file that becomes visible when it is whole.
async fn keep(mut incoming: Streaming<BytesMessage>, path: Option<PathBuf>) -> Result<(), Status> {
    let (sender, receiver) = mpsc::channel::<Vec<u8>>(16);
    let writing = tokio::task::spawn_blocking(move || write(receiver, path.as_deref()));
    let mut whole = false;
    loop {
        match incoming.message().await {
            Ok(Some(message)) => {
                if sender.send(message.data).await.is_err() {
                    break;
                }
            }
            Ok(None) => {
                whole = true;
                break;
            }
            Err(_) => break,
        }
    }
    if whole {
        // an empty piece says that the stream is whole
        let _gone = sender.send(Vec::new()).await;
    }
    drop(sender);
    let written = writing
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)));
    written.map_err(|error| Status::unknown(format!("write the result: {error}")))
}

fn write(mut pieces: mpsc::Receiver<Vec<u8>>, path: Option<&Path>) -> io::Result<()> {
    let Some(path) = path else {
        let mut out = io::stdout().lock();
        while let Some(piece) = pieces.blocking_recv() {
            out.write_all(&piece)?;
        }
        return out.flush();
    };
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        fs::create_dir_all(folder)?;
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", crate::id::new()));
    let coming = path.with_file_name(name);
    let written = write_new(&mut pieces, &coming).and_then(|()| fs::rename(&coming, path));
    if written.is_err() {
        // what is not whole goes
        let _gone = fs::remove_file(&coming);
    }
    written
}

fn write_new(pieces: &mut mpsc::Receiver<Vec<u8>>, path: &Path) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    let mut whole = false;
    while let Some(piece) = pieces.blocking_recv() {
        whole = piece.is_empty();
        file.write_all(&piece)?;
    }
    if !whole {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}
