//! Graphs of operations as clients send them.
//!
//! A definition is a list of marshalled operations, each known by the digest of its bytes, that name
//! their inputs by these digests; the last one is no operation but names the target. It is hostile:
//! what it holds is bounded, and nothing here recurses.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use oci::Digest;
use prost::Message;
use sha2::{Digest as _, Sha256};

pub use bollard_buildkit_proto::pb;

/// Operations of one definition.
const MAX_VERTICES: usize = 50_000;
/// Bytes of all operations of one definition.
const MAX_BYTES: usize = 64 << 20;
/// Inputs of all operations of one definition.
const MAX_INPUTS: usize = 500_000;
/// Outputs of one operation.
const MAX_OUTPUTS: u32 = 1024;
/// Characters of a name that is made out of other names.
const MAX_NAME: usize = 512;
/// The description under which a front end names a step.
const CUSTOM_NAME: &str = "llb.customname";

/// One output of an operation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Edge {
    /// The operation.
    pub vertex: Digest,
    /// Which of its outputs.
    pub output: u32,
}

/// Places of one source file.
#[derive(Clone, Debug)]
pub struct SourceSpan {
    /// The file.
    pub info: Arc<pb::SourceInfo>,
    /// The places in it.
    pub ranges: Vec<pb::Range>,
}

/// An operation of a graph.
#[derive(Clone, Debug)]
pub struct Vertex {
    /// The digest of the operation's bytes.
    pub digest: Digest,
    /// What it does.
    pub op: pb::Op,
    /// What it works on.
    pub inputs: Vec<Edge>,
    /// What the client says beside the definition.
    pub metadata: pb::OpMetadata,
    /// What people see of it.
    pub name: String,
    /// Where its definition comes from.
    pub locations: Vec<SourceSpan>,
}

/// Operations that depend on each other, and the output that is wanted.
#[derive(Clone, Debug)]
pub struct Graph {
    /// The operations that the target needs.
    pub vertices: HashMap<Digest, Arc<Vertex>>,
    /// The output that is wanted.
    pub target: Edge,
    /// The operations, each after its inputs.
    pub order: Vec<Digest>,
}

/// Why a definition is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DecodeError {
    /// It has more operations than anybody needs.
    #[error("invalid LLB: more than {MAX_VERTICES} vertices")]
    TooManyVertices,
    /// Its operations have more inputs than anybody needs.
    #[error("invalid LLB: more than {MAX_INPUTS} inputs")]
    TooManyInputs,
    /// It is larger than anybody needs.
    #[error("invalid LLB: more than {MAX_BYTES} bytes")]
    TooLarge,
    /// An operation is no protocol buffer of the type.
    #[error("failed to parse llb proto op {index}")]
    Parse {
        /// Its place in the list.
        index: usize,
        /// What the parser says.
        #[source]
        source: prost::DecodeError,
    },
    /// The last operation names no target.
    #[error("invalid LLB with no inputs on last vertex")]
    NoTarget,
    /// The last operation names several targets, or is none that names one.
    #[error("invalid LLB: the last vertex has to name one target and nothing else")]
    BadTarget,
    /// An input is no digest.
    #[error("invalid digest {given:?} of an input of {vertex}")]
    InputDigest {
        /// The operation.
        vertex: Digest,
        /// What it names.
        given: String,
    },
    /// An input is not in the definition.
    #[error("invalid missing input digest {input} of {vertex}")]
    MissingInput {
        /// The operation.
        vertex: Digest,
        /// What it names.
        input: Digest,
    },
    /// An input's output number makes no sense.
    #[error("invalid output index {index} of input {input}")]
    OutputIndex {
        /// The input.
        input: Digest,
        /// What was given.
        index: i64,
    },
    /// An operation says nothing of what it does.
    #[error("invalid nil op of {vertex}")]
    NoOperation {
        /// The operation.
        vertex: Digest,
    },
    /// An operation lacks something, or names an input that it does not have.
    #[error("invalid {kind} op {vertex}: {reason}")]
    Operation {
        /// The operation.
        vertex: Digest,
        /// What it is.
        kind: &'static str,
        /// What is wrong.
        reason: &'static str,
    },
    /// Operations wait for each other.
    #[error("invalid LLB: its vertices wait for each other in a circle")]
    Cycle,
}

/// The digest of bytes.
#[must_use]
pub fn digest_of(bytes: &[u8]) -> Digest {
    Digest::from_sha256(&Sha256::digest(bytes).into())
}

