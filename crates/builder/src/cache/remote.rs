//! What remote caches are made of, and what they bring.

use jiff::Timestamp;
use oci::Digest;

use crate::snapshot::Snapshot;

/// One operation of a build that was solved, as a remote cache describes it. A list of them has each after
/// those it names.
#[derive(Clone, Debug)]
pub struct ExportRecord {
    /// What the operation does, without its inputs; of a source, what it resolved to.
    pub operation: Digest,
    /// What it was made from.
    pub inputs: Vec<ExportInput>,
    /// What it has left; empty where that is not a layer of an image, such as a context, or was not needed.
    pub outputs: Vec<Snapshot>,
    /// What made it, for people.
    pub description: String,
    /// When it was made, where it was made.
    pub created: Option<Timestamp>,
    /// Whether it is one of the results that were asked for, and not only something in between.
    pub result: bool,
}

/// An input of an operation that was solved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportInput {
    /// Which operation of the list made it.
    pub record: usize,
    /// Which of its outputs it is.
    pub output: u32,
    /// The digest of what it holds, where it counts by that, too.
    pub content: Option<Digest>,
}

/// A result that another cache has.
#[derive(Clone, Debug)]
pub struct ImportedRecord {
    /// By what later operations know it: the [key](super::keys::key) by how its inputs were made.
    pub primary: Digest,
    /// All keys that lead to it.
    pub keys: Vec<Digest>,
    /// What it has left; layers may be still to be fetched.
    pub outputs: Vec<Snapshot>,
    /// What made it, for people.
    pub description: String,
}
