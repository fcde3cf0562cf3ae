//! Fixtures for integration tests: private namespaces, registry, engine under test, leak check.
#![forbid(unsafe_code)]

pub mod dns;
pub mod docker;
pub mod engine;
pub mod estargz;
pub mod http;
pub mod image;
pub mod leaks;
pub mod namespace;
pub mod registry;
pub mod serve;
