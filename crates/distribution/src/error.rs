//! What a registry operation ends in when it fails, with Docker's wording.

use std::error::Error as StdError;
use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use http::StatusCode;
use oci::{Digest, Platform};

use crate::hosts::HostsError;
use crate::manifest::DocumentError;
use crate::net::TransportError;

/// A failed registry operation.
///
/// [`RegistryError::message`] joins a failure with its causes in the form that Docker's clients show.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The registry does not let these credentials read the repository, or has no such one.
    #[error(
        "pull access denied for {name}, repository does not exist or may require 'docker login': {detail}"
    )]
    AccessDenied {
        /// The repository as people write it.
        name: String,
        /// What the registry said.
        detail: String,
    },
    /// The registry does not let these credentials write to the repository.
    #[error("{detail}: pushing to {name} needs credentials that may write there")]
    PushDenied {
        /// The repository as people write it.
        name: String,
        /// What the registry said.
        detail: String,
    },
    /// What is to be sent cannot be read here.
    #[error("read blob {digest} to push it")]
    Source {
        /// The blob.
        digest: Digest,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The registry has stored something else than what was sent.
    #[error("the registry stored {stored} in place of {sent}")]
    Stored {
        /// The digest of what was sent.
        sent: Digest,
        /// What the registry tells, cut to a printable length.
        stored: String,
    },
    /// The repository has no such tag or manifest.
    #[error("manifest for {reference} not found: {detail}")]
    ManifestUnknown {
        /// The reference as people write it.
        reference: String,
        /// What the registry said.
        detail: String,
    },
    /// The registry has no such repository.
    #[error("repository {name} not found: {detail}")]
    RepositoryUnknown {
        /// The repository as people write it.
        name: String,
        /// What the registry said.
        detail: String,
    },
    /// The registry does not have a blob that the manifest names.
    #[error("blob {digest} of {name} not found: {detail}")]
    BlobUnknown {
        /// The repository as people write it.
        name: String,
        /// The blob.
        digest: Digest,
        /// What the registry said.
        detail: String,
    },
    /// No entry of an index is for the wanted platform.
    #[error("no matching manifest for {platform} in the manifest list entries")]
    NoPlatform {
        /// The wanted platform.
        platform: Platform,
    },
    /// The registry asks for fewer requests.
    #[error("toomanyrequests: {detail}")]
    TooManyRequests {
        /// What the registry said.
        detail: String,
        /// How long it asks to wait.
        retry_after: Option<Duration>,
    },
    /// The registry wants a user name and a password, and there are none.
    #[error("{method} {url:?}: no basic auth credentials")]
    NoCredentials {
        /// The request's method, as `Get`.
        method: &'static str,
        /// The request's address without its query.
        url: String,
    },
    /// The registry or its token server refuses the credentials.
    #[error("{method} {url:?}: unauthorized: {detail}")]
    Unauthorized {
        /// The request's method, as `Get`.
        method: &'static str,
        /// The request's address without its query.
        url: String,
        /// What the server said.
        detail: String,
    },
    /// An answer has a status that fits nothing.
    #[error("{method} {url:?}: received unexpected HTTP status: {status}{detail}")]
    Status {
        /// The request's method, as `Get`.
        method: &'static str,
        /// The request's address without its query.
        url: String,
        /// The answer's status.
        status: StatusCode,
        /// What the server said, behind a separator, or nothing.
        detail: String,
    },
    /// No answer came, or it broke.
    #[error("{method} {url:?}")]
    Exchange {
        /// The request's method, as `Get`.
        method: &'static str,
        /// The request's address without its query.
        url: String,
        /// What went wrong on the way.
        #[source]
        source: Box<TransportError>,
    },
    /// The server's answer has another form than the protocol asks for.
    #[error("{method} {url:?}: {problem}")]
    Protocol {
        /// The request's method, as `Get`.
        method: &'static str,
        /// The request's address without its query.
        url: String,
        /// What is wrong with the answer.
        problem: String,
    },
    /// An answer is longer than such an answer may be.
    #[error("{method} {url:?}: the {what} is larger than the limit of {limit} bytes")]
    TooLarge {
        /// The request's method, as `Get`.
        method: &'static str,
        /// The request's address without its query.
        url: String,
        /// What was read.
        what: &'static str,
        /// The most bytes of it that are read.
        limit: u64,
    },
    /// A manifest or index is unusable.
    #[error("manifest of {reference}")]
    Document {
        /// The reference as people write it.
        reference: String,
        /// What is wrong with it.
        #[source]
        source: DocumentError,
    },
    /// Content does not have the digest it was asked by.
    #[error("{what} verification failed for digest {expected}: the registry sent {actual}")]
    DigestMismatch {
        /// What was read: `manifest`, `image config` or `filesystem layer`.
        what: &'static str,
        /// The digest that was asked for.
        expected: Digest,
        /// The digest of what came.
        actual: Digest,
    },
    /// Content ends early and the rest cannot be had.
    #[error("{what} {digest} is short: the registry sent {received} of {expected} bytes")]
    Short {
        /// What was read.
        what: &'static str,
        /// The blob.
        digest: Digest,
        /// The length in the descriptor.
        expected: u64,
        /// The bytes that came.
        received: u64,
    },
    /// Content is longer than its descriptor says, or the registry announces another length.
    #[error(
        "{what} {digest} has the wrong length: expected {expected} bytes, the registry has {announced}"
    )]
    WrongLength {
        /// What was read.
        what: &'static str,
        /// The blob.
        digest: Digest,
        /// The length in the descriptor.
        expected: u64,
        /// The length that the registry says, or `more`.
        announced: String,
    },
    /// The descriptor of a configuration says that it is larger than any configuration.
    #[error("image config {digest} of {size} bytes is larger than the limit of {limit} bytes")]
    ConfigTooLarge {
        /// The configuration's digest.
        digest: Digest,
        /// Its size in the manifest.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// A file about registries cannot be used.
    #[error(transparent)]
    Hosts(#[from] HostsError),
    /// The failure of a host that is reached as a file says.
    #[error("{} (reached as {} says)", chain(source.as_ref()), file.display())]
    Configured {
        /// The file.
        file: PathBuf,
        /// What failed; its text is in this one's.
        source: Box<RegistryError>,
    },
    /// A registry's name makes no address.
    #[error("invalid registry name {name:?}")]
    RegistryName {
        /// The name as given.
        name: String,
    },
}

/// What a failure means to a caller that has to choose a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The repository, manifest, blob or platform does not exist.
    NotFound,
    /// Credentials are missing or wrong.
    Unauthorized,
    /// The request itself is wrong.
    InvalidInput,
    /// The registry limits the rate.
    TooManyRequests,
    /// The registry cannot be reached or fails.
    Unavailable,
    /// The registry does not answer in time.
    Timeout,
    /// The registry's data is wrong or hostile.
    BadData,
}

