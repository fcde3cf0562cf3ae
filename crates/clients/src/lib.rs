//! Clients of Docker's API that others wrote in Rust, against the built engine.
//!
//! The crate is its tests. It stands apart so that no client and nothing that one needs is ever linked into
//! the product. It never knows a crate of the engine: it starts the executables that were built.
#![forbid(unsafe_code)]
