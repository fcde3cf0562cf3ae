//! Reading back what the kernel holds.

use rustix::io::Errno;

use super::abi::{
    Family, Hook, NFPROTO_UNSPEC, NFT_MSG_GETCHAIN, NFT_MSG_GETRULE, NFT_MSG_GETSET,
    NFT_MSG_GETSETELEM, NFT_MSG_GETTABLE, NFT_MSG_NEWCHAIN, NFT_MSG_NEWRULE, NFT_MSG_NEWSET,
    NFT_MSG_NEWSETELEM, NFT_MSG_NEWTABLE, NFT_REG_VERDICT, NFTA_CHAIN_HOOK, NFTA_CHAIN_NAME,
    NFTA_CHAIN_POLICY, NFTA_CHAIN_TABLE, NFTA_CHAIN_TYPE, NFTA_DATA_VALUE, NFTA_DATA_VERDICT,
    NFTA_EXPR_DATA, NFTA_EXPR_NAME, NFTA_HOOK_HOOKNUM, NFTA_HOOK_PRIORITY, NFTA_IMMEDIATE_DATA,
    NFTA_LIST_ELEM, NFTA_LOOKUP_DREG, NFTA_LOOKUP_SET, NFTA_RULE_CHAIN, NFTA_RULE_EXPRESSIONS,
    NFTA_RULE_TABLE, NFTA_RULE_USERDATA, NFTA_SET_DATA_LEN, NFTA_SET_ELEM_DATA, NFTA_SET_ELEM_KEY,
    NFTA_SET_ELEM_KEY_END, NFTA_SET_ELEM_LIST_ELEMENTS, NFTA_SET_ELEM_LIST_SET,
    NFTA_SET_ELEM_LIST_TABLE, NFTA_SET_FLAGS, NFTA_SET_KEY_LEN, NFTA_SET_NAME, NFTA_SET_TABLE,
    NFTA_TABLE_FLAGS, NFTA_TABLE_NAME, NFTA_VERDICT_CHAIN, NFTA_VERDICT_CODE,
    NFTNL_UDATA_RULE_COMMENT, Verdict, header, kind,
};
use super::{Element, Set};
use crate::netlink::abi::NLM_F_DUMP;
use crate::netlink::{Message, NetlinkError, Socket, attributes, find, integer_be, text};

/// A table, a chain, a rule or a set, without what changes by itself (handles, counts of users).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Object {
    pub(crate) family: u8,
    pub(crate) table: String,
    pub(crate) what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    Table {
        flags: u32,
    },
    Chain {
        name: String,
        base: Option<Base>,
    },
    Rule {
        chain: String,
        comment: String,
        /// The expressions as the kernel writes them.
        expressions: Vec<u8>,
    },
    Set {
        name: String,
        /// Flags, length of the key, length of the data.
        shape: [u32; 3],
    },
}

/// What only a chain has that the kernel calls by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Base {
    pub(crate) kind: String,
    pub(crate) hook: u32,
    pub(crate) priority: i32,
    pub(crate) policy: u32,
}

impl Base {
    pub(crate) fn is_at(&self, hook: Hook) -> bool {
        self.kind == "filter" && self.hook == hook.number()
    }

    /// Tells whether packets that no rule decides on are lost.
    pub(crate) const fn drops(&self) -> bool {
        self.policy == Verdict::Drop.code()
    }
}

/// What an expression of somebody's rule may end in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Drop,
    /// A jump or a goto.
    Chain(String),
}

/// Lists tables, chains, rules and sets: all, or those of one table.
pub(crate) fn objects(
    socket: &mut Socket,
    only: Option<(Family, &str)>,
) -> Result<Vec<Object>, NetlinkError> {
    let asked = only.map_or(NFPROTO_UNSPEC, |(family, _)| family.number());
    let is_wanted =
        |family, table: &str| only.is_none_or(|(_, wanted)| family == asked && table == wanted);
    let mut found = Vec::new();
    for (request, step) in [
        (NFT_MSG_GETTABLE, "list the nftables tables"),
        (NFT_MSG_GETCHAIN, "list the nftables chains"),
        (NFT_MSG_GETRULE, "list the nftables rules"),
        (NFT_MSG_GETSET, "list the nftables sets"),
    ] {
        let some = socket.dump(
            |batch| {
                let header = header(asked, 0);
                batch.message(kind(request), NLM_F_DUMP, &header, step, |message| {
                    // chains have no such filter, and a table of this name need not be there
                    if let (Some((_, table)), NFT_MSG_GETRULE | NFT_MSG_GETSET) = (only, request) {
                        message.text(NFTA_TABLE_NAME, table);
                    }
                });
            },
            |message| object(message, &is_wanted),
        );
        found.extend(or_none(some)?);
    }
    Ok(found)
}

