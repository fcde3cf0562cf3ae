//! Fixtures for integration tests: private namespaces, registry, engine under test, leak check.
#![forbid(unsafe_code)]

pub mod http;
pub mod image;
pub mod registry;
