//! A byte stream to an engine, whatever it goes over.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

use super::ssh::Session;

/// A connection to an engine.
#[derive(Debug)]
pub struct Transport(pub(super) Inner);

#[derive(Debug)]
pub(super) enum Inner {
    Unix(UnixStream),
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Ssh(Box<Session>),
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Inner::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
            Inner::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Inner::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
            Inner::Ssh(stream) => Pin::new(&mut stream.output).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().0 {
            Inner::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
            Inner::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Inner::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
            Inner::Ssh(stream) => stream.poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().0 {
            Inner::Unix(stream) => Pin::new(stream).poll_write_vectored(context, pieces),
            Inner::Tcp(stream) => Pin::new(stream).poll_write_vectored(context, pieces),
            Inner::Tls(stream) => Pin::new(stream).poll_write_vectored(context, pieces),
            Inner::Ssh(stream) => {
                let first = pieces.iter().find(|piece| !piece.is_empty());
                stream.poll_write(context, first.map_or(&[], |piece| piece))
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        !matches!(self.0, Inner::Ssh(_))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Inner::Unix(stream) => Pin::new(stream).poll_flush(context),
            Inner::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Inner::Tls(stream) => Pin::new(stream).poll_flush(context),
            Inner::Ssh(stream) => stream.poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Inner::Unix(stream) => Pin::new(stream).poll_shutdown(context),
            Inner::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Inner::Tls(stream) => Pin::new(stream).poll_shutdown(context),
            Inner::Ssh(stream) => stream.poll_shutdown(context),
        }
    }
}
