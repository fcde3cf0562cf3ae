//! The image that `gorae` carries: bytes, and nothing that acts.
//!
//! `gorae/hello` is an OCI image layout in a tar archive, made by this crate's build script from
//! the program of crate `hello`, so that a first container needs no registry and no network. It
//! never knows how an image is stored or run, and no binary of it is ever committed.
#![forbid(unsafe_code)]

/// The image `gorae/hello:latest`: an OCI image layout in a tar archive, with one plain layer.
///
/// The same sources and the same compiler give the same bytes.
pub static HELLO_IMAGE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/hello.tar"));

#[cfg(test)]
mod tests;
