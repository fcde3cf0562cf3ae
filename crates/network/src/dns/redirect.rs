//! The resolver's sockets inside a namespace, and the rules that lead port 53 to them.
//!
//! The sockets listen on ports that the kernel chooses, so that a program inside can have port 53
//! of all addresses to itself. In `nft`'s words:
//!
//! ```text
//! table inet gorae {
//!   chain questions { type filter hook output priority raw
//!     ip daddr 127.0.0.11 udp dport 53 udp dport set 40001
//!     ip daddr 127.0.0.11 tcp dport 53 tcp dport set 40002 }
//!   chain answers { type filter hook output priority mangle
//!     ip saddr 127.0.0.11 udp sport 40001 udp sport set 53
//!     ip saddr 127.0.0.11 tcp sport 40002 tcp sport set 53 }
//! }
//! ```
//!
//! Nothing of this tracks connections. Where the container's own rules do, they see the resolver's
//! ports in both directions: a question is rewritten before tracking looks at it (priority -200),
//! and an answer behind.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, UdpSocket};
use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use sys::netns::{Family, NetnsError};

use super::DnsError;
use crate::netlink::{Socket, tolerate};
use crate::nft::{self, Chain, End, Hook, Transaction, Transport};

/// Where every container's resolver is.
pub(super) const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
pub(super) const PORT: u16 = 53;

const TABLE: &str = "gorae";
/// Datagrams that wait while the task is busy; the default holds some two hundred.
const RECEIVE_BUFFER: usize = 1 << 20;
/// Questions come and answers leave by this link alone. So nobody else on a network of the
/// container's is answered, not even where `route_localnet` lets packets for 127.0.0.11 in.
const LOOPBACK: i32 = 1;

const QUESTIONS: Chain = Chain {
    family: nft::Family::Inet,
    name: "questions",
    kind: "filter",
    hook: Hook::Output,
    priority: -300,
};
const ANSWERS: Chain = Chain {
    family: nft::Family::Inet,
    name: "answers",
    kind: "filter",
    hook: Hook::Output,
    priority: -150,
};

/// The sockets of one resolver.
#[derive(Debug)]
pub(super) struct Sockets {
    pub(super) udp: UdpSocket,
    pub(super) tcp: TcpListener,
    /// What closes late, if anything was deleted.
    pub(super) spent: Option<Spent>,
}

/// A netlink socket by which something was deleted.
///
/// To close it takes some 15 milliseconds: the kernel waits until nobody can see any more what was
/// deleted (`nft_rcv_nl_event` flushes the work that waits for RCU). So that is for a thread that
/// nobody waits for.
#[derive(Debug)]
pub(super) struct Spent {
    _socket: Socket,
}

/// Opens the sockets and puts the rules in place of those of an earlier resolver.
pub(super) fn open(namespace: BorrowedFd<'_>) -> Result<Sockets, DnsError> {
    within(namespace, || {
        let mut sockets = listen().map_err(DnsError::Listen)?;
        let ports = sockets.ports().map_err(DnsError::Listen)?;
        let mut socket = Socket::open(Family::Netfilter).map_err(DnsError::Redirect)?;
        let replaced = put_rules(&mut socket, ports).map_err(DnsError::Redirect)?;
        sockets.spent = replaced.then_some(Spent { _socket: socket });
        Ok(sockets)
    })?
}

/// Takes the rules away.
pub(super) fn close(namespace: BorrowedFd<'_>) -> Result<Spent, DnsError> {
    within(namespace, || {
        let mut socket = Socket::open(Family::Netfilter).map_err(DnsError::Redirect)?;
        let mut transaction = Transaction::new(TABLE);
        transaction.delete_table(nft::Family::Inet);
        tolerate(transaction.commit(&mut socket), Errno::NOENT).map_err(DnsError::Redirect)?;
        Ok(Spent { _socket: socket })
    })?
}

pub(super) fn within<T: Send>(
    namespace: BorrowedFd<'_>,
    work: impl FnOnce() -> T + Send,
) -> Result<T, DnsError> {
    sys::netns::within(namespace, work).map_err(|error: NetnsError| DnsError::Enter(error))
}

fn listen() -> io::Result<Sockets> {
    let any = SocketAddr::V4(SocketAddrV4::new(ADDRESS, 0));
    let udp = UdpSocket::bind(any)?;
    let tcp = TcpListener::bind(any)?;
    sys::socket::bind_to_interface(&udp, Some(LOOPBACK))?;
    sys::socket::bind_to_interface(&tcp, Some(LOOPBACK))?;
    udp.set_nonblocking(true)?;
    tcp.set_nonblocking(true)?;
    if let Err(errno) = set_socket_recv_buffer_size_force(&udp, RECEIVE_BUFFER) {
        tracing::debug!(%errno, "a resolver has the default receive buffer");
    }
    Ok(Sockets {
        udp,
        tcp,
        spent: None,
    })
}

impl Sockets {
    fn ports(&self) -> io::Result<[(Transport, u16); 2]> {
        Ok([
            (Transport::Udp, self.udp.local_addr()?.port()),
            (Transport::Tcp, self.tcp.local_addr()?.port()),
        ])
    }
}

/// Makes the rules; tells whether others had to go.
fn put_rules(
    socket: &mut Socket,
    ports: [(Transport, u16); 2],
) -> Result<bool, crate::netlink::NetlinkError> {
    let earlier = !nft::tables(socket, TABLE)?.is_empty();
    let mut transaction = Transaction::new(TABLE);
    transaction.add_table(nft::Family::Inet);
    if earlier {
        transaction.delete_table(nft::Family::Inet);
        transaction.add_table(nft::Family::Inet);
    }
    transaction.add_chain(&QUESTIONS);
    transaction.add_chain(&ANSWERS);
    for (transport, port) in ports {
        transaction.add_rule(&QUESTIONS, "questions to the resolver", |e| {
            e.is_at(End::Destination, transport, ADDRESS, PORT);
            e.set_port(End::Destination, transport, port);
        });
        transaction.add_rule(&ANSWERS, "answers of the resolver", |e| {
            e.is_at(End::Source, transport, ADDRESS, port);
            e.set_port(End::Source, transport, PORT);
        });
    }
    transaction.commit(socket)?;
    Ok(earlier)
}
