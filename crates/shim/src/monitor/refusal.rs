//! Why a request was not done, as its sender will read it.

use std::error::Error;

use runtime::FailureKind;
use shim::{ErrorKind, Reply};

/// A refused request.
#[derive(Debug)]
pub(crate) struct Refusal {
    kind: ErrorKind,
    step: &'static str,
    message: String,
}

impl Refusal {
    pub(crate) fn new(kind: ErrorKind, step: &'static str, message: impl Into<String>) -> Self {
        Self {
            kind,
            step,
            message: message.into(),
        }
    }

    /// The request makes no sense now.
    pub(crate) fn invalid(step: &'static str, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidInput, step, message)
    }

    /// There is no such process any more.
    pub(crate) fn gone(step: &'static str, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NoSuchProcess, step, message)
    }

    /// A step that failed, with all its causes.
    pub(crate) fn failed(step: &'static str, error: &dyn Error) -> Self {
        Self::new(ErrorKind::Other, step, format!("{step}: {}", chain(error)))
    }

    /// A failure of the runtime.
    pub(crate) fn runtime(step: &'static str, kind: FailureKind, error: &dyn Error) -> Self {
        let kind = match kind {
            FailureKind::NotFound => ErrorKind::NotFound,
            FailureKind::PermissionDenied => ErrorKind::NotExecutable,
            FailureKind::InvalidInput => ErrorKind::InvalidInput,
            FailureKind::NotRunning => ErrorKind::NoSuchProcess,
            FailureKind::Other => ErrorKind::Other,
        };
        Self::new(kind, step, chain(error))
    }

    pub(crate) fn into_reply(self) -> Reply {
        Reply::Error {
            kind: self.kind,
            step: self.step.to_owned(),
            message: self.message,
        }
    }
}

/// An error and its sources on one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}
