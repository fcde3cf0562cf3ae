//! BuildKit's control API: what `docker buildx` and other build clients speak.
//!
//! The services are spoken over any connection ([`Grpc::serve`]) or as answers to requests of a
//! server that has others beside them ([`Grpc::answer`]).

pub(crate) mod bridge;
mod caps;
mod containers;
mod content;
mod files;
mod filter;
mod gateway;
mod health;
mod history;
mod meta;
mod server;
mod service;
mod session;
mod solve;
mod status;
mod watch;
pub(crate) mod workers;

pub use server::{Grpc, METHODS};
