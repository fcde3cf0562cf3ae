//! All sessions that are open.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bollard_buildkit_proto::health::HealthCheckRequest;
use bollard_buildkit_proto::health::health_client::HealthClient;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tonic::transport::{Channel, Endpoint};

use super::{Head, Method, Session, SessionError, SessionResult};

/// How long a client may be silent before it is asked whether it still lives, and then to answer.
const HEALTH: Duration = Duration::from_secs(30);
/// The longest name or key of a session.
const MAX_NAME: usize = 1024;
/// Sessions that are open at once.
const MAX_SESSIONS: usize = 1024;
/// Bytes on their way that are not read yet, a stream.
const WINDOW: u32 = 4 << 20;

/// The open sessions by their names.
#[derive(Debug)]
pub struct Sessions {
    open: Mutex<HashMap<String, Arc<Session>>>,
    /// Changes with each session that is opened.
    opened: watch::Sender<u64>,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            open: Mutex::default(),
            opened: watch::channel(0).0,
        }
    }
}

impl Sessions {
    /// Finds a session, and waits a while for one that is still to come: a client may ask for its
    /// build before its session is there.
    ///
    /// # Errors
    /// When it does not come.
    pub async fn get(&self, id: &str, wait: Duration) -> SessionResult<Arc<Session>> {
        // a client may put a prefix of its own before the name
        let id = match id.split_once(':') {
            Some((_, name)) if !name.is_empty() => name,
            _ => id,
        };
        let missing = || SessionError::Missing { id: id.to_owned() };
        let mut opened = self.opened.subscribe();
        let find = async {
            loop {
                if let Some(session) = self.find(id) {
                    return Some(session);
                }
                opened.changed().await.ok()?;
            }
        };
        let found = tokio::time::timeout(wait, find).await;
        found.ok().flatten().ok_or_else(missing)
    }

    fn find(&self, id: &str) -> Option<Arc<Session>> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.get(id).filter(|session| !session.is_closed()).cloned()
    }

    /// Makes a connection a session: this side asks, the client answers.
    ///
    /// # Errors
    /// When the head is wrong, the name is taken, or the client does not speak HTTP/2.
    pub async fn open<T>(self: &Arc<Self>, head: Head, connection: T) -> SessionResult<Opened>
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        self.check(&head)?;
        let (closing, closed) = watch::channel(false);
        let connect = |source| SessionError::Connect {
            id: head.id.clone(),
            source,
        };
        let channel = channel(connection, closing).await.map_err(connect)?;
        let session = Arc::new(Session::new(head, channel, closed));
        self.add(&session)?;
        Ok(Opened {
            sessions: Arc::clone(self),
            session,
        })
    }

    fn check(&self, head: &Head) -> SessionResult<()> {
        let invalid = |why| Err(SessionError::Invalid { why });
        if head.id.is_empty() {
            return invalid("it has no name");
        }
        let texts = [&head.id, &head.name, &head.shared_key];
        if texts.iter().any(|text| text.len() > MAX_NAME) {
            return invalid("a name is too long");
        }
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= MAX_SESSIONS {
            return invalid("too many are open");
        }
        Ok(())
    }

    fn add(&self, session: &Arc<Session>) -> SessionResult<()> {
        let id = session.id().to_owned();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.get(&id).is_some_and(|other| !other.is_closed()) {
            return Err(SessionError::Exists { id });
        }
        open.insert(id, Arc::clone(session));
        drop(open);
        self.opened.send_modify(|count| *count += 1);
        Ok(())
    }
}

/// A session that is open until this is dropped.
#[derive(Debug)]
pub struct Opened {
    sessions: Arc<Sessions>,
    session: Arc<Session>,
}

impl Opened {
    /// The session.
    #[must_use]
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// Returns when the client is gone, or answers no more.
    pub async fn end(self) {
        tokio::select! {
            () = self.session.closed() => {}
            () = silence(&self.session) => {
                tracing::warn!(session = self.session.id(), "a client answers no more");
            }
        }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let sessions = &self.sessions.open;
        let mut open = sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let id = self.session.id();
        if open
            .get(id)
            .is_some_and(|other| Arc::ptr_eq(other, &self.session))
        {
            open.remove(id);
        }
    }
}

/// Asks the client from time to time whether it lives; returns when it failed twice in a row.
///
/// By a call and not by HTTP/2 pings: grpc-go takes more than one of them in five minutes for an attack.
async fn silence(session: &Session) {
    if !session.supports(Method::Health) {
        return std::future::pending().await;
    }
    let mut client = HealthClient::new(session.channel());
    let mut failed = 0;
    while failed < 2 {
        tokio::time::sleep(HEALTH).await;
        let asked = client.check(HealthCheckRequest::default());
        failed = match tokio::time::timeout(HEALTH, asked).await {
            Ok(Ok(_)) => 0,
            Ok(Err(_)) | Err(_) => failed + 1,
        };
    }
}

/// Makes a connection the channel of calls.
async fn channel<T>(
    connection: T,
    closing: watch::Sender<bool>,
) -> Result<Channel, tonic::transport::Error>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let watched = Watched {
        connection,
        closing,
    };
    let mut once = Some(TokioIo::new(watched));
    let connector = tower::service_fn(move |_: http::Uri| {
        let taken = once.take();
        // a connection that ended cannot be made again: the client is the one who connects
        std::future::ready(taken.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)))
    });
    let endpoint = Endpoint::from_static("http://session")
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW);
    endpoint.connect_with_connector(connector).await
}

/// A connection that tells when it is gone.
struct Watched<T> {
    connection: T,
    closing: watch::Sender<bool>,
}

impl<T> Drop for Watched<T> {
    fn drop(&mut self) {
        self.closing.send_replace(true);
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(context)
    }
}
