//! BuildKit's control API: what `docker buildx` and other build clients speak.
//!
//! The services are spoken over any connection ([`Grpc::serve`]) or as answers to requests of a
//! server that has others beside them ([`Grpc::answer`]).

mod caps;
mod filter;
mod health;
mod server;
mod service;
mod session;
mod status;
mod watch;
mod workers;

pub use server::{Grpc, METHODS};
