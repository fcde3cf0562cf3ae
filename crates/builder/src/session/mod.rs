//! Sessions: what a client offers to its builds while they run.
//!
//! A client opens a connection, turns it round and serves gRPC on it: its files, its credentials, its
//! secrets, its ssh agent, and places for results. Everything that comes over it is hostile.

mod auth;
mod connection;
mod content;
mod error;
mod offer;
mod registry;
mod secrets;
mod send;
mod ssh;
mod sync;
mod upload;

pub use auth::{Credentials, Token, TokenRequest};
pub use connection::{Head, Session};
pub use content::BlobSender;
pub use error::{SessionError, SessionResult};
pub use offer::Method;
pub use registry::{Opened, Sessions};
pub use send::FileSender;
pub use ssh::SshSocket;
pub use sync::{Received, SyncRequest};
pub use upload::Uploaded;
