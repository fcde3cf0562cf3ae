//! The sockets that clients connect to.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Gid, Uid};
use rustix::net::{AddressFamily, sockopt};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};

use crate::connection::Connection;
use crate::tls::Tls;

/// How many connections the kernel holds until they are accepted.
const BACKLOG: u32 = 1024;
/// How long a client may take for the handshake of TLS.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// After how much silence a TCP client is asked whether it is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// What a client that speaks plain HTTP to a TLS port is told, in the words of Go's server.
const NOT_TLS: &[u8] =
    b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";

/// A socket that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody else listens there.
    #[error("another process listens on {path}: stop it, or choose another socket")]
    Taken {
        /// Socket.
        path: PathBuf,
    },
    /// There is something that is no socket.
    #[error("{path} is in the way: it is not a socket")]
    NotASocket {
        /// What is in the way.
        path: PathBuf,
    },
    /// The group does not exist.
    #[error("group {name} does not exist on this host")]
    NoGroup {
        /// Group.
        name: String,
    },
    /// A TCP address cannot be listened on.
    #[error("listen on tcp://{address}")]
    Tcp {
        /// Address.
        address: SocketAddr,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// TCP without TLS, reachable from elsewhere.
    #[error(
        "will not listen on tcp://{address} without TLS: whoever reaches it is root here; add --tlsverify with --tlscacert, --tlscert and --tlskey, listen on 127.0.0.1, or reach the engine by ssh"
    )]
    Open {
        /// Address.
        address: SocketAddr,
    },
    /// TLS that lets every client in, reachable from elsewhere.
    #[error(
        "will not listen on tcp://{address} for clients without a certificate: whoever reaches it is root here; use --tlsverify in place of --tls, or listen on 127.0.0.1"
    )]
    Unverified {
        /// Address.
        address: SocketAddr,
    },
    /// TLS cannot be set up.
    #[error("set up TLS")]
    Tls(#[source] crate::tls::TlsError),
    /// A socket of the service manager cannot be used.
    #[error("use a socket of the service manager")]
    Inherited(#[source] io::Error),
    /// The service manager passed no such socket.
    #[error("no socket was passed for {address}: it is for socket activation by a service manager")]
    NotPassed {
        /// What was asked for.
        address: String,
    },
    /// A step failed.
    #[error("{step} {path}")]
    Step {
        /// What was done.
        step: &'static str,
        /// Socket or folder.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
}

/// What accepts connections.
#[derive(Debug)]
enum Acceptor {
    Unix(UnixListener),
    Tcp(TcpListener, Option<Arc<Tls>>),
}

/// A connection that was accepted, but not greeted yet.
#[derive(Debug)]
pub(crate) enum Accepted {
    Unix(UnixStream),
    Tcp(TcpStream, Option<Arc<Tls>>),
}

/// A listening socket; its file goes when this value goes.
#[derive(Debug)]
pub(crate) struct Socket {
    acceptor: Acceptor,
    _file: Option<SocketFile>,
}

/// The file of a unix socket that this daemon made.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Socket {
    /// Listens at a path, for root and the group.
    ///
    /// The socket is made under another name and renamed when it has its owner and mode, so that
    /// it never stands there open for everyone, and never without a listener behind it.
    pub(crate) fn bind(path: &Path, group: Option<u32>) -> Result<Self, ListenError> {
        let failed = |step: &'static str| {
            move |source| ListenError::Step {
                step,
                path: path.to_owned(),
                source,
            }
        };
        make_way(path)?;
        let folder = path.parent().unwrap_or(Path::new("/"));
        std::fs::create_dir_all(folder).map_err(failed("create the folder of socket"))?;
        let own = folder.join(format!(".gorae-{}.sock", std::process::id()));
        remove_if_there(&own).map_err(failed("clear the way for socket"))?;
        let listener = UnixListener::bind(&own).map_err(failed("listen on"))?;
        let socket = finish(&own, path, group).map_err(failed("set up socket"));
        match socket {
            Ok(inode) => Ok(Self {
                acceptor: Acceptor::Unix(listener),
                _file: Some(SocketFile {
                    path: path.to_owned(),
                    inode,
                }),
            }),
            Err(error) => {
                // the first error is the one to tell
                drop(remove_if_there(&own));
                Err(error)
            }
        }
    }

    /// Listens at a TCP address.
    pub(crate) fn bind_tcp(
        address: SocketAddr,
        tls: Option<Arc<Tls>>,
    ) -> Result<Self, ListenError> {
        let listener =
            tcp_listener(address).map_err(|source| ListenError::Tcp { address, source })?;
        Ok(Self {
            acceptor: Acceptor::Tcp(listener, tls),
            _file: None,
        })
    }

    /// Takes over a socket that the service manager opened. Its file stays: it is the manager's.
    pub(crate) fn inherited(
        descriptor: OwnedFd,
        tls: Option<Arc<Tls>>,
    ) -> Result<Self, ListenError> {
        let acceptor = take_over(descriptor, tls).map_err(ListenError::Inherited)?;
        Ok(Self {
            acceptor,
            _file: None,
        })
    }

    /// The TCP address that is listened on, and whether TLS keeps strangers out there.
    pub(crate) fn tcp_address(&self) -> Option<SocketAddr> {
        match &self.acceptor {
            Acceptor::Tcp(listener, _) => listener.local_addr().ok(),
            Acceptor::Unix(_) => None,
        }
    }

    /// Takes the next connection.
    pub(crate) async fn accept(&self) -> io::Result<Accepted> {
        match &self.acceptor {
            Acceptor::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok(Accepted::Unix(stream))
            }
            Acceptor::Tcp(listener, tls) => {
                let (stream, _) = listener.accept().await?;
                Ok(Accepted::Tcp(stream, tls.clone()))
            }
        }
    }
}

