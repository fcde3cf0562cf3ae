//! A graph of LLB operations in the making.
//!
//! Vertices are numbered as they are made, so that a vertex's inputs have lower numbers than
//! itself; their digests are known when the whole graph is marshalled. Equal vertices are kept
//! apart until then, since each has a name of its own, but count as one input.

pub mod caps;
mod marshal;

pub use marshal::{SourceFile, digest};

use std::collections::{BTreeMap, HashMap};

use oci::Platform;
use prost::Message as _;
use sha2::{Digest as _, Sha256};

/// The messages of LLB.
pub use bollard_buildkit_proto::pb;

use crate::span::Span;

/// The key of a step's name in its description.
pub const NAME_KEY: &str = "llb.customname";
/// The key of an instruction's text in its step's description.
pub const COMMAND_KEY: &str = "com.docker.dockerfile.v1.command";

/// Why a graph cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// It is too large.
    #[error("the build's graph is larger than {limit} bytes")]
    TooLarge {
        /// The most that is allowed.
        limit: usize,
    },
}

/// A graph is refused beyond this: steps repeat the whole environment, which may grow with each.
const MAX_SIZE: usize = 128 << 20;

/// One of a vertex's results.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    vertex: usize,
    /// The first vertex that is equal to this one.
    first: usize,
    index: i64,
}

/// Nothing, or what a vertex results in. Nothing is an empty root.
pub type State = Option<Output>;

/// What a vertex carries beside its operation.
#[derive(Clone, Debug, Default)]
pub struct Meta {
    /// The step's name.
    pub name: Option<String>,
    /// The instruction's text.
    pub command: Option<String>,
    /// Whether the step runs even if its result is known.
    pub ignore_cache: bool,
    /// Features that the solver must know.
    pub caps: Vec<&'static str>,
    /// The step's group in the progress that is shown.
    pub group: Option<pb::ProgressGroup>,
    /// The instruction's lines.
    pub span: Option<Span>,
}

impl Meta {
    /// A step with a name.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: Some(name.into()),
            ..Self::default()
        }
    }

    /// A step of the front end's own, shown as `[internal] …`.
    #[must_use]
    pub fn internal(name: &str) -> Self {
        Self::named(format!("[internal] {name}"))
    }

    /// The same with these features.
    #[must_use]
    pub fn with_caps(mut self, caps: &[&'static str]) -> Self {
        self.caps.extend_from_slice(caps);
        self
    }

    /// The same at these lines.
    #[must_use]
    pub fn at(mut self, span: Span) -> Self {
        self.span = Some(span);
        self
    }

    fn message(&self) -> pb::OpMetadata {
        let mut description = BTreeMap::new();
        for (key, value) in [(NAME_KEY, &self.name), (COMMAND_KEY, &self.command)] {
            if let Some(value) = value {
                description.insert(key.to_owned(), value.clone());
            }
        }
        pb::OpMetadata {
            ignore_cache: self.ignore_cache,
            description,
            export_cache: None,
            caps: self.caps.iter().map(|c| ((*c).to_owned(), true)).collect(),
            progress_group: self.group.clone(),
        }
    }
}

#[derive(Debug)]
struct Vertex {
    inputs: Vec<Output>,
    /// Vertices that are equal to one of the inputs, for their names' sake.
    equal: Vec<Output>,
    op: pb::Op,
    metadata: pb::OpMetadata,
    spans: Vec<Span>,
}

/// A definition of another maker that is part of the graph.
#[derive(Debug)]
struct Import {
    definition: pb::Definition,
    result: pb::Input,
}

/// The graph.
#[derive(Debug, Default)]
pub struct Graph {
    vertices: Vec<Vertex>,
    /// Vertices by the hash of what they are.
    known: HashMap<[u8; 32], usize>,
    imports: Vec<Import>,
    size: usize,
}

impl Graph {
    /// Adds a vertex.
    ///
    /// # Errors
    /// When the graph has become too large.
    pub fn add(
        &mut self,
        inputs: &Inputs,
        op: pb::op::Op,
        platform: Option<&Platform>,
        meta: &Meta,
    ) -> Result<Output, GraphError> {
        let op = pb::Op {
            // the inputs' digests are not known yet: their numbers stand for them
            inputs: inputs
                .list
                .iter()
                .map(|i| pb::Input {
                    digest: i.first.to_string(),
                    index: i.index,
                })
                .collect(),
            platform: platform.map(platform_message),
            constraints: Some(pb::WorkerConstraints::default()),
            op: Some(op),
        };
        let bytes = op.encode_to_vec();
        let key: [u8; 32] = Sha256::digest(&bytes).into();
        self.size += bytes.len();
        if self.size > MAX_SIZE {
            return Err(GraphError::TooLarge { limit: MAX_SIZE });
        }
        let vertex = self.vertices.len();
        let first = *self.known.entry(key).or_insert(vertex);
        self.vertices.push(Vertex {
            inputs: inputs.list.clone(),
            equal: inputs.equal.clone(),
            op,
            metadata: meta.message(),
            spans: meta.span.into_iter().collect(),
        });
        Ok(Output {
            vertex,
            first,
            index: 0,
        })
    }

