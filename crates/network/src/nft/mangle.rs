//! Expressions that rewrite ports without connection tracking.

use std::net::Ipv4Addr;

use super::abi::{
    NFT_CMP_EQ, NFT_PAYLOAD_TRANSPORT_HEADER, NFTA_DATA_VALUE, NFTA_IMMEDIATE_DATA,
    NFTA_IMMEDIATE_DREG, NFTA_PAYLOAD_BASE, NFTA_PAYLOAD_LEN, NFTA_PAYLOAD_OFFSET,
};
use super::expression::{Expressions, Register, Value, Version};

const NFTA_PAYLOAD_SREG: u16 = 5;
const NFTA_PAYLOAD_CSUM_TYPE: u16 = 6;
const NFTA_PAYLOAD_CSUM_OFFSET: u16 = 7;
/// The checksum is the internet's (RFC 1071).
const NFT_PAYLOAD_CSUM_INET: u32 = 1;

/// A protocol whose ports can be rewritten, as the kernel numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp = 6,
    Udp = 17,
}

impl Transport {
    /// Returns where in the header the checksum is.
    const fn checksum(self) -> u32 {
        match self {
            Self::Tcp => 16,
            Self::Udp => 6,
        }
    }
}

/// One end of a packet's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Source,
    Destination,
}

impl End {
    const fn port(self) -> u32 {
        match self {
            Self::Source => 0,
            Self::Destination => 2,
        }
    }
}

impl Expressions<'_, '_> {
    /// Goes on with packets of IPv4 that have this address and this port at this end.
    pub(crate) fn is_at(&mut self, end: End, transport: Transport, address: Ipv4Addr, port: u16) {
        self.version(Version::V4);
        let value = match end {
            End::Source => Value::Source(Version::V4),
            End::Destination => Value::Destination(Version::V4),
        };
        self.equals(value, &address.octets());
        self.equals(Value::Protocol, &[transport as u8]);
        self.payload(NFT_PAYLOAD_TRANSPORT_HEADER, end.port(), 2, Register(0));
        self.compare(NFT_CMP_EQ, &port.to_be_bytes());
    }

    /// Writes another port into this packet, and corrects its checksum.
    pub(crate) fn set_port(&mut self, end: End, transport: Transport, port: u16) {
        self.add("immediate", |immediate| {
            immediate.be32(NFTA_IMMEDIATE_DREG, Register(0).number());
            immediate.nest(NFTA_IMMEDIATE_DATA, |data| {
                data.bytes(NFTA_DATA_VALUE, &port.to_be_bytes());
            });
        });
        self.add("payload", |payload| {
            payload.be32(NFTA_PAYLOAD_SREG, Register(0).number());
            payload.be32(NFTA_PAYLOAD_BASE, NFT_PAYLOAD_TRANSPORT_HEADER);
            payload.be32(NFTA_PAYLOAD_OFFSET, end.port());
            payload.be32(NFTA_PAYLOAD_LEN, 2);
            payload.be32(NFTA_PAYLOAD_CSUM_TYPE, NFT_PAYLOAD_CSUM_INET);
            payload.be32(NFTA_PAYLOAD_CSUM_OFFSET, transport.checksum());
        });
    }
}
