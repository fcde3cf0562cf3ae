//! Reading back what a table holds.

use rustix::io::Errno;

use super::Element;
use super::abi::{
    NFPROTO_INET, NFT_MSG_GETRULE, NFT_MSG_GETSETELEM, NFT_MSG_NEWRULE, NFT_MSG_NEWSETELEM,
    NFTA_DATA_VALUE, NFTA_LIST_ELEM, NFTA_RULE_CHAIN, NFTA_RULE_TABLE, NFTA_RULE_USERDATA,
    NFTA_SET_ELEM_DATA, NFTA_SET_ELEM_KEY, NFTA_SET_ELEM_LIST_ELEMENTS, NFTA_SET_ELEM_LIST_SET,
    NFTA_SET_ELEM_LIST_TABLE, NFTNL_UDATA_RULE_COMMENT, header, kind,
};
use crate::netlink::abi::NLM_F_DUMP;
use crate::netlink::{Message, NetlinkError, Socket, attributes, find, text};

/// Lists the rules of a table as chain and comment; a table that is not there has none.
pub(crate) fn rules(
    socket: &mut Socket,
    table: &str,
) -> Result<Vec<(String, String)>, NetlinkError> {
    let step = format!("list the rules of the table {table}");
    let found = socket.dump(
        |batch| {
            let header = header(NFPROTO_INET, 0);
            batch.message(
                kind(NFT_MSG_GETRULE),
                NLM_F_DUMP,
                &header,
                step.clone(),
                |message| {
                    message.text(NFTA_RULE_TABLE, table);
                },
            );
        },
        |message| rule(message, table),
    );
    or_none(found)
}

fn rule(message: &Message<'_>, table: &str) -> Option<(String, String)> {
    let attributes = message.attributes(4);
    // older kernels ignore the filter of the request
    if message.kind != kind(NFT_MSG_NEWRULE) || text(find(attributes, NFTA_RULE_TABLE)?) != table {
        return None;
    }
    let chain = text(find(attributes, NFTA_RULE_CHAIN)?);
    let comment = find(attributes, NFTA_RULE_USERDATA)
        .and_then(comment)
        .unwrap_or_default();
    Some((chain, comment))
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

/// Lists the elements of a map; a map that is not there has none.
pub(crate) fn elements(
    socket: &mut Socket,
    table: &str,
    map: &str,
) -> Result<Vec<Element>, NetlinkError> {
    let step = format!("list the map {map}");
    let found = socket.dump(
        |batch| {
            let header = header(NFPROTO_INET, 0);
            batch.message(
                kind(NFT_MSG_GETSETELEM),
                NLM_F_DUMP,
                &header,
                step.clone(),
                |message| {
                    message.text(NFTA_SET_ELEM_LIST_TABLE, table);
                    message.text(NFTA_SET_ELEM_LIST_SET, map);
                },
            );
        },
        |message| Some(elements_of(message)),
    );
    or_none(found).map(|messages| messages.into_iter().flatten().collect())
}

fn elements_of(message: &Message<'_>) -> Vec<Element> {
    if message.kind != kind(NFT_MSG_NEWSETELEM) {
        return Vec::new();
    }
    let list = find(message.attributes(4), NFTA_SET_ELEM_LIST_ELEMENTS).unwrap_or_default();
    attributes(list)
        .filter(|(kind, _)| *kind == NFTA_LIST_ELEM)
        .filter_map(|(_, element)| {
            let value = |kind| find(find(element, kind)?, NFTA_DATA_VALUE).map(<[u8]>::to_vec);
            Some((value(NFTA_SET_ELEM_KEY)?, value(NFTA_SET_ELEM_DATA)?))
        })
        .collect()
}

fn or_none<T>(found: Result<Vec<T>, NetlinkError>) -> Result<Vec<T>, NetlinkError> {
    match found {
        Err(error) if error.is(Errno::NOENT) => Ok(Vec::new()),
        other => other,
    }
}
