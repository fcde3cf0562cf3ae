//! What is known of one result.

use jiff::Timestamp;
use oci::Digest;
use serde::{Deserialize, Serialize};

/// What a record is of, in BuildKit's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RecordKind {
    /// A result.
    #[default]
    #[serde(rename = "regular")]
    Regular,
    /// A client's context.
    #[serde(rename = "source.local")]
    Local,
    /// A repository.
    #[serde(rename = "source.git.checkout")]
    Git,
    /// What `RUN --mount=type=cache` keeps.
    #[serde(rename = "exec.cachemount")]
    CacheMount,
    /// A front end.
    #[serde(rename = "frontend")]
    Frontend,
    /// What no client has asked for by name.
    #[serde(rename = "internal")]
    Internal,
}

impl RecordKind {
    /// The kind in BuildKit's words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Regular => "regular",
            Self::Local => "source.local",
            Self::Git => "source.git.checkout",
            Self::CacheMount => "exec.cachemount",
            Self::Frontend => "frontend",
            Self::Internal => "internal",
        }
    }
}

/// When something was last used, and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uses {
    /// The last use.
    pub last: Timestamp,
    /// How many there were.
    pub count: u64,
}

/// What an operation has left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// A random name.
    pub id: String,
    /// What it is of.
    #[serde(default)]
    pub kind: RecordKind,
    /// By what later operations know it.
    pub primary: Digest,
    /// The keys that lead to it; the first is the fast one it was made under.
    pub keys: Vec<Digest>,
    /// The layers of each output, the lowest first.
    pub outputs: Vec<Vec<String>>,
    /// The records that it was made from.
    #[serde(default)]
    pub parents: Vec<String>,
    /// For each input that counted by what it holds, the digest of that.
    #[serde(default)]
    pub content: Vec<Option<Digest>>,
    /// What made it, for people.
    pub description: String,
    /// When it was made.
    pub created: Timestamp,
    /// Bytes that it adds to what it was made from.
    #[serde(default)]
    pub size: u64,
}

impl Record {
    /// The layers of all outputs; one may come several times.
    pub fn layers(&self) -> impl Iterator<Item = &str> {
        self.outputs.iter().flatten().map(String::as_str)
    }
}
