//! The build engine: LLB graphs solved with a cache, and BuildKit's control API in front of it.
//!
//! A build is a [`job`]: a front end ([`front`]) turns a Dockerfile into a graph of operations
//! ([`llb`]), the [`solver`] runs what the [`cache`] does not have ([`ops`], [`source`]), each result
//! is a [`snapshot`], and [`export`] makes of it what the client asked for. Clients talk to
//! [`control`] by gRPC and offer their own services in a [`session`].
#![forbid(unsafe_code)]

pub mod attest;
pub mod build;
pub mod builder;
pub mod cache;
pub mod cancel;
pub mod classic;
pub mod client;
pub mod content_hash;
mod content_messages;
pub mod control;
pub mod db;
pub mod error;
pub mod export;
pub mod front;
pub mod fsutil;
pub mod history;
pub mod id;
pub mod job;
pub mod llb;
pub mod op;
pub mod ops;
pub mod platforms;
pub mod policy;
pub mod progress;
pub mod remote_cache;
pub mod session;
pub mod snapshot;
pub mod solver;
pub mod source;

pub use builder::{Builder, Settings};
pub use error::{Error, Kind, Result};
