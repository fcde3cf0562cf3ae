//! Commands to a registry that runs, over a socket that only its owner may open: one line of JSON
//! each way.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};

use crate::app::App;
use crate::gc::Collected;
use crate::refusal::chain;

/// The longest line.
const LINE_MAX: u64 = 4096;
/// How long a client may take to send its line.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum Command {
    /// Collect garbage; with the grace in milliseconds, or the registry's own.
    Gc { grace: Option<u64> },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Reply {
    Collected(Collected),
    Failed(String),
}

/// A command that a registry did not carry out.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// There is no registry at the socket.
    #[error("speak to the registry at {socket}")]
    Io {
        /// The socket.
        socket: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The registry says why not.
    #[error("the registry answers: {0}")]
    Refused(String),
}

impl AdminError {
    /// Whether no registry listens there.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        use io::ErrorKind::{ConnectionRefused, NotFound};
        match self {
            Self::Io { source, .. } => matches!(source.kind(), ConnectionRefused | NotFound),
            Self::Refused(_) => false,
        }
    }
}

/// Makes the socket. What a registry that was killed left is replaced: its folder is locked by the
/// database already.
pub(crate) fn listen(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

pub(crate) async fn serve(listener: UnixListener, app: Arc<App>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(converse(stream, Arc::clone(&app)))),
            Err(error) => {
                tracing::warn!(%error, "a command cannot be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(mut stream: UnixStream, app: Arc<App>) {
    let Ok(Ok(line)) = tokio::time::timeout(PATIENCE, read_line(&mut stream)).await else {
        return;
    };
    let reply = match serde_json::from_str(&line) {
        Ok(Command::Gc { grace }) => collect(&app, grace.map(Duration::from_millis)).await,
        Err(error) => Reply::Failed(format!("unknown command: {error}")),
    };
    let mut text = serde_json::to_string(&reply).unwrap_or_default();
    text.push('\n');
    // who asked may have gone away
    let _gone = stream.write_all(text.as_bytes()).await;
}

async fn collect(app: &App, grace: Option<Duration>) -> Reply {
    match app.collect(grace).await {
        Some(Ok(taken)) => Reply::Collected(taken),
        Some(Err(error)) => Reply::Failed(chain(&error)),
        None => Reply::Failed("a collection is going on already".to_owned()),
    }
}

async fn read_line(stream: &mut UnixStream) -> io::Result<String> {
    let mut line = String::new();
    BufReader::new(stream.take(LINE_MAX))
        .read_line(&mut line)
        .await?;
    Ok(line)
}

/// Has the registry at a socket collect garbage.
///
/// # Errors
/// When there is no registry, or it does not do it.
pub async fn collect_at(socket: &Path, grace: Option<Duration>) -> Result<Collected, AdminError> {
    let failed = |source| AdminError::Io {
        socket: socket.display().to_string(),
        source,
    };
    let mut stream = UnixStream::connect(socket).await.map_err(failed)?;
    let grace = grace.map(|grace| u64::try_from(grace.as_millis()).unwrap_or(u64::MAX));
    let mut text = serde_json::to_string(&Command::Gc { grace }).unwrap_or_default();
    text.push('\n');
    stream.write_all(text.as_bytes()).await.map_err(failed)?;
    let line = read_line(&mut stream).await.map_err(failed)?;
    match serde_json::from_str(&line) {
        Ok(Reply::Collected(taken)) => Ok(taken),
        Ok(Reply::Failed(why)) => Err(AdminError::Refused(why)),
        Err(error) => Err(failed(io::Error::other(error))),
    }
}
