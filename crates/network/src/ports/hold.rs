//! The socket that holds a port.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::sockopt::{set_ipv6_v6only, set_socket_reuseaddr};
use rustix::net::{
    AddressFamily, Shutdown, SocketFlags, SocketType, ipproto, listen, shutdown, socket_with,
};

use super::Protocol;

/// The index of a link that no host has: indices are given in order, from 1.
const NO_INTERFACE: i32 = i32::MAX;

/// Binds a socket; `None` when the host's kernel does not know the protocol, so nobody else can
/// have the port either.
///
/// Such a socket takes nothing: a connection or a datagram that is not redirected is refused, as if
/// the port were closed, rather than wait in a queue that nobody empties. Without `SO_REUSEADDR` a bound socket keeps everybody else from binding, whether it listens or
/// not (inet_csk_bind_conflict).
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
        Ok(()) if protocol == Protocol::Udp => {
            // Only now, since a socket of one link clashes with fewer others. It goes on to clash
            // with all that are not of one link themselves (inet_rcv_saddr_equal and its callers).
            sys::socket::bind_to_interface(&socket, Some(NO_INTERFACE))?;
            Ok(Some(socket))
        }
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
    Ok(socket)
}
