//! A transaction: all of its changes happen at one instant, or none does.

use super::abi::{
    Family, Hook, NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END, NFNL_SUBSYS_NFTABLES, NFPROTO_UNSPEC,
    NFT_MSG_DELSETELEM, NFT_MSG_DELTABLE, NFT_MSG_NEWCHAIN, NFT_MSG_NEWRULE, NFT_MSG_NEWSET,
    NFT_MSG_NEWSETELEM, NFT_MSG_NEWTABLE, NFT_SET_CONCAT, NFT_SET_INTERVAL, NFT_SET_MAP,
    NFTA_CHAIN_HOOK, NFTA_CHAIN_NAME, NFTA_CHAIN_POLICY, NFTA_CHAIN_TABLE, NFTA_CHAIN_TYPE,
    NFTA_DATA_VALUE, NFTA_HOOK_HOOKNUM, NFTA_HOOK_PRIORITY, NFTA_LIST_ELEM, NFTA_RULE_CHAIN,
    NFTA_RULE_EXPRESSIONS, NFTA_RULE_TABLE, NFTA_RULE_USERDATA, NFTA_SET_DATA_LEN,
    NFTA_SET_DATA_TYPE, NFTA_SET_DESC, NFTA_SET_DESC_CONCAT, NFTA_SET_ELEM_DATA, NFTA_SET_ELEM_KEY,
    NFTA_SET_ELEM_KEY_END, NFTA_SET_ELEM_LIST_ELEMENTS, NFTA_SET_ELEM_LIST_SET,
    NFTA_SET_ELEM_LIST_TABLE, NFTA_SET_FIELD_LEN, NFTA_SET_FLAGS, NFTA_SET_ID, NFTA_SET_KEY_LEN,
    NFTA_SET_KEY_TYPE, NFTA_SET_NAME, NFTA_SET_TABLE, NFTA_SET_USERDATA, NFTA_TABLE_NAME,
    NFTNL_UDATA_RULE_COMMENT, NFTNL_UDATA_SET_KEYBYTEORDER, Verdict, header, kind,
};
use super::{Element, Expressions};
use crate::netlink::abi::{NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE};
use crate::netlink::{Batch, NetlinkError, Socket};

/// So many bytes of elements fit one message: their list is an attribute, and so at most 64 KiB
/// long, with up to 32 bytes of headers an element.
const ROOM_A_MESSAGE: usize = 60_000;
const HEADERS_AN_ELEMENT: usize = 32;
/// A comment's length is one byte, its NUL included.
const LONGEST_COMMENT: usize = 254;

/// A chain of rules.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chain {
    pub(crate) family: Family,
    pub(crate) name: &'static str,
    /// When the kernel calls it by itself; others are jumped to.
    pub(crate) call: Option<Call>,
}

/// When the kernel calls a chain.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    /// "filter" or "nat".
    pub(crate) kind: &'static str,
    pub(crate) hook: Hook,
    pub(crate) priority: i32,
}

/// A set of several fields, or a map from several fields to several fields.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Set {
    pub(crate) family: Family,
    pub(crate) name: &'static str,
    pub(crate) key: &'static [Field],
    /// Empty for a set.
    pub(crate) data: &'static [Field],
    /// Elements have an end besides their key: all between, field by field, is in the set.
    pub(crate) interval: bool,
}

/// The type of a field; the kernel cares for its length only, `nft list` for the number.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Field {
    Version,
    Address,
    Address6,
    Mac,
    Protocol,
    Port,
    Interface,
    /// The target of neighbour discovery, for which not every `nft` has a type.
    Target,
}

impl Field {
    /// Returns `nft`'s number of the type (its include/datatype.h).
    const fn number(self) -> u32 {
        match self {
            Self::Version => 2,
            Self::Target => 4,
            Self::Address => 7,
            Self::Address6 => 8,
            Self::Mac => 9,
            Self::Protocol => 12,
            Self::Port => 13,
            Self::Interface => 41,
        }
    }

