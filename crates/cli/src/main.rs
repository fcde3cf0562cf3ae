//! The command line `gorae`.
#![forbid(unsafe_code)]
fn main() {}
