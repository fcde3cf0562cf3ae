//! What a connected socket still holds for its peer, and options that `rustix` does not set.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// Has a socket receive only what comes over the link of this index; `None` lifts that.
///
/// The kernel takes the index of a link that does not exist: such a socket receives nothing.
///
/// # Errors
/// When the descriptor is no socket, or to lift it without `CAP_NET_RAW`.
pub fn bind_to_interface(socket: impl AsFd, index: Option<i32>) -> io::Result<()> {
    let index: libc::c_int = index.unwrap_or_default();
    set_option(
        socket.as_fd(),
        libc::SOL_SOCKET,
        libc::SO_BINDTOIFINDEX,
        index,
    )
}

/// Sets an option whose value is a number.
pub(crate) fn set_option(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of_val(&value)).map_err(io::Error::other)?;
    // SAFETY: the kernel reads `length` bytes at the pointer, which is exactly the live local
    // `value`; the descriptor is open for as long as it is borrowed.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            length,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Tells whether the peer has read all that was written to a unix stream socket.
///
/// # Errors
/// When the descriptor is not a socket.
pub fn is_drained(socket: impl AsFd) -> io::Result<bool> {
    let mut queued: libc::c_int = 0;
    // SAFETY: TIOCOUTQ (SIOCOUTQ, see unix(7) and tcp(7)) writes one int through the pointer, which
    // is valid for the call; the borrowed descriptor is open for as long.
    let result =
        unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut queued) };
    if result == 0 {
        Ok(queued == 0)
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    #[test]
    fn sees_what_is_unread() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        assert!(is_drained(&ours).unwrap());
        ours.write_all(b"ab").unwrap();
        assert!(!is_drained(&ours).unwrap());
        theirs.read_exact(&mut [0; 2]).unwrap();
        assert!(is_drained(&ours).unwrap());
        assert!(is_drained(std::fs::File::open("/dev/null").unwrap()).is_err());
    }

    #[test]
    fn a_socket_receives_from_its_link_alone() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let (address, mut room) = (socket.local_addr().unwrap(), [0; 8]);
        let other = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        bind_to_interface(&socket, Some(1)).unwrap();
        other.send_to(b"by lo", address).unwrap();
        assert_eq!(socket.recv(&mut room).unwrap(), 5);
        bind_to_interface(&socket, Some(i32::MAX)).unwrap();
        // refused or lost: nobody is there for what comes by lo
        drop(other.send_to(b"by lo", address));
        assert!(socket.recv(&mut room).is_err());
    }
}
