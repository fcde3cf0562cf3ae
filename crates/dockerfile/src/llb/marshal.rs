//! From a graph to the definition that a solver gets.

use std::collections::{BTreeMap, HashSet};

use prost::Message as _;
use sha2::{Digest as _, Sha256};

use super::{Graph, Output, State, caps, pb};

/// The file that the graph came from.
#[derive(Clone, Debug, Default)]
pub struct SourceFile {
    /// Its name.
    pub filename: String,
    /// Its bytes.
    pub data: Vec<u8>,
    /// The graph that loads it.
    pub definition: Option<pb::Definition>,
}

impl SourceFile {
    /// The file as LLB's message.
    #[must_use]
    pub fn info(&self) -> pb::SourceInfo {
        pb::SourceInfo {
            filename: self.filename.clone(),
            data: self.data.clone(),
            definition: self.definition.clone(),
            language: "Dockerfile".to_owned(),
        }
    }
}

/// The content address of an operation's bytes.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// An operation's bytes as Go writes them: what it does comes last, whatever its field's number.
///
/// Digests of operations, and with them cache keys and what clients show, are of these bytes.
fn encode(mut op: pb::Op) -> Vec<u8> {
    let what = pb::Op {
        op: op.op.take(),
        ..pb::Op::default()
    };
    let mut bytes = op.encode_to_vec();
    bytes.extend(what.encode_to_vec());
    bytes
}

impl Graph {
    /// The definition of what is needed for `target`, inputs before those who need them.
    ///
    /// The definition of an empty root has no operations.
    #[must_use]
    pub fn definition(&self, target: State, file: &SourceFile) -> pb::Definition {
        let Some(target) = target else {
            return pb::Definition::default();
        };
        let mut run = Marshal {
            graph: self,
            digests: vec![None; self.vertices.len()],
            written: HashSet::new(),
            out: pb::Definition::default(),
            locations: BTreeMap::new(),
        };
        run.visit(target.vertex);
        run.finish(target, file)
    }
}

struct Marshal<'a> {
    graph: &'a Graph,
    /// Digest and index of each vertex's first output.
    digests: Vec<Option<pb::Input>>,
    written: HashSet<String>,
    out: pb::Definition,
    locations: BTreeMap<String, pb::Locations>,
}

impl Marshal<'_> {
    /// Writes a vertex behind its inputs, without recursion: graphs may be deep.
    fn visit(&mut self, root: usize) {
        let graph = self.graph;
        // vertices on the way, and which of their inputs is next
        let mut stack = vec![(root, 0)];
        while let Some((at, next)) = stack.last_mut() {
            let vertex = &graph.vertices[*at];
            let own = vertex.inputs.get(*next);
            let equal = next.checked_sub(vertex.inputs.len());
            let input = own.or_else(|| vertex.equal.get(equal?));
            let Some(input) = input else {
                let at = *at;
                self.write(at);
                stack.pop();
                continue;
            };
            *next += 1;
            if self.digests[input.vertex].is_none() {
                stack.push((input.vertex, 0));
            }
        }
    }

    fn input(&self, output: Output) -> pb::Input {
        let first = self.digests[output.vertex].clone().unwrap_or_default();
        pb::Input {
            index: first.index + output.index,
            ..first
        }
    }

    fn write(&mut self, at: usize) {
        let vertex = &self.graph.vertices[at];
        if vertex.op.op.is_none() {
            self.digests[at] = Some(self.import(at));
            return;
        }
        let mut op = vertex.op.clone();
        op.inputs = vertex.inputs.iter().map(|i| self.input(*i)).collect();
        let bytes = encode(op);
        let digest = digest(&bytes);
        self.metadata(&digest, &vertex.metadata);
        if !vertex.spans.is_empty() {
            let list = self.locations.entry(digest.clone()).or_default();
            list.locations
                .extend(vertex.spans.iter().map(|s| pb::Location {
                    source_index: 0,
                    ranges: s.ranges().collect(),
                }));
        }
        if self.written.insert(digest.clone()) {
            self.out.def.push(bytes);
        }
        self.digests[at] = Some(pb::Input { digest, index: 0 });
    }

    /// Copies another maker's operations, all but the last, which only names the result.
    fn import(&mut self, at: usize) -> pb::Input {
        let number = self.graph.vertices[at]
            .op
            .inputs
            .first()
            .map_or(0, |i| i.index);
        let Some(import) = usize::try_from(number)
            .ok()
            .and_then(|n| self.graph.imports.get(n))
        else {
            return pb::Input::default();
        };
        let operations = import
            .definition
            .def
            .split_last()
            .map_or(&[][..], |(_, rest)| rest);
        for bytes in operations {
            let digest = digest(bytes);
            if let Some(metadata) = import.definition.metadata.get(&digest) {
                self.metadata(&digest, metadata);
            }
            if self.written.insert(digest) {
                self.out.def.push(bytes.clone());
            }
        }
        import.result.clone()
    }

    fn metadata(&mut self, digest: &str, new: &pb::OpMetadata) {
        let old = self.out.metadata.entry(digest.to_owned()).or_default();
        old.ignore_cache |= new.ignore_cache;
        old.description.extend(new.description.clone());
        old.caps.extend(new.caps.clone());
        if new.progress_group.is_some() {
            old.progress_group.clone_from(&new.progress_group);
        }
    }

    fn finish(mut self, target: Output, file: &SourceFile) -> pb::Definition {
        let terminal = pb::Op {
            inputs: vec![self.input(target)],
            ..pb::Op::default()
        };
        let bytes = terminal.encode_to_vec();
        let mut features = vec![caps::CONSTRAINTS, caps::PLATFORM];
        if self.out.metadata.values().any(|m| m.ignore_cache) {
            features.push(caps::META_IGNORE_CACHE);
        }
        if self
            .out
            .metadata
            .values()
            .any(|m| !m.description.is_empty())
        {
            features.push(caps::META_DESCRIPTION);
        }
        let last = self.out.metadata.entry(digest(&bytes)).or_default();
        last.caps
            .extend(features.into_iter().map(|c| (c.to_owned(), true)));
        self.out.def.push(bytes);
        let infos = if self.locations.is_empty() {
            Vec::new()
        } else {
            vec![file.info()]
        };
        self.out.source = Some(pb::Source {
            locations: self.locations,
            infos,
        });
        self.out
    }
}
