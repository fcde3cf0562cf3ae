//! The built engine, driven by clients of Docker's API that others wrote in Rust.

#[cfg(test)]
mod bollard;
