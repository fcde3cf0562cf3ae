//! The per-container monitor, its protocol and its client.
#![forbid(unsafe_code)]