impl Graph {
    /// Reads a definition; absent where it is empty, which means a file system with nothing in it.
    ///
    /// # Errors
    /// When it is malformed, too large, incomplete or circular.
    pub fn decode(definition: &pb::Definition) -> Result<Option<Self>, DecodeError> {
        let Some((last, def)) = definition.def.split_last() else {
            return Ok(None);
        };
        check_size(definition)?;
        let ops = parse(def)?;
        let last: pb::Op =
            Message::decode(last.as_slice()).map_err(|source| DecodeError::Parse {
                index: def.len(),
                source,
            })?;
        let Some(target) = target(&last, &ops)? else {
            return Ok(None);
        };
        let mut inputs = HashMap::with_capacity(ops.len());
        let mut count = 0_usize;
        for (digest, op) in &ops {
            count = count.saturating_add(op.inputs.len());
            if count > MAX_INPUTS {
                return Err(DecodeError::TooManyInputs);
            }
            inputs.insert(digest.clone(), edges(digest, op, &ops)?);
            validate(digest, op)?;
        }
        let order = sort(&target, &inputs)?;
        let vertices = assemble(definition, ops, inputs, &order);
        Ok(Some(Self {
            vertices,
            target,
            order,
        }))
    }

    /// The operation that has an output.
    #[must_use]
    pub fn vertex(&self, digest: &Digest) -> Option<&Arc<Vertex>> {
        self.vertices.get(digest)
    }

    /// The operations, each after its inputs.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Vertex>> {
        self.order.iter().filter_map(|d| self.vertices.get(d))
    }
}

fn check_size(definition: &pb::Definition) -> Result<(), DecodeError> {
    if definition.def.len() > MAX_VERTICES {
        return Err(DecodeError::TooManyVertices);
    }
    let bytes = definition.def.iter().map(Vec::len);
    if bytes.fold(0, usize::saturating_add) > MAX_BYTES {
        return Err(DecodeError::TooLarge);
    }
    Ok(())
}

type Ops = HashMap<Digest, pb::Op>;

fn parse(def: &[Vec<u8>]) -> Result<Ops, DecodeError> {
    let mut ops = HashMap::with_capacity(def.len());
    for (index, bytes) in def.iter().enumerate() {
        let op = pb::Op::decode(bytes.as_slice())
            .map_err(|source| DecodeError::Parse { index, source })?;
        ops.insert(digest_of(bytes), op);
    }
    Ok(ops)
}

/// What the last operation names; absent where it names nothing of an empty graph.
fn target(last: &pb::Op, ops: &Ops) -> Result<Option<Edge>, DecodeError> {
    let none = digest_of(&[]);
    match last.inputs.as_slice() {
        [] if ops.is_empty() && last.op.is_none() => Ok(None),
        [] => Err(DecodeError::NoTarget),
        [input] if last.op.is_none() => edge(&none, input, ops).map(Some),
        _ => Err(DecodeError::BadTarget),
    }
}

fn edge(vertex: &Digest, input: &pb::Input, ops: &Ops) -> Result<Edge, DecodeError> {
    let digest: Digest = input
        .digest
        .parse()
        .map_err(|_bad| DecodeError::InputDigest {
            vertex: vertex.clone(),
            given: input.digest.chars().take(100).collect(),
        })?;
    if !ops.contains_key(&digest) {
        return Err(DecodeError::MissingInput {
            vertex: vertex.clone(),
            input: digest,
        });
    }
    match u32::try_from(input.index) {
        Ok(output) if output < MAX_OUTPUTS => Ok(Edge {
            vertex: digest,
            output,
        }),
        _ => Err(DecodeError::OutputIndex {
            input: digest,
            index: input.index,
        }),
    }
}

fn edges(vertex: &Digest, op: &pb::Op, ops: &Ops) -> Result<Vec<Edge>, DecodeError> {
    let inputs = op.inputs.iter();
    inputs.map(|input| edge(vertex, input, ops)).collect()
}

