use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// A query for `name`, with an OPT record when `size` is given.
fn query(name: &str, kind: u16, size: Option<u16>) -> Vec<u8> {
    let mut query = vec![
        0xab,
        0xcd,
        1,
        0,
        0,
        1,
        0,
        0,
        0,
        0,
        0,
        u8::from(size.is_some()),
    ];
    query.extend_from_slice(&wire_name(name).unwrap());
    query.extend_from_slice(&kind.to_be_bytes());
    query.extend_from_slice(&[0, 1]);
    if let Some(size) = size {
        query.extend_from_slice(&[0, 0, 41]);
        query.extend_from_slice(&size.to_be_bytes());
        query.extend_from_slice(&[0; 6]);
    }
    query
}

fn question(query: &[u8]) -> Question {
    match parse(query) {
        Parsed::Question(question) => question,
        other => panic!("{other:?}"),
    }
}

fn key(question: &Question) -> Option<String> {
    question.key(&mut [0; 256]).map(str::to_owned)
}

#[test]
fn a_question_is_read() {
    let query = query("Web.Net1", 28, Some(1232));
    let question = question(&query);
    assert_eq!(key(&question).as_deref(), Some("web.net1"));
    assert_eq!(question.kind, RecordType::AAAA);
    assert_eq!(question.end, 12 + 10 + 4);
    assert_eq!(question.room(Transport::Udp), 1232);
    assert_eq!(question.room(Transport::Tcp), 65535);
    assert!(!question.is_single_label());
}

#[test]
fn what_is_no_question_is_told_apart() {
    let good = query("a", 1, None);
    let with = |index: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[index] = value;
        bytes
    };
    let bad = |bytes: &[u8], expect| {
        assert!(
            matches!(parse(bytes), Parsed::Bad(code) if code == expect),
            "{bytes:?}"
        );
    };
    assert!(matches!(parse(&good[..11]), Parsed::Noise));
    assert!(matches!(parse(&with(2, 0x81)), Parsed::Noise));
    bad(&with(2, 0x28), Code::NotImplemented);
    bad(&with(5, 0), Code::Malformed);
    bad(&with(5, 2), Code::Malformed);
    bad(&with(7, 2), Code::Malformed);
    bad(&with(11, 3), Code::Malformed);
    bad(&with(12, 64), Code::Malformed);
    bad(&good[..14], Code::Malformed);
    // pointers: to themselves, into the header, forward
    for pointer in [[0xc0, 12], [0xc0, 0], [0xc0, 14], [0xff, 0xff]] {
        let mut bytes = good[..12].to_vec();
        bytes.extend_from_slice(&pointer);
        bytes.extend_from_slice(&[0, 1, 0, 1]);
        bad(&bytes, Code::Malformed);
    }
}

#[test]
fn a_dot_inside_a_label_is_no_dot_between_labels() {
    let mut query = query("a-b", 1, None);
    query[14] = b'.';
    assert_eq!(key(&question(&query)), None);
}

#[test]
fn addresses_are_read_out_of_names() {
    let check = |name: &str, expect: Option<&str>| {
        let expect = expect.map(|text| text.parse().unwrap());
        assert_eq!(question(&query(name, 12, None)).address(), expect, "{name}");
    };
    check("2.0.18.172.in-addr.arpa", Some("172.18.0.2"));
    check("2.0.18.172.IN-ADDR.ARPA", Some("172.18.0.2"));
    let six = "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.c.6.0.6.a.f.3.f.3.0.d.f.ip6.arpa";
    check(six, Some("fd03:f3fa:606c::2"));
    for bad in [
        "18.172.in-addr.arpa",
        "1.2.0.18.172.in-addr.arpa",
        "x.0.18.172.in-addr.arpa",
        "arpa",
    ] {
        check(bad, None);
    }
}

#[test]
fn an_answer_ends_where_the_clients_room_does() {
    let query = query("web", 1, None);
    let question = question(&query);
    let mut out = Vec::new();
    let mut answer = question.answer(&query, Transport::Udp, &mut out);
    for last in 0..40 {
        answer.address([10, 0, 0, last].into());
    }
    answer.finish();
    // 21 bytes and 30 records of 16
    assert_eq!(
        (out.len(), out[7], out[2] & TRUNCATED),
        (501, 30, TRUNCATED)
    );
    let message = Message::from_vec(&out).unwrap();
    assert!(message.answers.iter().all(|record| record.ttl == 600));
    let mut answer = question.answer(&query, Transport::Tcp, &mut out);
    for last in 0..40 {
        answer.address([10, 0, 0, last].into());
    }
    answer.finish();
    assert_eq!((out[7], out[2] & TRUNCATED), (40, 0));
}

