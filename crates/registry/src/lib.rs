//! A registry of images: the OCI distribution specification 1.1 over a content store.
//!
//! Content is kept as blobs in an OCI image layout, as an engine keeps it; a small database says
//! which repository may read what, what tags are on, and who refers to whom. Nothing here knows a
//! container, an engine or a configuration file: settings come in as values, and the figures and
//! the log go out. What clients send is hostile: names, documents, lengths and rates are bounded,
//! and nothing is visible before it is verified and on the disk.
#![forbid(unsafe_code)]

mod access_log;
pub mod admin;
mod app;
mod auth;
mod cache;
mod claims;
mod clients;
mod clock;
pub mod config;
mod db;
mod document;
mod gc;
mod hooks;
mod http;
mod ident;
mod metrics;
mod name;
mod paced;
mod proxy;
mod refusal;
mod server;
mod store;
pub mod tls;
mod uploads;
mod web;

pub use app::OpenError;
pub use config::Config;
pub use gc::{CollectError, Collected};
pub use server::{OfflineError, ServeError, Server, collect};
