//! The numbers by which links tell in which namespace their other end is.

use std::os::fd::{AsRawFd, BorrowedFd};

use super::abi::{AF_UNSPEC, NETNSA_FD, NETNSA_NSID, RTM_GETNSID, RTM_NEWNSID};
use crate::netlink::abi::NLM_F_ACK;
use crate::netlink::{Batch, NetlinkError, Socket, find};

/// Returns the number that the socket's namespace knows another by; `None` while it has none, and
/// then no link leads there.
pub(crate) fn namespace_number(
    socket: &mut Socket,
    namespace: BorrowedFd<'_>,
) -> Result<Option<i32>, NetlinkError> {
    let mut batch = Batch::default();
    let descriptor = namespace.as_raw_fd().to_ne_bytes();
    // struct rtgenmsg, padded
    let header = [AF_UNSPEC, 0, 0, 0];
    let step = "look up the number of a network namespace";
    batch.message(RTM_GETNSID, NLM_F_ACK, &header, step, |message| {
        message.bytes(NETNSA_FD, &descriptor);
    });
    let mut number = None;
    socket.query(&mut batch, &mut |message| {
        if message.kind == RTM_NEWNSID {
            number = find(message.attributes(4), NETNSA_NSID)
                .and_then(|bytes| bytes.try_into().ok())
                .map(i32::from_ne_bytes);
        }
    })?;
    // NETNSA_NSID_NOT_ASSIGNED is -1
    Ok(number.filter(|number| *number >= 0))
}
