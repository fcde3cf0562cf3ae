//! What the solver asks about an operation.

use std::sync::{Arc, Mutex, PoisonError};

use oci::Digest;

use crate::builder::Builder;
use crate::cancel::Cancel;
use crate::job::Job;
use crate::llb::Vertex;
use crate::progress::VertexProgress;

/// What an operation's results are known by.
#[derive(Clone, Debug)]
pub struct CacheMap {
    /// What the operation does, without its inputs; of a source, what it resolved to.
    pub digest: Digest,
    /// How each input counts; inputs beyond the list count by definition.
    pub inputs: Vec<InputKey>,
}

/// How an input counts for what an operation's results are known by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum InputKey {
    /// By how it was made.
    #[default]
    Definition,
    /// By what it holds at these paths, too.
    Content(Vec<Selector>),
}

/// Paths of an input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// The path.
    pub path: String,
    /// Whether the path is a pattern.
    pub wildcard: bool,
    /// Whether a symbolic link at the path's end is followed.
    pub follow_links: bool,
    /// Patterns of which a file below has to match one; all do where there is none.
    pub include: Vec<String>,
    /// Patterns of which a file below may match none.
    pub exclude: Vec<String>,
}

/// The sessions of everybody who waits for some work. Copies share it.
#[derive(Clone, Debug, Default)]
pub struct SessionIds(Arc<Mutex<Vec<String>>>);

impl SessionIds {
    /// The sessions of one client.
    #[must_use]
    pub fn new(ids: Vec<String>) -> Self {
        Self(Arc::new(Mutex::new(ids)))
    }

    /// Adds those of another who waits.
    pub fn join(&self, other: &Self) {
        if Arc::ptr_eq(&self.0, &other.0) {
            return;
        }
        for id in other.all() {
            self.add(&id);
        }
    }

    /// Adds one.
    pub fn add(&self, id: &str) {
        let mut ids = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !id.is_empty() && !ids.iter().any(|known| known == id) {
            ids.push(id.to_owned());
        }
    }

    /// All of them now, the first who asked first.
    #[must_use]
    pub fn all(&self) -> Vec<String> {
        let ids = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ids.clone()
    }
}

/// Where an operation works. It may work for several jobs: what it tells and whom it asks goes by the fields
/// here and not by the job, which is only the first of them.
#[derive(Clone, Debug)]
pub struct OpContext {
    /// The build engine.
    pub builder: Arc<Builder>,
    /// The first job that wants the result.
    pub job: Arc<Job>,
    /// The operation.
    pub vertex: Arc<Vertex>,
    /// What is told of it.
    pub progress: VertexProgress,
    /// The sessions of those who want the result.
    pub sessions: SessionIds,
    /// Raised when nobody wants it any more.
    pub cancel: Cancel,
}
