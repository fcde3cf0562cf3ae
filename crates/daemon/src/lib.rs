//! HTTP routes, sockets, configuration and signals of the engine.
//!
//! Docker's API over unix sockets: each route reads its parameters, calls one method of the engine
//! and writes the answer in the version that the client speaks. Nothing here decides what a
//! container is; nothing here is needed for a container to go on.
#![forbid(unsafe_code)]

mod body;
mod config;
mod detach;
mod error;
mod events;
mod group;
mod hang_up;
mod hijack;
mod listen;
mod lock;
mod log;
mod outgoing;
mod request;
mod routes;
mod run;
mod serve;
mod version;

pub use config::Config;
pub use run::{RunError, run};
pub use serve::{ServeError, serve};
