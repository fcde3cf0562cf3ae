//! The expressions of a rule, in the order in which the kernel runs them.

use super::abi::{
    NFPROTO_IPV4, NFPROTO_IPV6, NFT_CMP_EQ, NFT_CMP_NEQ, NFT_CT_STATE, NFT_CT_STATUS,
    NFT_FIB_RESULT_ADDRTYPE, NFT_LOOKUP_F_INV, NFT_META_IIFNAME, NFT_META_L4PROTO, NFT_META_MARK,
    NFT_META_NFPROTO, NFT_META_OIFNAME, NFT_META_PROTOCOL, NFT_NAT_DNAT, NFT_NAT_SNAT,
    NFT_PAYLOAD_LL_HEADER, NFT_PAYLOAD_NETWORK_HEADER, NFT_PAYLOAD_TRANSPORT_HEADER,
    NFT_REG_VERDICT, NFT_REG32_00, NFTA_BITWISE_DREG, NFTA_BITWISE_LEN, NFTA_BITWISE_MASK,
    NFTA_BITWISE_SREG, NFTA_BITWISE_XOR, NFTA_CMP_DATA, NFTA_CMP_OP, NFTA_CMP_SREG, NFTA_CT_DREG,
    NFTA_CT_KEY, NFTA_DATA_VALUE, NFTA_DATA_VERDICT, NFTA_DUP_SREG_ADDR, NFTA_DUP_SREG_DEV,
    NFTA_EXPR_DATA, NFTA_EXPR_NAME, NFTA_FIB_DREG, NFTA_FIB_F_DADDR, NFTA_FIB_FLAGS,
    NFTA_FIB_RESULT, NFTA_IMMEDIATE_DATA, NFTA_IMMEDIATE_DREG, NFTA_LIST_ELEM, NFTA_LOOKUP_DREG,
    NFTA_LOOKUP_FLAGS, NFTA_LOOKUP_SET, NFTA_LOOKUP_SREG, NFTA_META_DREG, NFTA_META_KEY,
    NFTA_META_SREG, NFTA_NAT_FAMILY, NFTA_NAT_REG_ADDR_MIN, NFTA_NAT_REG_PROTO_MIN, NFTA_NAT_TYPE,
    NFTA_PAYLOAD_BASE, NFTA_PAYLOAD_DREG, NFTA_PAYLOAD_LEN, NFTA_PAYLOAD_OFFSET, NFTA_VERDICT_CODE,
    RTN_LOCAL, Verdict,
};
use crate::netlink::Attributes;

/// The kernel's buffer for a link's name.
const IFNAMSIZ: usize = 16;

/// One of the kernel's sixteen registers of four bytes; a longer value fills those that follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Register(pub(crate) u32);

impl Register {
    const FIRST: Self = Self(0);

    pub(super) const fn number(self) -> u32 {
        NFT_REG32_00 + self.0
    }
}

/// The versions of the Internet Protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    V4,
    V6,
}

impl Version {
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::V4 => NFPROTO_IPV4,
            Self::V6 => NFPROTO_IPV6,
        }
    }

    const fn address_length(self) -> u32 {
        match self {
            Self::V4 => 4,
            Self::V6 => 16,
        }
    }
}

/// What a rule may look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value {
    /// The name of the link that the packet came in by, empty when it was made here.
    InterfaceIn,
    /// The name of the link that it leaves by.
    InterfaceOut,
    /// The version of IP as a number of the kernel's.
    Version,
    /// The number of the protocol above IP.
    Protocol,
    /// The frame's type.
    FrameType,
    Mark,
    Source(Version),
    Destination(Version),
    /// The port where TCP, UDP and SCTP all have it.
    DestinationPort,
    /// Whether established or related, as bits that are zero otherwise.
    Established,
    /// Whether the connection's destination was rewritten, as bits.
    Redirected,
    /// The type of ICMP and ICMPv6.
    MessageType,
    EthernetSource,
    ArpSourceMac,
    ArpSource,
    /// The address that a neighbour solicitation or advertisement is about.
    NeighbourTarget,
}

impl Value {
    /// Returns how many registers it fills.
    pub(crate) const fn registers(self) -> u32 {
        match self {
            Self::InterfaceIn | Self::InterfaceOut | Self::NeighbourTarget => 4,
            Self::Source(version) | Self::Destination(version) => version.address_length() / 4,
            Self::EthernetSource | Self::ArpSourceMac => 2,
            Self::Version
            | Self::Protocol
            | Self::FrameType
            | Self::Mark
            | Self::DestinationPort
            | Self::Established
            | Self::Redirected
            | Self::MessageType
            | Self::ArpSource => 1,
        }
    }
}

