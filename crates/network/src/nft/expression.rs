//! The expressions of a rule, in the order in which the kernel runs them.

use std::net::Ipv4Addr;

use super::abi::{
    NFPROTO_IPV4, NFT_CMP_EQ, NFT_CMP_NEQ, NFT_CT_STATE, NFT_CT_STATUS, NFT_FIB_RESULT_ADDRTYPE,
    NFT_META_IIFNAME, NFT_META_L4PROTO, NFT_META_NFPROTO, NFT_META_OIFNAME, NFT_NAT_DNAT,
    NFT_PAYLOAD_NETWORK_HEADER, NFT_PAYLOAD_TRANSPORT_HEADER, NFT_REG_VERDICT, NFT_REG32_00,
    NFTA_BITWISE_DREG, NFTA_BITWISE_LEN, NFTA_BITWISE_MASK, NFTA_BITWISE_SREG, NFTA_BITWISE_XOR,
    NFTA_CMP_DATA, NFTA_CMP_OP, NFTA_CMP_SREG, NFTA_CT_DREG, NFTA_CT_KEY, NFTA_DATA_VALUE,
    NFTA_DATA_VERDICT, NFTA_EXPR_DATA, NFTA_EXPR_NAME, NFTA_FIB_DREG, NFTA_FIB_F_DADDR,
    NFTA_FIB_FLAGS, NFTA_FIB_RESULT, NFTA_IMMEDIATE_DATA, NFTA_IMMEDIATE_DREG, NFTA_LIST_ELEM,
    NFTA_LOOKUP_DREG, NFTA_LOOKUP_SET, NFTA_LOOKUP_SREG, NFTA_META_DREG, NFTA_META_KEY,
    NFTA_NAT_FAMILY, NFTA_NAT_REG_ADDR_MIN, NFTA_NAT_REG_PROTO_MIN, NFTA_NAT_TYPE,
    NFTA_PAYLOAD_BASE, NFTA_PAYLOAD_DREG, NFTA_PAYLOAD_LEN, NFTA_PAYLOAD_OFFSET, NFTA_VERDICT_CODE,
    RTN_LOCAL, Verdict,
};
use crate::netlink::Attributes;

/// The kernel's buffer for a link's name.
const IFNAMSIZ: usize = 16;

/// One of the kernel's sixteen registers of four bytes; a longer value fills those that follow.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Register(pub(crate) u32);

impl Register {
    const FIRST: Self = Self(0);

    pub(super) const fn number(self) -> u32 {
        NFT_REG32_00 + self.0
    }
}

/// Which of a packet's two links is meant.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Interface {
    In,
    Out,
}

/// What connection tracking knows of a packet.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Status {
    /// It belongs, or is related, to a connection that was let through before.
    Established,
    /// Its destination was rewritten.
    DestinationRewritten,
}

/// Writes the expressions of one rule.
#[derive(Debug)]
pub(crate) struct Expressions<'a, 'b> {
    list: &'a mut Attributes<'b>,
}

impl<'a, 'b> Expressions<'a, 'b> {
    pub(super) fn new(list: &'a mut Attributes<'b>) -> Self {
        Self { list }
    }