/// Refuses what no operation of its kind may be, so that whoever runs it need not ask again.
fn validate(vertex: &Digest, op: &pb::Op) -> Result<(), DecodeError> {
    let inputs = op.inputs.len();
    let refuse = |kind, reason| {
        let vertex = vertex.clone();
        Err(DecodeError::Operation {
            vertex,
            kind,
            reason,
        })
    };
    let known = |index: i64| index == -1 || usize::try_from(index).is_ok_and(|i| i < inputs);
    match &op.op {
        None => Err(DecodeError::NoOperation {
            vertex: vertex.clone(),
        }),
        Some(pb::op::Op::Source(source)) if source.identifier.is_empty() => {
            refuse("source", "no identifier")
        }
        Some(pb::op::Op::Source(_)) if inputs > 0 => refuse("source", "it has inputs"),
        Some(pb::op::Op::Exec(exec)) => match invalid_exec(exec, &known) {
            Some(reason) => refuse("exec", reason),
            None => Ok(()),
        },
        Some(pb::op::Op::File(file)) => match invalid_file(file, inputs) {
            Some(reason) => refuse("file", reason),
            None => Ok(()),
        },
        Some(pb::op::Op::Merge(merge)) if merge.inputs.len() < 2 => {
            refuse("merge", "fewer than two inputs")
        }
        Some(pb::op::Op::Merge(merge)) if !merge.inputs.iter().all(|i| known(i.input)) => {
            refuse("merge", "no such input")
        }
        Some(pb::op::Op::Diff(diff)) => match (&diff.lower, &diff.upper) {
            (Some(lower), Some(upper)) if known(lower.input) && known(upper.input) => Ok(()),
            _ => refuse("diff", "no such input"),
        },
        Some(_) => Ok(()),
    }
}

fn invalid_exec(exec: &pb::ExecOp, known: &dyn Fn(i64) -> bool) -> Option<&'static str> {
    let Some(meta) = &exec.meta else {
        return Some("no meta");
    };
    if meta.args.is_empty() {
        return Some("no args");
    }
    if meta.cwd.is_empty() {
        return Some("no cwd");
    }
    if exec.mounts.is_empty() {
        return Some("no mounts");
    }
    if !exec.mounts.iter().any(|m| m.dest == "/") {
        return Some("no rootfs");
    }
    if !exec.mounts.iter().all(|m| known(m.input)) {
        return Some("no such input");
    }
    let in_range = |o: i64| o == -1 || u32::try_from(o).is_ok_and(|o| o < MAX_OUTPUTS);
    if !exec.mounts.iter().all(|m| in_range(m.output)) {
        return Some("an output index out of range");
    }
    // clients leave the output of a secret or an agent zero, which is the root's
    let files = exec.mounts.iter();
    let files = files.filter(|m| m.mount_type() == pb::MountType::Bind);
    let mut used: Vec<i64> = files.map(|m| m.output).filter(|o| *o >= 0).collect();
    used.sort_unstable();
    if used.windows(2).any(|w| w[0] == w[1]) {
        return Some("two mounts of one output");
    }
    None
}

fn invalid_file(file: &pb::FileOp, inputs: usize) -> Option<&'static str> {
    if file.actions.is_empty() {
        return Some("no actions");
    }
    for (index, action) in file.actions.iter().enumerate() {
        // an action works on an input or on the result of an action before it
        let known =
            |i: i64| i == -1 || usize::try_from(i).is_ok_and(|i| i < inputs.saturating_add(index));
        if !known(action.input) || !known(action.secondary_input) {
            return Some("no such input");
        }
        if action.action.is_none() {
            return Some("an action that does nothing");
        }
        let output = action.output;
        if output != -1 && u32::try_from(output).is_ok_and(|o| o >= MAX_OUTPUTS) {
            return Some("an output index out of range");
        }
    }
    None
}

/// The operations that the target needs, each after its inputs.
fn sort(target: &Edge, inputs: &HashMap<Digest, Vec<Edge>>) -> Result<Vec<Digest>, DecodeError> {
    let mut waiting: HashMap<&Digest, usize> = HashMap::new();
    let mut users: HashMap<&Digest, Vec<&Digest>> = HashMap::new();
    let mut ready = VecDeque::new();
    let mut unseen = vec![&target.vertex];
    while let Some(digest) = unseen.pop() {
        if waiting.contains_key(digest) {
            continue;
        }
        let edges = inputs.get(digest).map_or(&[][..], Vec::as_slice);
        waiting.insert(digest, edges.len());
        if edges.is_empty() {
            ready.push_back(digest);
        }
        for edge in edges {
            users.entry(&edge.vertex).or_default().push(digest);
            unseen.push(&edge.vertex);
        }
    }
    let mut order = Vec::with_capacity(waiting.len());
    while let Some(digest) = ready.pop_front() {
        order.push(digest.clone());
        for user in users.remove(digest).unwrap_or_default() {
            let Some(left) = waiting.get_mut(user) else {
                continue;
            };
            *left = left.saturating_sub(1);
            if *left == 0 {
                ready.push_back(user);
            }
        }
    }
    // nobody can make two operations that name each other's digest, but a table is cheaper than trust
    if order.len() < waiting.len() {
        return Err(DecodeError::Cycle);
    }
    Ok(order)
}

