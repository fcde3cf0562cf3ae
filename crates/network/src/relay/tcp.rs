//! Connections.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{
    set_socket_keepalive, set_socket_linger, set_tcp_keepidle, set_tcp_nodelay,
};
use rustix::net::{Shutdown, SocketFlags, accept_with, shutdown};
use rustix::pipe::{SpliceFlags, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::limits::Limits;
use super::pipes::{Pipe, Pipes};
use super::{Listener, TURN};
use crate::ports::is_out_of_descriptors;

/// How much to ask for at once; a pipe holds less.
const CHUNK: usize = 1 << 20;

/// How long a connection may be quiet before its peers are asked whether they still live.
const QUIET: Duration = Duration::from_secs(60);

/// The connections of one container.
#[derive(Debug)]
pub(super) struct Connections {
    tasks: JoinSet<()>,
    pipes: Pipes,
    limit: usize,
    patience: Duration,
    warned: bool,
}

impl Connections {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            tasks: JoinSet::new(),
            pipes: Pipes::default(),
            limit: limits.connections,
            patience: limits.connect,
            warned: false,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Waits until a connection has ended.
    pub(super) async fn one_ends(&mut self) {
        if let Some(Err(error)) = self.tasks.join_next().await {
            tracing::error!(%error, "a relayed connection ended badly");
        }
    }

    /// Takes connections that wait; fails only when there is no descriptor for one.
    pub(super) fn accept(&mut self, listener: &Listener) -> io::Result<()> {
        for _ in 0..TURN {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            match accept_with(&listener.socket, flags) {
                Ok(client) if self.tasks.len() >= self.limit => self.refuse(&client, listener),
                Ok(client) => self.start(client, listener.container),
                Err(Errno::AGAIN) => break,
                Err(errno) if is_out_of_descriptors(&errno.into()) => return Err(errno.into()),
                // this one ended before it was taken (accept(2))
                Err(_) => {}
            }
        }
        Ok(())
    }

    fn start(&mut self, client: OwnedFd, container: SocketAddr) {
        let pipes = self.pipes.clone();
        let patience = self.patience;
        self.tasks.spawn(async move {
            if let Err(error) = relay(client, container, patience, &pipes).await {
                tracing::debug!(%container, %error, "a relayed connection was reset");
            }
        });
    }

    fn refuse(&mut self, client: &OwnedFd, listener: &Listener) {
        reset(client);
        if !self.warned {
            self.warned = true;
            let container = listener.container;
            let limit = self.limit;
            tracing::warn!(%container, limit, "too many relayed connections: refusing more");
        }
    }
}

/// Moves bytes both ways until both sides have ended; an error of one side resets the other.
async fn relay(
    client: OwnedFd,
    container: SocketAddr,
    patience: Duration,
    pipes: &Pipes,
) -> io::Result<()> {
    let client = TcpStream::from_std(client.into())?;
    let server = match timeout(patience, TcpStream::connect(container)).await {
        Ok(Ok(server)) => server,
        refused => {
            reset(&client);
            return refused?.map(drop);
        }
    };
    for side in [&client, &server] {
        set_tcp_nodelay(side, true)?;
        // a peer that vanished without a word would hold its place for ever
        set_socket_keepalive(side, true)?;
        set_tcp_keepidle(side, QUIET)?;
    }
    let both = tokio::try_join!(
        forward(&client, &server, pipes),
        forward(&server, &client, pipes)
    );
    if both.is_err() {
        reset(&client);
        reset(&server);
    }
    both.map(drop)
}

/// Moves bytes one way until the sender ends, and passes the end on.
async fn forward(from: &TcpStream, to: &TcpStream, pipes: &Pipes) -> io::Result<()> {
    loop {
        from.readable().await?;
        let pipe = pipes.take()?;
        match from.try_io(Interest::READABLE, || fill(&pipe, from)) {
            Ok(0) => break pipes.give_back(pipe),
            Ok(length) => {
                empty(&pipe, length, to).await?;
                pipes.give_back(pipe);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => pipes.give_back(pipe),
            Err(error) => return Err(error),
        }
    }
    // the other side may have gone already, which is no failure of this direction
    match shutdown(to, Shutdown::Write) {
        Ok(()) | Err(Errno::NOTCONN) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn fill(pipe: &Pipe, from: &TcpStream) -> io::Result<usize> {
    let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
    Ok(splice(from, None, &pipe.write, None, CHUNK, flags)?)
}

async fn empty(pipe: &Pipe, mut length: usize, to: &TcpStream) -> io::Result<()> {
    let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
    while length > 0 {
        to.writable().await?;
        let moved = to.try_io(Interest::WRITABLE, || {
            Ok(splice(&pipe.read, None, to, None, length, flags)?)
        });
        match moved {
            Ok(moved) => length -= moved,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Has the peer see a reset when the socket is closed, as if nobody had listened.
fn reset(socket: impl AsFd) {
    if let Err(error) = set_socket_linger(socket, Some(Duration::ZERO)) {
        tracing::debug!(%error, "cannot reset a connection");
    }
}
