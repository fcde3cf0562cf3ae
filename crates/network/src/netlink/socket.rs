//! A blocking netlink socket: a batch out, its acknowledgements and answers in.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{
    Timeout, set_socket_recv_buffer_size_force, set_socket_send_buffer_size_force,
    set_socket_timeout,
};
use rustix::net::{RecvFlags, SendFlags};
use sys::netns::Family;

use super::abi::{NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR};
use super::{Batch, Message, NetlinkError, Port};

/// The kernel answers inside `sendmsg`; this only bounds the damage of a kernel that does not.
const PATIENCE: Duration = Duration::from_secs(30);
/// Room for one datagram of acknowledgements.
const ANSWER_ROOM: usize = 8 << 10;
/// Room for one datagram of a dump, which the kernel sizes after the reader's buffer up to 32 KiB.
const DUMP_ROOM: usize = 64 << 10;
/// Requests up to this size fit every kernel's default send buffer.
const SMALL_REQUEST: usize = 32 << 10;

/// A table that changes faster than it can be read is given up after so many readings.
const DUMP_ATTEMPTS: u32 = 20;

/// A netlink socket in the namespace of the thread that opened it.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    _port: Port,
    sequence: u32,
    roomy: usize,
}

impl Socket {
    pub(crate) fn open(family: Family) -> Result<Self, NetlinkError> {
        let fd = sys::netns::netlink_socket(family).map_err(NetlinkError::Open)?;
        set_socket_timeout(&fd, Timeout::Recv, Some(PATIENCE))
            .map_err(|errno| NetlinkError::Open(errno.into()))?;
        let port = Port::bind(&fd, 0).map_err(|errno| NetlinkError::Open(errno.into()))?;
        Ok(Self {
            fd,
            _port: port,
            sequence: 0,
            roomy: SMALL_REQUEST,
        })
    }

    /// Sends the batch and waits for every acknowledgement in it.
    ///
    /// The first refusal is returned; what the kernel did for the other messages stays done.
    pub(crate) fn transact(&mut self, batch: &mut Batch) -> Result<(), NetlinkError> {
        let first = self.send(batch)?;
        let mut room = [0_u8; ANSWER_ROOM];
        self.receive(batch, first, &mut room, &mut |_| ())
    }

