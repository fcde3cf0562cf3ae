//! The client's side of a build: asks an engine for it by BuildKit's API, and offers what the build needs.
//!
//! It works with any engine that speaks that API; with one of ours on the same machine, local folders
//! are not sent but named.

mod build;
mod disk_usage;
mod link;
mod services;
mod source;
mod update;

pub use build::{Attributes, Build, BuildError, Exporter, Outcome, Subrequest, run, subrequest};
pub use disk_usage::{CacheRecord, disk_usage};
pub use link::{Io, LinkError, Stream};
pub use services::{
    Folder, Found, LocalFolder, Lookup, Offer, Output, SecretSource, Serving, SshAgent,
};
pub use source::Excerpt;
pub use update::{Log, Status, Update, Vertex, Warning};

/// The header that says where a folder of the client lies, for an engine on the same machine.
pub const LOCAL_HEADER: &str = "x-gorae-local-";
