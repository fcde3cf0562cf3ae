//! Frames and single bytes on the socket pair between a stage and its parent.
//!
//! A frame: length and number of descriptors (two little-endian u32), then that many bytes. The
//! first descriptors come with the head, further ones each 250 with a byte of their own.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// Descriptors that one message carries; the kernel's SCM_MAX_FD is 253.
const BATCH: usize = 250;

/// Longest frame: a configuration holds at most an environment of two pages of arguments' limit.
const LONGEST: usize = 16 << 20;

/// The byte that says that the cgroup is as ordered.
pub(crate) const CGROUP_READY: u8 = b'c';

/// The byte that says to become the program.
pub(crate) const START: u8 = b's';

/// Bytes and the descriptors that came with them.
pub(crate) type Frame = (Vec<u8>, Vec<OwnedFd>);

/// Sends a frame.
pub(crate) fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    if bytes.len() > LONGEST {
        return Err(Errno::MSGSIZE.into());
    }
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    let number = u32::try_from(fds.len()).map_err(io::Error::other)?;
    let mut head = [0; 8];
    head[..4].copy_from_slice(&length.to_le_bytes());
    head[4..].copy_from_slice(&number.to_le_bytes());
    let (first, rest) = fds.split_at(fds.len().min(BATCH));
    send_with(socket, &head, first)?;
    for batch in rest.chunks(BATCH) {
        send_with(socket, &[0], batch)?;
    }
    write_all(socket, bytes)
}

/// Sends few bytes with descriptors; without any it is a plain write(2), which every system call
/// filter lets through.
fn send_with(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    if fds.is_empty() {
        return write_all(socket, bytes);
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(fds));
    let sent = loop {
        match sendmsg(
            socket,
            &[IoSlice::new(bytes)],
            &mut control,
            SendFlags::NOSIGNAL,
        ) {
            Err(Errno::INTR) => {}
            other => break other?,
        }
    };
    write_all(socket, &bytes[sent..])
}

/// Receives a frame; `None` when the other end was closed.
pub(crate) fn receive(socket: BorrowedFd<'_>) -> io::Result<Option<Frame>> {
    let mut fds = Vec::new();
    let mut head = [0; 8];
    let first = receive_with(socket, &mut head, &mut fds)?;
    if first == 0 {
        return Ok(None);
    }
    read_exact(socket, &mut head[first..])?;
    let [a, b, c, d, e, f, g, h] = head;
    let length = usize::try_from(u32::from_le_bytes([a, b, c, d])).map_err(io::Error::other)?;
    let number = usize::try_from(u32::from_le_bytes([e, f, g, h])).map_err(io::Error::other)?;
    if length > LONGEST {
        return Err(Errno::MSGSIZE.into());
    }
    while fds.len() < number {
        if receive_with(socket, &mut [0], &mut fds)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let mut bytes = vec![0; length];
    read_exact(socket, &mut bytes)?;
    Ok(Some((bytes, fds)))
}

fn receive_with(
    socket: BorrowedFd<'_>,
    bytes: &mut [u8],
    fds: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(bytes)];
    let received = loop {
        match recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            Err(Errno::CONNRESET) => break 0,
            other => break other?.bytes,
        }
    };
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(list) = message {
            fds.extend(list);
        }
    }
    Ok(received)
}

/// Sends one byte.
pub(crate) fn tell(socket: BorrowedFd<'_>, byte: u8) -> io::Result<()> {
    write_all(socket, &[byte])
}

/// Waits for one certain byte; false when the other end was closed.
pub(crate) fn wait_for(socket: BorrowedFd<'_>, byte: u8) -> io::Result<bool> {
    let mut got = [0];
    match read_some(socket, &mut got)? {
        0 => Ok(false),
        _ if got[0] == byte => Ok(true),
        _ => Err(Errno::PROTO.into()),
    }
}

fn read_some(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> io::Result<usize> {
    loop {
        match rustix::io::read(socket, &mut *bytes) {
            Err(Errno::INTR) => {}
            Err(Errno::CONNRESET) => return Ok(0),
            other => return Ok(other?),
        }
    }
}

fn read_exact(socket: BorrowedFd<'_>, mut bytes: &mut [u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let count = read_some(socket, bytes)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes = &mut bytes[count..];
    }
    Ok(())
}

fn write_all(socket: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(socket, bytes) {
            Err(Errno::INTR) => {}
            other => bytes = &bytes[other?..],
        }
    }
    Ok(())
}
