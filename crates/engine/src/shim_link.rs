//! The engine's end of its connections to shims, for async code.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use shim::{CallError, ErrorKind, Event, FrameError, FrameReader, Reply, Request};
use tokio::io::Interest;
use tokio::net::UnixStream;

use crate::error::{Error, Kind, Result, Step};

/// A connection on which requests are made or events arrive.
#[derive(Debug)]
pub(crate) struct Link {
    socket: UnixStream,
    reader: FrameReader,
}

impl Link {
    /// Takes over a connection made with blocking calls.
    pub(crate) fn new(socket: std::os::unix::net::UnixStream) -> Result<Self> {
        let step = || "take over a shim's connection";
        socket.set_nonblocking(true).step(step)?;
        Ok(Self {
            socket: UnixStream::from_std(socket).step(step)?,
            reader: FrameReader::default(),
        })
    }

    /// Connects to the shim of a container's run directory.
    pub(crate) fn connect(dir: &Path) -> Result<Self> {
        // a listening unix socket answers at once: its queue is long and its owner only polls
        Self::new(shim::connect(dir).step(|| format!("connect to the shim at {}", dir.display()))?)
    }

    /// Makes a request with its fds and waits for the answer.
    pub(crate) async fn call(
        &mut self,
        request: &Request,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Reply, CallError> {
        self.send(request, fds).await.map_err(CallError::Frame)?;
        match self
            .receive()
            .await
            .map_err(CallError::Frame)?
            .ok_or(CallError::Closed)?
        {
            Reply::Error {
                kind,
                step,
                message,
            } => Err(CallError::Refused {
                kind,
                step,
                message,
            }),
            reply => Ok(reply),
        }
    }

    /// The next event, or `None` when the shim has let go of everything.
    pub(crate) async fn event(&mut self) -> Result<Option<Event>, FrameError> {
        self.receive().await
    }

    /// The connection as the byte stream that it is after `Attach` or `Exec`.
    pub(crate) fn into_stream(self) -> UnixStream {
        self.socket
    }

    async fn send(&self, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<(), FrameError> {
        let bytes = shim::frame::encode(request)?;
        let mut done = 0;
        while done < bytes.len() {
            let with = if done == 0 { fds } else { &[] };
            let part = || shim::frame::send_part(self.socket.as_fd(), &bytes[done..], with);
            done += self
                .socket
                .async_io(Interest::WRITABLE, part)
                .await
                .map_err(FrameError::Send)?;
        }
        Ok(())
    }

    async fn receive<T: serde::de::DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        let (socket, reader) = (&self.socket, &mut self.reader);
        let read = || reader.read(socket.as_fd());
        match socket.async_io(Interest::READABLE, read).await {
            Ok(Some(frame)) => frame.parse().map(Some),
            Ok(None) => Ok(None),
            // the shim is gone: killed, or ended after its last word
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(None),
            Err(error) => Err(FrameError::Receive(error)),
        }
    }
}

/// Asks the shim of a run directory one thing over a connection of its own.
pub(crate) async fn ask(dir: &Path, request: &Request) -> Result<Reply> {
    let mut link = Link::connect(dir)?;
    link.call(request, &[]).await.map_err(|e| refusal(&e))
}

/// A shim's refusal as the engine's error.
pub(crate) fn refusal(error: &CallError) -> Error {
    let kind = match error {
        CallError::Refused {
            kind: ErrorKind::NotFound | ErrorKind::NotExecutable | ErrorKind::InvalidInput,
            ..
        } => Kind::InvalidParameter,
        CallError::Refused {
            kind: ErrorKind::NoSuchProcess,
            ..
        } => Kind::Conflict,
        CallError::Refused {
            kind: ErrorKind::Other,
            ..
        }
        | CallError::Frame(_)
        | CallError::Closed => Kind::System,
    };
    Error::new(kind, crate::error::chain(error))
}
