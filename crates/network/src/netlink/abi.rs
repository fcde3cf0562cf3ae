//! Numbers of the netlink protocol itself (`linux/netlink.h`).

pub(crate) const NLMSG_ERROR: u16 = 2;
pub(crate) const NLMSG_DONE: u16 = 3;

pub(crate) const NLM_F_REQUEST: u16 = 0x001;
pub(crate) const NLM_F_ACK: u16 = 0x004;
pub(crate) const NLM_F_ECHO: u16 = 0x008;
pub(crate) const NLM_F_DUMP_INTR: u16 = 0x010;
pub(crate) const NLM_F_DUMP: u16 = 0x300;
pub(crate) const NLM_F_REPLACE: u16 = 0x100;
pub(crate) const NLM_F_EXCL: u16 = 0x200;
pub(crate) const NLM_F_CREATE: u16 = 0x400;
pub(crate) const NLM_F_APPEND: u16 = 0x800;
pub(crate) const NLM_F_CAPPED: u16 = 0x100;
pub(crate) const NLM_F_ACK_TLVS: u16 = 0x200;

pub(crate) const NLMSGERR_ATTR_MSG: u16 = 1;

pub(crate) const NLA_F_NESTED: u16 = 0x8000;
/// Everything of an attribute's type but the two flag bits.
pub(crate) const NLA_TYPE_MASK: u16 = 0x3fff;

pub(crate) const HEADER_LENGTH: usize = 16;
pub(crate) const ATTRIBUTE_HEADER_LENGTH: usize = 4;

/// Rounds up to netlink's alignment of four bytes.
pub(crate) const fn align(length: usize) -> usize {
    length.saturating_add(3) & !3
}