/// Lists the families that have a table of this name.
pub(crate) fn tables(socket: &mut Socket, name: &str) -> Result<Vec<Family>, NetlinkError> {
    let found = socket.dump(
        |batch| {
            let header = header(NFPROTO_UNSPEC, 0);
            let step = "list the nftables tables";
            batch.message(kind(NFT_MSG_GETTABLE), NLM_F_DUMP, &header, step, |_| ());
        },
        |message| {
            let table = find(message.attributes(4), NFTA_TABLE_NAME)?;
            let family = Family::of(*message.payload.first()?)?;
            (message.kind == kind(NFT_MSG_NEWTABLE) && text(table) == name).then_some(family)
        },
    );
    or_none(found)
}

fn object(message: &Message<'_>, is_wanted: &impl Fn(u8, &str) -> bool) -> Option<Object> {
    let family = *message.payload.first()?;
    let attributes = message.attributes(4);
    // the first attribute of each of these messages is the table's name
    const {
        assert!(NFTA_TABLE_NAME == NFTA_CHAIN_TABLE && NFTA_CHAIN_TABLE == NFTA_RULE_TABLE);
        assert!(NFTA_RULE_TABLE == NFTA_SET_TABLE);
    }
    let table = text(find(attributes, NFTA_TABLE_NAME)?);
    if !is_wanted(family, &table) {
        return None;
    }
    let what = match message.kind {
        message if message == kind(NFT_MSG_NEWTABLE) => What::Table {
            flags: number(attributes, NFTA_TABLE_FLAGS).unwrap_or_default(),
        },
        message if message == kind(NFT_MSG_NEWCHAIN) => chain(attributes)?,
        message if message == kind(NFT_MSG_NEWRULE) => rule(attributes)?,
        message if message == kind(NFT_MSG_NEWSET) => What::Set {
            name: text(find(attributes, NFTA_SET_NAME)?),
            shape: [NFTA_SET_FLAGS, NFTA_SET_KEY_LEN, NFTA_SET_DATA_LEN]
                .map(|kind| number(attributes, kind).unwrap_or_default()),
        },
        _ => return None,
    };
    Some(Object {
        family,
        table,
        what,
    })
}

fn chain(attributes: &[u8]) -> Option<What> {
    let base = find(attributes, NFTA_CHAIN_HOOK).and_then(|hook| {
        Some(Base {
            kind: text(find(attributes, NFTA_CHAIN_TYPE)?),
            hook: number(hook, NFTA_HOOK_HOOKNUM)?,
            priority: number(hook, NFTA_HOOK_PRIORITY)?.cast_signed(),
            policy: number(attributes, NFTA_CHAIN_POLICY)?,
        })
    });
    Some(What::Chain {
        name: text(find(attributes, NFTA_CHAIN_NAME)?),
        base,
    })
}

fn rule(attributes: &[u8]) -> Option<What> {
    Some(What::Rule {
        chain: text(find(attributes, NFTA_RULE_CHAIN)?),
        comment: find(attributes, NFTA_RULE_USERDATA)
            .and_then(comment)
            .unwrap_or_default(),
        expressions: find(attributes, NFTA_RULE_EXPRESSIONS)
            .unwrap_or_default()
            .to_vec(),
    })
}

fn comment(mut user_data: &[u8]) -> Option<String> {
    loop {
        let [kind, length, rest @ ..] = user_data else {
            return None;
        };
        let value = rest.get(..usize::from(*length))?;
        if *kind == NFTNL_UDATA_RULE_COMMENT {
            return Some(text(value));
        }
        user_data = &rest[usize::from(*length)..];
    }
}

/// Tells what a rule's expressions may end in, as far as it matters for packets that are lost.
pub(crate) fn outcomes(expressions: &[u8]) -> Vec<Outcome> {
    attributes(expressions)
        .filter(|(kind, _)| *kind == NFTA_LIST_ELEM)
        .filter_map(|(_, expression)| {
            let name = text(find(expression, NFTA_EXPR_NAME)?);
            let data = find(expression, NFTA_EXPR_DATA).unwrap_or_default();
            match name.as_str() {
                "reject" | "queue" => Some(Outcome::Drop),
                "immediate" => verdict(find(data, NFTA_IMMEDIATE_DATA)?),
                // an extension of iptables: NFTA_TARGET_NAME
                "target" => matches!(text(find(data, 1)?).as_str(), "REJECT" | "NFQUEUE")
                    .then_some(Outcome::Drop),
                _ => None,
            }
        })
        .collect()
}

