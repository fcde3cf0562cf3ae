//! What a stage that failed tells its parent.

use std::error::Error;

use serde::{Deserialize, Serialize};

/// The kind of a failure, as far as callers act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FailureKind {
    /// There is no such program: exit code 127.
    NotFound,
    /// The program may not be run: exit code 126.
    PermissionDenied,
    /// The configuration asks for what cannot be.
    InvalidInput,
    /// The container is gone.
    NotRunning,
    /// Anything else.
    Other,
}

/// A step that failed inside a container's stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The step's name, as `rootfs`.
    pub step: String,
    /// The whole chain of errors.
    pub message: String,
    /// Its kind.
    pub kind: FailureKind,
}

impl Failure {
    /// Writes down an error and its sources.
    pub(crate) fn new(step: &str, kind: FailureKind, error: &dyn Error) -> Self {
        let mut message = error.to_string();
        let mut next = error.source();
        while let Some(source) = next {
            message.push_str(": ");
            message.push_str(&source_text(source));
            next = source.source();
        }
        Self {
            step: step.to_owned(),
            message,
            kind,
        }
    }
}

/// The text of an error; for the kernel's, that which Docker's clients know from Go: `no such file
/// or directory` in lower case and without a number.
fn source_text(error: &(dyn Error + 'static)) -> String {
    let text = error.to_string();
    let text = text.split(" (os error ").next().unwrap_or_default();
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => String::new(),
    }
}

/// Writes an error of the kernel as Docker's clients know it.
pub(crate) fn kernel_text(error: &std::io::Error) -> String {
    source_text(error)
}

/// What a stage sends to its parent.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Report {
    /// All is set up; the terminal's master end comes along if there is one.
    Ready,
    /// A step failed, and the stage has ended.
    Failed(Failure),
}
