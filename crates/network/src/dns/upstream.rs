//! Sockets to name servers.
//!
//! A question's answer is believed when it comes from the server that was asked, to the port that
//! asked, with its id and its question (RFC 5452). So a port is given up after a while, and at
//! once when no question is under way from it: a socket that is connected anew gets a new port
//! that nobody can guess.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustix::io::Errno;
use rustix::net::sockopt::socket_error;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType};
use tokio::io::{Interest, Ready};
use tokio::net::UdpSocket;

use super::dice::Dice;
use super::redirect::{ADDRESS, PORT, within};

/// A resolver file has three; whoever lists more has them asked, but not without limit.
pub(super) const MOST_SERVERS: usize = 8;
/// So many sockets a server are used at the same time.
const MOST_PORTS: usize = 8;
/// With so many questions under way from each port, another one is opened.
const SHARED_BY: usize = 32;
/// A port is given up after so many questions.
const USES: u32 = 1024;
/// Entering a namespace costs more than a socket does.
const PORTS_A_VISIT: usize = 4;

/// Where sockets to the servers are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In the namespace of the calling thread.
    Host,
    /// In the container's.
    Inside,
}

/// Leaves out our own address, at which the container would find us again.
pub(super) fn reachable(addresses: &[IpAddr]) -> Arc<[SocketAddr]> {
    let others = addresses.iter().filter(|address| **address != ADDRESS);
    others
        .map(|address| SocketAddr::new(*address, PORT))
        .take(MOST_SERVERS)
        .collect()
}

/// Makes sockets, in this namespace or in the container's.
pub(super) fn sockets(
    place: Place,
    namespace: BorrowedFd<'_>,
    address: SocketAddr,
    kind: SocketType,
    count: usize,
) -> io::Result<Vec<OwnedFd>> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let make = || -> io::Result<Vec<OwnedFd>> {
        let one = || rustix::net::socket_with(family, kind, flags, None);
        (0..count).map(|_| Ok(one()?)).collect()
    };
    match place {
        Place::Host => make(),
        Place::Inside => within(namespace, make).map_err(io::Error::other)?,
    }
}

/// The number of a question that waits for answers.
pub(super) type Flight = u64;

/// Where a question was sent from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) server: usize,
    port: usize,
    id: u16,
}

/// One name server and the sockets to it.
pub(super) struct Server {
    address: SocketAddr,
    ports: Vec<Port>,
    /// It has let a question wait, and has not answered since.
    pub(super) slow: bool,
}

struct Port {
    socket: Arc<UdpSocket>,
    /// Wakes for errors alone, which do not make a socket readable for tokio.
    trouble: Pin<Box<dyn Future<Output = io::Result<Ready>> + Send>>,
    pending: HashMap<u16, Flight>,
    uses: u32,
    /// The server's machine said that nobody listens there.
    refused: bool,
}

/// Something that a server's sockets brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// A datagram for this question, of this length.
    Datagram(Flight, usize),
    /// Nobody listens there: these questions will not be answered.
    Unreachable(Vec<Flight>),
}