fn verdict(data: &[u8]) -> Option<Outcome> {
    // NF_DROP, NFT_JUMP and NFT_GOTO
    const DROP: u32 = 0;
    const JUMP: u32 = (-3_i32).cast_unsigned();
    const GOTO: u32 = (-4_i32).cast_unsigned();
    let verdict = find(data, NFTA_DATA_VERDICT)?;
    match number(verdict, NFTA_VERDICT_CODE)? {
        DROP => Some(Outcome::Drop),
        JUMP | GOTO => Some(Outcome::Chain(text(find(verdict, NFTA_VERDICT_CHAIN)?))),
        _ => None,
    }
}

/// Names the maps that a rule takes its verdict from (`vmap`).
pub(crate) fn verdict_maps(expressions: &[u8]) -> Vec<String> {
    attributes(expressions)
        .filter(|(kind, _)| *kind == NFTA_LIST_ELEM)
        .filter_map(|(_, expression)| {
            let data = find(expression, NFTA_EXPR_DATA)?;
            let is_lookup = text(find(expression, NFTA_EXPR_NAME)?) == "lookup";
            let to_verdict = number(data, NFTA_LOOKUP_DREG) == Some(NFT_REG_VERDICT);
            let set = find(data, NFTA_LOOKUP_SET)?;
            (is_lookup && to_verdict).then(|| text(set))
        })
        .collect()
}

/// Lists what the elements of such a map may end in.
pub(crate) fn outcomes_of_map(
    socket: &mut Socket,
    family: u8,
    table: &str,
    set: &str,
) -> Result<Vec<Outcome>, NetlinkError> {
    dump_elements(socket, family, table, set, |element| {
        verdict(find(element, NFTA_SET_ELEM_DATA)?)
    })
}

/// Lists the elements of a set; a set that is not there has none.
pub(crate) fn elements(
    socket: &mut Socket,
    table: &str,
    set: &Set,
) -> Result<Vec<Element>, NetlinkError> {
    let family = set.family.number();
    dump_elements(socket, family, table, set.name, |element| {
        let value = |kind| find(find(element, kind)?, NFTA_DATA_VALUE).map(<[u8]>::to_vec);
        Some(Element {
            key: value(NFTA_SET_ELEM_KEY)?,
            end: value(NFTA_SET_ELEM_KEY_END).unwrap_or_default(),
            data: value(NFTA_SET_ELEM_DATA).unwrap_or_default(),
        })
    })
}

fn dump_elements<T>(
    socket: &mut Socket,
    family: u8,
    table: &str,
    set: &str,
    parse: impl Fn(&[u8]) -> Option<T>,
) -> Result<Vec<T>, NetlinkError> {
    let step = format!("list the set {set}");
    let found = socket.dump(
        |batch| {
            let header = header(family, 0);
            let request = kind(NFT_MSG_GETSETELEM);
            batch.message(request, NLM_F_DUMP, &header, step.clone(), |message| {
                message.text(NFTA_SET_ELEM_LIST_TABLE, table);
                message.text(NFTA_SET_ELEM_LIST_SET, set);
            });
        },
        |message| {
            if message.kind != kind(NFT_MSG_NEWSETELEM) {
                return None;
            }
            let list = find(message.attributes(4), NFTA_SET_ELEM_LIST_ELEMENTS)?;
            let elements = attributes(list).filter(|(kind, _)| *kind == NFTA_LIST_ELEM);
            Some(
                elements
                    .filter_map(|(_, element)| parse(element))
                    .collect::<Vec<_>>(),
            )
        },
    );
    or_none(found).map(|messages| messages.into_iter().flatten().collect())
}

fn number(attributes: &[u8], kind: u16) -> Option<u32> {
    u32::try_from(integer_be(find(attributes, kind)?)?).ok()
}

fn or_none<T>(found: Result<Vec<T>, NetlinkError>) -> Result<Vec<T>, NetlinkError> {
    match found {
        Err(error) if error.is(Errno::NOENT) => Ok(Vec::new()),
        other => other,
    }
}
