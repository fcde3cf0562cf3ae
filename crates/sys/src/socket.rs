//! What a connected socket still holds for its peer, and the link that a socket is tied to.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

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

/// Ties a socket to a link (`SO_BINDTODEVICE`, socket(7)): packets of other links never reach it,
/// and it sends by no other.
///
/// # Errors
/// When there is no such link in the socket's namespace, or the privilege is lacking.
pub fn bind_to_link(socket: impl AsFd, link: &str) -> io::Result<()> {
    let length = libc::socklen_t::try_from(link.len()).map_err(io::Error::other)?;
    // SAFETY: the kernel reads `length` bytes at the pointer, which are those of the borrowed
    // `link`, and needs no NUL behind them; the borrowed descriptor is open for as long.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_BINDTODEVICE,
            link.as_ptr().cast(),
            length,
        )
    };
    if result == 0 {
        Ok(())
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
    fn ties_a_socket_to_a_link() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        bind_to_link(&socket, "lo").unwrap();
        assert!(bind_to_link(&socket, "nosuchlink0").is_err());
    }
}
