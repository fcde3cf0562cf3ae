//! Content store, snapshots, layer apply, volumes.
#![forbid(unsafe_code)]
