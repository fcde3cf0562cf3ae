//! The socket that holds a port.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::sockopt::{set_ipv6_v6only, set_socket_recv_buffer_size, set_socket_reuseaddr};
use rustix::net::{
    AddressFamily, Shutdown, SocketFlags, SocketType, ipproto, listen, shutdown, socket_with,
};

use super::Protocol;

/// Binds a socket; `None` when the host's kernel does not know the protocol, so nobody else can
/// have the port either.
///
/// Without `SO_REUSEADDR` a bound socket keeps everybody else from binding, whether it listens or
/// not (inet_csk_bind_conflict). It must not listen: a connection that is not redirected, such as
/// one over IPv6, shall be refused rather than wait in a queue that nobody empties.
pub(super) fn bind(protocol: Protocol, address: SocketAddr) -> io::Result<Option<OwnedFd>> {
    let socket = match open(protocol, address) {
        Ok(socket) => socket,
        Err(Errno::PROTONOSUPPORT | Errno::SOCKTNOSUPPORT) if protocol == Protocol::Sctp => {
            return Ok(None);
        }
        // an address family that is switched off has no ports
        Err(Errno::AFNOSUPPORT) if address.ip().is_unspecified() => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    match rustix::net::bind(&socket, &address) {
        Ok(()) => Ok(Some(socket)),
        Err(Errno::ADDRINUSE) if protocol == Protocol::Tcp => bind_despite_old_connections(address)
            .map(Some)
            .map_err(io::Error::from),
        Err(errno) => Err(errno.into()),
    }
}

/// Binds again when only connections in TIME_WAIT, left by a server that ended, are in the way.
///
/// `SO_REUSEADDR` passes those over, but also a socket that is bound and does not listen yet;
/// listening for a moment tells, for it checks again (inet_csk_listen_start). `shutdown` makes the
/// socket a merely bound one, and without the flag it keeps everybody else from listening.
fn bind_despite_old_connections(address: SocketAddr) -> Result<OwnedFd, Errno> {
    let socket = open(Protocol::Tcp, address)?;
    set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    listen(&socket, 0)?;
    shutdown(&socket, Shutdown::Read)?;
    set_socket_reuseaddr(&socket, false)?;
    Ok(socket)
}

fn open(protocol: Protocol, address: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let (kind, number) = match protocol {
        Protocol::Tcp => (SocketType::STREAM, ipproto::TCP),
        Protocol::Udp => (SocketType::DGRAM, ipproto::UDP),
        Protocol::Sctp => (SocketType::STREAM, ipproto::SCTP),
    };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, Some(number))?;
    if address.is_ipv6() {
        // IPv4 has a socket of its own, or is not wanted
        set_ipv6_v6only(&socket, true)?;
    }
    if protocol == Protocol::Udp {
        // what is not redirected piles up here unread: let it be little
        set_socket_recv_buffer_size(&socket, 0)?;
    }
    Ok(socket)
}

/// Says why a port cannot be bound, in the words of Docker's clients.
pub(super) fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "address already in use".to_owned(),
        io::ErrorKind::AddrNotAvailable => "cannot assign requested address".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}
