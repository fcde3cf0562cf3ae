//! The connection to a receiver, and when it has what was sent.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use distribution::HostNames;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket, UnixDatagram, UnixStream};

use super::address::{Address, Host};
use super::batch::Batch;

/// How long a connection or a name may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a receiver's kernel may not answer at all.
const SILENCE_MS: u32 = 30_000;
/// How long an acknowledgement may take.
const ACKNOWLEDGE: Duration = Duration::from_secs(30);
/// Where syslog's socket may be.
const SYSLOG_SOCKETS: [&str; 3] = ["/dev/log", "/var/run/syslog", "/var/run/log"];

/// An open way to a receiver.
#[derive(Debug)]
pub(super) enum Connection {
    Tcp(TcpStream),
    Unix(UnixStream),
    Udp(UdpSocket),
    Unixgram(UnixDatagram),
}

/// A batch that was not sent to its end.
#[derive(Debug)]
pub(super) struct Unsent {
    /// The first frame that has to be sent again.
    pub(super) frame: usize,
    pub(super) error: io::Error,
}

impl Connection {
    /// Connects.
    pub(super) async fn open(address: &Address, names: &HostNames) -> io::Result<Self> {
        let opening = async {
            match address {
                Address::Tcp(host) => tcp(host, names).await.map(Self::Tcp),
                Address::Udp(host) => udp(host, names).await.map(Self::Udp),
                Address::Unix(path) => UnixStream::connect(path).await.map(Self::Unix),
                Address::Unixgram(path) => unixgram(path).map(Self::Unixgram),
                Address::LocalSyslog => local_syslog().await,
            }
        };
        match tokio::time::timeout(CONNECT, opening).await {
            Ok(opened) => opened,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Sends a batch from a frame on, and returns when the receiver, or at least its kernel, has all.
    pub(super) async fn send(&mut self, batch: &Batch, from: usize) -> Result<(), Unsent> {
        match self {
            Self::Tcp(_) | Self::Unix(_) => self
                .stream(batch, from)
                .await
                .map_err(|error| Unsent { frame: from, error }),
            Self::Udp(_) | Self::Unixgram(_) => self.datagrams(batch, from).await,
        }
    }

    async fn stream(&mut self, batch: &Batch, from: usize) -> io::Result<()> {
        // one that has gone away is told by the end of what it sends, where a write would succeed
        self.check_open()?;
        match self {
            Self::Tcp(stream) => stream.write_all(batch.rest(from)).await?,
            Self::Unix(stream) => stream.write_all(batch.rest(from)).await?,
            Self::Udp(_) | Self::Unixgram(_) => {}
        }
        match &batch.acknowledgement {
            Some(expected) => self.acknowledged(expected).await,
            None => self.drained().await,
        }
    }

    /// Waits until the peer's kernel has taken every byte.
    async fn drained(&self) -> io::Result<()> {
        let mut pause = Duration::from_micros(200);
        while !sys::socket::is_drained(self.fd())? {
            self.check_open()?;
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(50));
        }
        self.check_open()
    }

    async fn acknowledged(&mut self, expected: &[u8]) -> io::Result<()> {
        let mut answer = Vec::new();
        let reading = async {
            loop {
                let count = match self {
                    Self::Tcp(stream) => stream.read_buf(&mut answer).await?,
                    Self::Unix(stream) => stream.read_buf(&mut answer).await?,
                    Self::Udp(_) | Self::Unixgram(_) => return Ok(()),
                };
                if memchr::memmem::find(&answer, expected).is_some() {
                    return Ok(());
                }
                if count == 0 || answer.len() > 64 << 10 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
        };
        match tokio::time::timeout(ACKNOWLEDGE, reading).await {
            Ok(result) => result,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    async fn datagrams(&self, batch: &Batch, from: usize) -> Result<(), Unsent> {
        for frame in from..batch.frames() {
            let sent = match self {
                Self::Udp(socket) => {
                    let sent = socket.send(batch.frame(frame)).await;
                    // a host that refuses tells of it later, this one at once
                    sent.and_then(|_| socket.take_error()?.map_or(Ok(()), Err))
                }
                Self::Unixgram(socket) => socket.send(batch.frame(frame)).await.map(drop),
                Self::Tcp(_) | Self::Unix(_) => Ok(()),
            };
            match sent {
                // no receiver ever takes one of this length
                Err(error) if is_too_long(&error) => {
                    tracing::warn!(
                        bytes = batch.frame(frame).len(),
                        "a log message is too long for a datagram"
                    );
                }
                Err(error) => return Err(Unsent { frame, error }),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    fn check_open(&self) -> io::Result<()> {
        let mut byte = [0; 256];
        let read = match self {
            Self::Tcp(stream) => stream.try_read(&mut byte),
            Self::Unix(stream) => stream.try_read(&mut byte),
            Self::Udp(_) | Self::Unixgram(_) => return Ok(()),
        };
        match read {
            Ok(0) => Err(io::ErrorKind::ConnectionReset.into()),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
            Self::Udp(socket) => socket.as_fd(),
            Self::Unixgram(socket) => socket.as_fd(),
        }
    }
}

fn is_too_long(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::MSGSIZE.raw_os_error())
}

async fn addresses(host: &Host, names: &HostNames) -> io::Result<Vec<SocketAddr>> {
    let found: Vec<IpAddr> = names
        .lookup(&host.name, CONNECT)
        .await
        .map_err(|error| io::Error::other(crate::error::chain(&error)))?;
    Ok(found
        .into_iter()
        .map(|address| SocketAddr::new(address, host.port))
        .collect())
}

async fn tcp(host: &Host, names: &HostNames) -> io::Result<TcpStream> {
    let mut failed = io::ErrorKind::AddrNotAvailable.into();
    for address in addresses(host, names).await? {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                rustix::net::sockopt::set_tcp_user_timeout(&stream, SILENCE_MS)?;
                return Ok(stream);
            }
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

async fn udp(host: &Host, names: &HostNames) -> io::Result<UdpSocket> {
    let mut failed = io::ErrorKind::AddrNotAvailable.into();
    for address in addresses(host, names).await? {
        let any: IpAddr = if address.is_ipv4() {
            std::net::Ipv4Addr::UNSPECIFIED.into()
        } else {
            std::net::Ipv6Addr::UNSPECIFIED.into()
        };
        let socket = UdpSocket::bind((any, 0)).await?;
        match socket.connect(address).await {
            Ok(()) => return Ok(socket),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn unixgram(path: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    Ok(socket)
}

async fn local_syslog() -> io::Result<Connection> {
    let mut failed: io::Error = io::ErrorKind::NotFound.into();
    for path in SYSLOG_SOCKETS {
        match unixgram(Path::new(path)) {
            Ok(socket) => return Ok(Connection::Unixgram(socket)),
            Err(error) => failed = error,
        }
        if let Ok(stream) = UnixStream::connect(path).await {
            return Ok(Connection::Unix(stream));
        }
    }
    Err(failed)
}

/// Whether the host has a syslog.
pub(super) fn has_local_syslog() -> bool {
    SYSLOG_SOCKETS
        .iter()
        .map(PathBuf::from)
        .any(|path| path.exists())
}
