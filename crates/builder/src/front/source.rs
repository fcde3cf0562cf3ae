//! Definitions of one source, for what a front end reads itself.

use std::collections::BTreeMap;

use bollard_buildkit_proto::pb;
use prost::Message as _;

use crate::llb::digest_of;

/// The description under which a step is named.
const CUSTOM_NAME: &str = "llb.customname";

/// A source with its settings.
#[derive(Clone, Debug, Default)]
pub(super) struct Source {
    pub(super) identifier: String,
    pub(super) attrs: BTreeMap<String, String>,
    /// What people see of it.
    pub(super) name: String,
}

impl Source {
    pub(super) fn new(identifier: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            identifier: identifier.into(),
            attrs: BTreeMap::new(),
            name: name.into(),
        }
    }

    pub(super) fn attr(mut self, name: &str, value: impl Into<String>) -> Self {
        self.attrs.insert(name.to_owned(), value.into());
        self
    }

    /// The operation's bytes.
    fn op(&self) -> Vec<u8> {
        let source = pb::SourceOp {
            identifier: self.identifier.clone(),
            attrs: self.attrs.clone(),
        };
        let op = pb::Op {
            op: Some(pb::op::Op::Source(source)),
            ..pb::Op::default()
        };
        op.encode_to_vec()
    }

    /// The name by which warnings refer to it.
    pub(super) fn digest(&self) -> oci::Digest {
        digest_of(&self.op())
    }

    /// The graph of this operation alone.
    pub(super) fn definition(&self) -> pb::Definition {
        let op = self.op();
        let digest = digest_of(&op).to_string();
        let target = pb::Op {
            inputs: vec![pb::Input {
                digest: digest.clone(),
                index: 0,
            }],
            ..pb::Op::default()
        };
        let metadata = pb::OpMetadata {
            description: BTreeMap::from([(CUSTOM_NAME.to_owned(), self.name.clone())]),
            ..pb::OpMetadata::default()
        };
        pb::Definition {
            def: vec![op, target.encode_to_vec()],
            metadata: BTreeMap::from([(digest, metadata)]),
            source: None,
        }
    }
}
