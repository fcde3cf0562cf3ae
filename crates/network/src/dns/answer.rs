//! What is answered from memory.

use std::net::IpAddr;

use hickory_proto::rr::RecordType;

use super::dice::Dice;
use super::names::{Family, Knowledge, View};
use super::wire::{Parsed, Question, Transport, bare_failure, parse};

/// What becomes of a query.
#[derive(Debug)]
pub(super) enum Verdict {
    /// The answer has been written.
    Answered,
    /// It is for the name servers upstream.
    Forward(Question),
    /// It gets no answer.
    Ignored,
}

/// Room that is used again for every query.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub(super) out: Vec<u8>,
    found: Vec<IpAddr>,
}

/// Answers a query if that takes nobody else.
pub(super) fn answer(
    query: &[u8],
    transport: Transport,
    view: &View,
    dice: &mut Dice,
    scratch: &mut Scratch,
) -> Verdict {
    let question = match parse(query) {
        Parsed::Question(question) => question,
        Parsed::Bad(code) => {
            bare_failure(query, code, &mut scratch.out);
            return Verdict::Answered;
        }
        Parsed::Noise => return Verdict::Ignored,
    };
    if !question.internet {
        return Verdict::Forward(question);
    }
    let known = match question.kind {
        RecordType::A => addresses(&question, Family::V4, view, scratch),
        RecordType::AAAA => addresses(&question, Family::V6, view, scratch),
        RecordType::PTR => {
            let name = question.address().and_then(|address| view.reverse(address));
            let Some(name) = name else {
                return Verdict::Forward(question);
            };
            let mut answer = question.answer(query, transport, &mut scratch.out);
            answer.pointer(&name);
            answer.finish();
            return Verdict::Answered;
        }
        // a name of ours has nothing else, and nobody upstream may say otherwise
        _ => {
            let known = addresses(&question, Family::V4, view, scratch);
            scratch.found.clear();
            known
        }
    };
    if !known {
        return Verdict::Forward(question);
    }
    dice.shuffle(&mut scratch.found);
    let mut answer = question.answer(query, transport, &mut scratch.out);
    for address in &scratch.found {
        answer.address(*address);
    }
    answer.finish();
    Verdict::Answered
}

/// Collects the addresses of the question's name; tells whether the name is not to be forwarded.
fn addresses(question: &Question, family: Family, view: &View, scratch: &mut Scratch) -> bool {
    scratch.found.clear();
    let mut room = [0; 256];
    let knowledge = match question.key(&mut room) {
        Some(name) => view.resolve(name, family, &mut scratch.found),
        None => Knowledge::Unknown,
    };
    let asks_for_address = matches!(question.kind, RecordType::A | RecordType::AAAA);
    knowledge != Knowledge::Unknown
        || view.keep_single_labels && asks_for_address && question.is_single_label()
}
