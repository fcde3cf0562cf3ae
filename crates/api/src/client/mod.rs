//! A client of the Docker Engine API over a unix socket, TCP, TLS or ssh.
//!
//! It opens connections lazily, keeps those that came back whole, and knows nothing of what the bodies mean:
//! the wire types of this crate are passed in and taken out by the caller.

mod body;
mod connection;
mod endpoint;
mod error;
mod hijack;
mod query;
mod request;
mod response;
mod ssh;
mod stdcopy;
mod tls;
mod transport;

pub use body::{Body, BodySender};
pub use endpoint::{Endpoint, ParseEndpointError};
pub use error::ClientError;
pub use hijack::{Hijacked, HijackedReader, HijackedWriter};
pub use hyper::Method;
pub use query::encode_component;
pub use request::Request;
pub use response::{Lines, Response};
pub use ssh::Ssh;
pub use stdcopy::{Frame, Frames, StreamKind};
pub use tls::{Tls, TlsError, TlsFiles};
pub use transport::Transport;

use connection::Pool;
use std::sync::{Arc, Mutex};

/// The newest version of the Docker Engine API that the client speaks.
pub const API_VERSION: &str = "1.51";

/// A client of one engine; clones share their connections.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    pool: Arc<Pool>,
    version: Mutex<String>,
}

impl Client {
    /// Makes a client of the engine at `endpoint`; nothing is connected until the first request.
    #[must_use]
    pub fn new(endpoint: Endpoint) -> Self {
        Self {
            shared: Arc::new(Shared {
                pool: Arc::new(Pool::new(endpoint)),
                version: Mutex::new(API_VERSION.to_owned()),
            }),
        }
    }

    /// Where the engine listens.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        self.shared.pool.endpoint()
    }

    /// The version that goes in front of each path.
    #[must_use]
    pub fn version(&self) -> String {
        match self.shared.version.lock() {
            Ok(version) => version.clone(),
            Err(poisoned) => poisoned.into_inner().clone(),
        }
    }

    /// Uses `version` from now on, for an engine that is older than the client.
    pub fn set_version(&self, version: &str) {
        let mut guard = match self.shared.version.lock() {
            Ok(guard) => guard,
            Err(poisoned) => poisoned.into_inner(),
        };
        version.clone_into(&mut guard);
    }

    /// Connects now unless a connection stands ready, so that a missing engine is told apart from a failing request.
    ///
    /// # Errors
    /// When nothing accepts connections at the endpoint.
    pub async fn connect(&self) -> Result<(), ClientError> {
        self.shared.pool.warm().await
    }

    /// Begins a request; `path` is without the version, such as `/containers/json`.
    #[must_use]
    pub fn request(&self, method: Method, path: &str) -> Request {
        Request::new(self.clone(), method, path.to_owned())
    }

    /// Begins a `GET`.
    #[must_use]
    pub fn get(&self, path: &str) -> Request {
        self.request(Method::GET, path)
    }

    /// Begins a `POST`.
    #[must_use]
    pub fn post(&self, path: &str) -> Request {
        self.request(Method::POST, path)
    }

    /// Begins a `DELETE`.
    #[must_use]
    pub fn delete(&self, path: &str) -> Request {
        self.request(Method::DELETE, path)
    }

    fn pool(&self) -> &Arc<Pool> {
        &self.shared.pool
    }
}

#[cfg(test)]
mod tests;
