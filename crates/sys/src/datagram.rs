//! Datagrams with the address of this host that they came to, and are to leave from.
//!
//! A socket that is bound to all addresses answers from the one that the route to the asker
//! suggests, which need not be the one that was asked: ip(7) `IP_PKTINFO`, ipv6(7) `IPV6_PKTINFO`.

use std::io;
use std::mem::{MaybeUninit, offset_of, size_of};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd};

/// Enough for one `in6_pktinfo` (20 bytes) behind its header (16).
const CONTROL: usize = 64;

/// An address of this host, and the link on which a datagram came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Local {
    /// The address.
    pub address: IpAddr,
    /// The index of the link.
    pub interface: u32,
}

/// What came with a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// How many bytes of the buffer it fills.
    pub length: usize,
    /// Who sent it.
    pub from: SocketAddr,
    /// Where it was sent to, if the socket reports that.
    pub to: Option<Local>,
}

/// A buffer for control messages, aligned as their headers are.
#[repr(C, align(8))]
struct Control([u8; CONTROL]);

/// Has a UDP socket tell for each datagram the address that it came to.
///
/// # Errors
/// When the descriptor is no socket of this family.
pub fn report_destinations(socket: impl AsFd, bound: IpAddr) -> io::Result<()> {
    let (level, option) = match bound {
        IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_PKTINFO),
        IpAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
    };
    crate::socket::set_option(socket.as_fd(), level, option, 1)
}

/// Receives one datagram; what does not fit into the buffer is cut off.
///
/// # Errors
/// As recvmsg(2) says, and when the sender has no IP address.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<Received> {
    let mut name = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let mut control = Control([0; CONTROL]);
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    let mut header = empty_header();
    header.msg_name = name.as_mut_ptr().cast();
    header.msg_namelen = length_of::<libc::sockaddr_storage>();
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = (&raw mut control).cast();
    header.msg_controllen = CONTROL;
    // SAFETY: every pointer of the header is to a live local or to the borrowed buffer, each with
    // its own length beside it; the descriptor is open for as long as it is borrowed.
    let length = unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut header, 0) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: the storage was zeroed and its every bit pattern is valid.
    let name = unsafe { name.assume_init() };
    Ok(Received {
        length,
        from: address_of(&name)?,
        to: destination(&header),
    })
}

/// Sends one datagram, from the given address of this host where one is given.
///
/// # Errors
/// As sendmsg(2) says.
pub fn send(
    socket: impl AsFd,
    data: &[u8],
    to: SocketAddr,
    from: Option<Local>,
) -> io::Result<usize> {
    let (mut name, name_length) = storage_of(to);
    let mut control = Control([0; CONTROL]);
    let mut part = libc::iovec {
        iov_base: data.as_ptr().cast_mut().cast(),
        iov_len: data.len(),
    };
    let mut header = empty_header();
    header.msg_name = (&raw mut name).cast();
    header.msg_namelen = name_length;
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    if let Some(from) = from {
        header.msg_control = (&raw mut control).cast();
        header.msg_controllen = write_source(&mut control, from);
    }
    // SAFETY: every pointer of the header is to a live local or to the borrowed data, each with its
    // own length beside it, and sendmsg(2) only reads; the descriptor is open while it is borrowed.
    let sent = unsafe {
        libc::sendmsg(
            socket.as_fd().as_raw_fd(),
            &raw const header,
            libc::MSG_NOSIGNAL,
        )
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

fn empty_header() -> libc::msghdr {
    // SAFETY: the structure holds numbers and pointers, for which zero is a value.
    unsafe { MaybeUninit::<libc::msghdr>::zeroed().assume_init() }
}

/// Finds the control message that tells where a datagram was sent to.
fn destination(header: &libc::msghdr) -> Option<Local> {
    // SAFETY: the header is as recvmsg left it: its control pointer and length describe what the
    // kernel wrote into the caller's live `Control`.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !next.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR return only headers that lie within the buffer.
        let message = unsafe { next.read_unaligned() };
        // SAFETY: data follows each header; how much of it is read depends on the kind, below.
        let data = unsafe { libc::CMSG_DATA(next) };
        match (message.cmsg_level, message.cmsg_type) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                // SAFETY: the kernel writes the whole structure with this kind of message.
                let info = unsafe { data.cast::<libc::in_pktinfo>().read_unaligned() };
                return Some(Local {
                    address: Ipv4Addr::from(u32::from_be(info.ipi_spec_dst.s_addr)).into(),
                    interface: u32::try_from(info.ipi_ifindex).unwrap_or_default(),
                });
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                // SAFETY: the kernel writes the whole structure with this kind of message.
                let info = unsafe { data.cast::<libc::in6_pktinfo>().read_unaligned() };
                return Some(Local {
                    address: Ipv6Addr::from(info.ipi6_addr.s6_addr).into(),
                    interface: info.ipi6_ifindex,
                });
            }
            // SAFETY: the header is live and `next` came from it.
            _ => next = unsafe { libc::CMSG_NXTHDR(header, next) },
        }
    }
    None
}

