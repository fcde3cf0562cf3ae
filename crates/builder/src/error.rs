//! What a build answers when it refuses or fails.
//!
//! An error carries beside its text what clients show of it: the vertex that failed, where in the
//! Dockerfile that vertex comes from, and the end of what its process said. It is cloned, since
//! everybody who waits for the same work gets it.

use std::fmt;
use std::sync::Arc;

use oci::Digest;

use crate::llb::SourceSpan;

pub use engine::Kind;

/// An error of a build: its kind, the message for people, and where it belongs.
#[derive(Clone)]
#[expect(
    clippy::error_impl_error,
    reason = "it is the one error of the crate, read as builder::Error"
)]
pub struct Error(Arc<Inner>);

/// The builder's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Clone, Debug)]
struct Inner {
    kind: Kind,
    message: String,
    canceled: bool,
    exit_code: Option<i32>,
    vertex: Option<Digest>,
    sources: Vec<SourceSpan>,
    output: Vec<u8>,
    subject: Option<Subject>,
}

/// What a failed operation was about, as BuildKit's `errdefs.Solve` names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The n-th action of a file operation.
    FileAction(i64),
    /// The content digest of the n-th input.
    CacheInput(i64),
}

impl Error {
    /// An error of a kind with its message.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner {
            kind,
            message: message.into(),
            canceled: false,
            exit_code: None,
            vertex: None,
            sources: Vec::new(),
            output: Vec::new(),
            subject: None,
        }))
    }

    /// A failure of the machine: what was being done, and the chain of causes.
    pub fn system(step: impl fmt::Display, source: &(dyn std::error::Error + 'static)) -> Self {
        engine::Error::system(step, source).into()
    }

    /// Nobody wants the result any more.
    #[must_use]
    pub fn canceled() -> Self {
        Self::new(Kind::Unavailable, "context canceled").change(|inner| inner.canceled = true)
    }

    fn change(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    /// The same error with what was being done in front.
    #[must_use]
    pub fn context(self, step: impl fmt::Display) -> Self {
        self.change(|inner| inner.message = format!("{step}: {}", inner.message))
    }

    /// The same error with what may help behind it.
    #[must_use]
    pub fn hint(self, hint: impl fmt::Display) -> Self {
        self.change(|inner| inner.message = format!("{}: {hint}", inner.message))
    }

    /// The same error at a vertex, with the places its definition comes from; one that is set stays.
    #[must_use]
    pub fn at(self, vertex: &Digest, sources: &[SourceSpan]) -> Self {
        if self.0.vertex.is_some() {
            return self;
        }
        self.change(|inner| {
            inner.vertex = Some(vertex.clone());
            if inner.sources.is_empty() {
                inner.sources = sources.to_vec();
            }
        })
    }

    /// The same error at places of a source file, as a front end gives them.
    #[must_use]
    pub fn with_sources(self, sources: Vec<SourceSpan>) -> Self {
        self.change(|inner| inner.sources = sources)
    }

    /// The same error with the exit code of the process that failed.
    #[must_use]
    pub fn with_exit_code(self, code: i32) -> Self {
        self.change(|inner| inner.exit_code = Some(code))
    }

    /// The same error with the end of what the process said.
    #[must_use]
    pub fn with_output(self, output: Vec<u8>) -> Self {
        self.change(|inner| inner.output = output)
    }

    /// The same error with what the operation was about.
    #[must_use]
    pub fn about(self, subject: Subject) -> Self {
        self.change(|inner| inner.subject = Some(subject))
    }

    /// The error's kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The message for people.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Whether the work ended because nobody wanted it any more.
    #[must_use]
    pub fn is_canceled(&self) -> bool {
        self.0.canceled
    }

    /// The exit code of the process that failed.
    #[must_use]
    pub fn exit_code(&self) -> Option<i32> {
        self.0.exit_code
    }

    /// The vertex that failed.
    #[must_use]
    pub fn vertex(&self) -> Option<&Digest> {
        self.0.vertex.as_ref()
    }

    /// The places of source files that the failure belongs to.
    #[must_use]
    pub fn sources(&self) -> &[SourceSpan] {
        &self.0.sources
    }

    /// The end of what the failed process said.
    #[must_use]
    pub fn output(&self) -> &[u8] {
        &self.0.output
    }

    /// What the failed operation was about.
    #[must_use]
    pub fn subject(&self) -> Option<&Subject> {
        self.0.subject.as_ref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("message", &self.0.message)
            .field("vertex", &self.0.vertex)
            .finish_non_exhaustive()
    }
}

impl std::error::Error for Error {}

impl From<engine::Error> for Error {
    fn from(error: engine::Error) -> Self {
        Self::new(error.kind(), error.message())
    }
}

/// An error as an engine's method reports it, without what only build clients show.
impl From<Error> for engine::Error {
    fn from(error: Error) -> Self {
        Self::new(error.kind(), error.message())
    }
}

macro_rules! kind_constructors {
    ($($name:ident => $kind:ident),*) => {$(
        impl Error {
            #[doc = concat!("An error of kind `", stringify!($kind), "`.")]
            pub fn $name(message: impl Into<String>) -> Self {
                Self::new(Kind::$kind, message)
            }
        }
    )*};
}
kind_constructors!(
    not_found => NotFound, invalid => InvalidParameter, conflict => Conflict,
    unauthorized => Unauthorized, forbidden => Forbidden, unavailable => Unavailable,
    not_implemented => NotImplemented, internal => System
);

/// Adds the step to a foreign error and makes it one of kind `System`.
pub trait Step<T> {
    /// Names what was being done.
    ///
    /// # Errors
    /// The foreign error, with the step in front.
    fn step<D: fmt::Display>(self, step: impl FnOnce() -> D) -> Result<T>;
}

impl<T, E: std::error::Error + 'static> Step<T> for std::result::Result<T, E> {
    fn step<D: fmt::Display>(self, step: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|e| Error::system(step(), &e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_vertex_stays() {
        let (a, b) = (Digest::from_sha256(&[1; 32]), Digest::from_sha256(&[2; 32]));
        let error = Error::invalid("no").at(&a, &[]).at(&b, &[]);
        assert_eq!(error.vertex(), Some(&a));
        assert_eq!(error.context("step").to_string(), "step: no");
    }

    #[test]
    fn shared_errors_do_not_change_each_other() {
        let one = Error::internal("no");
        let other = one.clone().context("step");
        assert_eq!(one.message(), "no");
        assert_eq!(other.message(), "step: no");
        assert!(Error::canceled().context("x").is_canceled());
    }
}
