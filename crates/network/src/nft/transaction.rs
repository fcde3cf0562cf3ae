//! A transaction: all of its changes happen at one instant, or none does.

use super::abi::{
    Hook, NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END, NFNL_SUBSYS_NFTABLES, NFPROTO_INET,
    NFPROTO_UNSPEC, NFT_MSG_DELSETELEM, NFT_MSG_DELTABLE, NFT_MSG_NEWCHAIN, NFT_MSG_NEWRULE,
    NFT_MSG_NEWSET, NFT_MSG_NEWSETELEM, NFT_MSG_NEWTABLE, NFT_SET_MAP, NFTA_CHAIN_HOOK,
    NFTA_CHAIN_NAME, NFTA_CHAIN_POLICY, NFTA_CHAIN_TABLE, NFTA_CHAIN_TYPE, NFTA_DATA_VALUE,
    NFTA_HOOK_HOOKNUM, NFTA_HOOK_PRIORITY, NFTA_LIST_ELEM, NFTA_RULE_CHAIN, NFTA_RULE_EXPRESSIONS,
    NFTA_RULE_TABLE, NFTA_RULE_USERDATA, NFTA_SET_DATA_LEN, NFTA_SET_DATA_TYPE, NFTA_SET_ELEM_DATA,
    NFTA_SET_ELEM_KEY, NFTA_SET_ELEM_LIST_ELEMENTS, NFTA_SET_ELEM_LIST_SET,
    NFTA_SET_ELEM_LIST_TABLE, NFTA_SET_FLAGS, NFTA_SET_ID, NFTA_SET_KEY_LEN, NFTA_SET_KEY_TYPE,
    NFTA_SET_NAME, NFTA_SET_TABLE, NFTA_TABLE_NAME, NFTNL_UDATA_RULE_COMMENT, Verdict, header,
    kind,
};
use super::{Element, Expressions};
use crate::netlink::abi::{NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE};
use crate::netlink::{Batch, NetlinkError, Socket};

/// So many elements fit one message: their list is an attribute, and so at most 64 KiB long.
const ELEMENTS_A_MESSAGE: usize = 1000;
/// A comment's length is one byte, its NUL included.
const LONGEST_COMMENT: usize = 254;

/// A chain that the kernel calls by itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chain {
    pub(crate) name: &'static str,
    /// "filter" or "nat".
    pub(crate) kind: &'static str,
    pub(crate) hook: Hook,
    pub(crate) priority: i32,
}

/// A map from several fields to several fields.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Map {
    pub(crate) name: &'static str,
    pub(crate) key: &'static [Field],
    pub(crate) data: &'static [Field],
}

/// The type of a field; the kernel cares for its length only, `nft list` for the number.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Field {
    Address,
    Protocol,
    Port,
}

impl Field {
    /// Returns `nft`'s number of the type (its include/datatype.h).
    const fn number(self) -> u32 {
        match self {
            Self::Address => 7,
            Self::Protocol => 12,
            Self::Port => 13,
        }
    }
}

/// Returns `nft`'s number of a concatenation: six bits a field.
fn concatenated(fields: &[Field]) -> u32 {
    fields
        .iter()
        .fold(0, |number, field| number << 6 | field.number())
}

/// Returns the length of a concatenation: four bytes a field.
fn length(fields: &[Field]) -> u32 {
    fields.iter().map(|_| 4).sum()
}

/// Changes to one table.
#[derive(Debug)]
pub(crate) struct Transaction<'a> {
    table: &'a str,
    batch: Batch,
    maps: u32,
}