impl Accepted {
    /// Greets the client: over TLS it has to show who it is before it may ask.
    pub(crate) async fn greet(self) -> io::Result<Connection> {
        let (stream, tls) = match self {
            Self::Unix(stream) => return Ok(Connection::Unix(stream)),
            Self::Tcp(stream, tls) => (stream, tls),
        };
        stream.set_nodelay(true)?;
        // a client whose machine is gone says nothing: without this its streams would stay for ever
        sockopt::set_tcp_keepidle(&stream, KEEP_ALIVE)?;
        sockopt::set_tcp_keepintvl(&stream, KEEP_ALIVE)?;
        sockopt::set_socket_keepalive(&stream, true)?;
        let Some(tls) = tls else {
            return Ok(Connection::Tcp(stream));
        };
        let handshake = async {
            let mut stream = stream;
            let mut first = [0];
            if stream.peek(&mut first).await? == 1 && first[0].is_ascii_uppercase() {
                stream.write_all(NOT_TLS).await?;
                stream.shutdown().await?;
                // a socket that is closed with something unread takes the answer back with it
                drop(tokio::io::copy(&mut stream, &mut tokio::io::sink()).await);
                return Err(io::Error::other("the client spoke plain HTTP"));
            }
            tls.acceptor().accept(stream).await
        };
        let stream = tokio::time::timeout(HANDSHAKE, handshake).await??;
        Ok(Connection::Tls(Box::new(stream)))
    }
}

fn tcp_listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // the port stays usable across a restart, as connections of the past are no obstacle
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn take_over(descriptor: OwnedFd, tls: Option<Arc<Tls>>) -> io::Result<Acceptor> {
    let is_unix = rustix::net::getsockname(&descriptor)?.address_family() == AddressFamily::UNIX;
    if !sockopt::socket_acceptconn(&descriptor)? {
        return Err(io::Error::other("it is no listening stream socket"));
    }
    if is_unix {
        let listener = std::os::unix::net::UnixListener::from(descriptor);
        listener.set_nonblocking(true)?;
        return UnixListener::from_std(listener).map(Acceptor::Unix);
    }
    let listener = std::net::TcpListener::from(descriptor);
    listener.set_nonblocking(true)?;
    Ok(Acceptor::Tcp(TcpListener::from_std(listener)?, tls))
}

fn finish(own: &Path, path: &Path, group: Option<u32>) -> io::Result<u64> {
    let owner = group.map(Gid::from_raw);
    rustix::fs::chown(own, Some(Uid::ROOT), owner)?;
    std::fs::set_permissions(own, PermissionsExt::from_mode(0o660))?;
    std::fs::rename(own, path)?;
    Ok(std::fs::symlink_metadata(path)?.ino())
}

/// Removes a socket that nobody listens on any more.
fn make_way(path: &Path) -> Result<(), ListenError> {
    use std::os::unix::fs::FileTypeExt;
    match std::fs::symlink_metadata(path) {
        Err(_) => Ok(()),
        Ok(found) if !found.file_type().is_socket() => Err(ListenError::NotASocket {
            path: path.to_owned(),
        }),
        Ok(_) => match std::os::unix::net::UnixStream::connect(path) {
            Ok(_) => Err(ListenError::Taken {
                path: path.to_owned(),
            }),
            Err(_) => remove_if_there(path).map_err(|source| ListenError::Step {
                step: "remove the old socket",
                path: path.to_owned(),
                source,
            }),
        },
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // another engine may have put its own there meanwhile
        let ours = std::fs::symlink_metadata(&self.path).is_ok_and(|m| m.ino() == self.inode);
        if ours && let Err(error) = remove_if_there(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the socket's file stays");
        }
    }
}

/// Finds the group for sockets: the one that was asked for, or the first of the usual ones.
pub(crate) fn group(wanted: Option<&str>) -> Result<Option<u32>, ListenError> {
    match wanted {
        None => Ok(crate::group::first_of(&["gorae", "docker"])),
        Some(name) => match crate::group::first_of(&[name]) {
            Some(id) => Ok(Some(id)),
            None => Err(ListenError::NoGroup { name: name.into() }),
        },
    }
}

/// Lets the group, and nobody else, pass through the run folder to the socket in it.
pub(crate) fn open_folder(folder: &Path, group: Option<u32>) -> Result<(), ListenError> {
    let Some(group) = group else {
        return Ok(());
    };
    let open = || {
        rustix::fs::chown(folder, Some(Uid::ROOT), Some(Gid::from_raw(group)))?;
        std::fs::set_permissions(folder, PermissionsExt::from_mode(0o710))
    };
    open().map_err(|source| ListenError::Step {
        step: "open for the group the folder",
        path: folder.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn binds_and_cleans_up() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("deep/a.sock");
        let socket = Socket::bind(&path, Some(0)).unwrap();
        let found = std::fs::symlink_metadata(&path).unwrap();
        assert_eq!(found.permissions().mode() & 0o777, 0o660);
        assert!(matches!(
            Socket::bind(&path, None),
            Err(ListenError::Taken { .. })
        ));
        drop(socket);
        assert!(!path.exists());

        // a socket whose engine was killed
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let socket = Socket::bind(&path, None).unwrap();
        assert_eq!(
            std::fs::read_dir(path.parent().unwrap()).unwrap().count(),
            1
        );
        // somebody else's stays
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "").unwrap();
        drop(socket);
        assert!(path.exists());
        assert!(matches!(
            Socket::bind(&path, None),
            Err(ListenError::NotASocket { .. })
        ));
    }

    #[test]
    fn groups() {
        assert_eq!(group(Some("root")).unwrap(), Some(0));
        assert!(group(Some("no-such-group-here")).is_err());
    }
}
