//! What is wrong with a Dockerfile, and where.

use crate::convert::ConvertError;
use crate::expand::ExpandError;
use crate::instruction::{InstructionError, MountError};
use crate::lint::ConfigError;
use crate::span::Span;
use crate::syntax::{Misread, SyntaxError};

/// What is wrong with a Dockerfile.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// Its lines.
    #[error(transparent)]
    Syntax(#[from] SyntaxError),
    /// An instruction.
    #[error("dockerfile parse error on line {line}: {error}")]
    Instruction {
        /// The instruction's first line.
        line: u32,
        /// What is wrong with it.
        error: InstructionError,
    },
    /// An instruction before the first stage.
    #[error("no build stage in current context")]
    NoStage,
    /// An instruction of a base image's triggers.
    #[error(transparent)]
    Trigger(#[from] InstructionError),
    /// A variable or a quote.
    #[error(transparent)]
    Expand(#[from] ExpandError),
    /// A mount of a step.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// The options of the checks.
    #[error("failed to parse check options: {0}")]
    Checks(ConfigError),
    /// Its meaning.
    #[error(transparent)]
    Convert(#[from] ConvertError),
}

/// A Dockerfile that cannot be built.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct DockerfileError {
    /// What is wrong.
    pub reason: Reason,
    /// The places that it concerns.
    pub spans: Vec<Span>,
}

impl DockerfileError {
    /// An error at a place.
    pub(crate) fn at(reason: impl Into<Reason>, span: Span) -> Self {
        Self {
            reason: reason.into(),
            spans: vec![span],
        }
    }

    /// The same error, at this place if it has none yet.
    #[must_use]
    pub(crate) fn or_at(mut self, span: Span) -> Self {
        if self.spans.is_empty() {
            self.spans.push(span);
        }
        self
    }
}

impl<R: Into<Reason>> From<R> for DockerfileError {
    fn from(reason: R) -> Self {
        Self {
            reason: reason.into(),
            spans: Vec::new(),
        }
    }
}

impl From<crate::llb::GraphError> for Reason {
    fn from(error: crate::llb::GraphError) -> Self {
        Self::Convert(error.into())
    }
}

impl From<Misread> for DockerfileError {
    fn from(misread: Misread) -> Self {
        Self {
            reason: misread.error.into(),
            spans: misread.span.into_iter().collect(),
        }
    }
}
