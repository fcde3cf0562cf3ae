//! The client's ssh agent, as a socket for a step.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bollard_buildkit_proto::moby::sshforward::v1::ssh_client::SshClient;
use bollard_buildkit_proto::moby::sshforward::v1::{BytesMessage, CheckAgentRequest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::{Request, Streaming};

use super::{Method, Session, SessionError, SessionResult};

/// The agent that is meant where none is named.
const DEFAULT: &str = "default";
/// Connections of one step at once.
const MAX_CONNECTIONS: usize = 64;
/// Bytes that are read at once.
const BUFFER: usize = 32 << 10;

/// A socket that leads to the client's agent until this is dropped.
#[derive(Debug)]
pub struct SshSocket {
    path: PathBuf,
    accepting: JoinHandle<()>,
}

impl SshSocket {
    /// Where the socket lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SshSocket {
    fn drop(&mut self) {
        self.accepting.abort();
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "a socket cannot be removed");
        }
    }
}

fn named(id: &str) -> &str {
    Some(id).filter(|id| !id.is_empty()).unwrap_or(DEFAULT)
}

impl Session {
    /// Asks whether the client has an agent; the empty name is the default one.
    ///
    /// # Errors
    /// When it has none of this name, offers none or is gone.
    pub async fn ssh_check(&self, id: &str) -> SessionResult<()> {
        let method = self.offered(Method::CheckAgent)?;
        let id = named(id).to_owned();
        let asked = SshClient::new(self.channel())
            .check_agent(CheckAgentRequest { id })
            .await;
        asked.map_err(SessionError::call(method)).map(drop)
    }

    /// Makes a socket at `path` that leads to the client's agent, with this owner and mode.
    ///
    /// # Errors
    /// When the client offers no agent, or the socket cannot be made.
    pub fn ssh_forward(
        self: &Arc<Self>,
        id: &str,
        path: PathBuf,
        owner: (u32, u32),
        mode: u32,
    ) -> SessionResult<SshSocket> {
        self.offered(Method::ForwardAgent)?;
        let listener = listen(&path, owner, mode).map_err(|source| SessionError::Socket {
            id: id.to_owned(),
            source,
        })?;
        let (session, id) = (Arc::clone(self), named(id).to_owned());
        let accepting = tokio::spawn(accept(listener, session, id));
        Ok(SshSocket { path, accepting })
    }
}

fn listen(path: &Path, owner: (u32, u32), mode: u32) -> io::Result<UnixListener> {
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode & 0o777))?;
    std::os::unix::fs::chown(path, Some(owner.0), Some(owner.1))?;
    Ok(listener)
}

async fn accept(listener: UnixListener, session: Arc<Session>, id: String) {
    let seats = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    while let Ok(seat) = Arc::clone(&seats).acquire_owned().await
        && let Ok((connection, _)) = listener.accept().await
    {
        let (session, id) = (Arc::clone(&session), id.clone());
        tokio::spawn(async move {
            if let Err(error) = forward(connection, &session, &id).await {
                tracing::debug!(%error, "a connection to an ssh agent broke");
            }
            drop(seat);
        });
    }
}

/// Carries one connection's bytes to the client's agent and back.
async fn forward(connection: UnixStream, session: &Session, id: &str) -> SessionResult<()> {
    let method = Method::ForwardAgent;
    let (read, write) = connection.into_split();
    let (sender, messages) = mpsc::channel(4);
    let mut call = Request::new(ReceiverStream::new(messages));
    if let Ok(id) = MetadataValue::<Ascii>::try_from(id) {
        call.metadata_mut().insert("buildkit.ssh.id", id);
    }
    let mut client = SshClient::new(session.channel());
    let answers = async move {
        // the client takes the call only when it has something to answer
        let asked = client.forward_agent(call).await;
        let incoming = asked.map_err(SessionError::call(method))?.into_inner();
        from_agent(incoming, write).await
    };
    tokio::select! {
        () = to_agent(read, sender) => Ok(()),
        result = answers => result,
    }
}

/// Returns only when the step has closed its side and nothing more can be answered.
async fn to_agent(mut read: OwnedReadHalf, sender: mpsc::Sender<BytesMessage>) {
    let mut buffer = vec![0; BUFFER];
    while let Ok(count @ 1..) = read.read(&mut buffer).await {
        let data = buffer[..count].to_vec();
        if sender.send(BytesMessage { data }).await.is_err() {
            return;
        }
    }
    drop(sender);
    // the agent's last answer is still to come
    std::future::pending::<()>().await;
}

async fn from_agent(
    mut incoming: Streaming<BytesMessage>,
    mut write: OwnedWriteHalf,
) -> SessionResult<()> {
    let failed = SessionError::call;
    while let Some(message) = incoming
        .message()
        .await
        .map_err(failed(Method::ForwardAgent))?
    {
        if write.write_all(&message.data).await.is_err() {
            break;
        }
    }
    Ok(())
}
