//! What can go wrong between a client and an engine.

use std::io;

/// A failed request.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nothing accepts connections at the endpoint.
    #[error("cannot connect to the engine at {endpoint}")]
    Connect {
        /// Where the engine was expected.
        endpoint: String,
        /// Why the connection failed.
        #[source]
        source: io::Error,
    },
    /// The engine answered with a status of 400 or above.
    #[error("Error response from daemon: {message}")]
    Response {
        /// The HTTP status.
        status: u16,
        /// The engine's message.
        message: String,
    },
    /// The connection broke, or what came was no HTTP.
    #[error("request {method} {path} failed")]
    Http {
        /// The request's method.
        method: String,
        /// The request's path.
        path: String,
        /// What HTTP says.
        #[source]
        source: hyper::Error,
    },
    /// The path or a header of the request is not valid HTTP.
    #[error("invalid request for {path}")]
    Request {
        /// The request's path.
        path: String,
        /// What is wrong with it.
        #[source]
        source: hyper::http::Error,
    },
    /// The request's value has no JSON form.
    #[error("cannot encode the body of the request for {path}")]
    Encode {
        /// The request's path.
        path: String,
        /// What has no JSON form.
        #[source]
        source: serde_json::Error,
    },
    /// The answer is not the JSON that was expected.
    #[error("cannot decode the answer to {path}")]
    Decode {
        /// The request's path.
        path: String,
        /// Where the answer differs.
        #[source]
        source: serde_json::Error,
    },
    /// The answer is longer than the client takes.
    #[error("the answer to {path} is longer than {limit} bytes")]
    TooLong {
        /// The request's path.
        path: String,
        /// The most that is taken.
        limit: usize,
    },
    /// The engine did not hand the connection over.
    #[error("the engine did not upgrade the connection of {path} (status {status})")]
    NoUpgrade {
        /// The request's path.
        path: String,
        /// The HTTP status that came in place of 101.
        status: u16,
    },
    /// A hijacked connection broke.
    #[error("the stream of {path} broke")]
    Stream {
        /// The request's path.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl ClientError {
    /// The HTTP status, when the engine answered with an error.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Response { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether no engine answers at the endpoint.
    #[must_use]
    pub fn is_connect(&self) -> bool {
        matches!(self, Self::Connect { .. })
    }
}