fn assemble(
    definition: &pb::Definition,
    mut ops: Ops,
    mut inputs: HashMap<Digest, Vec<Edge>>,
    order: &[Digest],
) -> HashMap<Digest, Arc<Vertex>> {
    let infos: Vec<Arc<pb::SourceInfo>> = definition
        .source
        .iter()
        .flat_map(|s| s.infos.iter().cloned().map(Arc::new))
        .collect();
    let mut vertices: HashMap<Digest, Arc<Vertex>> = HashMap::with_capacity(order.len());
    for digest in order {
        let (Some(op), Some(inputs)) = (ops.remove(digest), inputs.remove(digest)) else {
            continue;
        };
        let key = digest.to_string();
        let metadata = definition.metadata.get(&key).cloned().unwrap_or_default();
        let name = match metadata.description.get(CUSTOM_NAME) {
            Some(name) => name.clone(),
            None => name(&op, &inputs, &vertices),
        };
        let vertex = Vertex {
            digest: digest.clone(),
            locations: locations(definition, &key, &infos),
            op,
            inputs,
            metadata,
            name,
        };
        vertices.insert(digest.clone(), Arc::new(vertex));
    }
    vertices
}

fn locations(
    definition: &pb::Definition,
    vertex: &str,
    infos: &[Arc<pb::SourceInfo>],
) -> Vec<SourceSpan> {
    let source = definition.source.as_ref();
    let found = source.and_then(|s| s.locations.get(vertex));
    let locations = found.map_or(&[][..], |l| l.locations.as_slice());
    let span = |location: &pb::Location| {
        let index = usize::try_from(location.source_index).ok()?;
        Some(SourceSpan {
            info: Arc::clone(infos.get(index)?),
            ranges: location.ranges.clone(),
        })
    };
    locations.iter().filter_map(span).collect()
}

/// The name of an operation that its front end did not name.
fn name(op: &pb::Op, inputs: &[Edge], done: &HashMap<Digest, Arc<Vertex>>) -> String {
    let input = |index: i64| {
        let edge = usize::try_from(index).ok().and_then(|i| inputs.get(i));
        let vertex = edge.and_then(|e| done.get(&e.vertex));
        vertex.map_or_else(|| "scratch".to_owned(), |v| format!("{:?}", v.name))
    };
    let name = match &op.op {
        Some(pb::op::Op::Source(source)) => source.identifier.clone(),
        Some(pb::op::Op::Exec(exec)) => {
            let args = exec.meta.as_ref().map(|m| m.args.join(" "));
            args.unwrap_or_default()
        }
        Some(pb::op::Op::File(file)) => {
            let actions = file.actions.iter().filter_map(action_name);
            actions.collect::<Vec<_>>().join(", ")
        }
        Some(pb::op::Op::Build(_)) => "build".to_owned(),
        Some(pb::op::Op::Merge(merge)) => {
            let names: Vec<_> = merge.inputs.iter().map(|i| input(i.input)).collect();
            format!("merge ({})", names.join(", "))
        }
        Some(pb::op::Op::Diff(diff)) => {
            let lower = diff.lower.map_or(-1, |l| l.input);
            let upper = diff.upper.map_or(-1, |u| u.input);
            format!("diff {} -> {}", input(lower), input(upper))
        }
        None => "unknown".to_owned(),
    };
    // a merge of merges doubles its name at each level
    match name.char_indices().nth(MAX_NAME) {
        Some((end, _)) if matches!(op.op, Some(pb::op::Op::Merge(_) | pb::op::Op::Diff(_))) => {
            format!("{}...", &name[..end])
        }
        _ => name,
    }
}

fn action_name(action: &pb::FileAction) -> Option<String> {
    use pb::file_action::Action;
    Some(match action.action.as_ref()? {
        Action::Mkdir(a) => format!("mkdir {}", a.path),
        Action::Mkfile(a) => format!("mkfile {}", a.path),
        Action::Symlink(a) => format!("symlink {} -> {}", a.newpath, a.oldpath),
        Action::Rm(a) => format!("rm {}", a.path),
        Action::Copy(a) => format!("copy {} {}", a.src, a.dest),
    })
}

#[cfg(test)]
mod tests;
