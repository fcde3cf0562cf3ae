//! The Docker Engine API as wire types, and its client.
#![forbid(unsafe_code)]
