//! Tests of whole Dockerfiles: what a conversion makes of them, and what it says of wrong ones.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[cfg(test)]
mod convert;
#[cfg(test)]
mod fixture;