/// Writes the control message that chooses the source address, and returns how long it is.
///
/// The link is told only where the address means nothing without one (`fe80::/10`): with it, the
/// answer could not take another way than the question.
fn write_source(control: &mut Control, from: Local) -> usize {
    match from.address {
        IpAddr::V4(address) => {
            // struct in_pktinfo: link, source, and the header's destination, which is not read
            let mut info = [0; size_of::<libc::in_pktinfo>()];
            info[4..8].copy_from_slice(&address.octets());
            write_message(control, libc::IPPROTO_IP, libc::IP_PKTINFO, &info)
        }
        IpAddr::V6(address) => {
            // struct in6_pktinfo: source, link
            let mut info = [0; size_of::<libc::in6_pktinfo>()];
            info[..16].copy_from_slice(&address.octets());
            if address.is_unicast_link_local() {
                info[16..].copy_from_slice(&from.interface.to_ne_bytes());
            }
            write_message(control, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info)
        }
    }
}

/// Writes a control message as cmsg(3) lays it out, without padding between the header's fields.
fn write_message(control: &mut Control, level: i32, kind: i32, value: &[u8]) -> usize {
    let length = size_of::<libc::cmsghdr>() + value.len();
    let fields = (
        length.to_ne_bytes(),
        level.to_ne_bytes(),
        kind.to_ne_bytes(),
    );
    let bytes = fields.0.iter().chain(&fields.1).chain(&fields.2);
    for (place, byte) in control.0.iter_mut().zip(bytes.chain(value)) {
        *place = *byte;
    }
    length.next_multiple_of(size_of::<usize>())
}