    /// Returns its length in registers, which are filled up.
    const fn length(self) -> u32 {
        match self {
            Self::Version | Self::Address | Self::Protocol | Self::Port => 4,
            Self::Mac => 8,
            Self::Address6 | Self::Interface | Self::Target => 16,
        }
    }
}

/// Returns `nft`'s number of a concatenation: six bits a field.
fn concatenated(fields: &[Field]) -> u32 {
    fields
        .iter()
        .fold(0, |number, field| number << 6 | field.number())
}

fn length(fields: &[Field]) -> u32 {
    fields.iter().map(|field| field.length()).sum()
}

/// Changes to the tables of one name.
#[derive(Debug)]
pub(crate) struct Transaction<'a> {
    table: &'a str,
    batch: Batch,
    sets: u32,
}

impl<'a> Transaction<'a> {
    pub(crate) fn new(table: &'a str) -> Self {
        let mut batch = Batch::default();
        let opening = header(NFPROTO_UNSPEC, NFNL_SUBSYS_NFTABLES);
        batch.message(
            NFNL_MSG_BATCH_BEGIN,
            0,
            &opening,
            "begin a change of the nftables tables",
            |_| (),
        );
        Self {
            table,
            batch,
            sets: 0,
        }
    }

    /// Sends everything and waits for the kernel's word.
    pub(crate) fn commit(mut self, socket: &mut Socket) -> Result<(), NetlinkError> {
        let closing = header(NFPROTO_UNSPEC, NFNL_SUBSYS_NFTABLES);
        self.batch.message(
            NFNL_MSG_BATCH_END,
            0,
            &closing,
            "end the transaction",
            |_| (),
        );
        socket.transact(&mut self.batch)
    }

    /// Makes the table unless it is there.
    pub(crate) fn add_table(&mut self, family: Family) {
        let table = self.table;
        let step = format!("make the table {} {table}", family.name());
        self.add(family, NFT_MSG_NEWTABLE, NLM_F_CREATE, step, |message| {
            message.text(NFTA_TABLE_NAME, table);
        });
    }

    /// Deletes the table with all that is in it.
    pub(crate) fn delete_table(&mut self, family: Family) {
        let table = self.table;
        let step = format!("delete the table {} {table}", family.name());
        self.add(family, NFT_MSG_DELTABLE, 0, step, |message| {
            message.text(NFTA_TABLE_NAME, table);
        });
    }

    pub(crate) fn add_chain(&mut self, chain: &Chain) {
        let table = self.table;
        let step = format!("make the chain {} {}", chain.family.name(), chain.name);
        self.add(
            chain.family,
            NFT_MSG_NEWCHAIN,
            NLM_F_CREATE,
            step,
            |message| {
                message.text(NFTA_CHAIN_TABLE, table);
                message.text(NFTA_CHAIN_NAME, chain.name);
                let Some(call) = chain.call else { return };
                message.nest(NFTA_CHAIN_HOOK, |hook| {
                    hook.be32(NFTA_HOOK_HOOKNUM, call.hook.number());
                    hook.bytes(NFTA_HOOK_PRIORITY, &call.priority.to_be_bytes());
                });
                message.be32(NFTA_CHAIN_POLICY, Verdict::Accept.code());
                message.text(NFTA_CHAIN_TYPE, call.kind);
            },
        );
    }

    /// Appends a rule to a chain.
    pub(crate) fn add_rule(
        &mut self,
        chain: &Chain,
        comment: &str,
        write: impl FnOnce(&mut Expressions<'_, '_>),
    ) {
        let table = self.table;
        let step = format!("add the rule {comment:?} to the chain {}", chain.name);
        let flags = NLM_F_CREATE | NLM_F_APPEND;
        self.add(chain.family, NFT_MSG_NEWRULE, flags, step, |message| {
            message.text(NFTA_RULE_TABLE, table);
            message.text(NFTA_RULE_CHAIN, chain.name);
            message.nest(NFTA_RULE_EXPRESSIONS, |list| {
                write(&mut Expressions::new(list));
            });
            message.bytes(NFTA_RULE_USERDATA, &user_data(comment));
        });
    }

