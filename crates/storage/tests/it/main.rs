//! Integration tests of the store: real file systems, real overlay mounts, hostile archives.
#![forbid(unsafe_code)]

#[cfg(test)]
mod account;
#[cfg(test)]
mod containers;
#[cfg(test)]
mod content;
#[cfg(test)]
#[path = "snapshotter/mod.rs"]
mod erofs;
#[cfg(test)]
mod files;
#[cfg(test)]
mod ingest;
#[cfg(test)]
mod mounts;
#[cfg(test)]
#[expect(
    clippy::duplicate_mod,
    reason = "the same must hold for both kinds of layers"
)]
#[path = "snapshotter/mod.rs"]
mod overlayfs;
#[cfg(test)]
mod streams;
#[cfg(test)]
mod support;