fn address_of(name: &libc::sockaddr_storage) -> io::Result<SocketAddr> {
    let start = (&raw const *name).cast::<u8>();
    match i32::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: sockaddr_storage is larger than and aligned for every socket address.
            let name = unsafe { start.cast::<libc::sockaddr_in>().read_unaligned() };
            let address = Ipv4Addr::from(u32::from_be(name.sin_addr.s_addr));
            Ok(SocketAddrV4::new(address, u16::from_be(name.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: sockaddr_storage is larger than and aligned for every socket address.
            let name = unsafe { start.cast::<libc::sockaddr_in6>().read_unaligned() };
            let address = Ipv6Addr::from(name.sin6_addr.s6_addr);
            let port = u16::from_be(name.sin6_port);
            Ok(SocketAddrV6::new(address, port, 0, name.sin6_scope_id).into())
        }
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn storage_of(address: SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: the structure holds numbers, for which zero is a value.
    let mut storage = unsafe { MaybeUninit::<libc::sockaddr_storage>::zeroed().assume_init() };
    let start = (&raw mut storage).cast::<u8>();
    let length = match address {
        SocketAddr::V4(address) => {
            let name = libc::sockaddr_in {
                sin_family: family(libc::AF_INET),
                sin_port: address.port().to_be(),
                sin_addr: libc::in_addr {
                    s_addr: u32::from(*address.ip()).to_be(),
                },
                sin_zero: [0; 8],
            };
            // SAFETY: sockaddr_storage is larger than every socket address.
            unsafe { start.cast::<libc::sockaddr_in>().write_unaligned(name) };
            length_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(address) => {
            let name = libc::sockaddr_in6 {
                sin6_family: family(libc::AF_INET6),
                sin6_port: address.port().to_be(),
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr {
                    s6_addr: address.ip().octets(),
                },
                sin6_scope_id: address.scope_id(),
            };
            // SAFETY: sockaddr_storage is larger than every socket address.
            unsafe { start.cast::<libc::sockaddr_in6>().write_unaligned(name) };
            length_of::<libc::sockaddr_in6>()
        }
    };
    (storage, length)
}

/// The family's number is a small constant of the kernel's interface.
fn family(number: i32) -> libc::sa_family_t {
    libc::sa_family_t::try_from(number).unwrap_or_default()
}

/// All structures that are passed here are a few bytes long.
fn length_of<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).unwrap_or(libc::socklen_t::MAX)
}

const _: () = assert!(offset_of!(libc::in_pktinfo, ipi_spec_dst) == 4);
const _: () = assert!(offset_of!(libc::in6_pktinfo, ipi6_ifindex) == 16);
const _: () = assert!(size_of::<libc::cmsghdr>() == size_of::<usize>() + 8);

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn the_answer_leaves_from_the_address_that_was_asked() {
        let server = UdpSocket::bind("0.0.0.0:0").unwrap();
        report_destinations(&server, [0, 0, 0, 0].into()).unwrap();
        let port = server.local_addr().unwrap().port();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        let asked: IpAddr = [127, 0, 0, 77].into();
        client.connect((asked, port)).unwrap();
        client.send(b"hello").unwrap();
        let mut buffer = [0; 16];
        let got = receive(&server, &mut buffer).unwrap();
        assert_eq!(&buffer[..got.length], b"hello");
        assert_eq!(got.from, client.local_addr().unwrap());
        assert_eq!(got.to.map(|to| to.address), Some(asked));
        assert_eq!(send(&server, b"back", got.from, got.to).unwrap(), 4);
        // a connected socket takes answers only from whom it asked
        assert_eq!(client.recv(&mut buffer).unwrap(), 4);
    }

    #[test]
    fn works_over_ipv6_too() {
        let Ok(server) = UdpSocket::bind("[::]:0") else {
            return; // this kernel has no IPv6
        };
        report_destinations(&server, Ipv6Addr::UNSPECIFIED.into()).unwrap();
        let port = server.local_addr().unwrap().port();
        let client = UdpSocket::bind("[::1]:0").unwrap();
        client.connect((Ipv6Addr::LOCALHOST, port)).unwrap();
        client.send(b"").unwrap();
        let mut buffer = [0; 16];
        let got = receive(&server, &mut buffer).unwrap();
        assert_eq!((got.length, got.from), (0, client.local_addr().unwrap()));
        let to = got.to.map(|to| to.address);
        assert_eq!(to, Some(Ipv6Addr::LOCALHOST.into()));
        send(&server, b"back", got.from, got.to).unwrap();
        assert_eq!(client.recv(&mut buffer).unwrap(), 4);
    }

    #[test]
    fn a_socket_that_reports_nothing_still_receives() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client
            .send_to(b"abc", server.local_addr().unwrap())
            .unwrap();
        let got = receive(&server, &mut [0; 2]).unwrap();
        assert_eq!((got.length, got.to), (2, None));
        assert!(receive(std::fs::File::open("/dev/null").unwrap(), &mut []).is_err());
    }
}