    pub(crate) fn add_set(&mut self, set: &Set) {
        self.sets += 1;
        let (table, number) = (self.table, self.sets);
        let step = format!("make the set {}", set.name);
        self.add(set.family, NFT_MSG_NEWSET, NLM_F_CREATE, step, |message| {
            message.text(NFTA_SET_TABLE, table);
            message.text(NFTA_SET_NAME, set.name);
            message.be32(NFTA_SET_FLAGS, flags_of(set));
            message.be32(NFTA_SET_KEY_TYPE, concatenated(set.key));
            message.be32(NFTA_SET_KEY_LEN, length(set.key));
            if !set.data.is_empty() {
                message.be32(NFTA_SET_DATA_TYPE, concatenated(set.data));
                message.be32(NFTA_SET_DATA_LEN, length(set.data));
            }
            message.be32(NFTA_SET_ID, number);
            message.bytes(NFTA_SET_USERDATA, &byte_order(set.key));
            if set.interval {
                message.nest(NFTA_SET_DESC, |description| {
                    description.nest(NFTA_SET_DESC_CONCAT, |fields| {
                        for field in set.key {
                            fields.nest(NFTA_LIST_ELEM, |one| {
                                one.be32(NFTA_SET_FIELD_LEN, field.length());
                            });
                        }
                    });
                });
            }
        });
    }

    pub(crate) fn add_elements<'e>(
        &mut self,
        set: &Set,
        elements: impl IntoIterator<Item = &'e Element>,
    ) {
        self.elements(NFT_MSG_NEWSETELEM, NLM_F_CREATE, "add", set, elements);
    }

    pub(crate) fn delete_elements<'e>(
        &mut self,
        set: &Set,
        elements: impl IntoIterator<Item = &'e Element>,
    ) {
        self.elements(NFT_MSG_DELSETELEM, 0, "delete", set, elements);
    }

    fn elements<'e>(
        &mut self,
        kind: u16,
        flags: u16,
        verb: &str,
        set: &Set,
        elements: impl IntoIterator<Item = &'e Element>,
    ) {
        let table = self.table;
        let mut elements = elements.into_iter().peekable();
        while elements.peek().is_some() {
            let step = format!("{verb} elements of the set {}", set.name);
            self.add(set.family, kind, flags, step, |message| {
                message.text(NFTA_SET_ELEM_LIST_TABLE, table);
                message.text(NFTA_SET_ELEM_LIST_SET, set.name);
                message.nest(NFTA_SET_ELEM_LIST_ELEMENTS, |list| {
                    let mut room = ROOM_A_MESSAGE;
                    while let Some(element) = elements.next_if(|next| next.size() <= room) {
                        room -= element.size();
                        list.nest(NFTA_LIST_ELEM, |one| element.write(one));
                    }
                });
            });
        }
    }

    fn add(
        &mut self,
        family: Family,
        message: u16,
        flags: u16,
        step: String,
        fill: impl FnOnce(&mut crate::netlink::Attributes<'_>),
    ) {
        let header = header(family.number(), 0);
        self.batch
            .message(kind(message), flags | NLM_F_ACK, &header, step, fill);
    }
}

impl Element {
    fn size(&self) -> usize {
        HEADERS_AN_ELEMENT + self.key.len() + self.end.len() + self.data.len()
    }

    fn write(&self, into: &mut crate::netlink::Attributes<'_>) {
        into.nest(NFTA_SET_ELEM_KEY, |key| {
            key.bytes(NFTA_DATA_VALUE, &self.key);
        });
        if !self.end.is_empty() {
            into.nest(NFTA_SET_ELEM_KEY_END, |end| {
                end.bytes(NFTA_DATA_VALUE, &self.end);
            });
        }
        if !self.data.is_empty() {
            into.nest(NFTA_SET_ELEM_DATA, |data| {
                data.bytes(NFTA_DATA_VALUE, &self.data);
            });
        }
    }
}