impl Server {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            ports: Vec::new(),
            slow: false,
        }
    }

    /// Sends a question: a new id, and the rest as it is.
    pub(super) fn send(
        &mut self,
        flight: Flight,
        tail: &[u8],
        place: (Place, BorrowedFd<'_>),
        dice: &mut Dice,
        room: &mut Vec<u8>,
    ) -> io::Result<(usize, u16)> {
        let index = self.choose(place, dice)?;
        let address = self.address;
        let port = &mut self.ports[index];
        if port.pending.is_empty() && port.uses != 0 {
            port.renew(address)?;
        }
        let id = port.free_id(dice)?;
        room.clear();
        room.extend_from_slice(&id.to_be_bytes());
        room.extend_from_slice(tail);
        port.send(room)?;
        port.uses += 1;
        port.pending.insert(id, flight);
        Ok((index, id))
    }

    /// Chooses a port by lot, and opens more when all are busy.
    fn choose(&mut self, place: (Place, BorrowedFd<'_>), dice: &mut Dice) -> io::Result<usize> {
        let busy = |port: &Port| port.pending.len() >= SHARED_BY || port.worn_out();
        if self.ports.len() < MOST_PORTS && self.ports.iter().all(busy) {
            let opened = self.open(place);
            if self.ports.is_empty() {
                opened?;
            }
        }
        let first = dice.below(self.ports.len());
        let order = (first..self.ports.len()).chain(0..first);
        let fresh = order.clone().find(|index| !self.ports[*index].worn_out());
        Ok(fresh.unwrap_or(first))
    }

    fn open(&mut self, (place, namespace): (Place, BorrowedFd<'_>)) -> io::Result<()> {
        let count = match place {
            Place::Host => 1,
            Place::Inside => PORTS_A_VISIT,
        };
        for fd in sockets(place, namespace, self.address, SocketType::DGRAM, count)? {
            rustix::net::connect(&fd, &self.address)?;
            let socket = Arc::new(UdpSocket::from_std(fd.into())?);
            self.ports.push(Port {
                trouble: trouble(&socket),
                socket,
                pending: HashMap::new(),
                uses: 0,
                refused: false,
            });
        }
        Ok(())
    }

    /// Forgets that a question was sent from a port.
    pub(super) fn forget(&mut self, port: usize, id: u16) {
        if let Some(port) = self.ports.get_mut(port) {
            port.pending.remove(&id);
        }
    }

    /// Closes all sockets; no question may be under way.
    pub(super) fn close(&mut self) {
        self.ports.clear();
    }

    pub(super) fn is_open(&self) -> bool {
        !self.ports.is_empty()
    }

    /// Takes the next word from any port; `Pending` has all ports with questions watched.
    pub(super) fn poll(&mut self, context: &mut Context<'_>, room: &mut [u8]) -> Poll<Word> {
        for port in &mut self.ports {
            if port.pending.is_empty() {
                continue;
            }
            if let Poll::Ready(word) = port.poll(context, room) {
                return Poll::Ready(word);
            }
        }
        Poll::Pending
    }
}

/// Waits for an error of a socket.
fn trouble(socket: &Arc<UdpSocket>) -> Pin<Box<dyn Future<Output = io::Result<Ready>> + Send>> {
    let socket = Arc::clone(socket);
    Box::pin(async move { socket.ready(Interest::ERROR).await })
}

impl Port {
    fn worn_out(&self) -> bool {
        self.uses >= USES && !self.pending.is_empty()
    }

    /// Connects the socket again, which gives it another port.
    fn renew(&mut self, address: SocketAddr) -> io::Result<()> {
        rustix::net::connect_unspec(&self.socket)?;
        rustix::net::connect(&self.socket, &address)?;
        self.uses = 0;
        Ok(())
    }

    fn free_id(&self, dice: &mut Dice) -> io::Result<u16> {
        for _ in 0..16 {
            let id = dice.number().ok_or(io::ErrorKind::WouldBlock)?;
            if !self.pending.contains_key(&id) {
                return Ok(id);
            }
        }
        Err(io::ErrorKind::AddrInUse.into())
    }

    fn send(&mut self, datagram: &[u8]) -> io::Result<()> {
        let send = || rustix::net::send(self.socket.as_fd(), datagram, SendFlags::NOSIGNAL);
        match send() {
            // what comes back here is the refusal of an earlier one (udp(7))
            Err(Errno::CONNREFUSED) => {
                self.refused = true;
                send()?
            }
            other => other?,
        };
        Ok(())
    }

    fn poll(&mut self, context: &mut Context<'_>, room: &mut [u8]) -> Poll<Word> {
        if self.trouble.as_mut().poll(context).is_ready() {
            self.note_trouble();
            // the new future must be polled to be woken again
            context.waker().wake_by_ref();
        }
        if std::mem::take(&mut self.refused) {
            return Poll::Ready(self.give_up());
        }
        loop {
            match self.socket.poll_recv_ready(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(_)) => return Poll::Ready(self.give_up()),
                Poll::Ready(Ok(())) => {}
            }
            match self.socket.try_recv(room) {
                Ok(length) => {
                    if let Some(flight) = self.asked_for(room, length) {
                        return Poll::Ready(Word::Datagram(flight, length));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Poll::Ready(self.give_up()),
            }
        }
    }

    /// Finds the question that waits for a datagram with this id.
    fn asked_for(&self, datagram: &[u8], length: usize) -> Option<Flight> {
        let id = datagram.get(..2).filter(|_| length >= 2)?;
        self.pending
            .get(&u16::from_be_bytes([id[0], id[1]]))
            .copied()
    }

    fn note_trouble(&mut self) {
        if let Ok(Err(_)) = socket_error(&self.socket) {
            self.refused = true;
        }
        // tokio keeps the readiness until an attempt says that there is nothing left
        let nothing = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
        if let Err(error) = self.socket.try_io(Interest::ERROR, nothing) {
            tracing::trace!(?error, "the error of a name server's socket is noted");
        }
        self.trouble = trouble(&self.socket);
    }

    fn give_up(&mut self) -> Word {
        let pending = self.pending.drain();
        Word::Unreachable(pending.map(|(_, flight)| flight).collect())
    }
}

impl Sent {
    pub(super) fn new(server: usize, (port, id): (usize, u16)) -> Self {
        Self { server, port, id }
    }

    pub(super) fn forget(self, servers: &mut [Server]) {
        if let Some(server) = servers.get_mut(self.server) {
            server.forget(self.port, self.id);
        }
    }
}
