//! Definitions, good and hostile.

use prost::Message;

use super::*;

fn source(identifier: &str) -> pb::Op {
    pb::Op {
        op: Some(pb::op::Op::Source(pb::SourceOp {
            identifier: identifier.into(),
            ..Default::default()
        })),
        ..Default::default()
    }
}

fn mkdir(path: &str, input: Option<&pb::Op>) -> pb::Op {
    let action = pb::FileAction {
        input: if input.is_some() { 0 } else { -1 },
        secondary_input: -1,
        output: 0,
        action: Some(pb::file_action::Action::Mkdir(pb::FileActionMkDir {
            path: path.into(),
            mode: 0o755,
            ..Default::default()
        })),
    };
    pb::Op {
        inputs: input.into_iter().map(|op| input_of(op, 0)).collect(),
        op: Some(pb::op::Op::File(pb::FileOp {
            actions: vec![action],
        })),
        ..Default::default()
    }
}

fn input_of(op: &pb::Op, index: i64) -> pb::Input {
    pb::Input {
        digest: digest_of(&op.encode_to_vec()).to_string(),
        index,
    }
}

fn definition(ops: &[&pb::Op]) -> pb::Definition {
    let mut def: Vec<_> = ops.iter().map(|op| op.encode_to_vec()).collect();
    if let Some(last) = ops.last() {
        let target = pb::Op {
            inputs: vec![input_of(last, 0)],
            ..Default::default()
        };
        def.push(target.encode_to_vec());
    }
    pb::Definition {
        def,
        ..Default::default()
    }
}

#[test]
fn an_empty_definition_is_scratch() {
    assert!(Graph::decode(&pb::Definition::default()).unwrap().is_none());
    let only_nothing = pb::Definition {
        def: vec![Vec::new()],
        ..Default::default()
    };
    assert!(Graph::decode(&only_nothing).unwrap().is_none());
}

#[test]
fn inputs_come_before_their_users_in_whatever_order_they_are_sent() {
    let a = source("docker-image://a");
    let b = mkdir("/b", Some(&a));
    let c = mkdir("/c", Some(&b));
    let mut sent = definition(&[&a, &b, &c]);
    sent.def.swap(0, 1);
    let graph = Graph::decode(&sent).unwrap().unwrap();
    let names: Vec<_> = graph.iter().map(|v| v.name.as_str()).collect();
    assert_eq!(names, ["docker-image://a", "mkdir /b", "mkdir /c"]);
    assert_eq!(graph.target.vertex, digest_of(&c.encode_to_vec()));
}

#[test]
fn what_the_target_does_not_need_is_left_out() {
    let (a, b) = (source("docker-image://a"), source("docker-image://b"));
    let graph = Graph::decode(&definition(&[&a, &b])).unwrap().unwrap();
    assert_eq!(graph.order.len(), 1);
    assert_eq!(graph.vertices.len(), 1);
}

#[test]
fn names_and_places_come_from_the_definition() {
    let a = source("docker-image://a");
    let mut sent = definition(&[&a]);
    let digest = digest_of(&a.encode_to_vec()).to_string();
    let mut metadata = pb::OpMetadata::default();
    metadata
        .description
        .insert(CUSTOM_NAME.into(), "[1/1] FROM a".into());
    sent.metadata.insert(digest.clone(), metadata);
    let mut source = pb::Source::default();
    source.infos.push(pb::SourceInfo {
        filename: "Dockerfile".into(),
        ..Default::default()
    });
    let places = [0, 1, -1].map(|source_index| pb::Location {
        source_index,
        ranges: vec![pb::Range::default()],
    });
    let locations = places.to_vec();
    source.locations.insert(digest, pb::Locations { locations });
    sent.source = Some(source);
    let graph = Graph::decode(&sent).unwrap().unwrap();
    let vertex = graph.iter().next().unwrap();
    assert_eq!(vertex.name, "[1/1] FROM a");
    // a place in a file that is not there is no place
    assert_eq!(vertex.locations.len(), 1);
    assert_eq!(vertex.locations[0].info.filename, "Dockerfile");
}

#[test]
fn names_of_merges_stay_short() {
    let mut op = source("docker-image://a");
    let mut ops = vec![op.clone()];
    for _ in 0..40 {
        let merge = pb::MergeOp {
            inputs: [0, 0].map(|input| pb::MergeInput { input }).to_vec(),
        };
        op = pb::Op {
            inputs: vec![input_of(&op, 0)],
            op: Some(pb::op::Op::Merge(merge)),
            ..Default::default()
        };
        ops.push(op.clone());
    }
    let ops: Vec<_> = ops.iter().collect();
    let graph = Graph::decode(&definition(&ops)).unwrap().unwrap();
    assert!(graph.iter().all(|v| v.name.len() <= MAX_NAME + 3));
}

