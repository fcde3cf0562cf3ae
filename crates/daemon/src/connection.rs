//! A client's connection, whatever it came over, and its two directions.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream, tcp, unix};
use tokio_rustls::server::TlsStream;

/// How often, a millisecond apart, it is looked whether a client has read what was written.
const READ_TRIES: u32 = 50;
/// What a client beyond a network gets for the same.
const NETWORK_PAUSE: Duration = Duration::from_millis(10);

/// A connection.
#[derive(Debug)]
pub(crate) enum Connection {
    Unix(UnixStream),
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// What comes from the client.
#[derive(Debug)]
pub(crate) enum FromClient {
    Unix(unix::OwnedReadHalf),
    Tcp(tcp::OwnedReadHalf),
    Tls(tokio::io::ReadHalf<TlsStream<TcpStream>>),
}

/// What goes to the client.
#[derive(Debug)]
pub(crate) enum ToClient {
    Unix(unix::OwnedWriteHalf),
    Tcp(tcp::OwnedWriteHalf),
    Tls(tokio::io::WriteHalf<TlsStream<TcpStream>>),
}

impl Connection {
    /// Takes the directions apart.
    pub(crate) fn into_split(self) -> (FromClient, ToClient) {
        match self {
            Self::Unix(stream) => {
                let (from, to) = stream.into_split();
                (FromClient::Unix(from), ToClient::Unix(to))
            }
            Self::Tcp(stream) => {
                let (from, to) = stream.into_split();
                (FromClient::Tcp(from), ToClient::Tcp(to))
            }
            Self::Tls(stream) => {
                let (from, to) = tokio::io::split(*stream);
                (FromClient::Tls(from), ToClient::Tls(to))
            }
        }
    }

    /// Whether the end of the client's input can be told from the client's end, see `hang_up`.
    pub(crate) fn tells_half_close(&self) -> bool {
        matches!(self, Self::Unix(_))
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(stream) => stream.as_fd(),
            Self::Tcp(stream) => stream.as_fd(),
            Self::Tls(stream) => stream.get_ref().0.as_fd(),
        }
    }
}

impl ToClient {
    /// Waits until the client has read what was written so far, but not for ever.
    pub(crate) async fn read_by_client(&self) {
        let Self::Unix(stream) = self else {
            // TCP knows only that the client's kernel has it
            tokio::time::sleep(NETWORK_PAUSE).await;
            return;
        };
        for _ in 0..READ_TRIES {
            // a socket that cannot tell is not waited for
            if sys::socket::is_drained(stream.as_ref()).unwrap_or(true) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Hands a call on to whichever stream there is.
macro_rules! forward {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Self::Unix(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
            Self::Tcp(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
            Self::Tls(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
        }
    };
}

macro_rules! reads {
    ($name:ident) => {
        impl AsyncRead for $name {
            fn poll_read(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                buffer: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                forward!(self, stream => stream.poll_read(context, buffer))
            }
        }
    };
}

macro_rules! writes {
    ($name:ident) => {
        impl AsyncWrite for $name {
            fn poll_write(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                bytes: &[u8],
            ) -> Poll<io::Result<usize>> {
                forward!(self, stream => stream.poll_write(context, bytes))
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                pieces: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                forward!(self, stream => stream.poll_write_vectored(context, pieces))
            }

            fn is_write_vectored(&self) -> bool {
                match self {
                    Self::Unix(stream) => stream.is_write_vectored(),
                    Self::Tcp(stream) => stream.is_write_vectored(),
                    Self::Tls(stream) => stream.is_write_vectored(),
                }
            }

            fn poll_flush(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
            ) -> Poll<io::Result<()>> {
                forward!(self, stream => stream.poll_flush(context))
            }

            fn poll_shutdown(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
            ) -> Poll<io::Result<()>> {
                forward!(self, stream => stream.poll_shutdown(context))
            }
        }
    };
}

reads!(Connection);
reads!(FromClient);
writes!(Connection);
writes!(ToClient);
