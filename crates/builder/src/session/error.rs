//! What goes wrong with a session.

use std::io;

use tonic::{Code, Status};

use super::Method;
use crate::fsutil::FsutilError;

/// The result of asking a session.
pub type SessionResult<T> = Result<T, SessionError>;

/// Why a session cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// No client has this session, or not any more.
    #[error("no active session for {id}")]
    Missing {
        /// Session.
        id: String,
    },
    /// Another connection has the session's name.
    #[error("session {id} already exists")]
    Exists {
        /// Session.
        id: String,
    },
    /// The head of a session cannot be used.
    #[error("invalid session: {why}")]
    Invalid {
        /// What is wrong.
        why: &'static str,
    },
    /// The connection cannot be made a session.
    #[error("connect to the client of session {id}")]
    Connect {
        /// Session.
        id: String,
        /// Cause.
        #[source]
        source: tonic::transport::Error,
    },
    /// The client does not offer what is asked.
    #[error("method {method} not supported by the client")]
    Unsupported {
        /// What was asked.
        method: Method,
    },
    /// The client refused, failed, or is gone.
    #[error("{method}: {}", .source.message())]
    Call {
        /// What was asked.
        method: Method,
        /// Its answer.
        #[source]
        source: Box<Status>,
    },
    /// A transfer of files failed.
    #[error("transfer of {name}")]
    Files {
        /// Folder of the client, or the exporter.
        name: String,
        /// Cause.
        #[source]
        source: FsutilError,
    },
    /// The socket of an agent cannot be made.
    #[error("make the socket of the ssh agent {id}")]
    Socket {
        /// Agent.
        id: String,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The client sends more than is taken.
    #[error("{method}: the client sent more than {limit} bytes")]
    TooLarge {
        /// What was asked.
        method: Method,
        /// Limit.
        limit: usize,
    },
}

impl SessionError {
    pub(super) fn call(method: Method) -> impl FnOnce(Status) -> Self {
        move |source| Self::Call {
            method,
            source: Box::new(source),
        }
    }

    /// Tells whether the client has no such thing.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        match self {
            Self::Missing { .. } => true,
            Self::Call { source, .. } => source.code() == Code::NotFound,
            _ => false,
        }
    }

    /// Tells whether the client does not know the question.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        match self {
            Self::Unsupported { .. } => true,
            Self::Call { source, .. } => source.code() == Code::Unimplemented,
            _ => false,
        }
    }
}