    pub(super) fn add(&mut self, name: &str, fill: impl FnOnce(&mut Attributes<'_>)) {
        self.list.nest(NFTA_LIST_ELEM, |element| {
            element.text(NFTA_EXPR_NAME, name);
            element.nest(NFTA_EXPR_DATA, fill);
        });
    }

    /// Goes on with IPv4 packets only: offsets into the header are then known.
    pub(crate) fn is_ipv4(&mut self) {
        self.meta(NFT_META_NFPROTO, Register::FIRST);
        self.compare(NFT_CMP_EQ, &[NFPROTO_IPV4]);
    }

    pub(crate) fn interface_is(&mut self, which: Interface, name: &str) {
        self.interface(which, NFT_CMP_EQ, name);
    }

    pub(crate) fn interface_is_not(&mut self, which: Interface, name: &str) {
        self.interface(which, NFT_CMP_NEQ, name);
    }

    fn interface(&mut self, which: Interface, operator: u32, name: &str) {
        let key = match which {
            Interface::In => NFT_META_IIFNAME,
            Interface::Out => NFT_META_OIFNAME,
        };
        let mut padded = [0; IFNAMSIZ];
        padded
            .iter_mut()
            .zip(name.bytes())
            .for_each(|(to, from)| *to = from);
        self.meta(key, Register::FIRST);
        self.compare(operator, &padded);
    }

    pub(crate) fn source_in(&mut self, network: Ipv4Addr, prefix: u8) {
        self.address_in(12, network, prefix);
    }

    pub(crate) fn destination_in(&mut self, network: Ipv4Addr, prefix: u8) {
        self.address_in(16, network, prefix);
    }

    fn address_in(&mut self, offset: u32, network: Ipv4Addr, prefix: u8) {
        let mask = u32::MAX
            .checked_shl(32 - u32::from(prefix.min(32)))
            .unwrap_or(0);
        self.payload(NFT_PAYLOAD_NETWORK_HEADER, offset, 4, Register::FIRST);
        self.mask(&mask.to_be_bytes());
        self.compare(NFT_CMP_EQ, &network.octets());
    }

    /// Goes on when the destination is an address of this host.
    pub(crate) fn destination_is_local(&mut self) {
        self.add("fib", |fib| {
            fib.be32(NFTA_FIB_DREG, Register::FIRST.number());
            fib.be32(NFTA_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE);
            fib.be32(NFTA_FIB_FLAGS, NFTA_FIB_F_DADDR);
        });
        self.compare(NFT_CMP_EQ, &RTN_LOCAL.to_ne_bytes());
    }

    pub(crate) fn connection(&mut self, status: Status) {
        // NF_CT_STATE_BIT(IP_CT_ESTABLISHED) | NF_CT_STATE_BIT(IP_CT_RELATED), and IPS_DST_NAT
        let (key, bits) = match status {
            Status::Established => (NFT_CT_STATE, 2_u32 | 4),
            Status::DestinationRewritten => (NFT_CT_STATUS, 1 << 5),
        };
        self.add("ct", |ct| {
            ct.be32(NFTA_CT_DREG, Register::FIRST.number());
            ct.be32(NFTA_CT_KEY, key);
        });
        self.mask(&bits.to_ne_bytes());
        self.compare(NFT_CMP_NEQ, &[0; 4]);
    }

    pub(crate) fn load_protocol(&mut self, into: Register) {
        self.meta(NFT_META_L4PROTO, into);
    }

    pub(crate) fn load_destination(&mut self, into: Register) {
        self.payload(NFT_PAYLOAD_NETWORK_HEADER, 16, 4, into);
    }

    /// Loads the destination port, which TCP, UDP and SCTP have at the same place.
    pub(crate) fn load_port(&mut self, into: Register) {
        self.payload(NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, into);
    }

    /// Looks a key up in a map; a packet whose key is not there leaves the rule.
    pub(crate) fn look_up(&mut self, map: &str, key: Register, data: Register) {
        self.add("lookup", |lookup| {
            lookup.text(NFTA_LOOKUP_SET, map);
            lookup.be32(NFTA_LOOKUP_SREG, key.number());
            lookup.be32(NFTA_LOOKUP_DREG, data.number());
        });
    }

    /// Sends the connection to the address and the port in the registers.
    pub(crate) fn redirect(&mut self, address: Register, port: Register) {
        self.add("nat", |nat| {
            nat.be32(NFTA_NAT_TYPE, NFT_NAT_DNAT);
            nat.be32(NFTA_NAT_FAMILY, u32::from(NFPROTO_IPV4));
            nat.be32(NFTA_NAT_REG_ADDR_MIN, address.number());
            nat.be32(NFTA_NAT_REG_PROTO_MIN, port.number());
        });
    }

    /// Gives the connection the address of the link that it leaves by.
    pub(crate) fn masquerade(&mut self) {
        self.add("masq", |_| ());
    }

    pub(crate) fn verdict(&mut self, verdict: Verdict) {
        self.add("immediate", |immediate| {
            immediate.be32(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
            immediate.nest(NFTA_IMMEDIATE_DATA, |data| {
                data.nest(NFTA_DATA_VERDICT, |inner| {
                    inner.be32(NFTA_VERDICT_CODE, verdict.code());
                });
            });
        });
    }

    fn meta(&mut self, key: u32, into: Register) {
        self.add("meta", |meta| {
            meta.be32(NFTA_META_KEY, key);
            meta.be32(NFTA_META_DREG, into.number());
        });
    }

    pub(super) fn payload(&mut self, base: u32, offset: u32, length: u32, into: Register) {
        self.add("payload", |payload| {
            payload.be32(NFTA_PAYLOAD_DREG, into.number());
            payload.be32(NFTA_PAYLOAD_BASE, base);
            payload.be32(NFTA_PAYLOAD_OFFSET, offset);
            payload.be32(NFTA_PAYLOAD_LEN, length);
        });
    }

    fn mask(&mut self, mask: &[u8; 4]) {
        self.add("bitwise", |bitwise| {
            bitwise.be32(NFTA_BITWISE_SREG, Register::FIRST.number());
            bitwise.be32(NFTA_BITWISE_DREG, Register::FIRST.number());
            bitwise.be32(NFTA_BITWISE_LEN, 4);
            bitwise.nest(NFTA_BITWISE_MASK, |data| data.bytes(NFTA_DATA_VALUE, mask));
            bitwise.nest(NFTA_BITWISE_XOR, |data| {
                data.bytes(NFTA_DATA_VALUE, &[0; 4]);
            });
        });
    }

    pub(super) fn compare(&mut self, operator: u32, value: &[u8]) {
        self.add("cmp", |compare| {
            compare.be32(NFTA_CMP_SREG, Register::FIRST.number());
            compare.be32(NFTA_CMP_OP, operator);
            compare.nest(NFTA_CMP_DATA, |data| data.bytes(NFTA_DATA_VALUE, value));
        });
    }
}
