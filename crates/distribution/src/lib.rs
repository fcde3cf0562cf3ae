//! Registry client: finds images in OCI and Docker registries, authenticates, and streams blobs.
//!
//! A caller gives references, credentials and a platform, and gets verified bytes. Nothing here
//! knows where bytes are kept, what a layer holds, how it is unpacked, or that containers exist.
//! Every answer of a registry is hostile input: reads are bounded in length and in time, content
//! is checked against its digest before the end of a stream is reported, and credentials never
//! follow a redirect to another host.
//!
//! The layers, lowest first: `net` makes connections (names, proxies, TLS), `exchange` does one
//! HTTP exchange with its time limits and redirects, `auth` finds the `Authorization` that a
//! registry wants, `call` joins these with retries. Operations (`resolve`, `blob`, `tags`,
//! `login`) only build calls and read answers.
#![forbid(unsafe_code)]

mod answer;
mod artifact;
mod ask;
mod auth;
mod beside;
mod blob;
mod call;
mod challenge;
mod client;
pub mod config;
mod credentials;
pub mod docker_config;
mod download;
mod endpoint;
mod error;
mod exchange;
mod helper;
mod hosts;
mod inspect;
mod location;
mod login;
mod manifest;
mod net;
mod post;
mod push;
mod referrers;
mod refusal;
mod resolve;
mod retry;
mod search;
pub mod signature;
mod tags;

pub use artifact::{Attachment, RemoteDocument, digest_of, digest_of_reader, empty_config};
pub use ask::Asked;
pub use blob::BlobStream;
pub use client::{Client, Repository};
pub use config::ClientConfig;
pub use credentials::{Credentials, DecodeCredentialsError, auth_key};
pub use download::Download;
pub use error::{ErrorKind, RegistryError, chain};
pub use hosts::HostsError;
pub use inspect::Inspected;
pub use login::Login;
pub use manifest::{DocumentError, choose};
pub use net::{HostNames, TransportError};
pub use push::{BlobFlow, BlobPipe, BlobSource, Sent, Streamed, blob_pipe};
pub use referrers::{Referrer, is_attached_tag};
pub use resolve::Resolved;
pub use search::{Found, Search};