const fn flags_of(set: &Set) -> u32 {
    let map = if set.data.is_empty() { 0 } else { NFT_SET_MAP };
    let interval = if set.interval {
        NFT_SET_INTERVAL | NFT_SET_CONCAT
    } else {
        0
    };
    map | interval
}

/// Tells `nft` how to read the keys back: a link's name is no number in network byte order.
fn byte_order(key: &[Field]) -> Vec<u8> {
    const HOST: u32 = 1;
    const NETWORK: u32 = 2;
    let order = match key {
        [Field::Interface | Field::Version, ..] => HOST,
        _ => NETWORK,
    };
    let mut bytes = vec![NFTNL_UDATA_SET_KEYBYTEORDER, 4];
    bytes.extend_from_slice(&order.to_ne_bytes());
    if let [Field::Interface, Field::Mac, Field::Target] = key {
        bytes.extend_from_slice(&type_of_target_key());
    }
    bytes
}

/// Tells `nft` that the key is `typeof iifname . ether saddr . @th,64,128`: a plain number of 16
/// bytes has no name in its language (its src/expression.c, meta.c and payload.c).
fn type_of_target_key() -> Vec<u8> {
    const TYPE_OF_KEY: u8 = 3;
    let field = |kind: u8, value: &[u8]| {
        let length = u8::try_from(value.len()).unwrap_or(u8::MAX);
        [&[kind, length], value].concat()
    };
    let number = |kind: u8, value: u32| field(kind, &value.to_ne_bytes());
    // EXPR_CONCAT, EXPR_PAYLOAD and EXPR_META
    let expression = |kind: u32, data: &[u8]| [number(0, kind), field(1, data)].concat();
    let name = expression(9, &number(0, super::abi::NFT_META_IIFNAME));
    // of the protocol Ethernet the field 2, and 128 bits at bit 64 of the transport header
    let sender = expression(7, &[number(0, 17), number(1, 2)].concat());
    let target = [
        number(0, 0),
        number(1, 0),
        number(2, 3),
        number(3, 64),
        number(4, 128),
    ];
    let target = expression(7, &target.concat());
    let parts = [field(0, &name), field(1, &sender), field(2, &target)].concat();
    field(TYPE_OF_KEY, &expression(13, &parts))
}

/// Wraps a comment as `nft` does, so that it lists it.
fn user_data(comment: &str) -> Vec<u8> {
    let text = &comment.as_bytes()[..comment.len().min(LONGEST_COMMENT)];
    let length = u8::try_from(text.len() + 1).unwrap_or(u8::MAX);
    let mut bytes = vec![NFTNL_UDATA_RULE_COMMENT, length];
    bytes.extend_from_slice(text);
    bytes.push(0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_of_a_key_as_nft_writes_it() {
        // nft 1.0.6 for `set s { typeof iifname . ether saddr . @th,64,128 }`, the byte order before
        let expected = b"\x03\x56\x00\x04\x0d\0\0\0\x01\x4e\x00\x0e\x00\x04\x09\0\0\0\x01\x06\x00\x04\
            \x06\0\0\0\x01\x14\x00\x04\x07\0\0\0\x01\x0c\x00\x04\x11\0\0\0\x01\x04\x02\0\0\0\x02\x26\x00\
            \x04\x07\0\0\0\x01\x1e\x00\x04\0\0\0\0\x01\x04\0\0\0\0\x02\x04\x03\0\0\0\x03\x04\x40\0\0\0\
            \x04\x04\x80\0\0\0";
        if cfg!(target_endian = "little") {
            assert_eq!(type_of_target_key(), expected);
        }
    }
}
