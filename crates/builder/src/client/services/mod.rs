//! What a client offers to its build: files, a place for results, credentials, secrets, an ssh agent.

mod auth;
mod files;
mod results;
mod secrets;
mod ssh;
mod upload;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use bollard_buildkit_proto::moby::buildkit::secrets::v1::secrets_server::SecretsServer;
use bollard_buildkit_proto::moby::filesync::packet::file_sync_server::FileSyncServer;
use bollard_buildkit_proto::moby::filesync::v1::auth_server::AuthServer;
use bollard_buildkit_proto::moby::sshforward::v1::ssh_server::SshServer;
use bollard_buildkit_proto::moby::upload::v1::upload_server::UploadServer;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt as _;
use tonic::transport::Server;

use super::LOCAL_HEADER;
use super::link::Stream;
pub use secrets::SecretSource;
pub use ssh::SshAgent;

/// A lookup's answer: user name and password, if there are any.
pub type Found = Pin<Box<dyn Future<Output = Result<Option<(String, String)>, String>> + Send>>;
/// Looks up the credentials of a registry.
pub type Lookup = Arc<dyn Fn(String) -> Found + Send + Sync>;

/// A folder of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalFolder {
    /// Its absolute path.
    pub path: PathBuf,
}

/// A folder that the build may read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// What the front end calls it: `context`, `dockerfile`.
    pub name: String,
    /// Where it is.
    pub local: LocalFolder,
}

/// Where a result goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Files, into a folder.
    Folder(PathBuf),
    /// An archive, into a file.
    File(PathBuf),
    /// An archive, to standard output.
    Stdout,
}

/// All that a client offers to one build.
#[derive(Clone)]
pub struct Offer {
    /// The session's name, chosen by the client and used once.
    pub session: String,
    /// Folders that may be read.
    pub folders: Vec<Folder>,
    /// An archive on standard input, by its name, and what was read of it.
    pub upload: Option<(String, Vec<u8>)>,
    /// Finds credentials.
    pub credentials: Lookup,
    /// Secrets by id.
    pub secrets: BTreeMap<String, SecretSource>,
    /// Agents that steps may use.
    pub agents: Vec<SshAgent>,
    /// Where results go, by the place of their exporter.
    pub outputs: BTreeMap<usize, Output>,
}

impl fmt::Debug for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offer")
            .field("session", &self.session)
            .field("folders", &self.folders)
            .finish_non_exhaustive()
    }
}

/// The methods of the services, as a session announces them.
const METHODS: [&str; 9] = [
    "/moby.filesync.v1.FileSync/DiffCopy",
    "/moby.filesync.v1.FileSend/DiffCopy",
    "/moby.filesync.v1.Auth/Credentials",
    "/moby.filesync.v1.Auth/FetchToken",
    "/moby.buildkit.secrets.v1.Secrets/GetSecret",
    "/moby.sshforward.v1.SSH/CheckAgent",
    "/moby.sshforward.v1.SSH/ForwardAgent",
    "/moby.upload.v1.Upload/Pull",
    "/grpc.health.v1.Health/Check",
];

impl Offer {
    /// The methods that a session with it announces.
    #[must_use]
    pub fn methods(&self) -> Vec<String> {
        METHODS.iter().map(|method| (*method).to_owned()).collect()
    }

    /// The headers that open the session.
    #[must_use]
    pub fn headers(&self) -> Vec<(String, String)> {
        let header =
            |name: &str, value: &str| (format!("x-docker-expose-session-{name}"), value.to_owned());
        let shared = self
            .folders
            .first()
            .map(|folder| folder.local.path.display().to_string());
        let mut headers = vec![
            header("uuid", &self.session),
            header("name", "gorae build"),
            header("sharedkey", &shared.unwrap_or_default()),
        ];
        headers.extend(METHODS.iter().map(|method| header("grpc-method", method)));
        for folder in &self.folders {
            // a header holds ASCII: a path beyond that goes the way of all other engines
            let path = folder.local.path.to_str().filter(|path| path.is_ascii());
            if let Some(path) = path {
                let name = hex::encode(&folder.name);
                headers.push((format!("{LOCAL_HEADER}{name}"), path.to_owned()));
            }
        }
        headers
    }
}

/// Services that answer until they are ended.
#[derive(Debug)]
pub struct Serving {
    end: oneshot::Sender<()>,
    task: JoinHandle<Result<(), tonic::transport::Error>>,
}

/// The longest message of an engine.
const MAX_MESSAGE: usize = 16 << 20;

impl Serving {
    /// Serves one connection.
    #[must_use]
    pub fn start(stream: Stream, offer: Offer) -> Self {
        let (end, ended) = oneshot::channel::<()>();
        let folders = offer.folders.iter();
        let files = files::FileService {
            folders: folders
                .map(|folder| (folder.name.clone(), folder.local.path.clone()))
                .collect(),
        };
        let agents = offer.agents.into_iter();
        let routes = Server::builder()
            .add_service(FileSyncServer::new(files).max_decoding_message_size(MAX_MESSAGE))
            .add_service(results::Results::new(offer.outputs))
            .add_service(AuthServer::new(auth::AuthService {
                lookup: offer.credentials,
            }))
            .add_service(SecretsServer::new(secrets::SecretService {
                secrets: offer.secrets,
            }))
            .add_service(SshServer::new(ssh::SshService {
                agents: agents.map(|agent| (agent.id, agent.socket)).collect(),
            }))
            .add_service(UploadServer::new(upload::UploadService::new(offer.upload)));
        // a server whose connections have come to an end says goodbye to those it has
        let incoming =
            tokio_stream::once(Ok::<_, std::io::Error>(stream)).chain(tokio_stream::pending());
        let serving = routes.serve_with_incoming_shutdown(incoming, async move {
            // an end that was dropped is an end, too
            let _dropped = ended.await;
        });
        Self {
            end,
            task: tokio::spawn(serving),
        }
    }

    /// Ends the services; what is being answered may take a moment.
    pub async fn end(self) {
        const LAST_ANSWERS: std::time::Duration = std::time::Duration::from_millis(500);
        // a server that has ended by itself hears nothing
        let _ended = self.end.send(());
        let abort = self.task.abort_handle();
        if tokio::time::timeout(LAST_ANSWERS, self.task).await.is_err() {
            abort.abort();
        }
    }
}
