//! The forwarding table of a bridge.

use super::abi::{AF_BRIDGE, NDA_LLADDR, NTF_MASTER, NUD_REACHABLE, RTM_NEWNEIGH};
use crate::mac::MacAddress;
use crate::netlink::Batch;
use crate::netlink::abi::{NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE};

/// Makes the bridge send frames for `mac` to this port, as if it had just heard from it there.
pub(crate) fn forward_to_port(batch: &mut Batch, port: u32, mac: MacAddress) {
    // struct ndmsg
    let mut header = [0; 12];
    header[0] = AF_BRIDGE;
    header[4..8].copy_from_slice(&port.to_ne_bytes());
    header[8..10].copy_from_slice(&NUD_REACHABLE.to_ne_bytes());
    header[10] = NTF_MASTER;
    let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
    let step = format!("point the bridge to {mac}");
    batch.message(RTM_NEWNEIGH, flags, &header, step, |entry| {
        entry.bytes(NDA_LLADDR, &mac.octets());
    });
}
