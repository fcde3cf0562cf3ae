//! A place in a log that outlives rotations, compression and processes.

/// A place in a log: behind a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Position {
    /// The fingerprint of the file, made of its first record.
    pub file: u64,
    /// The byte behind the record, in the file as it was before it was compressed.
    pub offset: u64,
}
