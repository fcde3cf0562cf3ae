//! nftables by netlink: transactions, and expressions of rules.
//!
//! Only what this crate's rules need. The formats are those of `linux/netfilter/nf_tables.h`.

mod abi;
mod dump;
mod expression;
mod mangle;
mod transaction;

pub(crate) use abi::{Family, Hook, Verdict};
pub(crate) use dump::{
    Object, Outcome, What, elements, objects, outcomes, outcomes_of_map, tables, verdict_maps,
};
pub(crate) use expression::{Expressions, Value, Version, interface_name};
pub(crate) use mangle::{End, Transport};
pub(crate) use transaction::{Chain, Field, Set, Transaction};

/// An element of a set or a map, as the kernel holds it: each field in network byte order, padded
/// to four bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Element {
    pub(crate) key: Vec<u8>,
    /// The last key of an interval; empty where there is only one.
    pub(crate) end: Vec<u8>,
    /// What the key leads to; empty in a set.
    pub(crate) data: Vec<u8>,
}

/// Appends a field of a key or of data.
pub(crate) fn push_field(bytes: &mut Vec<u8>, field: &[u8]) {
    bytes.extend_from_slice(field);
    bytes.resize(crate::netlink::abi::align(bytes.len()), 0);
}