    /// Adds a source: an image, a repository, a download, a client's folder.
    ///
    /// # Errors
    /// As [`Graph::add`].
    pub fn source(
        &mut self,
        identifier: &str,
        attrs: BTreeMap<String, String>,
        platform: Option<&Platform>,
        meta: &Meta,
    ) -> Result<Output, GraphError> {
        let source = pb::SourceOp {
            identifier: identifier.to_owned(),
            attrs,
        };
        self.add(
            &Inputs::default(),
            pb::op::Op::Source(source),
            platform,
            meta,
        )
    }

    /// Adds a source whose attributes come later: it is equal to no other vertex.
    ///
    /// # Errors
    /// As [`Graph::add`].
    pub fn open_source(&mut self, identifier: &str, meta: &Meta) -> Result<Output, GraphError> {
        let marker = format!("{} {identifier}", self.vertices.len());
        self.source(&marker, BTreeMap::new(), None, meta)
    }

    /// Gives an open source its identifier, its attributes and its features.
    pub fn close_source(
        &mut self,
        output: Output,
        identifier: &str,
        attrs: BTreeMap<String, String>,
        caps: &[&'static str],
    ) {
        let Some(vertex) = self.vertices.get_mut(output.vertex) else {
            return;
        };
        let source = pb::SourceOp {
            identifier: identifier.to_owned(),
            attrs,
        };
        vertex.op.op = Some(pb::op::Op::Source(source));
        vertex
            .metadata
            .caps
            .extend(caps.iter().map(|c| ((*c).to_owned(), true)));
    }

    /// Adds another maker's definition; `None` where it results in nothing.
    pub fn import(&mut self, definition: &pb::Definition) -> State {
        let last = definition.def.last()?;
        let terminal = pb::Op::decode(last.as_slice()).ok()?;
        let result = terminal.inputs.into_iter().next()?;
        self.imports.push(Import {
            definition: definition.clone(),
            result,
        });
        let vertex = self.vertices.len();
        // a vertex without operation stands for the import with the same index
        self.vertices.push(Vertex {
            inputs: Vec::new(),
            equal: Vec::new(),
            op: pb::Op {
                inputs: vec![pb::Input {
                    digest: String::new(),
                    index: i64::try_from(self.imports.len() - 1).unwrap_or(i64::MAX),
                }],
                ..pb::Op::default()
            },
            metadata: pb::OpMetadata::default(),
            spans: Vec::new(),
        });
        Some(Output {
            vertex,
            first: vertex,
            index: 0,
        })
    }

    /// Puts one root upon another, as layers.
    ///
    /// # Errors
    /// As [`Graph::add`].
    pub fn merge_op(&mut self, states: &[State], meta: &Meta) -> Result<State, GraphError> {
        let inputs: Vec<Output> = states.iter().copied().flatten().collect();
        if inputs.len() < 2 {
            return Ok(inputs.first().copied());
        }
        let numbers = 0..i64::try_from(inputs.len()).unwrap_or(i64::MAX);
        let merge = pb::MergeOp {
            inputs: numbers.map(|input| pb::MergeInput { input }).collect(),
        };
        let meta = meta.clone().with_caps(&[caps::MERGE]);
        let inputs = Inputs {
            list: inputs,
            ..Inputs::default()
        };
        self.add(&inputs, pb::op::Op::Merge(merge), None, &meta)
            .map(Some)
    }
}

/// An output of a vertex with several.
#[must_use]
pub const fn nth(output: Output, index: i64) -> Output {
    Output { index, ..output }
}

/// Inputs of an operation in the making, each once.
#[derive(Debug, Default)]
pub struct Inputs {
    list: Vec<Output>,
    equal: Vec<Output>,
    /// Numbers by first vertex and index.
    numbers: HashMap<(usize, i64), usize>,
}

impl Inputs {
    /// The input's number, -1 for an empty root.
    pub fn number(&mut self, state: State) -> i64 {
        let Some(output) = state else { return -1 };
        let next = self.list.len();
        let at = *self
            .numbers
            .entry((output.first, output.index))
            .or_insert(next);
        match self.list.get(at) {
            None => self.list.push(output),
            Some(known) if known.vertex != output.vertex => self.equal.push(output),
            Some(_) => {}
        }
        i64::try_from(at).unwrap_or(i64::MAX)
    }

    /// How many inputs there are.
    #[must_use]
    pub fn count(&self) -> i64 {
        i64::try_from(self.list.len()).unwrap_or(i64::MAX)
    }
}

/// A platform as LLB's message.
#[must_use]
pub fn platform_message(platform: &Platform) -> pb::Platform {
    pb::Platform {
        architecture: platform.architecture.clone(),
        os: platform.os.clone(),
        variant: platform.variant.clone().unwrap_or_default(),
        os_version: platform.os_version.clone().unwrap_or_default(),
        os_features: Vec::new(),
    }
}