    /// Sends one request and shows every message of its answer to `visit`.
    pub(crate) fn query(
        &mut self,
        batch: &mut Batch,
        visit: &mut dyn FnMut(&Message<'_>),
    ) -> Result<(), NetlinkError> {
        let first = self.send(batch)?;
        self.receive(batch, first, &mut vec![0_u8; DUMP_ROOM], visit)
    }

    /// Reads a whole table, again when it changed meanwhile.
    pub(crate) fn dump<T>(
        &mut self,
        request: impl Fn(&mut Batch),
        parse: impl Fn(&Message<'_>) -> Option<T>,
    ) -> Result<Vec<T>, NetlinkError> {
        let mut attempt = 1;
        loop {
            let mut batch = Batch::default();
            request(&mut batch);
            let mut found = Vec::new();
            match self.query(&mut batch, &mut |message| found.extend(parse(message))) {
                Err(NetlinkError::Unsettled { .. }) if attempt < DUMP_ATTEMPTS => attempt += 1,
                Ok(()) => return Ok(found),
                Err(error) => return Err(error),
            }
        }
    }

    fn send(&mut self, batch: &mut Batch) -> Result<u32, NetlinkError> {
        let first = self.sequence.wrapping_add(1);
        let count = u32::try_from(batch.messages().len()).unwrap_or(u32::MAX);
        self.sequence = self.sequence.wrapping_add(count);
        let length = batch.seal(first)?.len();
        self.make_room(length);
        let bytes = batch.seal(first)?;
        loop {
            match rustix::net::sendto(
                &self.fd,
                bytes,
                SendFlags::empty(),
                &SocketAddrNetlink::new(0, 0),
            ) {
                Ok(_) => return Ok(first),
                Err(Errno::INTR) => {}
                Err(errno) => {
                    return Err(NetlinkError::Send {
                        step: batch.step(0),
                        source: errno.into(),
                    });
                }
            }
        }
    }

    /// Grows the buffers for a large batch; without the privilege the send itself reports it.
    fn make_room(&mut self, length: usize) {
        if length > self.roomy {
            let wanted = length.saturating_mul(2);
            if set_socket_send_buffer_size_force(&self.fd, wanted).is_ok()
                && set_socket_recv_buffer_size_force(&self.fd, wanted).is_ok()
            {
                self.roomy = length;
            }
        }
    }

    fn receive(
        &self,
        batch: &Batch,
        first: u32,
        room: &mut [u8],
        visit: &mut dyn FnMut(&Message<'_>),
    ) -> Result<(), NetlinkError> {
        let mut answers = Answers::new(batch, first);
        while !answers.complete() {
            let length = self.receive_datagram(batch, room)?;
            answers.take(&room[..length], visit)?;
        }
        answers.outcome()
    }

    /// Receives one datagram of the kernel's; what other processes send here is thrown away.
    fn receive_datagram(&self, batch: &Batch, room: &mut [u8]) -> Result<usize, NetlinkError> {
        loop {
            match rustix::net::recvfrom(&self.fd, &mut *room, RecvFlags::TRUNC) {
                Ok((taken, whole, sender)) => {
                    let from_kernel = sender
                        .and_then(|address| SocketAddrNetlink::try_from(address).ok())
                        .is_some_and(|address| address.pid() == 0);
                    if !from_kernel {
                        continue;
                    }
                    if whole > taken {
                        return Err(NetlinkError::Malformed {
                            step: batch.step(0),
                        });
                    }
                    return Ok(taken);
                }
                Err(Errno::INTR) => {}
                Err(errno) => {
                    return Err(NetlinkError::Receive {
                        step: batch.step(0),
                        source: errno.into(),
                    });
                }
            }
        }
    }
}

/// What is known so far of the answers to a batch.
struct Answers<'a> {
    batch: &'a Batch,
    first: u32,
    pending: usize,
    refusal: Option<(usize, NetlinkError)>,
    interrupted: bool,
    aborted: bool,
}

impl<'a> Answers<'a> {
    fn new(batch: &'a Batch, first: u32) -> Self {
        let pending = batch
            .messages()
            .iter()
            .filter(|message| message.concluded)
            .count();
        Self {
            batch,
            first,
            pending,
            refusal: None,
            interrupted: false,
            aborted: false,
        }
    }

    fn complete(&self) -> bool {
        self.pending == 0 || self.aborted
    }

    fn take(
        &mut self,
        mut bytes: &[u8],
        visit: &mut dyn FnMut(&Message<'_>),
    ) -> Result<(), NetlinkError> {
        while !bytes.is_empty() {
            let Some((message, rest)) = Message::split(bytes) else {
                return Err(NetlinkError::Malformed {
                    step: self.batch.step(0),
                });
            };
            bytes = rest;
            // an answer to an earlier request of this socket that was given up
            let Ok(index) = usize::try_from(message.sequence.wrapping_sub(self.first)) else {
                continue;
            };
            if index >= self.batch.messages().len() {
                continue;
            }
            self.interrupted |= message.flags & NLM_F_DUMP_INTR != 0;
            match message.kind {
                NLMSG_ERROR | NLMSG_DONE => self.conclude(index, &message)?,
                _ => visit(&message),
            }
        }
        Ok(())
    }

    fn conclude(&mut self, index: usize, message: &Message<'_>) -> Result<(), NetlinkError> {
        let step = || self.batch.step(index);
        let number = match (message.error_number(), message.kind) {
            (Some(number), _) => number,
            (None, NLMSG_DONE) => 0,
            (None, _) => return Err(NetlinkError::Malformed { step: step() }),
        };
        let concluded = self.batch.messages()[index].concluded;
        if number != 0
            && self
                .refusal
                .as_ref()
                .is_none_or(|(earlier, _)| index < *earlier)
        {
            let source = std::io::Error::from_raw_os_error(number);
            let refused = NetlinkError::Refused {
                step: step(),
                detail: message.error_text(),
                source,
            };
            self.refusal = Some((index, refused));
        }
        // A refusal of a batch's opening message is a refusal of the batch: nothing more comes.
        self.aborted |= number != 0 && index == 0 && !concluded;
        self.pending -= usize::from(concluded && self.pending > 0);
        Ok(())
    }

    fn outcome(self) -> Result<(), NetlinkError> {
        match self.refusal {
            Some((_, refusal)) => Err(refusal),
            None if self.interrupted => Err(NetlinkError::Unsettled {
                step: self.batch.step(0),
            }),
            None => Ok(()),
        }
    }
}
