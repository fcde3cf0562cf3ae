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

/// A chain that the kernel calls by itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chain {
    pub(crate) family: Family,
    pub(crate) name: &'static str,
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
}

impl Field {
    /// Returns `nft`'s number of the type (its include/datatype.h).
    const fn number(self) -> u32 {
        match self {
            Self::Version => 2,
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
            Self::Address6 | Self::Interface => 16,
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
                message.nest(NFTA_CHAIN_HOOK, |hook| {
                    hook.be32(NFTA_HOOK_HOOKNUM, chain.hook.number());
                    hook.bytes(NFTA_HOOK_PRIORITY, &chain.priority.to_be_bytes());
                });
                message.be32(NFTA_CHAIN_POLICY, Verdict::Accept.code());
                message.text(NFTA_CHAIN_TYPE, chain.kind);
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
    bytes
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
