//! `gorae manifest`: lists of manifests, put together here and pushed to a registry.
//!
//! As with Docker's command line, a list lies in files below the client's own configuration until it
//! is pushed, in the same form, so either of the two goes on where the other left off; and the
//! registry is asked from here, not by the engine.

pub(crate) mod annotate;
pub(crate) mod create;
mod document;
mod fetch;
pub(crate) mod inspect;
pub(crate) mod push;
pub(crate) mod rm;
mod store;
