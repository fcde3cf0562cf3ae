//! The Docker Engine API as wire types, and its client.
//!
//! Versions 1.24 to 1.51, as dockerd 28 writes and reads them: Go's rules decide what is `null`,
//! what is absent and what is zero (see [`wire`]). Values here are literal: a mode, a policy or a
//! reference is a string, and its meaning is decided once, elsewhere. There is no server here and
//! no knowledge of containers.
#![forbid(unsafe_code)]

pub mod archive;
pub mod audit;
pub mod check;
#[cfg(feature = "client")]
pub mod client;
pub mod container;
pub mod error;
pub mod event;
pub mod exec;
pub mod filters;
pub mod host_config;
pub mod image;
pub mod network;
pub mod query;
pub mod registry;
pub mod stats;
pub mod stdcopy;
pub mod system;
pub mod volume;
pub mod wire;

pub use error::ErrorResponse;
pub use filters::Filters;

/// The newest API version.
pub const VERSION: &str = "1.51";

/// The oldest API version.
pub const MIN_VERSION: &str = "1.24";

/// The header in which Gorae has a word for people about what it has done; other clients skip it.
pub const HINT_HEADER: &str = "x-gorae-hint";
