//! nftables by netlink: transactions, and expressions of rules.
//!
//! Only what this crate's rules need. The formats are those of `linux/netfilter/nf_tables.h`.

mod abi;
mod dump;
mod expression;
mod mangle;
mod transaction;

pub(crate) use abi::{Hook, Verdict};
pub(crate) use dump::{elements, rules};
pub(crate) use expression::{Expressions, Interface, Register, Status};
pub(crate) use mangle::{End, Transport};
pub(crate) use transaction::{Chain, Field, Map, Transaction};

/// A key of a map and the data it leads to, as the kernel holds them: each field in network byte
/// order, padded to four bytes.
pub(crate) type Element = (Vec<u8>, Vec<u8>);

/// Appends a field of a key or of data.
pub(crate) fn push_field(bytes: &mut Vec<u8>, field: &[u8]) {
    bytes.extend_from_slice(field);
    bytes.resize(crate::netlink::abi::align(bytes.len()), 0);
}
