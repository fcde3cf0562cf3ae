//! Folders of the client, for engines that cannot read them in place.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::pin::Pin;

use bollard_buildkit_proto::fsutil::types::Packet;
use bollard_buildkit_proto::fsutil::types::packet::PacketType;
use bollard_buildkit_proto::moby::filesync::packet::file_sync_server::FileSync;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use crate::fsutil;
use crate::source::filter::Filter;

/// Packets that wait for the engine.
const QUEUE: usize = 64;

#[derive(Clone, Debug)]
pub(super) struct FileService {
    pub(super) folders: BTreeMap<String, PathBuf>,
}

impl FileService {
    /// The folder that a call is for.
    fn folder(&self, head: &MetadataMap) -> Result<OwnedFd, Status> {
        let name = texts(head, "dir-name").pop().unwrap_or_default();
        let path = self
            .folders
            .get(&name)
            .ok_or_else(|| Status::not_found(format!("no access allowed to dir {name:?}")))?;
        let opened = File::open(path);
        opened
            .map(OwnedFd::from)
            .map_err(|error| Status::not_found(format!("open {}: {error}", path.display())))
    }
}

/// The values of a header; those that are not ASCII come in percent encoding, as BuildKit has it.
fn texts(head: &MetadataMap, name: &str) -> Vec<String> {
    let encoded = head
        .get(format!("{name}-encoded"))
        .is_some_and(|value| value == "1");
    let values = head.get_all(name).iter();
    let values = values.filter_map(|value| value.to_str().ok());
    values
        .map(|value| {
            if encoded {
                unescape(value)
            } else {
                value.to_owned()
            }
        })
        .collect()
}

#[tonic::async_trait]
impl FileSync for FileService {
    type DiffCopyStream = Pin<Box<dyn Stream<Item = Result<Packet, Status>> + Send>>;

    async fn diff_copy(
        &self,
        request: Request<Streaming<Packet>>,
    ) -> Result<Response<Self::DiffCopyStream>, Status> {
        let head = request.metadata();
        let folder = self.folder(head)?;
        let (include, exclude, follow) = (
            texts(head, "include-patterns"),
            texts(head, "exclude-patterns"),
            texts(head, "followpaths"),
        );
        let filter = Filter::new(&folder, &include, &exclude, &follow)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let (sender, packets) = mpsc::channel(QUEUE);
        let failing = sender.clone();
        let incoming = request.into_inner();
        tokio::spawn(async move {
            let wanted = filter.into_wanted();
            let sent = fsutil::send_where(incoming, sender, folder, wanted, |_| {}).await;
            if let Err(error) = sent {
                let packet = Packet {
                    r#type: PacketType::PacketErr.into(),
                    data: error.to_string().into_bytes(),
                    ..Packet::default()
                };
                // a receiver that is gone needs no reason
                let _gone = failing.send(packet).await;
            }
        });
        let packets = ReceiverStream::new(packets).map(Ok);
        Ok(Response::new(Box::pin(packets)))
    }

    type TarStreamStream = Pin<Box<dyn Stream<Item = Result<Packet, Status>> + Send>>;

    async fn tar_stream(
        &self,
        _: Request<Streaming<Packet>>,
    ) -> Result<Response<Self::TarStreamStream>, Status> {
        Err(Status::unimplemented("files are sent by DiffCopy"))
    }
}

/// Undoes Go's `url.QueryEscape`.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..2).filter(|_| *first == b'%');
        let code = code.and_then(|code| hex::decode(code).ok());
        rest = match code {
            Some(code) => {
                bytes.extend(code);
                &after[2..]
            }
            None => {
                bytes.push(if *first == b'+' { b' ' } else { *first });
                after
            }
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
