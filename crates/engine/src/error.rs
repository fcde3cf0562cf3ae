//! What the engine answers when it refuses or fails, and its kinds.
//!
//! A kind says whose fault it is and what a client may do about it; the protocols on top map kinds
//! to their own codes (HTTP status, exit code) in one place each.

use std::fmt;

/// Whose fault an error is, after moby's `errdefs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The thing named does not exist.
    NotFound,
    /// The request makes no sense.
    InvalidParameter,
    /// The request contradicts the present state.
    Conflict,
    /// The state asked for is already there.
    NotModified,
    /// Credentials are missing or wrong.
    Unauthorized,
    /// The request is understood and refused.
    Forbidden,
    /// Something that is needed does not answer now.
    Unavailable,
    /// Gorae does not do this.
    NotImplemented,
    /// Everything else: the machine, the disk, the kernel.
    System,
}

/// An error of the engine: its kind, and the message for people.
///
/// The message is what clients show and match on, so it carries the step, the operand and the
/// causes; `code` is the exit code that a container would have had, where one is meant.
#[derive(Debug)]
#[expect(
    clippy::error_impl_error,
    reason = "it is the one error of the crate, read as engine::Error"
)]
pub struct Error {
    kind: Kind,
    message: String,
}

/// The engine's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Joins an error and its causes by colons; the kernel's errors in Go's spelling, which people
/// search for and clients match.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut parts = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(errno) = error.downcast_ref::<rustix::io::Errno>() {
            parts.push(distribution::chain(&std::io::Error::from(*errno)));
            break;
        }
        if error.is::<std::io::Error>() {
            parts.push(distribution::chain(error));
            break;
        }
        parts.push(error.to_string());
        next = error.source();
    }
    parts.join(": ")
}

impl Error {
    /// An error of a kind with its message.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    /// A failure of the machine: what was being done, and the chain of causes.
    pub fn system(step: impl fmt::Display, source: &(dyn std::error::Error + 'static)) -> Self {
        Self::new(Kind::System, format!("{step}: {}", chain(source)))
    }

    /// The error's kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The message for people.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The same error with what was being done in front.
    #[must_use]
    pub fn context(self, step: impl fmt::Display) -> Self {
        Self {
            message: format!("{step}: {}", self.message),
            ..self
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

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
    not_modified => NotModified, unauthorized => Unauthorized, forbidden => Forbidden,
    unavailable => Unavailable, not_implemented => NotImplemented, internal => System
);

/// Adds the step to a foreign error and makes it one of kind `System`.
pub(crate) trait Step<T> {
    /// Names what was being done.
    fn step<D: fmt::Display>(self, step: impl FnOnce() -> D) -> Result<T>;
}

impl<T, E: std::error::Error + 'static> Step<T> for std::result::Result<T, E> {
    fn step<D: fmt::Display>(self, step: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|e| Error::system(step(), &e))
    }
}
