//! Registry client: resolve, authenticate, pull.
#![forbid(unsafe_code)]