#[test]
fn a_long_chain_needs_no_stack() {
    let mut ops = vec![mkdir("/0", None)];
    for i in 1..20_000 {
        let next = mkdir(&format!("/{i}"), ops.last());
        ops.push(next);
    }
    let ops: Vec<_> = ops.iter().rev().collect();
    let mut sent = definition(&ops);
    let target = pb::Op {
        inputs: vec![input_of(ops[0], 0)],
        ..Default::default()
    };
    *sent.def.last_mut().unwrap() = target.encode_to_vec();
    let graph = Graph::decode(&sent).unwrap().unwrap();
    assert_eq!(graph.order.len(), 20_000);
    assert_eq!(graph.iter().next().unwrap().name, "mkdir /0");
}

fn refused(ops: &[&pb::Op]) -> String {
    Graph::decode(&definition(ops)).unwrap_err().to_string()
}

#[test]
fn refuses_what_makes_no_sense() {
    let a = source("docker-image://a");
    let mut bad_index = mkdir("/b", Some(&a));
    bad_index.inputs[0].index = -1;
    let mut bad_digest = mkdir("/b", Some(&a));
    bad_digest.inputs[0].digest = "sha256:../../etc".into();
    let mut beyond = mkdir("/b", None);
    if let Some(pb::op::Op::File(file)) = &mut beyond.op {
        file.actions[0].input = 1;
    }
    let exec = pb::Op {
        op: Some(pb::op::Op::Exec(pb::ExecOp::default())),
        ..Default::default()
    };
    let diff = pb::Op {
        op: Some(pb::op::Op::Diff(pb::DiffOp::default())),
        ..Default::default()
    };
    let cases: [(&[&pb::Op], &str); 8] = [
        (&[&mkdir("/b", Some(&a))], "invalid missing input digest"),
        (&[&a, &bad_index], "invalid output index -1"),
        (&[&a, &bad_digest], "invalid digest"),
        (&[&beyond], "no such input"),
        (&[&source("")], "no identifier"),
        (&[&exec], "no meta"),
        (&[&diff], "no such input"),
        (&[&pb::Op::default()], "invalid nil op"),
    ];
    for (ops, expect) in cases {
        let found = refused(ops);
        assert!(found.contains(expect), "{found}");
    }
}

#[test]
fn refuses_a_list_without_a_target() {
    let a = source("docker-image://a");
    let mut sent = definition(&[&a]);
    sent.def.pop();
    assert_eq!(Graph::decode(&sent).unwrap_err(), DecodeError::NoTarget);
    sent.def.push(a.encode_to_vec());
    sent.def.push(mkdir("/x", Some(&a)).encode_to_vec());
    assert_eq!(Graph::decode(&sent).unwrap_err(), DecodeError::BadTarget);
}

#[test]
fn refuses_too_much() {
    let many = pb::Definition {
        def: vec![Vec::new(); MAX_VERTICES + 1],
        ..Default::default()
    };
    assert_eq!(
        Graph::decode(&many).unwrap_err(),
        DecodeError::TooManyVertices
    );
}

#[test]
fn an_order_without_end_is_refused() {
    let digests = [1, 2].map(|n| Digest::from_sha256(&[n; 32]));
    let edge = |n: usize| Edge {
        vertex: digests[n].clone(),
        output: 0,
    };
    let inputs = HashMap::from([
        (digests[0].clone(), vec![edge(1)]),
        (digests[1].clone(), vec![edge(0)]),
    ]);
    assert_eq!(sort(&edge(0), &inputs), Err(DecodeError::Cycle));
}

mod any {
    use proptest::prelude::*;

    use super::*;

    fn check(graph: &Graph) {
        let mut seen = std::collections::HashSet::new();
        for vertex in graph.iter() {
            assert!(vertex.inputs.iter().all(|e| seen.contains(&e.vertex)));
            seen.insert(vertex.digest.clone());
        }
        assert!(seen.contains(&graph.target.vertex));
        assert_eq!(seen.len(), graph.vertices.len());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_bytes_are_read_or_refused(def in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8)) {
            let sent = pb::Definition { def, ..Default::default() };
            if let Ok(Some(graph)) = Graph::decode(&sent) {
                check(&graph);
            }
        }

        #[test]
        fn any_graph_is_sorted(links in prop::collection::vec(any::<prop::sample::Index>(), 1..40), flip in any::<prop::sample::Index>(), bit in 0_u8..8) {
            let mut ops = vec![source("docker-image://a")];
            for (i, link) in links.iter().enumerate() {
                let input = &ops[link.index(ops.len())];
                let next = mkdir(&format!("/{i}"), Some(input));
                ops.push(next);
            }
            let ops: Vec<_> = ops.iter().collect();
            let mut sent = definition(&ops);
            check(&Graph::decode(&sent).unwrap().unwrap());
            // one bit of one operation: it is read or refused
            let which = flip.index(sent.def.len());
            let bytes = &mut sent.def[which];
            let place = flip.index(bytes.len().max(1));
            if let Some(byte) = bytes.get_mut(place) {
                *byte ^= 1 << bit;
            }
            if let Ok(Some(graph)) = Graph::decode(&sent) {
                check(&graph);
            }
        }
    }
}