impl RegistryError {
    /// What the failure means.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::AccessDenied { .. }
            | Self::ManifestUnknown { .. }
            | Self::RepositoryUnknown { .. }
            | Self::BlobUnknown { .. }
            | Self::NoPlatform { .. } => ErrorKind::NotFound,
            Self::TooManyRequests { .. } => ErrorKind::TooManyRequests,
            Self::NoCredentials { .. } | Self::Unauthorized { .. } | Self::PushDenied { .. } => {
                ErrorKind::Unauthorized
            }
            Self::Status { .. } | Self::Source { .. } => ErrorKind::Unavailable,
            Self::Exchange { source, .. } if source.is_timeout() => ErrorKind::Timeout,
            Self::Exchange { .. } => ErrorKind::Unavailable,
            Self::RegistryName { .. } => ErrorKind::InvalidInput,
            Self::Hosts(_) => ErrorKind::Unavailable,
            Self::Configured { source, .. } => source.kind(),
            Self::Protocol { .. }
            | Self::Stored { .. }
            | Self::TooLarge { .. }
            | Self::Document { .. }
            | Self::DigestMismatch { .. }
            | Self::Short { .. }
            | Self::WrongLength { .. }
            | Self::ConfigTooLarge { .. } => ErrorKind::BadData,
        }
    }

    /// The failure and its causes in one line, as Docker's clients show it.
    #[must_use]
    pub fn message(&self) -> String {
        if let Self::Configured { .. } = self {
            return self.to_string();
        }
        chain(self)
    }
}

/// Joins an error and its sources by colons; system errors in Go's spelling, which people search for.
#[must_use]
pub fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let separator = if text.is_empty() { "" } else { ": " };
        let shown = match error.downcast_ref::<io::Error>() {
            Some(io) => system_text(io),
            None => error.to_string(),
        };
        // Writing to a String cannot fail.
        let _infallible = write!(text, "{separator}{shown}");
        next = error.source();
    }
    text
}

fn system_text(error: &io::Error) -> String {
    let text = error.to_string();
    match (error.raw_os_error(), text.find(" (os error")) {
        (Some(_), Some(end)) => text[..end].to_lowercase(),
        _ => text,
    }
}
