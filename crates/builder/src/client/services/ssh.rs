//! The client's ssh agent, for steps.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::Pin;

use bollard_buildkit_proto::moby::sshforward::v1::ssh_server::Ssh;
use bollard_buildkit_proto::moby::sshforward::v1::{
    BytesMessage, CheckAgentRequest, CheckAgentResponse,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// The header that says which agent a stream is for.
const ID_HEADER: &str = "buildkit.ssh.id";
/// The name of the only agent, where none is said.
const DEFAULT: &str = "default";
/// Bytes handed on at once.
const PIECE: usize = 32 << 10;

/// An agent's socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshAgent {
    /// Its name for the Dockerfile.
    pub id: String,
    /// The agent's socket.
    pub socket: PathBuf,
}

#[derive(Clone)]
pub(super) struct SshService {
    pub(super) agents: BTreeMap<String, PathBuf>,
}

impl SshService {
    fn socket(&self, id: &str) -> Result<&PathBuf, Status> {
        let id = if id.is_empty() { DEFAULT } else { id };
        self.agents
            .get(id)
            .ok_or_else(|| Status::not_found(format!("unset ssh forward key {id}")))
    }
}

#[tonic::async_trait]
impl Ssh for SshService {
    async fn check_agent(
        &self,
        request: Request<CheckAgentRequest>,
    ) -> Result<Response<CheckAgentResponse>, Status> {
        self.socket(&request.into_inner().id)?;
        Ok(Response::new(CheckAgentResponse {}))
    }

    type ForwardAgentStream =
        Pin<Box<dyn tokio_stream::Stream<Item = Result<BytesMessage, Status>> + Send>>;

    async fn forward_agent(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Self::ForwardAgentStream>, Status> {
        let id = request.metadata().get(ID_HEADER);
        let id = id.and_then(|id| id.to_str().ok()).unwrap_or(DEFAULT);
        let socket = self.socket(id)?;
        let stream = UnixStream::connect(socket).await.map_err(|error| {
            Status::unavailable(format!(
                "connect to ssh agent {}: {error}",
                socket.display()
            ))
        })?;
        let (sender, receiver) = mpsc::channel(8);
        tokio::spawn(carry(stream, request.into_inner(), sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

/// Carries bytes both ways until one side has no more.
async fn carry(
    stream: UnixStream,
    mut from: Streaming<BytesMessage>,
    to: mpsc::Sender<Result<BytesMessage, Status>>,
) {
    let (mut reader, mut writer) = stream.into_split();
    let inward = async {
        while let Ok(Some(message)) = from.message().await {
            if writer.write_all(&message.data).await.is_err() {
                break;
            }
        }
        // an agent that has gone cannot be told of the end
        let _gone = writer.shutdown().await;
    };
    let outward = async {
        let mut piece = vec![0; PIECE];
        while let Ok(length @ 1..) = reader.read(&mut piece).await {
            let data = piece[..length].to_vec();
            if to.send(Ok(BytesMessage { data })).await.is_err() {
                break;
            }
        }
    };
    tokio::join!(inward, outward);
}
