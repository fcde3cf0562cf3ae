//! The program of the built-in image `gorae/hello`.
#![forbid(unsafe_code)]
fn main() {}
