//! An archive that came on standard input.

use std::io::Read as _;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use bollard_buildkit_proto::moby::upload::v1::BytesMessage;
use bollard_buildkit_proto::moby::upload::v1::upload_server::Upload;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// Bytes handed on at once.
const PIECE: usize = 64 << 10;
/// The header that names the archive.
const PATH_HEADER: &str = "urlpath";

/// An archive's name, and what was read of it.
type Begun = (String, Vec<u8>);

#[derive(Clone)]
pub(super) struct UploadService {
    archive: Arc<Mutex<Option<Begun>>>,
}

impl UploadService {
    pub(super) fn new(archive: Option<Begun>) -> Self {
        Self {
            archive: Arc::new(Mutex::new(archive)),
        }
    }

    /// The archive's beginning, once.
    fn take(&self, name: &str) -> Option<Vec<u8>> {
        let mut archive = self.archive.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = archive.take_if(|(known, _)| name.trim_start_matches('/') == known);
        wanted.map(|(_, head)| head)
    }
}

#[tonic::async_trait]
impl Upload for UploadService {
    type PullStream =
        Pin<Box<dyn tokio_stream::Stream<Item = Result<BytesMessage, Status>> + Send>>;

    async fn pull(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Self::PullStream>, Status> {
        let name = request.metadata().get(PATH_HEADER);
        let name = name.and_then(|name| name.to_str().ok()).unwrap_or_default();
        let head = self
            .take(name)
            .ok_or_else(|| Status::not_found(format!("no upload {name}, or it was taken")))?;
        let (sender, receiver) = mpsc::channel(4);
        tokio::task::spawn_blocking(move || {
            let message = |data| Ok(BytesMessage { data });
            if sender.blocking_send(message(head)).is_err() {
                return;
            }
            let mut input = std::io::stdin().lock();
            loop {
                let mut piece = vec![0; PIECE];
                let read = input.read(&mut piece);
                let next = match read {
                    Ok(0) => return,
                    Ok(length) => {
                        piece.truncate(length);
                        message(piece)
                    }
                    Err(error) => Err(Status::aborted(format!("read standard input: {error}"))),
                };
                if sender.blocking_send(next).is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}
