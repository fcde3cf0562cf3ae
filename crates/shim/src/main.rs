//! The per-container monitor.
#![forbid(unsafe_code)]
fn main() {}