impl<'a> Transaction<'a> {
    pub(crate) fn new(table: &'a str) -> Self {
        let mut batch = Batch::default();
        let opening = header(NFPROTO_UNSPEC, NFNL_SUBSYS_NFTABLES);
        let step = format!("change the table {table}");
        batch.message(NFNL_MSG_BATCH_BEGIN, 0, &opening, step, |_| ());
        Self {
            table,
            batch,
            maps: 0,
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
    pub(crate) fn add_table(&mut self) {
        let table = self.table;
        let step = format!("make the table {table}");
        self.add(NFT_MSG_NEWTABLE, NLM_F_CREATE, step, |message| {
            message.text(NFTA_TABLE_NAME, table);
        });
    }

    /// Deletes the table with all that is in it.
    pub(crate) fn delete_table(&mut self) {
        let table = self.table;
        let step = format!("delete the table {table}");
        self.add(NFT_MSG_DELTABLE, 0, step, |message| {
            message.text(NFTA_TABLE_NAME, table);
        });
    }

    pub(crate) fn add_chain(&mut self, chain: &Chain) {
        let table = self.table;
        let step = format!("make the chain {}", chain.name);
        self.add(NFT_MSG_NEWCHAIN, NLM_F_CREATE, step, |message| {
            message.text(NFTA_CHAIN_TABLE, table);
            message.text(NFTA_CHAIN_NAME, chain.name);
            message.nest(NFTA_CHAIN_HOOK, |hook| {
                hook.be32(NFTA_HOOK_HOOKNUM, chain.hook.number());
                hook.bytes(NFTA_HOOK_PRIORITY, &chain.priority.to_be_bytes());
            });
            message.be32(NFTA_CHAIN_POLICY, Verdict::Accept.code());
            message.text(NFTA_CHAIN_TYPE, chain.kind);
        });
    }

    /// Appends a rule to a chain.
    pub(crate) fn add_rule(
        &mut self,
        chain: &str,
        comment: &str,
        write: impl FnOnce(&mut Expressions<'_, '_>),
    ) {
        let table = self.table;
        let step = format!("add the rule {comment:?} to the chain {chain}");
        self.add(
            NFT_MSG_NEWRULE,
            NLM_F_CREATE | NLM_F_APPEND,
            step,
            |message| {
                message.text(NFTA_RULE_TABLE, table);
                message.text(NFTA_RULE_CHAIN, chain);
                message.nest(NFTA_RULE_EXPRESSIONS, |list| {
                    write(&mut Expressions::new(list));
                });
                message.bytes(NFTA_RULE_USERDATA, &user_data(comment));
            },
        );
    }

    pub(crate) fn add_map(&mut self, map: &Map) {
        self.maps += 1;
        let (table, number) = (self.table, self.maps);
        let step = format!("make the map {}", map.name);
        self.add(NFT_MSG_NEWSET, NLM_F_CREATE, step, |message| {
            message.text(NFTA_SET_TABLE, table);
            message.text(NFTA_SET_NAME, map.name);
            message.be32(NFTA_SET_FLAGS, NFT_SET_MAP);
            message.be32(NFTA_SET_KEY_TYPE, concatenated(map.key));
            message.be32(NFTA_SET_KEY_LEN, length(map.key));
            message.be32(NFTA_SET_DATA_TYPE, concatenated(map.data));
            message.be32(NFTA_SET_DATA_LEN, length(map.data));
            message.be32(NFTA_SET_ID, number);
        });
    }

    pub(crate) fn add_elements(&mut self, map: &str, elements: &[Element]) {
        for some in elements.chunks(ELEMENTS_A_MESSAGE) {
            let step = format!("add {} elements to the map {map}", some.len());
            self.elements(NFT_MSG_NEWSETELEM, NLM_F_CREATE, map, step, some);
        }
    }

    pub(crate) fn delete_elements(&mut self, map: &str, elements: &[Element]) {
        for some in elements.chunks(ELEMENTS_A_MESSAGE) {
            let step = format!("delete {} elements from the map {map}", some.len());
            self.elements(NFT_MSG_DELSETELEM, 0, map, step, some);
        }
    }

    fn elements(&mut self, kind: u16, flags: u16, map: &str, step: String, elements: &[Element]) {
        let table = self.table;
        self.add(kind, flags, step, |message| {
            message.text(NFTA_SET_ELEM_LIST_TABLE, table);
            message.text(NFTA_SET_ELEM_LIST_SET, map);
            message.nest(NFTA_SET_ELEM_LIST_ELEMENTS, |list| {
                for (key, data) in elements {
                    list.nest(NFTA_LIST_ELEM, |element| {
                        element.nest(NFTA_SET_ELEM_KEY, |k| k.bytes(NFTA_DATA_VALUE, key));
                        element.nest(NFTA_SET_ELEM_DATA, |d| d.bytes(NFTA_DATA_VALUE, data));
                    });
                }
            });
        });
    }

    fn add(
        &mut self,
        message: u16,
        flags: u16,
        step: String,
        fill: impl FnOnce(&mut crate::netlink::Attributes<'_>),
    ) {
        let header = header(NFPROTO_INET, 0);
        self.batch
            .message(kind(message), flags | NLM_F_ACK, &header, step, fill);
    }
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
