//! Integration tests of the store: real file systems, real overlay mounts, hostile archives.
#![forbid(unsafe_code)]

#[cfg(test)]
mod account;
#[cfg(test)]
mod containers;
#[cfg(test)]
mod content;
#[cfg(test)]
mod copy_up;
#[cfg(test)]
mod diff;
#[cfg(test)]
mod fidelity;
#[cfg(test)]
mod files;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod ingest;
#[cfg(test)]
mod layers;
#[cfg(test)]
mod streams;
#[cfg(test)]
mod support;