/// Pads a link's name as registers hold it.
pub(crate) fn interface_name(name: &str) -> [u8; IFNAMSIZ] {
    let mut padded = [0; IFNAMSIZ];
    // the last byte stays the NUL that the kernel's names end with
    padded[..IFNAMSIZ - 1]
        .iter_mut()
        .zip(name.bytes())
        .for_each(|(to, from)| *to = from);
    padded
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

    /// Goes on with packets of this version only: offsets into the header are then known.
    pub(crate) fn version(&mut self, version: Version) {
        self.equals(Value::Version, &[version.number()]);
    }

    pub(crate) fn equals(&mut self, value: Value, wanted: &[u8]) {
        self.load(value, Register::FIRST);
        self.compare(NFT_CMP_EQ, wanted);
    }

    pub(crate) fn differs(&mut self, value: Value, unwanted: &[u8]) {
        self.load(value, Register::FIRST);
        self.compare(NFT_CMP_NEQ, unwanted);
    }

    pub(crate) fn interface_is(&mut self, which: Value, name: &str) {
        self.equals(which, &interface_name(name));
    }

    pub(crate) fn interface_is_not(&mut self, which: Value, name: &str) {
        self.differs(which, &interface_name(name));
    }

    /// Goes on when the bits of the value are not all zero.
    pub(crate) fn holds(&mut self, value: Value) {
        self.differs(value, &[0; 4]);
    }

    /// Goes on when the address is in the network.
    pub(crate) fn within(&mut self, value: Value, network: &[u8], mask: &[u8]) {
        self.load(value, Register::FIRST);
        self.mask(mask);
        self.compare(NFT_CMP_EQ, network);
    }

    /// Goes on when it is not.
    pub(crate) fn outside(&mut self, value: Value, network: &[u8], mask: &[u8]) {
        self.load(value, Register::FIRST);
        self.mask(mask);
        self.compare(NFT_CMP_NEQ, network);
    }

    /// Goes on when the values, one behind the other, are an element of the set.
    pub(crate) fn among(&mut self, values: &[Value], set: &str) {
        let key = self.load_all(values);
        self.look(set, key, None, 0);
    }

    /// Goes on when they are not.
    pub(crate) fn not_among(&mut self, values: &[Value], set: &str) {
        let key = self.load_all(values);
        self.look(set, key, None, NFT_LOOKUP_F_INV);
    }

    /// Looks the values up in a map; a packet whose key is not there leaves the rule. What is found
    /// begins in the first register.
    pub(crate) fn find(&mut self, values: &[Value], map: &str) {
        let key = self.load_all(values);
        self.look(map, key, Some(Register::FIRST), 0);
    }

    fn load_all(&mut self, values: &[Value]) -> Register {
        let mut next = Register::FIRST;
        for value in values {
            self.load(*value, next);
            next.0 += value.registers();
        }
        Register::FIRST
    }

    fn look(&mut self, set: &str, key: Register, data: Option<Register>, flags: u32) {
        self.add("lookup", |lookup| {
            lookup.text(NFTA_LOOKUP_SET, set);
            lookup.be32(NFTA_LOOKUP_SREG, key.number());
            if let Some(data) = data {
                lookup.be32(NFTA_LOOKUP_DREG, data.number());
            }
            if flags != 0 {
                lookup.be32(NFTA_LOOKUP_FLAGS, flags);
            }
        });
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

    /// Sends the connection to the address and the port that begin in the first register.
    pub(crate) fn redirect(&mut self, version: Version) {
        let port = Register(Value::Source(version).registers());
        self.nat(NFT_NAT_DNAT, version, Some(port));
    }

    /// Gives the connection the source address that begins in the first register.
    pub(crate) fn disguise(&mut self, version: Version) {
        self.nat(NFT_NAT_SNAT, version, None);
    }

    fn nat(&mut self, kind: u32, version: Version, port: Option<Register>) {
        self.add("nat", |nat| {
            nat.be32(NFTA_NAT_TYPE, kind);
            nat.be32(NFTA_NAT_FAMILY, u32::from(version.number()));
            nat.be32(NFTA_NAT_REG_ADDR_MIN, Register::FIRST.number());
            if let Some(port) = port {
                nat.be32(NFTA_NAT_REG_PROTO_MIN, port.number());
            }
        });
    }

    /// Gives the connection the address of the link that it leaves by.
    pub(crate) fn masquerade(&mut self) {
        self.add("masq", |_| ());
    }

    pub(crate) fn set_mark(&mut self, mark: u32) {
        self.constant(Register::FIRST, &mark.to_ne_bytes());
        self.add("meta", |meta| {
            meta.be32(NFTA_META_KEY, NFT_META_MARK);
            meta.be32(NFTA_META_SREG, Register::FIRST.number());
        });
    }

    /// Sends a copy of the packet to a neighbour by a link.
    pub(crate) fn duplicate(&mut self, neighbour: &[u8], link: u32) {
        let behind = Register(4);
        self.constant(Register::FIRST, neighbour);
        self.constant(behind, &link.to_ne_bytes());
        self.add("dup", |dup| {
            dup.be32(NFTA_DUP_SREG_ADDR, Register::FIRST.number());
            dup.be32(NFTA_DUP_SREG_DEV, behind.number());
        });
    }

    fn constant(&mut self, into: Register, value: &[u8]) {
        self.add("immediate", |immediate| {
            immediate.be32(NFTA_IMMEDIATE_DREG, into.number());
            immediate.nest(NFTA_IMMEDIATE_DATA, |data| {
                data.bytes(NFTA_DATA_VALUE, value);
            });
        });
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

    fn load(&mut self, value: Value, into: Register) {
        match value {
            Value::InterfaceIn => self.meta(NFT_META_IIFNAME, into),
            Value::InterfaceOut => self.meta(NFT_META_OIFNAME, into),
            Value::Version => self.meta(NFT_META_NFPROTO, into),
            Value::Protocol => self.meta(NFT_META_L4PROTO, into),
            Value::FrameType => self.meta(NFT_META_PROTOCOL, into),
            Value::Mark => self.meta(NFT_META_MARK, into),
            // NF_CT_STATE_BIT(IP_CT_ESTABLISHED) | NF_CT_STATE_BIT(IP_CT_RELATED), and IPS_DST_NAT
            Value::Established => self.connection(NFT_CT_STATE, 2 | 4, into),
            Value::Redirected => self.connection(NFT_CT_STATUS, 1 << 5, into),
            Value::Source(Version::V4) => self.network(12, 4, into),
            Value::Destination(Version::V4) => self.network(16, 4, into),
            Value::Source(Version::V6) => self.network(8, 16, into),
            Value::Destination(Version::V6) => self.network(24, 16, into),
            Value::DestinationPort => self.payload(NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, into),
            Value::MessageType => self.payload(NFT_PAYLOAD_TRANSPORT_HEADER, 0, 1, into),
            Value::NeighbourTarget => self.payload(NFT_PAYLOAD_TRANSPORT_HEADER, 8, 16, into),
            Value::EthernetSource => self.payload(NFT_PAYLOAD_LL_HEADER, 6, 6, into),
            Value::ArpSourceMac => self.network(8, 6, into),
            Value::ArpSource => self.network(14, 4, into),
        }
    }

    fn connection(&mut self, key: u32, bits: u32, into: Register) {
        self.add("ct", |ct| {
            ct.be32(NFTA_CT_DREG, into.number());
            ct.be32(NFTA_CT_KEY, key);
        });
        self.mask(&bits.to_ne_bytes());
    }

    fn meta(&mut self, key: u32, into: Register) {
        self.add("meta", |meta| {
            meta.be32(NFTA_META_KEY, key);
            meta.be32(NFTA_META_DREG, into.number());
        });
    }

    fn network(&mut self, offset: u32, length: u32, into: Register) {
        self.payload(NFT_PAYLOAD_NETWORK_HEADER, offset, length, into);
    }

    pub(super) fn payload(&mut self, base: u32, offset: u32, length: u32, into: Register) {
        self.add("payload", |payload| {
            payload.be32(NFTA_PAYLOAD_DREG, into.number());
            payload.be32(NFTA_PAYLOAD_BASE, base);
            payload.be32(NFTA_PAYLOAD_OFFSET, offset);
            payload.be32(NFTA_PAYLOAD_LEN, length);
        });
    }

    fn mask(&mut self, mask: &[u8]) {
        let length = u32::try_from(mask.len()).unwrap_or(u32::MAX);
        self.add("bitwise", |bitwise| {
            bitwise.be32(NFTA_BITWISE_SREG, Register::FIRST.number());
            bitwise.be32(NFTA_BITWISE_DREG, Register::FIRST.number());
            bitwise.be32(NFTA_BITWISE_LEN, length);
            bitwise.nest(NFTA_BITWISE_MASK, |data| data.bytes(NFTA_DATA_VALUE, mask));
            bitwise.nest(NFTA_BITWISE_XOR, |data| {
                data.bytes(NFTA_DATA_VALUE, &vec![0; mask.len()]);
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
