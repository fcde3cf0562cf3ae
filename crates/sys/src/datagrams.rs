//! Many datagrams with one system call (recvmmsg(2), sendmmsg(2)), and runs of equal ones as one
//! packet that the kernel takes apart (`UDP_SEGMENT`, udp(7)).

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd};

/// So many datagrams at once.
pub const MOST: usize = 64;
/// A run of datagrams is one packet to the kernel, which an IPv4 header must be able to describe.
const LONGEST_RUN: usize = 60_000;
/// Room for one control message with one 16-bit number in it.
const CONTROL: usize = 32;

/// Room for received datagrams.
#[derive(Debug)]
pub struct Inbox {
    bytes: Box<[u8]>,
    room: usize,
    received: Vec<(usize, SocketAddr)>,
}

impl Inbox {
    /// Makes room for datagrams of this length; longer ones are left out as they come.
    #[must_use]
    pub fn new(room: usize) -> Self {
        Self {
            bytes: vec![0; room * MOST].into_boxed_slice(),
            room,
            received: Vec::with_capacity(MOST),
        }
    }

    /// Receives what is there, up to [`MOST`] datagrams, without waiting; returns how many came.
    ///
    /// Those that were too long are counted but not kept.
    ///
    /// # Errors
    /// `WouldBlock` when there is none.
    pub fn receive(&mut self, socket: impl AsFd) -> io::Result<usize> {
        self.received.clear();
        // SAFETY: all of these are C structs of integers and pointers, for which zeroes are valid.
        let mut names: [libc::sockaddr_storage; MOST] = unsafe { zeroed() };
        // SAFETY: as above.
        let mut pieces: [libc::iovec; MOST] = unsafe { zeroed() };
        // SAFETY: as above.
        let mut headers: [libc::mmsghdr; MOST] = unsafe { zeroed() };
        for (index, bytes) in self.bytes.chunks_exact_mut(self.room).enumerate() {
            pieces[index].iov_base = bytes.as_mut_ptr().cast();
            pieces[index].iov_len = bytes.len();
            let header = &mut headers[index].msg_hdr;
            header.msg_name = (&raw mut names[index]).cast();
            header.msg_namelen = length(size_of::<libc::sockaddr_storage>());
            header.msg_iov = &raw mut pieces[index];
            header.msg_iovlen = 1;
        }
        // SAFETY: the kernel writes at most MOST headers, and through each no more than the lengths
        // set above, which are those of the live arrays and of disjoint chunks of `self.bytes`.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_fd().as_raw_fd(),
                headers.as_mut_ptr(),
                length(MOST),
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        for (header, name) in headers.iter().zip(&names).take(count) {
            let truncated = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
            let size = usize::try_from(header.msg_len).unwrap_or(0);
            // an unusable one keeps its place, as an empty one
            let size = if truncated { 0 } else { size.min(self.room) };
            let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
            self.received.push((size, address(name).unwrap_or(unknown)));
        }
        Ok(count)
    }

    /// Lists what the last call received.
    pub fn datagrams(&self) -> impl Iterator<Item = (&[u8], SocketAddr)> {
        let places = self.bytes.chunks_exact(self.room);
        let all = places.zip(&self.received);
        all.map(|(bytes, (length, from))| (&bytes[..*length], *from))
            .filter(|(bytes, _)| !bytes.is_empty())
    }
}

/// Datagrams to be sent.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    runs: Vec<Run>,
}

/// Datagrams of one length to one peer, one behind the other.
#[derive(Debug, Clone, Copy)]
struct Run {
    to: SocketAddr,
    start: usize,
    each: usize,
    count: usize,
}

impl Outbox {
    /// Adds a datagram.
    pub fn push(&mut self, datagram: &[u8], to: SocketAddr) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(datagram);
        if let Some(last) = self.runs.last_mut()
            && last.to == to
            && last.each == datagram.len()
            && last.count < MOST
            && (last.count + 1) * last.each < LONGEST_RUN
        {
            last.count += 1;
            return;
        }
        self.runs.push(Run {
            to,
            start,
            each: datagram.len(),
            count: 1,
        });
    }

    /// Tells whether there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Sends everything without waiting; what the kernel does not take is lost, as datagrams are.
    ///
    /// # Errors
    /// The first refusal; the datagrams behind it have been tried as well.
    pub fn send(&mut self, socket: impl AsFd) -> io::Result<()> {
        let mut outcome = Ok(());
        let mut first = 0;
        while first < self.runs.len() {
            let some = &self.runs[first..self.runs.len().min(first + MOST)];
            match send_runs(&socket, &mut self.bytes, some) {
                Ok(sent) => first += sent.max(1),
                Err(error) => {
                    outcome = outcome.and(self.send_apart(&socket, first, error));
                    first += 1;
                }
            }
        }
        self.bytes.clear();
        self.runs.clear();
        outcome
    }
}

impl Outbox {
    /// Sends a run's datagrams one by one, for not every link takes runs.
    fn send_apart(&mut self, socket: &impl AsFd, run: usize, error: io::Error) -> io::Result<()> {
        let Run {
            to,
            start,
            each,
            count,
        } = self.runs[run];
        if count == 1 {
            return Err(error);
        }
        let one = |index| Run {
            to,
            start: start + index * each,
            each,
            count: 1,
        };
        let apart: Vec<Run> = (0..count).map(one).collect();
        send_runs(socket, &mut self.bytes, &apart).map(|_| ())
    }
}

/// A control message's buffer, aligned as its header must be.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL]);

