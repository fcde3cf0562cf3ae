//! Lifecycle of containers, images, networks and volumes.
#![forbid(unsafe_code)]