#[test]
fn only_the_answer_to_the_question_is_one() {
    let query = query("Web.example", 1, None);
    let end = question(&query).end;
    let mut reply = query.clone();
    reply[2] |= 0x80;
    let check = |reply: &[u8], expect| assert_eq!(judge(&query[2..], end, reply), expect);
    check(&reply, Reply::Answer);
    let with = |index: usize, value: u8| {
        let mut bytes = reply.clone();
        bytes[index] = value;
        bytes
    };
    check(&with(13, b'w'), Reply::Answer);
    check(&with(13, b'v'), Reply::Strange);
    check(&with(end - 3, 28), Reply::Strange);
    check(&with(2, 1), Reply::Strange);
    check(&with(3, 2), Reply::Failure);
    check(&with(3, 5), Reply::Failure);
    check(&with(3, 3), Reply::Answer);
    check(&with(5, 0), Reply::Strange);
    check(&reply[..end - 1], Reply::Strange);
    let mut bare = reply[..HEADER].to_vec();
    (bare[3], bare[5]) = (1, 0);
    check(&bare, Reply::Failure);
    check(&[], Reply::Strange);
}

#[test]
fn a_long_answer_becomes_a_hint() {
    let query = query("web", 1, None);
    let end = question(&query).end;
    let mut reply = query.clone();
    reply.resize(600, 7);
    let length = hand_on(9, &query[2..], end, 512, &mut reply);
    assert_eq!((length, reply[0], reply[1]), (end, 0, 9));
    assert_eq!(
        (reply[2] & TRUNCATED, &reply[6..12]),
        (TRUNCATED, &[0; 6][..])
    );
}

/// A query with some of its bytes changed, removed or added.
fn mangled() -> impl Strategy<Value = Vec<u8>> {
    let base = ("[a-zA-Z0-9._-]{1,70}", any::<u16>(), any::<Option<u16>>())
        .prop_filter_map("a name", |(name, kind, size)| {
            wire_name(&name).map(|_| query(&name, kind, size))
        });
    let changes = vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    (base, changes, any::<prop::sample::Index>(), any::<bool>()).prop_map(
        |(mut bytes, changes, cut, cutting)| {
            for (index, value) in changes {
                let place = index.index(bytes.len());
                bytes[place] = value;
            }
            if cutting {
                bytes.truncate(cut.index(bytes.len()));
            }
            bytes
        },
    )
}

/// Reads bytes as a client's and as a server's, and writes every kind of answer.
fn exercise(bytes: &[u8]) -> Result<(), TestCaseError> {
    let mut out = Vec::new();
    match parse(bytes) {
        Parsed::Noise => {}
        Parsed::Bad(code) => {
            bare_failure(bytes, code, &mut out);
            prop_assert_eq!(out.len(), HEADER);
        }
        Parsed::Question(question) => {
            prop_assert!(question.end <= bytes.len());
            key(&question);
            question.address();
            let mut answer = question.answer(bytes, Transport::Udp, &mut out);
            answer.address([1, 2, 3, 4].into());
            answer.finish();
            prop_assert!(out.len() <= question.room(Transport::Udp));
            prop_assert!(Message::from_vec(&out).is_ok());
            question.failure(bytes, Code::ServerFailure, &mut out);
            prop_assert!(Message::from_vec(&out).is_ok());
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_harm(bytes in vec(any::<u8>(), 0..300)) {
        exercise(&bytes)?;
    }

    #[test]
    fn mangled_questions_are_read_without_harm(bytes in mangled()) {
        exercise(&bytes)?;
    }

    #[test]
    fn mangled_answers_are_judged_without_harm(name in "[a-z]{1,20}", bytes in mangled()) {
        let query = query(&name, 1, None);
        let end = question(&query).end;
        let mut reply = bytes;
        if judge(&query[2..], end, &reply) == Reply::Answer {
            let length = hand_on(1, &query[2..], end, 512, &mut reply);
            prop_assert!(length >= end && length <= reply.len());
        }
    }
}
