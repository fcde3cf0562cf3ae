//! HTTP routes, sockets, configuration and signals of the engine.
//!
//! Docker's API over unix sockets and TLS: each route reads its parameters, calls one method of the engine
//! and writes the answer in the version that the client speaks. Nothing here decides what a
//! container is; nothing here is needed for a container to go on.
#![forbid(unsafe_code)]

mod address;
mod body;
mod clients;
mod config;
mod connection;
mod detach;
mod error;
mod events;
mod group;
mod hang_up;
mod hijack;
mod listen;
mod lock;
mod log;
mod metrics;
mod notify;
mod outgoing;
mod pid_file;
pub mod registry;
mod reload;
mod request;
mod routes;
mod run;
mod seats;
mod serve;
pub mod settings;
mod sockets;
mod tls;
mod unread;
mod version;
mod web_page;
mod websocket;

pub use ::registry::tls::{TlsError, TlsFiles};
pub use address::{Address, ParseAddressError};
pub use config::Config;
pub use run::{RunError, run};
pub use serve::{ServeError, serve};