fn send_runs(socket: &impl AsFd, bytes: &mut [u8], runs: &[Run]) -> io::Result<usize> {
    // SAFETY: all of these are C structs of integers and pointers, for which zeroes are valid.
    let mut names: [libc::sockaddr_storage; MOST] = unsafe { zeroed() };
    // SAFETY: as above.
    let mut pieces: [libc::iovec; MOST] = unsafe { zeroed() };
    // SAFETY: as above.
    let mut headers: [libc::mmsghdr; MOST] = unsafe { zeroed() };
    let mut controls = [Control([0; CONTROL]); MOST];
    for (index, run) in runs.iter().enumerate() {
        let content = &mut bytes[run.start..run.start + run.each * run.count];
        pieces[index].iov_base = content.as_mut_ptr().cast();
        pieces[index].iov_len = content.len();
        let header = &mut headers[index].msg_hdr;
        header.msg_namelen = write_address(run.to, &mut names[index]);
        header.msg_name = (&raw mut names[index]).cast();
        header.msg_iov = &raw mut pieces[index];
        header.msg_iovlen = 1;
        if run.count > 1
            && let Ok(each) = u16::try_from(run.each)
        {
            header.msg_control = (&raw mut controls[index]).cast();
            header.msg_controllen = segment(&mut controls[index], each);
        }
    }
    // SAFETY: the kernel reads as many headers as there are runs, and through each the address, the
    // bytes and the control message that were set above and outlive the call.
    let sent = unsafe {
        libc::sendmmsg(
            socket.as_fd().as_raw_fd(),
            headers.as_mut_ptr(),
            length(runs.len()),
            libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
        )
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Writes the control message that says how long each datagram of a run is; returns its length.
fn segment(control: &mut Control, each: u16) -> usize {
    // struct cmsghdr: the length as a size_t, level and type as ints; see CMSG_LEN in cmsg(3)
    let head = size_of::<libc::cmsghdr>();
    let length = head + size_of::<u16>();
    let level = size_of::<usize>();
    let kind = level + size_of::<libc::c_int>();
    control.0[..level].copy_from_slice(&length.to_ne_bytes());
    control.0[level..kind].copy_from_slice(&libc::SOL_UDP.to_ne_bytes());
    control.0[kind..head].copy_from_slice(&libc::UDP_SEGMENT.to_ne_bytes());
    control.0[head..length].copy_from_slice(&each.to_ne_bytes());
    // CMSG_SPACE: the data padded to the header's alignment
    length.next_multiple_of(size_of::<usize>())
}

fn length(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}

fn address(name: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match libc::c_int::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: the storage is aligned for and larger than every address, and the kernel
            // wrote one of this family.
            let v4 = unsafe { &*(&raw const *name).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
            Some(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let v6 = unsafe { &*(&raw const *name).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            let port = u16::from_be(v6.sin6_port);
            Some(SocketAddrV6::new(ip, port, v6.sin6_flowinfo, v6.sin6_scope_id).into())
        }
        _ => None,
    }
}

fn write_address(address: SocketAddr, name: &mut libc::sockaddr_storage) -> libc::socklen_t {
    match address {
        SocketAddr::V4(v4) => {
            // SAFETY: the storage is aligned for and larger than every address.
            let to = unsafe { &mut *(&raw mut *name).cast::<libc::sockaddr_in>() };
            to.sin_family = family(libc::AF_INET);
            to.sin_port = v4.port().to_be();
            to.sin_addr.s_addr = u32::from(*v4.ip()).to_be();
            length(size_of::<libc::sockaddr_in>())
        }
        SocketAddr::V6(v6) => {
            // SAFETY: as above.
            let to = unsafe { &mut *(&raw mut *name).cast::<libc::sockaddr_in6>() };
            to.sin6_family = family(libc::AF_INET6);
            to.sin6_port = v6.port().to_be();
            to.sin6_flowinfo = v6.flowinfo();
            to.sin6_addr.s6_addr = v6.ip().octets();
            to.sin6_scope_id = v6.scope_id();
            length(size_of::<libc::sockaddr_in6>())
        }
    }
}

fn family(number: libc::c_int) -> libc::sa_family_t {
    libc::sa_family_t::try_from(number).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    fn exchange(own: &str) {
        let (ours, theirs) = (UdpSocket::bind(own).unwrap(), UdpSocket::bind(own).unwrap());
        let other = UdpSocket::bind(own).unwrap();
        let (to, also) = (theirs.local_addr().unwrap(), other.local_addr().unwrap());
        let mut inbox = Inbox::new(100);
        let empty = inbox.receive(&theirs).unwrap_err();
        assert_eq!(empty.kind(), io::ErrorKind::WouldBlock);
        let mut outbox = Outbox::default();
        // runs of equal ones, another peer between, and one that is too long for the reader
        for number in 0..100_u8 {
            let length = if number < 70 { 20 } else { usize::from(number) };
            outbox.push(&vec![number; length], to);
            if number == 40 {
                outbox.push(b"other", also);
            }
        }
        outbox.push(&[7; 101], to);
        outbox.send(&ours).unwrap();
        assert!(outbox.is_empty());
        let mut seen = Vec::new();
        while inbox.receive(&theirs).is_ok() {
            for (bytes, from) in inbox.datagrams() {
                assert_eq!(from, ours.local_addr().unwrap());
                assert!(bytes.iter().all(|byte| *byte == bytes[0]));
                assert_eq!(
                    bytes.len(),
                    if bytes[0] < 70 { 20 } else { bytes[0].into() }
                );
                seen.push(bytes[0]);
            }
        }
        assert_eq!(seen, (0..100).collect::<Vec<u8>>());
        assert_eq!(inbox.receive(&other).unwrap(), 1);
        assert_eq!(inbox.datagrams().next().unwrap().0, b"other");
    }

    #[test]
    fn many_datagrams_go_and_come_at_once() {
        exchange("127.0.0.1:0");
        exchange("[::1]:0");
    }
}
