//! Serves published ports that no rule of the kernel can redirect: from a family of addresses that
//! the container lacks, and from `[::1]`.
//!
//! All sockets of a container are watched by one epoll of their own, and that by one task: a port
//! that nobody uses costs a descriptor and no memory of ours. Connections are tasks that move
//! bytes within the kernel; datagrams are answered from a table of sessions.

mod limits;
mod pipes;
mod tcp;
mod udp;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{Timespec, epoll};
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_reuseaddr};
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::ports::{PortMapping, Protocol};
use tcp::Connections;
use udp::Sessions;

pub(crate) use limits::Limits;

/// How many events are taken from the kernel at once.
const EVENTS: usize = 32;
/// How many connections or datagrams one socket may bring before the next socket's turn.
const TURN: usize = 32;
/// How many connections may wait until they are taken.
const BACKLOG: i32 = 1024;
/// Room for datagrams that wait, in a kernel that grants less by default.
const DATAGRAM_BUFFER: usize = 208 << 10;
/// How long to leave connections waiting when there is no descriptor for one more.
const REST: Duration = Duration::from_millis(100);

/// A socket that holds a port, and where its traffic is to go.
#[derive(Debug)]
pub(crate) struct Listener {
    /// The bound socket.
    pub(crate) socket: OwnedFd,
    /// What it speaks.
    pub(crate) protocol: Protocol,
    /// The host's address that it is bound to.
    pub(crate) bound: IpAddr,
    /// The host's port.
    pub(crate) port: u16,
    /// Where its traffic is to go.
    pub(crate) container: SocketAddr,
}

/// Serves some sockets until it is dropped; they are closed when `drop` returns.
#[derive(Debug)]
pub(crate) struct Relay {
    listeners: Arc<Listeners>,
    task: JoinHandle<()>,
}

/// Shared with the task, which must not keep a port taken after the relay is dropped.
#[derive(Debug)]
struct Listeners(Mutex<BTreeMap<u64, Listener>>);

struct Worker {
    listeners: Arc<Listeners>,
    connections: Connections,
    sessions: Sessions,
}

impl Relay {
    /// Has the sockets listen and serves them on the runtime.
    pub(crate) fn start(
        runtime: &Handle,
        listeners: Vec<Listener>,
        limits: &Limits,
    ) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let listeners: BTreeMap<u64, Listener> = (0..).zip(listeners).collect();
        for (id, listener) in &listeners {
            listener.open()?;
            watch(epoll.as_fd(), &listener.socket, *id)?;
        }
        let listeners = Arc::new(Listeners(Mutex::new(listeners)));
        let worker = Worker {
            listeners: Arc::clone(&listeners),
            connections: Connections::new(limits),
            sessions: Sessions::new(limits),
        };
        // AsyncFd registers with the runtime whose context this is
        let _context = runtime.enter();
        #[expect(
            deprecated,
            reason = "the successor is unsafe for types that lie about their descriptor: OwnedFd does not"
        )]
        let epoll = AsyncFd::new(epoll)?;
        let task = runtime.spawn(worker.run(epoll));
        Ok(Self { listeners, task })
    }

    /// Closes the sockets of which `stays` is not true; what comes through the others goes on.
    pub(crate) fn retain(&self, stays: impl Fn(&Listener) -> bool) {
        // a socket leaves the epoll when it is closed (epoll(7), "Questions and answers")
        self.listeners.lock().retain(|_, listener| stays(listener));
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.listeners.lock().clear();
        self.task.abort();
    }
}

impl Listener {
    /// Tells whether it is the socket of a mapping.
    pub(crate) fn is_for(&self, mapping: &PortMapping) -> bool {
        (self.protocol, self.bound, self.port)
            == (mapping.protocol, mapping.host_ip, mapping.host_port)
    }

    /// Turns a socket that only holds its port into one that serves it.
    fn open(&self) -> io::Result<()> {
        rustix::io::ioctl_fionbio(&self.socket, true)?;
        if self.protocol == Protocol::Udp {
            sys::datagram::report_destinations(&self.socket, self.bound)?;
            set_socket_recv_buffer_size(&self.socket, DATAGRAM_BUFFER)?;
            return sys::socket::bind_to_interface(&self.socket, None);
        }
        // passes over connections in TIME_WAIT; others cannot bind beside a socket that listens
        set_socket_reuseaddr(&self.socket, true)?;
        Ok(rustix::net::listen(&self.socket, BACKLOG)?)
    }
}

impl Listeners {
    /// Never held while a task waits, so whoever drops the relay gets it at once.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Listener>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Worker {
    async fn run(mut self, epoll: AsyncFd<OwnedFd>) {
        loop {
            tokio::select! {
                ready = epoll.readable() => {
                    let Ok(mut ready) = ready else { return };
                    match self.take_turns(epoll.get_ref().as_fd()) {
                        Ok(true) => {}
                        Ok(false) => ready.clear_ready(),
                        Err(error) => {
                            tracing::warn!(%error, "a relay of published ports rests");
                            sleep(REST).await;
                        }
                    }
                }
                () = self.connections.one_ends(), if !self.connections.is_empty() => {}
                () = self.sessions.grow_old(), if !self.sessions.is_empty() => {
                    self.sessions.end_idle();
                }
            }
        }
    }

    /// Serves what is ready, each socket for one turn; tells whether there was any.
    ///
    /// Events stay until what caused them is taken, so nothing is lost by a turn's end.
    fn take_turns(&mut self, epoll: BorrowedFd<'_>) -> io::Result<bool> {
        let mut events = Vec::with_capacity(EVENTS);
        let spare = rustix::buffer::spare_capacity(&mut events);
        epoll::wait(epoll, spare, Some(&Timespec::default()))?;
        let listeners = self.listeners.lock();
        for event in &events {
            let id = event.data.u64();
            match listeners.get(&id) {
                Some(listener) if listener.protocol == Protocol::Udp => {
                    self.sessions.forward(epoll, id, listener);
                }
                Some(listener) => self.connections.accept(listener)?,
                None => self.sessions.answer(id, &listeners),
            }
        }
        Ok(!events.is_empty())
    }
}

fn watch(epoll: BorrowedFd<'_>, socket: impl AsFd, id: u64) -> io::Result<()> {
    let data = epoll::EventData::new_u64(id);
    Ok(epoll::add(epoll, socket, data, epoll::EventFlags::IN)?)
}

#[cfg(test)]
mod tests;
